/* SPDX-License-Identifier: MIT
 * What the checks of topk share: a problem with its data and what is expected of it, and one run of it. */
#ifndef CLMOE_CHECK_TOPK_CASE_H
#define CLMOE_CHECK_TOPK_CASE_H

#include "harness.h"

#define TOPK_ALL_OUTPUTS 127

/* The dtypes of topk: three small floats, the others. */
enum { TOPK_DTYPES = 12 };
extern const enum clmoe_dtype topk_dtypes[TOPK_DTYPES];

/* Fills beside those of the harness. For integers infinities and NaN are the ends of the range. */
enum {
    FILL_BITS = FILL_COUNT,
    FILL_CONSTANT,
    FILL_NEG_INF,
    FILL_ALL_NAN,
    FILL_NEG_MAX,
    FILL_ASCENDING,
    FILLS
};

struct topk_sample {
    struct clmoe_topk_params params;
    int64_t rows, words; /* of the bitmask of a row */
    int bytes;           /* of an element */
    /* How a call lays its tensors out; as made: [rows, columns], a row's elements side by side. */
    int64_t inner;  /* not 0: [rows / inner, columns, inner] */
    bool strided;   /* dimensions in any order of strides, with gaps */
    bool broadcast; /* all rows of x in one place: the data must say so, too */

    char *x;                                 /* raw */
    int32_t *row_begin, *row_length, *row_k; /* NULL: not given */

    int64_t *indices; /* by index where the order is ANY; -1: padding */
    int64_t *cut;
    unsigned char *mask;
    uint32_t *bitmask, *counts;
    char *dense, *threshold;
    char pad[8]; /* pad_value, raw */
};

/* Zeroed memory, never NULL. */
void *topk_room(int64_t count, size_t size);

/* Element `i` of raw data. */
void topk_store(enum clmoe_dtype dtype, void *raw, int64_t i, union clmoe_scalar v);
union clmoe_scalar topk_scalar(enum clmoe_dtype dtype, double v);

/* Takes the raw data over, and the arrays (NULL where params do not ask for them). */
struct topk_sample topk_sample_with(const struct clmoe_topk_params *params, int64_t rows, char *raw,
                                    int32_t *row_begin, int32_t *row_length, int32_t *row_k);
struct topk_sample topk_sample_of(const struct clmoe_topk_params *params, int64_t rows, char *raw);
/* Random data; the arrays that params ask for hold anything, numbers out of range included. */
struct topk_sample topk_sample_filled(struct rng *rng, const struct clmoe_topk_params *params, int64_t rows,
                                      int fill);
void topk_sample_free(struct topk_sample *s);

/* Guarded buffers for one call, and the args made of those the plan is for. */
struct topk_operands {
    struct guarded x, row_begin, row_length, row_k;
    struct guarded values, indices, mask, bitmask, dense, threshold, cut, counts;
    struct clmoe_topk_args args;
};
struct topk_operands topk_operands_new(struct rng *rng, const struct topk_sample *s);
void topk_operands_free(struct topk_operands *o);

/* Reads the outputs back and compares them, all exactly. */
void topk_compare(const struct topk_sample *s, const struct topk_operands *o);

/* Whether a row of the table is worth its time: the reference takes rows * n * k steps. */
bool topk_affordable(const char *name, const struct topk_sample *s);

/* A workspace full of rubbish for a plan made with external_workspace; NULL if it needs none. (The simulator
 * takes the contents of a buffer without host data for what an earlier buffer held, so the checks it runs use
 * this one.) */
cl_mem topk_workspace(clmoe_plan *plan);

/* Every row of the table that fits; `what` goes into messages. */
void topk_run_rows(struct rng *rng, struct topk_sample *s, enum forced_caps caps, const char *what);

/* Makes the sample, runs it, frees it. params.max_rows = 0 means `rows`. */
void topk_run_fill(uint64_t number, struct clmoe_topk_params params, int64_t rows, int fill,
                   enum forced_caps caps);

#endif
