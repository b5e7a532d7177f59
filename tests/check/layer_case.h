/* SPDX-License-Identifier: MIT
 * Random layers (moe, lora) for their checks: two samples of matmul, one after the other, and the sum over
 * slots. */
#ifndef CLMOE_CHECK_LAYER_CASE_H
#define CLMOE_CHECK_LAYER_CASE_H

#include "matmul_case.h"

struct layer_sample {
    struct matmul_sample first, second; /* [T, in] -> [T*k, mid] -> [T*k, out] */
    struct matmul_operands d1, d2;      /* weights and biases on the device */
    int64_t tokens;
    int k, experts;
    float *residual, *shared; /* [T, out] or NULL */
    double out_scale;
    enum clmoe_dtype y_dtype;
    float *got;               /* [T, out] */
    double *want, *magnitude; /* magnitude: how far off y may be, its own rounding apart */
};

/* `first` describes the first product, `out` is the width of the second; the second has `gamma`, bias2 and
 * expert_scale as given. Weights are random, and none is NaN: the routing is not known yet. */
struct layer_spec {
    struct clmoe_matmul_params first;
    int64_t tokens, out;
    bool bias2, expert_scale, residual, shared;
    enum clmoe_gamma gamma;
    double out_scale;
    int parts; /* buffers of weights */
    bool mixed;
    enum clmoe_dtype w2_dtype; /* of the second product where mixed */
};
struct layer_sample layer_sample_make(struct rng *rng, const struct layer_spec *spec);

/* want and magnitude for the given routing [T, k]; gamma may be NULL. */
void layer_sample_solve(struct layer_sample *s, const int32_t *ids, const float *gamma);

/* Reads y and compares. */
void layer_compare(struct layer_sample *s, const struct guarded *y);

void layer_sample_free(struct layer_sample *s);

#endif
