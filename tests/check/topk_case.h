/* SPDX-License-Identifier: MIT
 * What the checks of topk share: a problem with its data and what is expected of it, and one run of it. */
#ifndef CLMOE_CHECK_TOPK_CASE_H
#define CLMOE_CHECK_TOPK_CASE_H

#include "harness.h"

#define TOPK_ALL_OUTPUTS 31

/* Fills beside those of the harness. */
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
    char *x;             /* raw */
    float *values;       /* the same, widened */
    int32_t *indices;    /* by index where the order is ANY */
    unsigned char *mask;
    uint32_t *bitmask;
    char *dense;
};

/* Zeroed memory, never NULL. */
void *topk_room(int64_t count, size_t size);

/* Takes the raw data over. */
struct topk_sample topk_sample_of(const struct clmoe_topk_params *params, int64_t rows, char *raw);
struct topk_sample topk_sample_filled(struct rng *rng, const struct clmoe_topk_params *params, int64_t rows,
                                      int fill);
void topk_sample_free(struct topk_sample *s);

/* Guarded buffers for one call, and the args made of those the plan is for. */
struct topk_operands {
    struct guarded x, values, indices, mask, bitmask, dense;
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
