/* SPDX-License-Identifier: MIT */
#include "combine.h"

#include <math.h>
#include <stddef.h>

struct sum {
    double value, absolute;
};

static void add(struct sum *s, double term) {
    s->value += term;
    s->absolute += fabs(term);
}

static struct sum element(const struct ref_combine *c, int64_t t, int64_t h) {
    const int64_t at = t * c->hidden + h;
    struct sum s = {0, 0};
    for (int j = 0; j < c->k; j++) {
        const int64_t pair = t * c->k + j, row = c->inverse ? c->inverse[pair] : pair;
        if (c->ids && (c->ids[pair] < 0 || c->ids[pair] >= c->experts)) continue;
        add(&s, c->scale * (c->gamma ? (double)c->gamma[pair] : 1) * (double)c->x[row * c->hidden + h]);
    }
    if (c->identity && c->identity[t] != 0)
        add(&s, c->scale * (double)c->identity[t] * (double)c->identity_x[at]);
    if (c->shared) add(&s, c->shared_scale * (double)c->shared[at]);
    if (c->residual) add(&s, (double)c->residual[at]);
    return s;
}

void ref_combine(const struct ref_combine *c, double *y, double *magnitude) {
    for (int64_t i = 0; i < c->tokens * c->hidden; i++) {
        const struct sum s = element(c, i / c->hidden, i % c->hidden);
        y[i] = s.value;
        if (magnitude) magnitude[i] = s.absolute;
    }
}
