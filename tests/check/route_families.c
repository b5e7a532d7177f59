/* SPDX-License-Identifier: MIT
 * route: what the routers of model families compute, written down here as their own code does it (one token
 * or one batch at a time, without the oracle's steps), and properties that hold whatever the options. */
#include "route_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CELLS = 4096, MAX_TOKENS = 512 };

/* Results of the last `run`. */
static int32_t ids[MAX_CELLS];
static float weights[MAX_CELLS], identity[MAX_TOKENS];

static void run_call(struct clmoe_route_params p, const struct ref_route_call *call) {
    struct rng rng = rng_for((uint64_t)p.experts);
    p.max_tokens = call->tokens;
    case_require(call->tokens * (p.topk + p.shared_slots) <= MAX_CELLS && call->tokens <= MAX_TOKENS, "size");
    route_run_call(&rng, p, CAPS_OWN, call, ids, weights, identity);
}

static void run(struct clmoe_route_params p, int64_t tokens, const float *logits) {
    const struct ref_route_call call = {.tokens = tokens, .logits = logits};
    run_call(p, &call);
}

static void expect_ids(const int32_t *want, int n) {
    for (int j = 0; j < n; j++)
        case_require(ids[j] == want[j], "ids[%d] = %d, expected %d", j, (int)ids[j], (int)want[j]);
}

static void expect_weights(const double *want, int n, double tolerance) {
    for (int j = 0; j < n; j++)
        case_require(fabs((double)weights[j] - want[j]) <= tolerance * (1 + fabs(want[j])),
                     "gamma[%d] = %.9g, expected %.9g", j, (double)weights[j], want[j]);
}

/* Steps of 1/16 in -8 .. 8, all different in a row of up to 256: no ties, and the same in bf16. */
static void distinct(struct rng *rng, float *row, int n) {
    int place[256];
    for (int i = 0; i < 256; i++)
        place[i] = i;
    for (int i = 0; i < n; i++) {
        const int64_t j = i + rng_below(rng, 256 - i);
        const int other = place[j];
        place[j] = place[i];
        place[i] = other;
        row[i] = (float)(other - 128) / 16;
    }
}

