/* SPDX-License-Identifier: MIT */
#include "route.h"

#include <math.h>
#include <stdlib.h>

int ref_route_width(const struct clmoe_route_params *p) {
    return p->experts + p->zero_experts;
}

bool ref_route_grouped(const struct clmoe_route_params *p) {
    return p->n_group > 1 && p->group_score != CLMOE_GROUP_EACH && p->topk_group < p->n_group;
}

int ref_route_parts(const struct clmoe_route_params *p) {
    return p->group_score == CLMOE_GROUP_EACH && p->n_group > 1 ? p->n_group : 1;
}

bool ref_route_on_logits(const struct clmoe_route_params *p) {
    return !p->bias &&
           (!ref_route_grouped(p) || p->group_score == CLMOE_GROUP_MAX || p->n_group == ref_route_width(p));
}

static double lowest_if_nan(double v) {
    return isnan(v) ? -INFINITY : v;
}

static void softmax(const struct clmoe_route_params *p, struct ref_expert *x) {
    double largest = -INFINITY, sum = 0;
    for (int e = 0; e < ref_route_width(p); e++)
        largest = fmax(largest, x[e].value);
    for (int e = 0; e < ref_route_width(p); e++) {
        x[e].score = x[e].value == largest ? 1.0 : isinf(largest) ? 0.0 : exp(x[e].value - largest);
        sum += x[e].score;
    }
    for (int e = 0; e < ref_route_width(p); e++)
        x[e].score /= sum;
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

struct ranked {
    double value;
    int index;
};

static int best_first(const void *a, const void *b) {
    const struct ranked *const x = a, *const y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static void keep_groups(const struct clmoe_route_params *p, struct ref_expert *x) {
    const int size = ref_route_width(p) / p->n_group;
    struct ranked groups[64];
    double *const keys = malloc((size_t)size * sizeof *keys);
    if (!keys) abort();
    for (int g = 0; g < p->n_group; g++) {
        for (int i = 0; i < size; i++)
            keys[i] = x[g * size + i].key;
        qsort(keys, (size_t)size, sizeof *keys, descending);
        const bool sum = p->group_score == CLMOE_GROUP_TOP2_SUM && size > 1;
        const float score = sum ? (float)(keys[0] + keys[1]) : (float)keys[0];
        groups[g] = (struct ranked){lowest_if_nan((double)score), g};
        for (int i = 0; i < size; i++)
            x[g * size + i].group_score = groups[g].value;
    }
    free(keys);
    qsort(groups, (size_t)p->n_group, sizeof *groups, best_first);
    for (int r = p->topk_group; r < p->n_group; r++)
        for (int i = 0; i < size; i++)
            x[groups[r].index * size + i].kept = false;
}

static double number_or(float number, double otherwise) {
    return number == 0.0f ? otherwise : (double)number;
}

static double value_of(const struct clmoe_route_params *p, double logit) {
    const double v = logit / number_or(p->temperature, 1), cap = (double)p->logit_cap;
    return cap > 0 ? cap * tanh(v / cap) : v;
}

static double score_of(const struct clmoe_route_params *p, double v) {
    if (p->score == CLMOE_SCORE_SIGMOID) return 1.0 / (1.0 + exp(-v));
    if (p->score == CLMOE_SCORE_SQRT_SOFTPLUS) return sqrt(v > 40 ? v : log1p(exp(v)));
    return v;
}

void ref_route_experts(const struct clmoe_route_params *p, const float *logits, const float *bias,
                       struct ref_expert *x) {
    const int n = ref_route_width(p);
    for (int e = 0; e < n; e++) {
        x[e] = (struct ref_expert){.logit = isnan(logits[e]) ? -INFINITY : logits[e], .kept = true};
        x[e].bias = bias ? bias[e] : 0.0f;
        x[e].value = value_of(p, (double)x[e].logit);
        x[e].score = score_of(p, x[e].value);
    }
    if (p->score == CLMOE_SCORE_SOFTMAX) softmax(p, x);
    for (int e = 0; e < n; e++) {
        const float biased = (float)(x[e].score + (double)x[e].bias);
        x[e].key = ref_route_on_logits(p) ? (double)x[e].logit : lowest_if_nan((double)biased);
    }
    if (ref_route_grouped(p)) keep_groups(p, x);
}

static void select_best(const struct ref_expert *x, int first, int n, int k, int32_t *ids) {
    struct ranked *const order = malloc((size_t)n * sizeof *order);
    if (!order) abort();
    int found = 0;
    for (int e = first; e < first + n; e++)
        if (x[e].kept) order[found++] = (struct ranked){x[e].key, e};
    qsort(order, (size_t)found, sizeof *order, best_first);
    for (int j = 0; j < k; j++)
        ids[j] = order[j].index;
    free(order);
}

void ref_route_select(const struct clmoe_route_params *p, const struct ref_expert *x, int32_t *ids) {
    const int parts = ref_route_parts(p);
    const int n = ref_route_width(p) / parts, k = p->topk / parts;
    for (int i = 0; i < parts; i++)
        select_best(x, i * n, n, k, ids + i * k);
}

void ref_route_take(const struct clmoe_route_params *p, const int32_t *given, int32_t *ids) {
    for (int j = 0; j < p->topk; j++)
        ids[j] = given[j] >= 0 && given[j] < ref_route_width(p) ? given[j] : -1;
}

/* The softmax over what the slots before `slot` have left, without what is far. */
static double mixer(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                    int slot, bool *doubt) {
    const double best = x[ids[slot]].value, margin = 2 * (double)(p->mixer_eps == 0 ? 0.01f : p->mixer_eps);
    double sum = 0;
    for (int e = 0; e < ref_route_width(p); e++) {
        bool taken = false;
        for (int j = 0; j < slot; j++)
            taken |= ids[j] == e;
        const double v = x[e].value, far = (best - v) / fmax(fabs(v), best);
        *doubt |= !taken && fabs(far - margin) < 1e-5;
        if (!taken && !(far > margin)) sum += v == best ? 1.0 : exp(v - best);
    }
    return 1 / sum;
}

void ref_route_scores(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                      double *scores, bool *doubt) {
    for (int j = 0; j < p->topk; j++) {
        if (ids[j] < 0)
            scores[j] = 0;
        else
            scores[j] = p->score == CLMOE_SCORE_SPARSEMIXER ? mixer(p, x, ids, j, doubt) : x[ids[j]].score;
    }
}

static double divisor(const struct clmoe_route_params *p, const double *scores, const bool *dropped,
                      double *condition) {
    double sum = 0, absolute = 0;
    for (int j = 0; j < p->topk; j++) {
        if (p->renorm_kept && dropped && dropped[j]) continue;
        sum += scores[j];
        absolute += fabs(scores[j]);
    }
    const double eps = (double)p->renorm_eps;
    const double by = p->renorm == CLMOE_RENORM_CLAMP ? (sum < eps ? eps : sum) : sum + eps;
    *condition = 1;
    if (p->renorm == CLMOE_RENORM_NONE || by == 0) return 1;
    *condition = absolute / fabs(by);
    return by;
}

void ref_route_weights(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                       double *gamma, double *condition) {
    bool doubt;
    ref_route_scores(p, x, ids, gamma, &doubt);
    const double by = divisor(p, gamma, NULL, condition);
    for (int j = 0; j < p->topk; j++)
        gamma[j] *= number_or(p->scale, 1) / by;
}

bool ref_route_valid(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t) {
    return (!p->valid_tokens || t < call->valid_tokens) && (!p->token_mask || call->token_mask[t]);
}

struct claim {
    int slot;
    double priority; /* the largest first */
    int64_t token;
    int slot_of_token;
};

static int first_claim(const void *a, const void *b) {
    const struct claim *const x = a, *const y = b;
    if (x->slot != y->slot) return x->slot - y->slot;
    if (x->priority != y->priority) return x->priority < y->priority ? 1 : -1;
    if (x->token != y->token) return x->token < y->token ? -1 : 1;
    return x->slot_of_token - y->slot_of_token;
}

static struct claim claim_of(const struct clmoe_route_params *p, const double *scores, int64_t t, int j) {
    const enum clmoe_capacity_order order = p->capacity_order;
    const bool by_slot = order == CLMOE_CAPACITY_SLOT || order == CLMOE_CAPACITY_SLOT_BEST;
    const double own = scores[t * p->topk + j], best = scores[t * p->topk];
    return (struct claim){
        by_slot ? j : 0,
        order == CLMOE_CAPACITY_SCORE       ? own
        : order == CLMOE_CAPACITY_SLOT_BEST ? best
                                            : 0,
        t,
        j,
    };
}

void ref_route_drop(const struct clmoe_route_params *p, const struct ref_route_call *call, const int32_t *ids,
                    const double *scores, bool *dropped) {
    const bool parts = p->capacity_tokens && p->capacity_tokens < call->tokens;
    const int64_t sequence = parts ? p->capacity_tokens : call->tokens;
    const int capacity = call->capacity ? call->capacity : p->capacity;
    struct claim *const claims = malloc((size_t)(call->tokens * p->topk + 1) * sizeof *claims);
    if (!claims) abort();
    for (int64_t i = 0; i < call->tokens * p->topk; i++)
        dropped[i] = false;
    for (int64_t first = 0; first < call->tokens; first += sequence) {
        for (int e = 0; e < p->experts; e++) {
            int n = 0;
            for (int64_t t = first; t < first + sequence && t < call->tokens; t++)
                for (int j = 0; j < p->topk; j++)
                    if (ids[t * p->topk + j] == e) claims[n++] = claim_of(p, scores, t, j);
            qsort(claims, (size_t)n, sizeof *claims, first_claim);
            for (int i = capacity; i < n; i++)
                dropped[claims[i].token * p->topk + claims[i].slot_of_token] = true;
        }
    }
    free(claims);
}

static int32_t mapped(const struct ref_route_call *call, int32_t id) {
    if (!call->expert_map) return id;
    return call->expert_map[id] < 0 ? -1 : call->expert_map[id];
}

void ref_route_finish(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t,
                      const int32_t *ids, const double *scores, const bool *dropped, struct ref_routed *out) {
    const bool valid = ref_route_valid(p, call, t);
    const double by = divisor(p, scores, dropped, &out->condition);
    out->identity = 0;
    for (int j = 0; j < p->topk; j++) {
        const int32_t e = ids[j];
        const bool zero = e >= p->experts;
        double g = scores[j] / by * number_or(p->scale, 1);
        if (call->expert_scale && e >= 0 && !zero) g *= (double)call->expert_scale[e];
        out->ids[j] = !valid || e < 0 || zero || dropped[j] ? -1 : mapped(call, e);
        out->gamma[j] = out->ids[j] < 0 ? 0 : g;
        if (valid && (zero || (dropped[j] && p->pass_dropped))) out->identity += g;
    }
    for (int s = 0; s < p->shared_slots; s++) {
        const int j = p->topk + s;
        out->ids[j] = valid ? mapped(call, p->experts + s) : -1;
        out->gamma[j] = out->ids[j] < 0 ? 0 : number_or(p->shared_gamma, 1);
    }
}
