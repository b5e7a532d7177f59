/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_MATMUL_H
#define CLMOE_REF_MATMUL_H

#include "clmoe/matmul.h"

#include <stdbool.h>

/* Everything dense and in pair order; weights as gate and up rows [E, N, K], biases [E, N]. */
struct ref_matmul {
    int64_t tokens, in, out;
    int k, experts;
    const int32_t *ids;
    const float *x; /* [T*k, K], or [T, K] with x_token */
    bool x_token;
    const float *gate, *up;            /* up: NULL without GLU */
    const float *bias_gate, *bias_up;  /* NULL: none */
    const float *add_gate, *add_up;    /* [T*k, N]; NULL: none */
    const float *expert_scale, *gamma; /* NULL: all 1 */
    bool gamma_input;
    const int32_t *limits; /* NULL: none */
    enum clmoe_limit limit;
    struct clmoe_activation act;
};

/* y [T*k, N] in pair order. `magnitude` gets, for each element, what an error of one part in 1 / tolerance in
 * every term of the sums would change. */
void ref_matmul(const struct ref_matmul *m, double *y, double *magnitude);

/* act(g, u) of the header; `gated`: with a GLU layout. */
double ref_activation(const struct clmoe_activation *act, bool gated, double g, double u);

#endif
