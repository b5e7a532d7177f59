/* SPDX-License-Identifier: MIT
 * Router logits and the pairs (token, slot) that they lead to, worked out on the host: so it is known what a
 * device has to do, and what it should find. */
#ifndef CLMOE_TOOLS_PAIRS_H
#define CLMOE_TOOLS_PAIRS_H

#include "problems.h"

struct pairs {
    struct array logits; /* [tokens, experts] */
    int32_t *ids;        /* [tokens, topk]: the largest logits, best first */
    float *gamma;        /* [tokens, topk]: softmax over them */
    int32_t *order;      /* pairs by expert, then as they come */
    int32_t *counts;     /* pairs of each expert */
    int32_t *offsets;    /* where those of an expert begin in `order`, and their end */
    int active, most;    /* experts that have pairs; pairs of the expert with most */
    struct clmoe_tensor d_logits, d_ids, d_gamma, d_order, d_offsets;
};

/* Logits of `s`: read from its folder, or drawn, the same ones for the same sizes; rounded to `dtype`. All of
 * the struct is on the device too. Returns -1 or an exit code. */
int pairs_make(struct bench *b, const struct settings *s, enum clmoe_dtype dtype, struct pairs *p);
void pairs_free(struct pairs *p);

/* Whether the folder of `s`, if it has one, holds the logits of all its numbers of tokens: before weights are
 * made, which may take long. Returns -1 or an exit code. */
int pairs_check(struct bench *b, const struct settings *s);

/* Fills counts, offsets and order for n pairs; ids are below `experts`. */
void pairs_sort(const int32_t *ids, int64_t n, int32_t experts, int32_t *counts, int32_t *offsets,
                int32_t *order);

/* Few enough pairs that kernels which go by ids alone are meant for them, as the layer decides it. */
bool pairs_are_few(const struct bench *b, const struct settings *s);

#endif
