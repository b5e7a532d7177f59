/* SPDX-License-Identifier: MIT
 * Random moe layers with any of the options, and ref_moe for them. */
#ifndef CLMOE_CHECK_MOE_CASE_H
#define CLMOE_CHECK_MOE_CASE_H

#include "harness.h"
#include "ref/moe.h"

#define MOE_ARRAYS 32

struct moe_sample {
    struct clmoe_moe_params params;
    int64_t tokens;
    struct ref_moe ref; /* with arrays of the sample: random, rounded to the dtypes of the params */
    float *x, *gamma, *router;
    int32_t *ids, *adapter_ids, *given, *map, valid;
    uint8_t *mask;
    float *expert_scale, *identity; /* inputs of the routing; weights of zero experts */
    double *pairs, *want;           /* what moe_solve makes */
    float *got;                     /* what moe_run reads: [T, H] or [T*k, H] */

    void *arrays[2 * MOE_ARRAYS];
    int n_arrays;
    struct guarded buffers[MOE_ARRAYS], y;
    int n_buffers;
    struct clmoe_tensor w1, w1_up, w2;
    struct clmoe_moe_args args;
};

/* Fills everything for params (w_order ENK, w_dtype no block format); ids by `fill`. With source ROUTER and
 * LOGITS the routing comes from the device: out_ids and out_gamma are read into ids and gamma after a run. */
struct moe_sample *moe_sample_make(struct rng *rng, const struct clmoe_moe_params *params, int64_t tokens,
                                   enum routing_fill fill);
/* Gives the device what the arrays hold now. */
void moe_upload(struct rng *rng, struct moe_sample *s);
/* Plans, runs, reads got; gamma and ids too where the device made them. */
void moe_run(struct moe_sample *s, clmoe_context *ctx, cl_command_queue queue);
/* got against ref_moe: each element within `tolerance` of the largest one. */
void moe_compare(struct moe_sample *s, double tolerance);
void moe_sample_free(struct moe_sample *s);

/* Rows of y, slots of a token, experts with weights. */
int64_t moe_rows(const struct moe_sample *s);
int moe_slots(const struct clmoe_moe_params *p);
int moe_held(const struct clmoe_moe_params *p);

#endif
