/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_MOE_H
#define CLMOE_REF_MOE_H

#include "clmoe/moe.h"

#include <stdbool.h>

/* A whole layer, written down from the formulas of moe.h: one pair after the other, nothing grouped, all in
 * double. Matrices are [rows, columns] with their experts in front; up parts are NULL without a GLU; other
 * pointers may be NULL where the layer has no such part. */
struct ref_moe {
    int64_t tokens, hidden, inter, latent; /* latent: 0 for none */
    int k, experts;
    const float *x;
    const int32_t *ids;
    const float *gamma;
    const float *identity; /* [T] or NULL: the weight of x itself */
    bool gamma_input;
    const float *gate, *up, *bias_gate, *bias_up, *w2, *bias2;
    struct clmoe_activation act;
    const float *down, *project_up;
    int64_t shared_inter;
    const float *shared_w_gate, *shared_w_up, *shared_w2, *shared_gate;
    struct clmoe_activation shared_act;
    int adapters;
    int64_t rank;
    const int32_t *adapter_ids;
    const float *adapter_scale, *a_gate, *a_up, *b_gate, *b_up, *a2,
        *b2; /* a_up: a_gate's where it is NULL */
    const float *residual, *shared;
    double out_scale, sum_scale;
};

/* pairs [T*k, Z], Z = latent or hidden: the weighted rows of the experts, zero for skipped pairs. y [T, H],
 * or NULL. */
void ref_moe(const struct ref_moe *m, double *pairs, double *y);

#endif
