/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_COMBINE_H
#define CLMOE_REF_COMBINE_H

#include <stdint.h>

/* x [T*k, H] in pair order unless `inverse` is given. Arrays other than x may be NULL: not given. */
struct ref_combine {
    int64_t tokens, hidden;
    int k, experts;
    const float *x;
    const int32_t *ids, *inverse;
    const float *gamma, *residual, *shared, *identity, *identity_x;
    double scale, shared_scale;
};

/* y [T, H] in double. `magnitude`, if not NULL, gets the sum of the absolute values of the terms: what
 * rounding errors scale with. */
void ref_combine(const struct ref_combine *c, double *y, double *magnitude);

#endif