static int largest(const double *v, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static void softmax(const double *v, int n, double *p) {
    double sum = 0, most = v[largest(v, n)];
    for (int i = 0; i < n; i++)
        sum += p[i] = exp(v[i] - most);
    for (int i = 0; i < n; i++)
        p[i] /= sum;
}

/* ---- scores ---- */

/* gpt-oss, Granite: the k best logits, then softmax over those. Llama-4: then sigmoid. */
START_TEST(scores_after_selection) {
    enum { E = 32, K = 4 };
    struct rng rng = rng_for((uint64_t)_i);
    float logits[E];
    double left[E], chosen[K], want[K];
    int32_t want_ids[K];
    distinct(&rng, logits, E);
    for (int e = 0; e < E; e++)
        left[e] = (double)logits[e];
    for (int j = 0; j < K; j++) {
        want_ids[j] = largest(left, E);
        chosen[j] = left[want_ids[j]];
        left[want_ids[j]] = -INFINITY;
        want[j] = 1 / (1 + exp(-chosen[j]));
    }
    if (_i == 0) softmax(chosen, K, want);
    case_begin(_i ? "Llama-4" : "gpt-oss");
    struct clmoe_route_params p = {.experts = E, .topk = K, .logits_dtype = CLMOE_BF16};
    if (_i)
        p.score = CLMOE_SCORE_SIGMOID;
    else
        p.renorm = CLMOE_RENORM_SUM;
    run(p, 1, logits);
    expect_ids(want_ids, K);
    expect_weights(want, K, 2e-6);
}
END_TEST

START_TEST(grok_caps_its_logits) {
    const float logits[] = {5, 90, -400, 60, 0, 29, 1000, 30};
    double capped[8], want[8];
    for (int e = 0; e < 8; e++)
        capped[e] = 30 * tanh((double)logits[e] / 30);
    softmax(capped, 8, want);
    case_begin("cap of 30");
    run((struct clmoe_route_params){.experts = 8, .topk = 3, .logit_cap = 30}, 1, logits);
    expect_ids((const int32_t[]){6, 1, 3}, 3);
    expect_weights((const double[]){want[6], want[1], want[3]}, 3, 2e-5);
}
END_TEST

/* Beyond what the cap tells apart, logits still do. */
START_TEST(capped_logits_make_no_ties) {
    const float logits[] = {3000, 5000, 4000, 1, 6000, 3500, 2, 3};
    case_begin("saturated cap");
    run((struct clmoe_route_params){.experts = 8, .topk = 4, .logit_cap = 30}, 1, logits);
    expect_ids((const int32_t[]){4, 1, 2, 5}, 4);
    expect_weights((const double[]){0.2, 0.2, 0.2, 0.2}, 4, 1e-6);
}
END_TEST

/* DeepSeek-V4: sqrt(softplus). softplus(l) is l for large l, and exp(l) where 1 + exp(l) rounds to 1. */
START_TEST(sqrt_softplus_has_both_ends) {
    const float logits[] = {10000, 21, 20, 0, -19, -21, -50, -100, -150, -INFINITY};
    const double want[] = {100,
                           sqrt(21 + exp(-21)),
                           sqrt(20 + exp(-20)),
                           sqrt(log(2)),
                           sqrt(log1p(exp(-19))),
                           exp(-10.5),
                           exp(-25),
                           exp(-50),
                           exp(-75),
                           0};
    case_begin("sqrt-softplus");
    run((struct clmoe_route_params){.experts = 10, .topk = 10, .score = CLMOE_SCORE_SQRT_SOFTPLUS}, 1,
        logits);
    for (int j = 0; j < 10; j++)
        case_require(fabs((double)weights[j] / want[j] - 1) < 2e-6 || (double)weights[j] == want[j],
                     "gamma[%d] = %.9g, expected %.9g", j, (double)weights[j], want[j]);
}
END_TEST

/* Phi-3.5, its code for k = 2 and eps = 0.01: logits further below the best than 2 eps of themselves are
 * masked, the weight is the softmax over the rest; then again without the best. */
START_TEST(sparsemixer_masks_twice) {
    enum { E = 16, T = 24 };
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E];
    double want[T * 2];
    int32_t want_ids[T * 2];
    for (int i = 0; i < T * E; i++) /* near each other, or of both signs */
        logits[i] = _i ? 5 + rng_float(&rng) / 16 : rng_float(&rng);
    for (int t = 0; t < T; t++) {
        double left[E];
        for (int e = 0; e < E; e++)
            left[e] = (double)logits[t * E + e];
        for (int j = 0; j < 2; j++) {
            const int best = largest(left, E);
            double sum = 0;
            for (int e = 0; e < E; e++) {
                const double l = (double)logits[t * E + e], factor = fmax(fabs(l), left[best]);
                if (!((left[best] - l) / factor > 2 * 0.01)) sum += exp(left[e] - left[best]);
            }
            want_ids[t * 2 + j] = best;
            want[t * 2 + j] = 1 / sum;
            left[best] = -INFINITY;
        }
    }
    case_begin("sparsemixer");
    run((struct clmoe_route_params){.experts = E, .topk = 2, .score = CLMOE_SCORE_SPARSEMIXER}, T, logits);
    expect_ids(want_ids, T * 2);
    expect_weights(want, T * 2, 1e-6);
}
END_TEST

/* ERNIE-4.5, NLLB: a sum below the clamp divides by the clamp. */
START_TEST(clamped_sums) {
    const float logits[] = {-8, -9, -10, -30};
    const double a = 1 / (1 + exp(8)), b = 1 / (1 + exp(9));
    case_begin("clamp");
    run((struct clmoe_route_params){.experts = 4,
                                    .topk = 2,
                                    .score = CLMOE_SCORE_SIGMOID,
                                    .renorm = CLMOE_RENORM_CLAMP,
                                    .renorm_eps = 0.5f},
        1, logits);
    expect_weights((const double[]){2 * a, 2 * b}, 2, 1e-9);
    run((struct clmoe_route_params){.experts = 4,
                                    .topk = 2,
                                    .score = CLMOE_SCORE_SIGMOID,
                                    .renorm = CLMOE_RENORM_CLAMP,
                                    .renorm_eps = 1e-12f},
        1, logits);
    expect_weights((const double[]){a / (a + b), b / (a + b)}, 2, 1e-6);
}
END_TEST

