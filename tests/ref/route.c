/* SPDX-License-Identifier: MIT */
#include "route.h"

#include <math.h>
#include <stdlib.h>

static bool grouped(const struct clmoe_route_params *p) {
    return p->n_group > 1 && p->topk_group < p->n_group;
}

bool ref_route_on_logits(const struct clmoe_route_params *p) {
    return !p->bias && (!grouped(p) || p->group_score == CLMOE_GROUP_MAX || p->n_group == p->experts);
}

static double lowest_if_nan(double v) {
    return isnan(v) ? -INFINITY : v;
}

static void softmax(const struct clmoe_route_params *p, struct ref_expert *x) {
    double largest = -INFINITY, sum = 0;
    for (int e = 0; e < p->experts; e++)
        largest = fmax(largest, (double)x[e].logit);
    for (int e = 0; e < p->experts; e++) {
        const double l = (double)x[e].logit;
        x[e].score = l == largest ? 1.0 : isinf(largest) ? 0.0 : exp(l - largest);
        sum += x[e].score;
    }
    for (int e = 0; e < p->experts; e++)
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
    const int size = p->experts / p->n_group;
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

void ref_route_experts(const struct clmoe_route_params *p, const float *logits, const float *bias,
                       struct ref_expert *x) {
    for (int e = 0; e < p->experts; e++) {
        x[e] = (struct ref_expert){.logit = isnan(logits[e]) ? -INFINITY : logits[e], .kept = true};
        x[e].bias = bias ? bias[e] : 0.0f;
        x[e].score =
            p->score == CLMOE_SCORE_SIGMOID ? 1.0 / (1.0 + exp(-(double)x[e].logit)) : (double)x[e].logit;
    }
    if (p->score == CLMOE_SCORE_SOFTMAX) softmax(p, x);
    for (int e = 0; e < p->experts; e++) {
        const float biased = (float)(x[e].score + (double)x[e].bias);
        x[e].key = ref_route_on_logits(p) ? (double)x[e].logit : lowest_if_nan((double)biased);
    }
    if (grouped(p)) keep_groups(p, x);
}

void ref_route_select(const struct clmoe_route_params *p, const struct ref_expert *x, int32_t *ids) {
    struct ranked *const order = malloc((size_t)p->experts * sizeof *order);
    if (!order) abort();
    int n = 0;
    for (int e = 0; e < p->experts; e++)
        if (x[e].kept) order[n++] = (struct ranked){x[e].key, e};
    qsort(order, (size_t)n, sizeof *order, best_first);
    for (int j = 0; j < p->topk; j++)
        ids[j] = order[j].index;
    free(order);
}

void ref_route_weights(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                       double *gamma, double *condition) {
    double sum = 0, absolute = 0;
    for (int j = 0; j < p->topk; j++) {
        gamma[j] = x[ids[j]].score;
        sum += gamma[j];
        absolute += fabs(gamma[j]);
    }
    sum += (double)p->renorm_eps;
    *condition = 1;
    if (p->renorm == CLMOE_RENORM_SUM && sum != 0) {
        *condition = absolute / fabs(sum);
        for (int j = 0; j < p->topk; j++)
            gamma[j] /= sum;
    }
    for (int j = 0; j < p->topk; j++)
        gamma[j] *= p->scale == 0.0f ? 1.0 : (double)p->scale;
}
