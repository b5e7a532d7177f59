/* SPDX-License-Identifier: MIT
 * Layers whose experts lie on the device and in host memory, as the same bytes. */
#ifndef CLMOE_CHECK_OFFLOAD_CASE_H
#define CLMOE_CHECK_OFFLOAD_CASE_H

#include "harness.h"

enum offload_part {
    PART_W1 = 0,
    PART_W1_UP,
    PART_W2,
    PART_W1_SCALE,
    PART_W1_SCALE_UP,
    PART_W2_SCALE,
    PART_W1_ZERO,
    PART_W1_ZERO_UP,
    PART_W2_ZERO,
    PART_BIAS1,
    PART_BIAS1_UP,
    PART_BIAS2,
    PARTS
};

struct offload_case {
    struct clmoe_moe_params params; /* of the layer with all experts on the device */
    int64_t tokens;
    struct {
        unsigned char *bytes;     /* of all experts; NULL: the layer has none */
        const void **of_expert;   /* pointers into it */
        struct guarded on_device; /* [E, ...] */
    } parts[PARTS];
    uint64_t expert_bytes;
    float *numbers; /* for x, gamma and dense weights */
    struct guarded x, router, gamma, ids, residual, dense[4], y;
    int32_t *routing;    /* what `ids` holds */
    unsigned char *want; /* y of the last call with all experts on the device */
    size_t y_bytes;
};

/* Random weights for the layer, and x for `tokens`. */
struct offload_case *offload_case_make(struct rng *rng, const struct clmoe_moe_params *params,
                                       int64_t tokens);
void offload_case_free(struct offload_case *c);

enum offload_routing {
    OFFLOAD_RANDOM = 0,
    OFFLOAD_ZIPF,  /* few experts often */
    OFFLOAD_ONE,   /* one expert for all */
    OFFLOAD_SKIPS, /* -1 and E, repeats */
    OFFLOAD_NONE,  /* all skipped */
    OFFLOAD_ROUTINGS
};

/* Other ids for the next calls, of layers that take them. */
void offload_case_route(struct rng *rng, struct offload_case *c, enum offload_routing kind);

/* Those that `routing` holds now. */
void offload_case_put_ids(struct rng *rng, struct offload_case *c);

/* Another x, for layers that route by it. */
void offload_case_shuffle(struct rng *rng, struct offload_case *c);

/* Plans of both kinds, for max_tokens of the params. */
clmoe_plan *offload_case_plan(const struct offload_case *c, clmoe_context *ctx, bool offload);

struct clmoe_offload_params offload_case_params(const struct offload_case *c, uint64_t budget);
clmoe_offload *offload_case_create(const struct offload_case *c, const clmoe_plan *plan, uint64_t budget);

/* The arguments of a call: with an object, or with the weights on the device. */
struct clmoe_moe_args offload_case_args(const struct offload_case *c, clmoe_offload *offload);

/* Runs with all experts on the device, which gives `want`; then y is poison again. */
void offload_case_solve(struct offload_case *c, clmoe_plan *plan);

/* y against `want`, bit by bit; then y is poison again. */
void offload_case_compare(struct offload_case *c);

/* Experts that the routing names. */
int offload_case_wanted(const struct offload_case *c);

#endif