/* Pangu-Pro, Intern-S1-Pro: the best of each group, in the order of groups, even where others are better. */
START_TEST(each_group_brings_its_best) {
    enum { E = 64, GROUPS = 8, SIZE = E / GROUPS };
    struct rng rng = rng_for(3);
    float logits[E];
    int32_t want[2 * GROUPS];
    distinct(&rng, logits, E);
    const int each = _i + 1;
    for (int g = 0; g < GROUPS; g++) {
        double left[SIZE];
        for (int i = 0; i < SIZE; i++)
            left[i] = (double)logits[g * SIZE + i];
        for (int j = 0; j < each; j++) {
            const int best = largest(left, SIZE);
            want[g * each + j] = g * SIZE + best;
            left[best] = -INFINITY;
        }
    }
    case_begin("%d of each group", each);
    run(
        (struct clmoe_route_params){
            .experts = E, .topk = GROUPS * each, .n_group = GROUPS, .group_score = CLMOE_GROUP_EACH},
        1, logits);
    expect_ids(want, GROUPS * each);
}
END_TEST

/* Keys of nothing tie in the first group, whatever made them; the second one's are all better. */
START_TEST(each_group_has_ties_of_its_own) {
    const float logits[] = {0, 0, 0, 1}, bias[] = {-INFINITY, NAN, 0, 0};
    const struct ref_route_call call = {.tokens = 1, .logits = logits, .bias = bias};
    case_begin("2 of each group, of no key");
    run_call(
        (struct clmoe_route_params){
            .experts = 4, .topk = 4, .bias = 1, .n_group = 2, .group_score = CLMOE_GROUP_EACH},
        &call);
    expect_ids((const int32_t[]){0, 1, 3, 2}, 4);
}
END_TEST

/* ---- X-LoRA: vectors of PEFT's own layers ---- */

static const float xlora[] = {2, 1, 0, -1, 0, 0.5f, 3, 1};

START_TEST(xlora_softmax_then_mask) {
    case_begin("enable_softmax, T = %g", _i ? 0.5 : 1.0);
    run((struct clmoe_route_params){.experts = 4, .topk = 2, .temperature = _i ? 0.5f : 0}, 2, xlora);
    expect_ids((const int32_t[]){0, 1, 2, 3}, 4);
    expect_weights(_i ? (const double[]){0.864955, 0.117059, 0.973205, 0.017825}
                      : (const double[]){0.643914, 0.236883, 0.789137, 0.106798},
                   4, 1e-6);
}
END_TEST

START_TEST(xlora_softmax_of_the_kept) {
    case_begin("enable_softmax_topk, of each token by itself");
    run((struct clmoe_route_params){.experts = 4, .topk = 2, .renorm = CLMOE_RENORM_SUM}, 2, xlora);
    expect_weights((const double[]){0.731059, 0.268941, 0.880797, 0.119203}, 4, 1e-6);
    const float zero[] = {0.7f, 0, -0.2f, -1};
    case_begin("a selected zero stays selected");
    run((struct clmoe_route_params){.experts = 4, .topk = 2, .renorm = CLMOE_RENORM_SUM}, 1, zero);
    expect_weights((const double[]){0.668188, 0.331812}, 2, 1e-6);
}
END_TEST

START_TEST(dropped_scalings_leave_no_trace) {
    const float logits[] = {NAN, 0.5f, -INFINITY, 0, -NAN, -0.25f};
    case_begin("identity, inf and NaN dropped");
    run((struct clmoe_route_params){.experts = 6, .topk = 3, .score = CLMOE_SCORE_IDENTITY, .scale = 4}, 1,
        logits);
    expect_ids((const int32_t[]){1, 3, 5}, 3);
    case_require(weights[0] == 2 && weights[1] == 0 && weights[2] == -1, "gamma %g %g %g", (double)weights[0],
                 (double)weights[1], (double)weights[2]);
}
END_TEST

/* ---- zero experts, maps, given ids ---- */

