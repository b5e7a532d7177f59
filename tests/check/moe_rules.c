/* SPDX-License-Identifier: MIT
 * moe: properties that any layer has, the traps by name, and the rules of the header for its options. */
#include "moe_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Few programs: all in fp32, silu with a gate. */
static struct clmoe_moe_params plain(int64_t tokens) {
    return (struct clmoe_moe_params){
        .max_tokens = tokens,
        .experts = 6,
        .topk = 2,
        .hidden = 40,
        .inter = 24,
        .source = CLMOE_MOE_IDS,
        .glu = CLMOE_GLU_GATE_UP,
        .act = {CLMOE_ACT_SILU},
    };
}

/* Layers that are linear in gamma: everything they add comes from the experts. */
enum { PLAIN, LATENT, ADAPTED, UNREDUCED, N_KINDS };
static const char *const kind_names[] = {"plain", "latent", "adapters", "unreduced"};
static struct clmoe_moe_params kind_params(int kind, int64_t tokens) {
    struct clmoe_moe_params p = plain(tokens);
    if (kind == LATENT) p.latent = 20;
    if (kind == ADAPTED)
        p.adapters = (struct clmoe_moe_adapters){.count = 2, .rank = 3, .glu = CLMOE_GLU_GATE_UP, .scale = 1};
    if (kind == UNREDUCED) p.unreduced = 1;
    return p;
}
static const int64_t both_ways[] = {2, 30}; /* tokens of the path for few and of that for many */

static size_t bytes(const struct moe_sample *s) {
    return (size_t)(moe_rows(s) * s->params.hidden) * sizeof *s->got;
}

static void run_own(struct moe_sample *s) {
    moe_run(s, tester_context(CAPS_OWN), tester()->queue);
}

/* Runs again with what the arrays hold now; the bits of before are in `before`. */
static float *run_again(struct rng *rng, struct moe_sample *s) {
    float *const before = malloc(bytes(s) + 1);
    if (!before) abort();
    memcpy(before, s->got, bytes(s));
    moe_upload(rng, s);
    run_own(s);
    return before;
}

/* y(2 gamma) = 2 y(gamma) in every bit, and never 4 y(gamma). */
START_TEST(doubling_gamma_doubles_the_output) {
    struct rng rng = rng_for((uint64_t)_i);
    const int64_t t = both_ways[_i / N_KINDS];
    case_begin("doubling gamma: %s T=%lld", kind_names[_i % N_KINDS], (long long)t);
    const struct clmoe_moe_params p = kind_params(_i % N_KINDS, t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_SKIPS);
    run_own(s);
    for (int64_t i = 0; i < t * p.topk; i++)
        s->gamma[i] *= 2;
    float *const before = run_again(&rng, s);
    for (int64_t i = 0; i < moe_rows(s) * p.hidden; i++)
        case_require(s->got[i] == 2 * before[i], "y[%lld]: %g, then %g", (long long)i, (double)before[i],
                     (double)s->got[i]);
    free(before);
    moe_sample_free(s);
}
END_TEST

