/* SPDX-License-Identifier: MIT */
#include "route_case.h"

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

static double relative_error(const struct clmoe_route_params *p, const struct ref_expert *x, int e,
                             double largest) {
    if (p->score == CLMOE_SCORE_IDENTITY) return 0;
    if (p->score == CLMOE_SCORE_SIGMOID) return 1e-6;
    const double below = largest - (double)x[e].logit; /* rounded before exp: the error grows with it */
    return 2e-6 + (isfinite(below) ? 1.2e-7 * below : 0);
}

static double slack(const struct clmoe_route_params *p, const struct ref_expert *x, int e, double largest) {
    if (ref_route_on_logits(p) || !isfinite(x[e].key)) return 0;
    return relative_error(p, x, e, largest) * fabs(x[e].score) + 1.2e-7 * fabs(x[e].key) + 1e-37;
}

static double largest_logit(const struct clmoe_route_params *p, const struct ref_expert *x) {
    double largest = -INFINITY;
    for (int e = 0; e < p->experts; e++)
        largest = fmax(largest, (double)x[e].logit);
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
    const int size = p->experts / p->n_group;
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

static void judge_ids(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids) {
    bool *const chosen = route_room(p->experts, sizeof *chosen);
    double *const slacks = route_room(p->experts, sizeof *slacks);
    bool may[64], must[64];
    const bool groups = p->n_group > 1;
    const int size = groups ? p->experts / p->n_group : p->experts;
    const double largest = largest_logit(p, x);
    for (int e = 0; e < p->experts; e++)
        slacks[e] = slack(p, x, e, largest);
    if (groups) judge_groups(p, x, slacks, may, must);
    for (int j = 0; j < p->topk; j++) {
        const int e = ids[j];
        case_require(e >= 0 && e < p->experts, "ids[%d] = %d", j, e);
        case_require(!chosen[e], "ids[%d] = %d appears twice", j, e);
        case_require(!groups || may[e / size], "ids[%d] = %d is of the dropped group %d", j, e, e / size);
        case_require(j == 0 || may_precede(x, slacks, ids[j - 1], e), "ids[%d] = %d stands before %d", j - 1,
                     (int)ids[j - 1], e);
        chosen[e] = true;
    }
    for (int e = 0; e < p->experts; e++)
        if (!chosen[e] && (!groups || must[e / size]))
            case_require(may_precede(x, slacks, ids[p->topk - 1], e), "%d was chosen instead of %d",
                         (int)ids[p->topk - 1], e);
    free(chosen), free(slacks);
}

static void judge_gamma(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                        const float *gamma) {
    double want[64], condition, error = 0;
    ref_route_weights(p, x, ids, want, &condition);
    const double largest = largest_logit(p, x);
    for (int j = 0; j < p->topk; j++)
        error = fmax(error, relative_error(p, x, ids[j], largest));
    for (int j = 0; j < p->topk; j++) {
        const double g = (double)gamma[j], w = want[j];
        if (isnan(w) ? isnan(g) : g == w) continue;
        if (condition > 1e4) continue; /* a sum of weights that cancel: any quotient */
        if (fabs(w) > FLT_MAX && isinf(g) && (g > 0) == (w > 0)) continue;
        const double bound = (error + 3e-7) * (1 + condition) * fabs(w) + 4 * (double)FLT_MIN;
        case_require(fabs(g - w) <= bound, "gamma[%d] of expert %d = %.9g, expected %.9g (allowed %.3g)", j,
                     (int)ids[j], g, w, bound);
    }
}

void route_judge(const struct clmoe_route_params *p, int64_t tokens, const float *logits, const float *bias,
                 const int32_t *ids, const float *gamma) {
    struct ref_expert *const x = route_room(p->experts, sizeof *x);
    int32_t want[64];
    for (int64_t t = 0; t < tokens; t++) {
        ref_route_experts(p, logits + t * p->experts, p->bias ? bias : NULL, x);
        if (p->topk == 0) continue;
        judge_ids(p, x, ids + t * p->topk);
        ref_route_select(p, x, want);
        for (int j = 0; ref_route_on_logits(p) && j < p->topk; j++)
            case_require(ids[t * p->topk + j] == want[j], "ids[%lld][%d] = %d, expected %d", (long long)t, j,
                         (int)ids[t * p->topk + j], (int)want[j]);
        judge_gamma(p, x, ids + t * p->topk, gamma + t * p->topk);
    }
    free(x);
}

/* ---- one run ---- */

/* Routes on the row that params.plan.kernel names; false if it refuses. */
static bool run_row(struct rng *rng, const struct clmoe_route_params *p, int row, enum forced_caps caps,
                    int64_t tokens, const float *logits, const float *bias, int32_t *ids, float *gamma) {
    clmoe_plan *plan;
    if (!row_fits("route", row, clmoe_route_plan(tester_context(caps), p, &plan))) return false;
    struct guarded l = guarded_floats(rng, p->logits_dtype, tokens, p->experts, logits);
    struct guarded b = guarded_floats(rng, CLMOE_F32, 1, p->experts, bias);
    struct guarded i = guarded_ints(rng, CLMOE_I32, tokens, p->topk, NULL);
    struct guarded g = guarded_floats(rng, CLMOE_F32, tokens, p->topk, NULL);
    struct clmoe_route_args args = {.logits = l.tensor, .ids = i.tensor, .gamma = g.tensor};
    if (p->bias) args.bias = as_1d(&b);
    case_ok(clmoe_route_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(&i, ids);
    guarded_read_floats(&g, gamma);
    guarded_read(&l, NULL), guarded_read(&b, NULL);
    guarded_free(&l), guarded_free(&b), guarded_free(&i), guarded_free(&g);
    clmoe_plan_destroy(&plan);
    return true;
}

void route_run_rows(struct rng *rng, struct clmoe_route_params p, enum forced_caps caps, int64_t tokens,
                    const float *logits, const float *bias, int32_t *ids, float *gamma) {
    const int64_t cells = tokens * p.topk;
    int32_t *const i = route_room(cells, sizeof *i);
    float *const g = route_room(cells, sizeof *g);
    char begun[400];
    snprintf(begun, sizeof begun, "%s", case_text());
    bool first = true;
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        case_begin("%s %s E=%d k=%d groups %d/%d T=%lld %s", begun, p.plan.kernel, p.experts, p.topk,
                   p.topk_group, p.n_group, (long long)tokens, caps_name(caps));
        if (!run_row(rng, &p, row, caps, tokens, logits, bias, i, g)) continue;
        route_judge(&p, tokens, logits, bias, i, g);
        if (first) memcpy(ids, i, (size_t)cells * sizeof *i), memcpy(gamma, g, (size_t)cells * sizeof *g);
        first = false;
        /* Rows may add up in different orders: of gamma only the judge's tolerance holds. */
        for (int64_t c = 0; c < cells; c++)
            case_require(i[c] == ids[c], "cell %lld: %d, another row gave %d", (long long)c, (int)i[c],
                         (int)ids[c]);
    }
    case_begin("%s", begun);
    free(i), free(g);
}
