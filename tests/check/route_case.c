/* SPDX-License-Identifier: MIT */
#include "route_case.h"

#include "ref/permute.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *route_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

/* ---- the judge ---- */

/* Of a score; `value` errors (the division by the temperature, tanh) come before exp. */
static double relative_error(const struct clmoe_route_params *p, const struct ref_expert *x, int e,
                             double largest) {
    const double per_value = (p->logit_cap > 0 ? 1.2e-6 : 0) + (p->temperature > 0 ? 6e-7 : 0);
    const double value = isfinite(x[e].value) ? per_value * fabs(x[e].value) : 0;
    if (p->score == CLMOE_SCORE_IDENTITY) return per_value;
    if (p->score == CLMOE_SCORE_SIGMOID || p->score == CLMOE_SCORE_SQRT_SOFTPLUS) return 1e-6 + value;
    const double below = largest - x[e].value; /* rounded before exp: the error grows with it */
    return 2e-6 + (isfinite(below) ? 1.2e-7 * below + value + per_value * fabs(largest) : 0);
}

static double slack(const struct clmoe_route_params *p, const struct ref_expert *x, int e, double largest) {
    if (ref_route_on_logits(p) || !isfinite(x[e].key)) return 0;
    return relative_error(p, x, e, largest) * fabs(x[e].score) + 1.2e-7 * fabs(x[e].key) + 1e-37;
}

static double largest_value(const struct clmoe_route_params *p, const struct ref_expert *x) {
    double largest = -INFINITY;
    for (int e = 0; e < ref_route_width(p); e++)
        largest = fmax(largest, x[e].value);
    return largest;
}

static bool may_precede(const struct ref_expert *x, const double *slacks, int a, int b) {
    if (x[a].logit == x[b].logit && x[a].bias == x[b].bias) return a < b;
    return x[a].key >= x[b].key || x[a].key > x[b].key - slacks[a] - slacks[b];
}

/* A bound for the error of a group's score: of any of its experts, twice. */
static double group_slack(const double *slacks, int size, int g) {
    double most = 0;
    for (int i = 0; i < size; i++)
        most = fmax(most, slacks[g * size + i]);
    return 2 * most;
}

/* Fills for each group whether it may and whether it must stay. Groups of equal exact score are taken for
 * uncertain unless the keys carry no error. */
static void judge_groups(const struct clmoe_route_params *p, const struct ref_expert *x, const double *slacks,
                         bool *may, bool *must) {
    const int size = ref_route_width(p) / p->n_group;
    const bool exact = ref_route_on_logits(p) || p->score == CLMOE_SCORE_IDENTITY;
    for (int g = 0; g < p->n_group; g++) {
        int surely_before = 0, perhaps_before = 0;
        for (int h = 0; h < p->n_group; h++) {
            if (h == g) continue;
            const double a = x[h * size].group_score, b = x[g * size].group_score;
            const double error = exact ? 0 : group_slack(slacks, size, h) + group_slack(slacks, size, g);
            surely_before += a > b && (exact || a - b > error);
            perhaps_before += exact ? a > b : a >= b || b - a <= error;
            if (exact && a == b && h < g) surely_before++, perhaps_before++;
        }
        may[g] = surely_before < p->topk_group;
        must[g] = perhaps_before < p->topk_group;
    }
}

static void judge_ids(const struct clmoe_route_params *p, const struct ref_expert *x, const double *slacks,
                      const int32_t *ids) {
    const bool groups = ref_route_grouped(p);
    const int n = ref_route_width(p), size = groups ? n / p->n_group : n;
    const int parts = ref_route_parts(p), of_part = p->topk / parts; /* each with its own best */
    bool *const chosen = route_room(n, sizeof *chosen);
    bool may[64], must[64];
    if (groups) judge_groups(p, x, slacks, may, must);
    for (int j = 0; j < p->topk; j++) {
        const int e = ids[j], part = j / of_part;
        case_require(e >= part * (n / parts) && e < (part + 1) * (n / parts), "ids[%d] = %d", j, e);
        case_require(!chosen[e], "ids[%d] = %d appears twice", j, e);
        case_require(!groups || may[e / size], "ids[%d] = %d is of the dropped group %d", j, e, e / size);
        case_require(j % of_part == 0 || may_precede(x, slacks, ids[j - 1], e),
                     "ids[%d] = %d stands before %d", j - 1, (int)ids[j - 1], e);
        chosen[e] = true;
    }
    for (int e = 0; e < n; e++) {
        if (chosen[e] || (groups && !must[e / size])) continue;
        const int last = ids[(e / (n / parts) + 1) * of_part - 1];
        case_require(may_precede(x, slacks, last, e), "%d was chosen instead of %d", last, e);
    }
    free(chosen);
}

