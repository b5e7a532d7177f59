/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_COMBINE_H
#define CLMOE_REF_COMBINE_H

#include <stdint.h>

/* y [T, H] in double; x [T*k, H] in pair order unless `inverse` is given. ids, gamma, inverse, residual and
 * shared may be NULL. `magnitude`, if not NULL, gets the sum of the absolute values of the terms: what
 * rounding errors scale with. */
void ref_combine(int64_t tokens, int k, int experts, int64_t hidden, const float *x, const int32_t *ids,
                 const int32_t *inverse, const float *gamma, const float *residual, const float *shared,
                 double scale, double *y, double *magnitude);

#endif