/* LongCat: pairs of zero experts become -1, and their gamma is neither in a slot nor lost. */
START_TEST(zero_experts_keep_their_gamma) {
    enum { E = 16, Z = 8, K = 6, T = 12 };
    struct rng rng = rng_for(1);
    float logits[T * (E + Z)];
    float plain[T * K];
    int32_t chosen[T * K];
    for (int t = 0; t < T; t++)
        distinct(&rng, logits + t * (E + Z), E + Z);
    case_begin("as experts like the others");
    run((struct clmoe_route_params){.experts = E + Z, .topk = K, .scale = 6}, T, logits);
    memcpy(chosen, ids, sizeof chosen), memcpy(plain, weights, sizeof plain);
    case_begin("zero experts");
    run((struct clmoe_route_params){.experts = E, .zero_experts = Z, .topk = K, .scale = 6}, T, logits);
    for (int t = 0; t < T; t++) {
        float sum = 0;
        for (int c = t * K; c < (t + 1) * K; c++) {
            const bool zero = chosen[c] >= E;
            case_require(ids[c] == (zero ? -1 : chosen[c]), "ids[%d] = %d", c, (int)ids[c]);
            case_require(zero ? weights[c] == 0 : fabsf(weights[c] - plain[c]) <= 1e-6f * plain[c],
                         "gamma[%d] = %g", c, (double)weights[c]);
            if (zero) sum += plain[c];
        }
        case_require(fabsf(identity[t] - sum) <= 2e-6f * (1 + sum), "identity_gamma[%d] = %g, expected %g", t,
                     (double)identity[t], (double)sum);
    }
}
END_TEST

/* Expert parallelism: each expert is on one of the ranks, so their pairs are all pairs, once. */
START_TEST(maps_split_the_pairs) {
    enum { E = 64, K = 8, T = 9, RANKS = 3 };
    struct rng rng = rng_for(1);
    float logits[T * E], whole[T * K];
    int32_t chosen[T * K], map[E];
    int found[T * K] = {0};
    for (int t = 0; t < T; t++)
        distinct(&rng, logits + t * E, E);
    struct clmoe_route_params p = {.experts = E, .topk = K, .renorm = CLMOE_RENORM_SUM};
    case_begin("all experts");
    run(p, T, logits);
    memcpy(chosen, ids, sizeof chosen), memcpy(whole, weights, sizeof whole);
    p.expert_map = 1;
    for (int rank = 0; rank < RANKS; rank++) {
        for (int e = 0; e < E; e++)
            map[e] = e % RANKS == rank ? e / RANKS : -1;
        const struct ref_route_call call = {.tokens = T, .logits = logits, .expert_map = map};
        case_begin("rank %d", rank);
        run_call(p, &call);
        for (int c = 0; c < T * K; c++) {
            case_require(ids[c] == map[chosen[c]], "ids[%d] = %d", c, (int)ids[c]);
            case_require(ids[c] < 0 || fabsf(weights[c] - whole[c]) <= 1e-6f, "gamma[%d] = %g", c,
                         (double)weights[c]);
            found[c] += ids[c] >= 0;
        }
    }
    for (int c = 0; c < T * K; c++)
        case_require(found[c] == 1, "pair %d is on %d ranks", c, found[c]);
}
END_TEST

/* A routing replayed has the same weights; DeepSeek-V4's hash layers bring ids of their own. */
START_TEST(given_ids_replay_a_routing) {
    enum { E = 40, K = 6, T = 20 };
    struct rng rng = rng_for(1);
    float logits[T * E], bias[E], before[T * K];
    int32_t chosen[T * K];
    for (int i = 0; i < T * E; i++)
        logits[i] = rng_float(&rng);
    for (int e = 0; e < E; e++)
        bias[e] = rng_float(&rng);
    struct clmoe_route_params p = {.experts = E,
                                   .topk = K,
                                   .score = CLMOE_SCORE_SQRT_SOFTPLUS,
                                   .bias = 1,
                                   .renorm = CLMOE_RENORM_SUM,
                                   .renorm_eps = 1e-20f,
                                   .scale = 1.5f};
    struct ref_route_call call = {.tokens = T, .logits = logits, .bias = bias};
    case_begin("chosen");
    run_call(p, &call);
    memcpy(chosen, ids, sizeof chosen), memcpy(before, weights, sizeof before);
    p.bias = 0, p.select = CLMOE_SELECT_GIVEN;
    call.bias = NULL, call.given = chosen;
    case_begin("given");
    run_call(p, &call);
    expect_ids(chosen, T * K);
    for (int c = 0; c < T * K; c++)
        case_require(weights[c] == before[c], "gamma[%d] = %.9g, was %.9g", c, (double)weights[c],
                     (double)before[c]);
}
END_TEST