/* Whether rounding may have changed what the oracle chose. */
static bool doubtful(const struct clmoe_route_params *p, const struct ref_expert *x, const double *slacks,
                     const int32_t *ids) {
    if (p->topk == 0 || ref_route_on_logits(p) || p->select == CLMOE_SELECT_GIVEN) return false;
    bool may[64], must[64], doubt = false;
    if (ref_route_grouped(p)) {
        judge_groups(p, x, slacks, may, must);
        for (int g = 0; g < p->n_group; g++)
            doubt |= may[g] != must[g];
    }
    for (int e = 0; e < ref_route_width(p); e++) {
        bool before = true; /* of slot j: where e is not yet chosen */
        for (int j = 0; x[e].kept && j < p->topk && before; j++) {
            before = ids[j] != e;
            doubt |= before && may_precede(x, slacks, e, ids[j]) && may_precede(x, slacks, ids[j], e);
        }
    }
    return doubt;
}

/* Which of the options after selection hide the ids that were chosen. */
static bool hides_ids(const struct clmoe_route_params *p) {
    return p->zero_experts || p->expert_map || p->valid_tokens || p->token_mask || p->capacity;
}

static void judge_gamma(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                        const struct ref_routed *want, const float *gamma, const float *identity) {
    const double largest = largest_value(p, x);
    double error = 0, sum = 0;
    for (int j = 0; j < p->topk; j++)
        if (ids[j] >= 0) error = fmax(error, relative_error(p, x, ids[j], largest));
    if (want->condition > 1e4) return; /* a sum of weights that cancel: any quotient */
    for (int j = 0; j < p->topk + p->shared_slots; j++) {
        const double g = (double)gamma[j], w = want->gamma[j];
        if (isfinite(w)) sum += fabs(w);
        if (isnan(w) ? isnan(g) : g == w || fabs(w) > (double)FLT_MAX) continue;
        const double bound = (error + 4e-7) * (1 + want->condition) * fabs(w) + 4 * (double)FLT_MIN;
        case_require(fabs(g - w) <= bound, "gamma[%d] of expert %d = %.9g, expected %.9g (allowed %.3g)", j,
                     (int)want->ids[j], g, w, bound);
    }
    if (!identity) return;
    const double got = (double)*identity, sure = want->identity;
    if (isnan(sure) ? isnan(got) : got == sure || fabs(sure) > (double)FLT_MAX) return;
    const double bound = (error + 6e-6) * (1 + want->condition) * (sum + fabs(sure));
    case_require(fabs(got - sure) <= bound + 4 * (double)FLT_MIN, "identity_gamma %.9g, expected %.9g", got,
                 sure);
}

struct judged {
    struct ref_expert *x;
    double *slacks, *scores;
    bool *dropped, *doubt; /* [T, k], [T] */
    int32_t *ids;          /* [T, k] of step 5, -1 for invalid tokens */
};

static void judge_token(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t,
                        struct judged *w, const int32_t *ids) {
    const int n = ref_route_width(p);
    int32_t *const chosen = w->ids + t * p->topk;
    ref_route_experts(p, call->logits + t * n, call->bias, w->x);
    const double largest = largest_value(p, w->x);
    for (int e = 0; e < n; e++)
        w->slacks[e] = slack(p, w->x, e, largest);
    if (call->given)
        ref_route_take(p, call->given + t * p->topk, chosen);
    else
        ref_route_select(p, w->x, chosen);
    if (doubtful(p, w->x, w->slacks, chosen)) {
        w->doubt[t] = hides_ids(p);
        if (!w->doubt[t]) {
            judge_ids(p, w->x, w->slacks, ids);
            memcpy(chosen, ids, (size_t)p->topk * sizeof *chosen);
        }
    }
    ref_route_scores(p, w->x, chosen, w->scores + t * p->topk, &w->doubt[t]);
    for (int j = 0; !ref_route_valid(p, call, t) && j < p->topk; j++)
        chosen[j] = -1, w->scores[t * p->topk + j] = 0;
}

static void compare_token(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t,
                          const struct judged *w, const int32_t *ids, const float *gamma,
                          const float *identity) {
    struct ref_routed want;
    const int64_t at = t * p->topk;
    ref_route_experts(p, call->logits + t * ref_route_width(p), call->bias, w->x);
    ref_route_finish(p, call, t, w->ids + at, w->scores + at, w->dropped + at, &want);
    for (int j = 0; j < p->topk + p->shared_slots; j++) {
        case_require(ids[j] == want.ids[j], "ids[%lld][%d] = %d, expected %d", (long long)t, j, (int)ids[j],
                     (int)want.ids[j]);
        case_require(ids[j] >= 0 || gamma[j] == 0, "gamma[%lld][%d] of no expert = %g", (long long)t, j,
                     (double)gamma[j]);
    }
    judge_gamma(p, w->x, w->ids + at, &want, gamma, identity);
}