/* What a token gets is its own: with other tokens around it, on other experts, it gets the same bits. */
START_TEST(a_token_among_others) {
    struct rng rng = rng_for((uint64_t)_i + 100);
    const int64_t t = 30, kept = 3;
    case_begin("a token among others: %s", kind_names[_i]);
    const struct clmoe_moe_params p = kind_params(_i, t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    run_own(s);
    for (int64_t i = kept * p.hidden; i < t * p.hidden; i++)
        s->x[i] = rng_float(&rng);
    for (int64_t i = kept * p.topk; i < t * p.topk; i++)
        s->ids[i] = i % 3 ? 1 : -1;
    float *const before = run_again(&rng, s);
    const size_t own = bytes(s) / (size_t)t * (size_t)kept;
    case_require(memcmp(before, s->got, own) == 0, "the first %lld tokens changed", (long long)kept);
    free(before);
    moe_sample_free(s);
}
END_TEST

/* The weights of expert e move to expert to[e]. */
static void move_experts(float *w, int64_t per_expert, const int *to, int experts) {
    float *const copy = malloc((size_t)(per_expert * experts) * sizeof *copy + 1);
    if (!copy) abort();
    memcpy(copy, w, (size_t)(per_expert * experts) * sizeof *copy);
    for (int e = 0; e < experts; e++)
        memcpy(w + to[e] * per_expert, copy + e * per_expert, (size_t)per_expert * sizeof *copy);
    free(copy);
}

/* Experts in another order, with their weights and their rows of the router: ids change with them, the output
 * not in one bit. (From a router gamma has the rounding errors of a sum over all experts in another order.)
 */
START_TEST(permuting_experts) {
    static const int to[] = {3, 5, 0, 1, 4, 2};
    struct rng rng = rng_for((uint64_t)_i + 200);
    const int64_t t = both_ways[_i % 2];
    struct clmoe_moe_params p = plain(t);
    p.source = _i / 2 ? CLMOE_MOE_ROUTER : CLMOE_MOE_IDS;
    case_begin("permuting experts: source %d T=%lld", (int)p.source, (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_SKIPS);
    run_own(s);
    int32_t want[64];
    for (int64_t i = 0; i < t * p.topk; i++)
        want[i] = s->ids[i] < 0 || s->ids[i] >= p.experts ? s->ids[i] : to[s->ids[i]];
    if (p.source == CLMOE_MOE_IDS) memcpy(s->ids, want, (size_t)(t * p.topk) * sizeof *want);
    move_experts((float *)s->ref.gate, p.inter * p.hidden, to, p.experts);
    move_experts((float *)s->ref.up, p.inter * p.hidden, to, p.experts);
    move_experts((float *)s->ref.w2, p.inter * p.hidden, to, p.experts);
    move_experts(s->router, p.hidden, to, p.experts);
    float *const before = run_again(&rng, s);
    case_require(memcmp(want, s->ids, (size_t)(t * p.topk) * sizeof *want) == 0, "%s", "ids");
    case_require(p.source == CLMOE_MOE_ROUTER || memcmp(before, s->got, bytes(s)) == 0, "%s", "y");
    moe_compare(s, 5e-6);
    free(before);
    moe_sample_free(s);
}
END_TEST

/* For a linear expert it makes no difference where the weight is; for others it does, and the oracle knows
 * which is which. Applied at both places it would be squared. */
START_TEST(weight_on_the_input) {
    struct rng rng = rng_for((uint64_t)_i + 300);
    const int64_t t = both_ways[_i % 2];
    struct clmoe_moe_params p = plain(t);
    const bool linear = _i / 2;
    if (linear) p.glu = CLMOE_GLU_NONE, p.act.kind = CLMOE_ACT_NONE;
    p.gamma_on_input = 1;
    case_begin("weight on the input of %s experts, T=%lld", linear ? "linear" : "gated", (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    run_own(s);
    moe_compare(s, 5e-6);
    s->params.gamma_on_input = 0;
    float *const on_input = run_again(&rng, s);
    double difference = 0;
    for (int64_t i = 0; i < t * p.hidden; i++)
        difference = fmax(difference, fabs((double)s->got[i] - (double)on_input[i]));
    case_require(linear ? difference < 1e-4 : difference > 1e-2, "it makes a difference of %g", difference);
    free(on_input);
    moe_sample_free(s);
}
END_TEST

/* Experts that are all the same, with weights that add up to 1: one dense layer. */
START_TEST(equal_experts_are_one_dense_layer) {
    static const float halves[] = {0.25f, 0.75f};
    struct rng rng = rng_for((uint64_t)_i + 350);
    const int64_t t = both_ways[_i];
    const struct clmoe_moe_params p = plain(t);
    case_begin("equal experts, T=%lld", (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    const size_t per_expert = (size_t)(p.hidden * p.inter);
    float *const sets[] = {(float *)s->ref.gate, (float *)s->ref.up, (float *)s->ref.w2};
    for (int i = 0; i < 3; i++)
        for (int e = 1; e < p.experts; e++)
            memcpy(sets[i] + (size_t)e * per_expert, sets[i], per_expert * sizeof(float));
    for (int64_t i = 0; i < t * p.topk; i++)
        s->gamma[i] = halves[i % 2];
    moe_upload(&rng, s);
    run_own(s);
    for (int64_t i = 0; i < t; i++)
        s->ids[i] = 0, s->gamma[i] = 1;
    s->ref.k = 1;
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* Slots in another order, with their weights: the same sum but for its rounding. */
START_TEST(slots_in_another_order) {
    struct rng rng = rng_for((uint64_t)_i + 370);
    const int64_t t = both_ways[_i];
    const struct clmoe_moe_params p = plain(t);
    case_begin("slots in another order, T=%lld", (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    ref_moe(&s->ref, s->pairs, s->want);
    for (int64_t i = 0; i < t * p.topk; i += 2) {
        const int32_t id = s->ids[i];
        const float gamma = s->gamma[i];
        s->ids[i] = s->ids[i + 1], s->ids[i + 1] = id;
        s->gamma[i] = s->gamma[i + 1], s->gamma[i + 1] = gamma;
    }
    moe_upload(&rng, s);
    run_own(s);
    for (int64_t i = 0; i < t * p.hidden; i++)
        case_require(fabs((double)s->got[i] - s->want[i]) < 1e-4, "y[%lld] = %g, expected %g", (long long)i,
                     (double)s->got[i], s->want[i]);
    moe_sample_free(s);
}
END_TEST

/* A token may name an expert more than once: each time counts. */
START_TEST(an_expert_named_twice) {
    struct rng rng = rng_for((uint64_t)_i + 400);
    const int64_t t = both_ways[_i % 2];
    const struct clmoe_moe_params p = kind_params(_i / 2, t);
    case_begin("an expert named twice: %s T=%lld", kind_names[_i / 2], (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_ONE_EXPERT);
    run_own(s);
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* Weights of experts and adapters that nobody uses are NaN; a token without any expert gets zeros, or what is
 * added to it, in every bit. */
START_TEST(skipped_ids_read_nothing) {
    struct rng rng = rng_for((uint64_t)_i + 500);
    const int64_t t = both_ways[_i % 2];
    struct clmoe_moe_params p = kind_params(ADAPTED, t);
    p.residual = _i / 2;
    case_begin("skipped ids, T=%lld residual %d", (long long)t, p.residual);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    const int64_t w = p.inter * p.hidden, r = p.adapters.rank;
    for (int64_t i = 0; i < t * p.topk; i++)
        s->ids[i] = i < p.topk ? (int32_t)(i % 2 ? -1 : p.experts) : (int32_t)(i % 2); /* 0, 1 or none */
    for (int64_t i = 0; i < t; i++)
        s->adapter_ids[i] = i % 2 ? 0 : -1;
    for (int64_t i = 2 * w; i < p.experts * w; i++)
        ((float *)s->ref.gate)[i] = ((float *)s->ref.up)[i] = ((float *)s->ref.w2)[i] = NAN;
    for (int64_t i = 2 * r * p.hidden; i < 2 * p.experts * r * p.hidden; i++)
        ((float *)s->ref.a_gate)[i] = ((float *)s->ref.b2)[i] = NAN;
    for (int64_t i = 0; i < p.hidden && !p.residual; i++)
        s->x[i] = INFINITY; /* of the token without experts */
    moe_upload(&rng, s);
    run_own(s);
    for (int64_t i = 0; i < p.hidden; i++) {
        const float want = p.residual ? s->ref.residual[i] : 0;
        case_require(s->got[i] == want, "y[0, %lld] = %g, expected %g", (long long)i, (double)s->got[i],
                     (double)want);
    }
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* The sum over slots has an order: no run differs from another. */
START_TEST(runs_repeat) {
    struct rng rng = rng_for(600);
    struct clmoe_moe_params p = kind_params(ADAPTED, 30);
    p.shared_experts = (struct clmoe_moe_shared){.inter = 16, .glu = CLMOE_GLU_GATE_UP};
    case_begin("runs repeat");
    struct moe_sample *const s = moe_sample_make(&rng, &p, 30, ROUTING_RANDOM);
    run_own(s);
    for (int i = 0; i < 5; i++) {
        float *const before = run_again(&rng, s);
        case_require(memcmp(before, s->got, bytes(s)) == 0, "run %d differs", i);
        free(before);
    }
    moe_sample_free(s);
}
END_TEST

/* The gate of the shared experts where its sigmoid ends: 0 and 1, no NaN. */
START_TEST(gate_of_shared_experts_at_its_ends) {
    struct rng rng = rng_for((uint64_t)_i + 700);
    struct clmoe_moe_params p = plain(2);
    p.shared_experts = (struct clmoe_moe_shared){.inter = 16, .glu = CLMOE_GLU_GATE_UP, .gate = 1};
    case_begin("gate %s", _i ? "open" : "closed");
    struct moe_sample *const s = moe_sample_make(&rng, &p, 2, ROUTING_SKIPS);
    for (int64_t i = 0; i < p.hidden; i++) {
        ((float *)s->ref.shared_gate)[i] = _i ? 100.0f : -100.0f;
        s->x[i] = fabsf(s->x[i]), s->x[p.hidden + i] = fabsf(s->x[p.hidden + i]);
    }
    moe_upload(&rng, s);
    run_own(s);
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* Zero experts of a router (LongCat): with all of its choices taken, their weights and those of the real ones
 * add up to 1. The real ones are silent here, and x comes back by the rest. The weight of a zero expert must
 * not reach a real one. */
START_TEST(zero_experts_return_x) {
    struct rng rng = rng_for((uint64_t)_i + 900);
    const int64_t t = both_ways[_i];
    struct clmoe_moe_params p = plain(t);
    p.source = CLMOE_MOE_ROUTER;
    p.route.zero_experts = 3;
    p.topk = p.experts + p.route.zero_experts;
    p.identity = 1;
    case_begin("zero experts, T=%lld", (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    for (int64_t i = 0; i < p.experts * p.hidden * p.inter; i++)
        ((float *)s->ref.w2)[i] = 0;
    moe_upload(&rng, s);
    run_own(s);
    for (int64_t i = 0; i < t * p.hidden; i++) {
        double rest = 1;
        for (int j = 0; j < p.topk; j++)
            rest -= (double)s->gamma[i / p.hidden * p.topk + j];
        case_require(fabs((double)s->got[i] - rest * (double)s->x[i]) < 1e-5,
                     "y[%lld] = %g, expected %g * %g", (long long)i, (double)s->got[i], rest,
                     (double)s->x[i]);
    }
    moe_sample_free(s);
}
END_TEST

/* The weight that the router gives to its first choice for token t. */
static double best_score(const struct moe_sample *s, int64_t t) {
    double best = -INFINITY, sum = 0, logits[64];
    for (int e = 0; e < s->params.experts; e++) {
        logits[e] = 0;
        for (int64_t i = 0; i < s->params.hidden; i++)
            logits[e] += (double)s->router[e * s->params.hidden + i] * (double)s->x[t * s->params.hidden + i];
        best = fmax(best, logits[e]);
    }
    for (int e = 0; e < s->params.experts; e++)
        sum += exp(logits[e] - best);
    return 1 / sum;
}

/* Old Switch: a token over the capacity of its expert, here that of the call, passes x on. */
START_TEST(pairs_over_the_capacity_pass_x_on) {
    struct rng rng = rng_for(950);
    const int64_t t = 30;
    struct clmoe_moe_params p = plain(t);
    p.topk = 1;
    p.source = CLMOE_MOE_ROUTER;
    p.route.capacity = 30;
    p.route.pass_dropped = p.identity = 1;
    case_begin("capacity");
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    s->args.capacity = 3;
    run_own(s);
    int kept[6] = {0};
    for (int64_t i = 0; i < t; i++) {
        s->identity[i] = s->ids[i] < 0 ? (float)best_score(s, i) : 0;
        if (s->ids[i] >= 0) kept[s->ids[i]]++;
    }
    for (int e = 0; e < p.experts; e++)
        case_require(kept[e] <= 3, "expert %d has %d pairs", e, kept[e]);
    s->ref.identity = s->identity;
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* A constant expert is a row of its own that every token sees: a view with a stride of 0. */
START_TEST(zero_experts_return_a_constant) {
    struct rng rng = rng_for(1000);
    struct clmoe_moe_params p = plain(5);
    p.identity = 1;
    case_begin("constant experts");
    struct moe_sample *const s = moe_sample_make(&rng, &p, 5, ROUTING_SKIPS);
    struct guarded row = guarded_floats(&rng, CLMOE_F32, 1, p.hidden, s->x);
    s->args.identity_x = row.tensor;
    s->args.identity_x.shape[0] = 5;
    s->args.identity_x.stride[0] = 0;
    run_own(s);
    s->ref.identity = NULL;
    ref_moe(&s->ref, s->pairs, s->want);
    for (int64_t i = 0; i < 5 * p.hidden; i++) {
        const double want = s->want[i] + (double)s->identity[i / p.hidden] * (double)s->x[i % p.hidden];
        case_require(fabs((double)s->got[i] - want) < 1e-4, "y[%lld] = %g, expected %g", (long long)i,
                     (double)s->got[i], want);
    }
    guarded_free(&row);
    moe_sample_free(s);
}
END_TEST

/* Given ids may be replaced by what became of them, as in route. */
START_TEST(given_ids_in_place) {
    struct rng rng = rng_for((uint64_t)_i + 1050);
    const int64_t t = both_ways[_i];
    struct clmoe_moe_params p = plain(t);
    p.source = CLMOE_MOE_ROUTER;
    p.route.select = CLMOE_SELECT_GIVEN;
    case_begin("given ids in place, T=%lld", (long long)t);
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_RANDOM);
    s->args.out_ids = s->args.given;
    run_own(s);
    moe_compare(s, 5e-6);
    moe_sample_free(s);
}
END_TEST

/* ---- rules of the header ---- */

static void expect_invalid(clmoe_plan *plan, struct moe_sample *s, const char *what) {
    case_begin("args: %s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_moe_enqueue(plan, tester()->queue, &s->args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID && !event, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "nothing was logged");
}

/* Each operand of shared experts, latent sizes and adapters: absent, too small, and where y is. */
START_TEST(bad_args) {
    struct rng rng = rng_for(800);
    struct clmoe_moe_params p = plain(3);
    const bool latent = _i; /* the parts that stand apart take turns, for fewer buffers */
    if (latent) p.latent = 20;
    p.shared_experts = (struct clmoe_moe_shared){.inter = 16, .glu = CLMOE_GLU_APART, .gate = 1};
    p.adapters = (struct clmoe_moe_adapters){.count = 2, .rank = 3, .glu = CLMOE_GLU_APART, .scale = 1};
    struct moe_sample *const s = moe_sample_make(&rng, &p, 3, ROUTING_RANDOM);
    struct clmoe_moe_args *const a = &s->args;
    const struct {
        const char *name;
        struct clmoe_tensor *tensor;
    } operands[] = {
        {"shared_w1", &a->shared_w1},
        {"shared_w1_up", &a->shared_w1_up},
        {"shared_w2", &a->shared_w2},
        {"shared_gate", &a->shared_gate},
        {"adapter_ids", &a->adapter_ids},
        {"adapter_scale", &a->adapter_scale},
        {"a1", &a->a1},
        {"a1_up", &a->a1_up},
        {"b1", &a->b1},
        {"b1_up", &a->b1_up},
        {"a2", &a->a2},
        {"b2", &a->b2},
        {latent ? "down" : "a1", latent ? &a->down : &a->a1},
        {latent ? "up" : "b1", latent ? &a->up : &a->b1},
    };
    clmoe_plan *plan;
    case_begin("plan");
    case_ok(clmoe_moe_plan(tester_context(CAPS_OWN), &p, &plan));
    for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
        struct clmoe_tensor *const t = operands[i].tensor, kept = *t;
        *t = (struct clmoe_tensor){0};
        expect_invalid(plan, s, operands[i].name);
        *t = kept;
        t->shape[t->ndim - 1]--;
        expect_invalid(plan, s, operands[i].name);
        *t = kept;
        t->dtype = t->dtype == CLMOE_I32 ? CLMOE_F32 : CLMOE_I32;
        expect_invalid(plan, s, operands[i].name);
        *t = kept;
        a->y.mem = t->mem, a->y.offset = t->offset;
        expect_invalid(plan, s, operands[i].name);
        a->y = s->y.tensor;
    }
    run_own(s);
    moe_compare(s, 5e-6);
    clmoe_plan_destroy(&plan);
    moe_sample_free(s);
}
END_TEST

#define BAD(change)                                                                                          \
    do {                                                                                                     \
        struct clmoe_moe_params p = plain(4);                                                                \
        clmoe_plan *plan = (clmoe_plan *)&p;                                                                 \
        p.change;                                                                                            \
        case_begin("params %s", #change);                                                                    \
        const enum clmoe_status status = clmoe_moe_plan(tester_context(CAPS_OWN), &p, &plan);                \
        case_require(status == CLMOE_E_INVALID && !plan, "%s", clmoe_status_name(status));                   \
        case_require(*tester_log(), "nothing was logged");                                                   \
    } while (0)

START_TEST(bad_params) {
    BAD(w2_dtype = CLMOE_BF16);
    BAD(mixed = 1; p.w2_dtype = CLMOE_I32);
    BAD(w_scale.rows = 1);
    BAD(w_dtype = CLMOE_F8_E4M3; p.w_scale.columns = 48);
    BAD(latent = -1);
    BAD(latent = INT64_C(1) << 30);
    BAD(latent = (1 << 30) - 1; p.max_tokens = 1 << 30; p.topk = 1);
    BAD(latent = 8; p.dense_dtype = CLMOE_Q8_0);
    BAD(shared_experts.inter = -1);
    BAD(shared_experts.inter = INT64_C(1) << 30);
    BAD(shared_experts.inter = 8; p.dense_dtype = CLMOE_I32);
    BAD(shared_experts.inter = 8; p.shared_experts.glu = (enum clmoe_glu)5);
    BAD(shared_experts.inter = 8; p.shared_experts.act.kind = (enum clmoe_act)8);
    BAD(shared_experts.inter = 8; p.shared = 1);
    BAD(shared_experts.gate = 1);
    BAD(shared_experts.glu = CLMOE_GLU_GATE_UP);
    BAD(unreduced = 1; p.residual = 1);
    BAD(unreduced = 1; p.shared = 1);
    BAD(unreduced = 1; p.shared_experts.inter = 8);
    BAD(unreduced = 1; p.latent = 8);
    BAD(unreduced = 1; p.identity = 1);
    BAD(latent = 8; p.identity = 1);
    BAD(source = CLMOE_MOE_ROUTER; p.identity = 1);
    BAD(local_experts = 3);
    BAD(source = CLMOE_MOE_ROUTER; p.route.expert_map = 1; p.local_experts = -1);
    BAD(source = CLMOE_MOE_ROUTER; p.route.shared_slots = 65);
    BAD(source = CLMOE_MOE_ROUTER; p.route.zero_experts = -1);
    BAD(source = CLMOE_MOE_ROUTER; p.route.experts = 6);
    BAD(unreduced = 1; p.out_scale = 2);
    BAD(unreduced = 1; p.sum_scale = 2);
    BAD(sum_scale = NAN);
    BAD(out_scale = 1e-30f; p.sum_scale = -1e-30f);
    BAD(out_scale = 1e30f; p.sum_scale = 1e30f);
    BAD(adapters.count = -1);
    BAD(adapters.count = 2);
    BAD(adapters = ((struct clmoe_moe_adapters){2, 4, CLMOE_F32, CLMOE_GLU_NONE, 0}));
    BAD(adapters = ((struct clmoe_moe_adapters){2, 4, CLMOE_Q8_0, CLMOE_GLU_GATE_UP, 0}));
    BAD(adapters = ((struct clmoe_moe_adapters){2, 4, CLMOE_F32, (enum clmoe_glu)5, 0}));
    BAD(adapters = ((struct clmoe_moe_adapters){683, 4, CLMOE_F32, CLMOE_GLU_GATE_UP, 0}));
    BAD(glu = CLMOE_GLU_NONE;
        p.adapters = ((struct clmoe_moe_adapters){2, 4, CLMOE_F32, CLMOE_GLU_GATE_UP, 0}));
}
END_TEST

static void add_tests(TCase *cases) {
    const bool small = tester()->small;
    tcase_add_loop_test(cases, doubling_gamma_doubles_the_output, 0, small ? 1 : 2 * N_KINDS);
    tcase_add_loop_test(cases, a_token_among_others, 0, small ? 0 : N_KINDS);
    tcase_add_loop_test(cases, permuting_experts, 0, small ? 1 : 4);
    tcase_add_loop_test(cases, weight_on_the_input, 0, small ? 0 : 4);
    tcase_add_loop_test(cases, equal_experts_are_one_dense_layer, 0, small ? 1 : 2);
    tcase_add_loop_test(cases, slots_in_another_order, 0, small ? 1 : 2);
    tcase_add_loop_test(cases, an_expert_named_twice, 0, small ? 1 : 2 * N_KINDS);
    tcase_add_loop_test(cases, skipped_ids_read_nothing, 0, small ? 1 : 4);
    tcase_add_loop_test(cases, gate_of_shared_experts_at_its_ends, 0, small ? 0 : 2);
    tcase_add_loop_test(cases, zero_experts_return_x, 0, small ? 1 : 2);
    tcase_add_test(cases, zero_experts_return_a_constant);
    tcase_add_loop_test(cases, given_ids_in_place, 0, small ? 0 : 2);
    if (!small) tcase_add_test(cases, pairs_over_the_capacity_pass_x_on);
    tcase_add_loop_test(cases, bad_args, 0, 2);
    tcase_add_test(cases, bad_params);
    if (!small) tcase_add_test(cases, runs_repeat);
}

int main(void) {
    return harness_main("moe_rules", "", add_tests);
}