/* One expert twice counts twice; ids that are none index nothing and weigh nothing. */
START_TEST(given_ids_repeat_and_lack) {
    const float logits[] = {1, 2, 3, 4};
    const int32_t given[] = {2, 2, -1, 4, INT32_MIN, INT32_MAX, 0, 2};
    const double a = 1 / (1 + exp(-3)), b = 1 / (1 + exp(-1)), sum = 3 * a + b;
    const struct ref_route_call call = {.tokens = 1, .logits = logits, .given = given};
    case_begin("8 slots of 4 experts");
    run_call((struct clmoe_route_params){.experts = 4,
                                         .topk = 8,
                                         .score = CLMOE_SCORE_SIGMOID,
                                         .select = CLMOE_SELECT_GIVEN,
                                         .renorm = CLMOE_RENORM_SUM},
             &call);
    expect_ids((const int32_t[]){2, 2, -1, -1, -1, -1, 0, 2}, 8);
    expect_weights((const double[]){a / sum, a / sum, 0, 0, 0, 0, b / sum, a / sum}, 8, 1e-6);
}
END_TEST

/* What was given may weigh next to nothing among all experts: eps counts beside that. */
START_TEST(given_ids_of_little_weight) {
    enum { E = 64 };
    float logits[E] = {0};
    logits[5] = -27.6f;
    const int32_t given[] = {5};
    const double s = exp((double)logits[5]) / (E - 1 + exp((double)logits[5]));
    const struct ref_route_call call = {.tokens = 1, .logits = logits, .given = given};
    struct clmoe_route_params p = {
        .experts = E, .topk = 1, .select = CLMOE_SELECT_GIVEN, .renorm_eps = 1e-12f};
    p.renorm = _i ? CLMOE_RENORM_CLAMP : CLMOE_RENORM_SUM;
    case_begin("renorm %d", (int)p.renorm);
    run_call(p, &call);
    const double by = _i ? fmax(s, (double)p.renorm_eps) : s + (double)p.renorm_eps;
    expect_weights((const double[]){s / by}, 1, 1e-4 * s / by);
}
END_TEST