void route_judge(const struct clmoe_route_params *p, const struct ref_route_call *call, const int32_t *ids,
                 const float *gamma, const float *identity) {
    const int64_t slots = p->topk + p->shared_slots, pairs = call->tokens * p->topk;
    struct judged w = {
        .x = route_room(ref_route_width(p), sizeof *w.x),
        .slacks = route_room(ref_route_width(p), sizeof *w.slacks),
        .scores = route_room(pairs, sizeof *w.scores),
        .dropped = route_room(pairs, sizeof *w.dropped),
        .doubt = route_room(call->tokens, sizeof *w.doubt),
        .ids = route_room(pairs, sizeof *w.ids),
    };
    bool doubt = false;
    for (int64_t t = 0; t < call->tokens; t++) {
        judge_token(p, call, t, &w, ids + t * slots);
        doubt |= w.doubt[t];
    }
    if (p->capacity) ref_route_drop(p, call, w.ids, w.scores, w.dropped);
    for (int64_t t = 0; t < call->tokens && !(p->capacity && doubt); t++)
        if (!w.doubt[t])
            compare_token(p, call, t, &w, ids + t * slots, gamma + t * slots, identity ? identity + t : NULL);
    free(w.x), free(w.slacks), free(w.scores), free(w.dropped), free(w.doubt), free(w.ids);
}

/* ---- one run ---- */

struct buffers {
    struct guarded logits, bias, given, expert_scale, expert_map, valid_tokens, token_mask;
    struct guarded ids, gamma, identity;
    struct guarded counts, offsets, order, inverse;
};

static struct buffers make_buffers(struct rng *rng, const struct clmoe_route_params *p,
                                   const struct ref_route_call *c, struct clmoe_route_args *a) {
    const int64_t t = c->tokens, n = ref_route_width(p), slots = p->topk + p->shared_slots;
    struct buffers b = {
        .logits = guarded_floats(rng, p->logits_dtype, t, n, c->logits),
        .bias = guarded_floats(rng, CLMOE_F32, 1, n, c->bias),
        .given = guarded_ints(rng, CLMOE_I32, t, p->topk, c->given),
        .expert_scale = guarded_floats(rng, CLMOE_F32, 1, p->experts, c->expert_scale),
        .expert_map = guarded_ints(rng, CLMOE_I32, 1, p->experts + p->shared_slots, c->expert_map),
        .valid_tokens = guarded_ints(rng, CLMOE_I32, 1, 1, &c->valid_tokens),
        .token_mask = guarded_ints(rng, CLMOE_U8, 1, t, c->token_mask),
        .ids = guarded_ints(rng, CLMOE_I32, t, slots, NULL),
        .gamma = guarded_floats(rng, CLMOE_F32, t, slots, NULL),
        .identity = guarded_floats(rng, CLMOE_F32, 1, t, NULL),
        .counts = guarded_ints(rng, CLMOE_I32, 1, p->permute_experts, NULL),
        .offsets = guarded_ints(rng, CLMOE_I32, 1, p->permute_experts + 1, NULL),
        .order = guarded_ints(rng, CLMOE_I32, 1, t * slots + 1, NULL),
        .inverse = guarded_ints(rng, CLMOE_I32, 1, t * slots, NULL),
    };
    *a = (struct clmoe_route_args){
        .logits = b.logits.tensor, .ids = b.ids.tensor, .gamma = b.gamma.tensor, .capacity = c->capacity};
    if (p->bias) a->bias = as_1d(&b.bias);
    if (p->select == CLMOE_SELECT_GIVEN) a->given = b.given.tensor;
    if (p->expert_scale) a->expert_scale = as_1d(&b.expert_scale);
    if (p->expert_map) a->expert_map = as_1d(&b.expert_map);
    if (p->valid_tokens) a->valid_tokens = as_1d(&b.valid_tokens);
    if (p->token_mask) a->token_mask = as_1d(&b.token_mask);
    if (p->zero_experts || p->pass_dropped) a->identity_gamma = as_1d(&b.identity);
    if (!p->permute_experts) return b;
    a->counts = as_1d(&b.counts), a->offsets = as_1d(&b.offsets), a->order = as_1d(&b.order);
    if (t % 2) a->inverse = as_1d(&b.inverse);
    return b;
}

