/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_SCATTER_H
#define CLMOE_REF_SCATTER_H

#include "clmoe/scatter.h"

/* All arrays are dense, rows outermost. */
struct ref_scatter {
    int64_t rows, n, k;
    enum clmoe_dtype dtype;
    enum clmoe_scatter_mode mode;
    union clmoe_scalar fill;
    float scale;
    const int64_t *indices; /* [rows, k] */
    const void *source;     /* values [rows, k] or, for MASK, x [rows, n]; ADD, MULTIPLY: NULL is all ones */
    const float *slot_scale, *column_scale; /* [rows, k], [n]; may be NULL */
};

/* Slot by slot, with each rounding of include/clmoe/scatter.h made from a double. y [rows, n] holds what ADD
 * and MULTIPLY begin with. exact[i] is set to 1 where y[i] must have the same bits as it has here, to 0 where
 * it is computed, so that a NaN may be any NaN. */
void ref_scatter(const struct ref_scatter *problem, void *y, unsigned char *exact);

#endif