/* ids may be written over the given ones. */
START_TEST(given_ids_in_place) {
    enum { E = 4, K = 5, T = 70 };
    struct rng rng = rng_for(1);
    struct clmoe_route_params p = {
        .max_tokens = T, .experts = E, .topk = K, .score = CLMOE_SCORE_SIGMOID, .select = CLMOE_SELECT_GIVEN};
    float logits[T * E], gamma[T * K];
    int32_t given[T * K], got[T * K];
    fill_floats(&rng, FILL_RANDOM, logits, T * E);
    for (int c = 0; c < T * K; c++)
        given[c] = (int32_t)rng_below(&rng, E + 2) - 1;
    const struct ref_route_call call = {.tokens = T, .logits = logits, .given = given};
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        clmoe_plan *plan;
        case_begin("%s in place", p.plan.kernel);
        if (!row_fits("route", row, clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan))) continue;
        struct guarded l = guarded_floats(&rng, CLMOE_F32, T, E, logits);
        struct guarded i = guarded_ints(&rng, CLMOE_I32, T, K, given);
        struct guarded g = guarded_floats(&rng, CLMOE_F32, T, K, NULL);
        const struct clmoe_route_args args = {
            .logits = l.tensor, .ids = i.tensor, .gamma = g.tensor, .given = i.tensor};
        case_ok(clmoe_route_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
        guarded_read(&i, got), guarded_read_floats(&g, gamma);
        route_judge(&p, &call, got, gamma, NULL);
        guarded_free(&l), guarded_free(&i), guarded_free(&g);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* Nothing but shared slots; and nothing at all but a sum of no zero experts. */
START_TEST(slots_without_selection) {
    const float logits[3 * 4] = {0};
    const int32_t want[] = {3, 4};
    case_begin("k = 0");
    run((struct clmoe_route_params){.experts = 3, .zero_experts = 1, .shared_slots = 2, .shared_gamma = 0.5f},
        3, logits);
    for (int c = 0; c < 6; c++)
        case_require(ids[c] == want[c % 2] && weights[c] == 0.5f, "slot %d: %d, %g", c, (int)ids[c],
                     (double)weights[c]);
    for (int t = 0; t < 3; t++)
        case_require(identity[t] == 0, "identity_gamma[%d] = %g", t, (double)identity[t]);
    run((struct clmoe_route_params){.experts = 3, .zero_experts = 1}, 3, logits);
    case_require(identity[0] == 0 && identity[2] == 0, "identity_gamma = %g", (double)identity[0]);
}
END_TEST

/* ---- properties ---- */

static const struct clmoe_route_params scaled[] = {
    {.experts = 64, .topk = 8, .renorm = CLMOE_RENORM_SUM},
    {.experts = 64, .topk = 8, .score = CLMOE_SCORE_SQRT_SOFTPLUS, .zero_experts = 4, .shared_slots = 1},
    {.experts = 16, .topk = 2, .score = CLMOE_SCORE_SPARSEMIXER},
    {.experts = 16, .topk = 4, .score = CLMOE_SCORE_IDENTITY, .capacity = 3, .renorm = CLMOE_RENORM_SUM},
};
enum { N_SCALED = sizeof scaled / sizeof *scaled };

/* Applied once: twice the scale is twice gamma, to the bit. */
START_TEST(gamma_is_linear_in_scale) {
    enum { T = 10 };
    struct clmoe_route_params p = scaled[_i];
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * 68], before[T * 9];
    for (int i = 0; i < T * 68; i++)
        logits[i] = rng_float(&rng);
    p.scale = 0.75f;
    case_begin("params %d, scale 0.75", _i);
    run(p, T, logits);
    const int slots = p.topk + p.shared_slots;
    memcpy(before, weights, (size_t)(T * slots) * sizeof *before);
    p.scale = 1.5f;
    case_begin("params %d, scale 1.5", _i);
    run(p, T, logits);
    for (int c = 0; c < T * slots; c++) {
        const bool shared = c % slots >= p.topk;
        case_require(weights[c] == (shared ? before[c] : 2 * before[c]), "gamma[%d] = %.9g, was %.9g", c,
                     (double)weights[c], (double)before[c]);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, scores_after_selection, 0, 2);
    tcase_add_test(cases, grok_caps_its_logits);
    tcase_add_test(cases, capped_logits_make_no_ties);
    tcase_add_test(cases, sqrt_softplus_has_both_ends);
    tcase_add_loop_test(cases, sparsemixer_masks_twice, 0, 2);
    tcase_add_test(cases, clamped_sums);
    tcase_add_loop_test(cases, each_group_brings_its_best, 0, 2);
    tcase_add_test(cases, each_group_has_ties_of_its_own);
    tcase_add_loop_test(cases, xlora_softmax_then_mask, 0, 2);
    tcase_add_test(cases, xlora_softmax_of_the_kept);
    tcase_add_test(cases, dropped_scalings_leave_no_trace);
    tcase_add_test(cases, zero_experts_keep_their_gamma);
    tcase_add_test(cases, maps_split_the_pairs);
    tcase_add_test(cases, given_ids_replay_a_routing);
    tcase_add_test(cases, given_ids_repeat_and_lack);
    tcase_add_loop_test(cases, given_ids_of_little_weight, 0, 2);
    tcase_add_test(cases, given_ids_in_place);
    tcase_add_test(cases, slots_without_selection);
    tcase_add_loop_test(cases, gamma_is_linear_in_scale, 0, tester()->small ? 1 : N_SCALED);
}

int main(void) {
    return harness_main("route_families", "route", add_tests);
}