static void free_buffers(struct buffers *b) {
    struct guarded *const all[] = {&b->logits,     &b->bias,         &b->given,      &b->expert_scale,
                                   &b->expert_map, &b->valid_tokens, &b->token_mask, &b->ids,
                                   &b->gamma,      &b->identity,     &b->counts,     &b->offsets,
                                   &b->order,      &b->inverse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guarded_free(all[i]);
}

static void compare_ints(const struct guarded *g, const int32_t *want, int64_t n, const char *what) {
    int32_t *const got = route_room(g->tensor.shape[1], sizeof *got);
    guarded_read(g, got);
    for (int64_t i = 0; i < n; i++)
        case_require(got[i] == want[i], "%s[%lld] = %d, expected %d", what, (long long)i, (int)got[i],
                     (int)want[i]);
    free(got);
}

/* The pairs as the ids came out, which are judged elsewhere. */
static void judge_sorting(const struct clmoe_route_params *p, const struct clmoe_route_args *a,
                          const struct buffers *b, const int32_t *ids) {
    const int64_t pairs = a->ids.shape[0] * a->ids.shape[1], n = p->permute_experts;
    int32_t *const counts = route_room(n, sizeof *counts), *const offsets =
                                                               route_room(n + 1, sizeof *offsets);
    int32_t *const order = route_room(pairs, sizeof *order), *const inverse =
                                                                 route_room(pairs, sizeof *inverse);
    ref_permute(pairs, (int)n, ids, counts, offsets, order, inverse);
    compare_ints(&b->counts, counts, n, "counts");
    compare_ints(&b->offsets, offsets, n + 1, "offsets");
    compare_ints(&b->order, order, pairs, "order");
    compare_ints(&b->inverse, inverse, a->inverse.mem ? pairs : 0, "inverse");
    free(counts), free(offsets), free(order), free(inverse);
}

/* Routes on the row that params.plan.kernel names; false if it refuses. */
static bool run_row(struct rng *rng, const struct clmoe_route_params *p, int row, enum forced_caps caps,
                    const struct ref_route_call *call, int32_t *ids, float *gamma, float *identity) {
    clmoe_plan *plan;
    if (!row_fits("route", row, clmoe_route_plan(tester_context(caps), p, &plan))) return false;
    struct clmoe_route_args args;
    struct buffers b = make_buffers(rng, p, call, &args);
    /* Both kinds of queue get their share. */
    cl_event done;
    const cl_command_queue queue = call->tokens % 2 ? tester()->ooo_queue : tester()->queue;
    case_ok(clmoe_route_enqueue(plan, queue, &args, 0, NULL, &done));
    case_require(clWaitForEvents(1, &done) == CL_SUCCESS, "clWaitForEvents");
    clReleaseEvent(done);
    guarded_read(&b.ids, ids);
    guarded_read_floats(&b.gamma, gamma);
    if (args.identity_gamma.mem) guarded_read_floats(&b.identity, identity);
    if (p->permute_experts) judge_sorting(p, &args, &b, ids);
    guarded_read(&b.logits, NULL), guarded_read(&b.bias, NULL), guarded_read(&b.given, NULL);
    free_buffers(&b);
    clmoe_plan_destroy(&plan);
    return true;
}

void route_run_call(struct rng *rng, struct clmoe_route_params p, enum forced_caps caps,
                    const struct ref_route_call *call, int32_t *ids, float *gamma, float *identity) {
    const int64_t cells = call->tokens * (p.topk + p.shared_slots);
    const bool has_identity = p.zero_experts || p.pass_dropped;
    int32_t *const i = route_room(cells, sizeof *i);
    float *const g = route_room(cells, sizeof *g), *const d = route_room(call->tokens, sizeof *d);
    char begun[400];
    snprintf(begun, sizeof begun, "%s", case_text());
    bool first = true;
    if (call->tokens % 3 != 1 && p.topk + p.shared_slots > 0) p.permute_experts = p.experts + p.shared_slots;
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        case_begin("%s %s E=%d k=%d groups %d/%d T=%lld %s", begun, p.plan.kernel, p.experts, p.topk,
                   p.topk_group, p.n_group, (long long)call->tokens, caps_name(caps));
        if (!run_row(rng, &p, row, caps, call, i, g, d)) continue;
        route_judge(&p, call, i, g, has_identity ? d : NULL);
        if (first) memcpy(ids, i, (size_t)cells * sizeof *i), memcpy(gamma, g, (size_t)cells * sizeof *g);
        if (first && identity) memcpy(identity, d, (size_t)call->tokens * sizeof *d);
        first = false;
        /* Rows may add up in different orders: of gamma only the judge's tolerance holds. */
        for (int64_t c = 0; c < cells; c++)
            case_require(i[c] == ids[c], "cell %lld: %d, another row gave %d", (long long)c, (int)i[c],
                         (int)ids[c]);
    }
    case_begin("%s", begun);
    free(i), free(g), free(d);
}

void route_run_rows(struct rng *rng, struct clmoe_route_params p, enum forced_caps caps, int64_t tokens,
                    const float *logits, const float *bias, int32_t *ids, float *gamma) {
    const struct ref_route_call call = {.tokens = tokens, .logits = logits, .bias = p.bias ? bias : NULL};
    route_run_call(rng, p, caps, &call, ids, gamma, NULL);
}
