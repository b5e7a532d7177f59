/* SPDX-License-Identifier: MIT
 *
 * scatter: puts selected elements back into dense rows.
 *
 *   indices [rows, k] (+ values [rows, k], or x [rows, n])  ->  y [rows, n]
 *
 * With s = scale * (slot_scale[r,j] if given) * (column_scale[i] if given), and i = indices[r,j]:
 *
 *   CLMOE_SCATTER_SET   y[r,:] = fill;  then for j = 0..k-1:  y[r,i] = s * values[r,j]
 *   CLMOE_SCATTER_MASK  y[r,:] = fill;  then for j = 0..k-1:  y[r,i] = s * x[r,i]
 *   CLMOE_SCATTER_ADD   for j = 0..k-1:  y[r,i] = y[r,i] + s * values[r,j]       (the sum in fp32, rounded
 * once)
 *
 * Slots are taken in order: when an index repeats in a row, SET and MASK keep the last slot's value, ADD adds
 * all of them in slot order. An index below 0 or not below n is skipped: it touches nothing. MASK selects and
 * never multiplies by zero: inf and NaN in elements that are not selected leave no trace. If every factor of
 * s is 1 (or not given) SET and MASK copy bits. The result is the same on every device as far as scale *
 * value rounds alike (IEEE).
 */
#ifndef CLMOE_SCATTER_H
#define CLMOE_SCATTER_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_scatter_mode {
    CLMOE_SCATTER_SET = 0,
    CLMOE_SCATTER_MASK,
    CLMOE_SCATTER_ADD,
};

struct clmoe_scatter_params {
    struct clmoe_plan_options plan;
    int64_t max_rows;       /* 0 <= rows of a call <= max_rows */
    int64_t n;              /* 1 <= n < 2^31 */
    int64_t k;              /* 0 <= k < 2^31 slots a row; k may exceed n, since indices may repeat */
    enum clmoe_dtype dtype; /* of values, x and y: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_scatter_mode mode;
    float fill;       /* SET and MASK: any value, rounded to dtype */
    float scale;      /* 0 means 1 */
    int slot_scale;   /* 1: args.slot_scale is given */
    int column_scale; /* 1: args.column_scale is given */
};

/* The last stride of every tensor must be 1. For MASK, y may be the same view as x (in place); apart from
 * that no output may overlap an input. */
struct clmoe_scatter_args {
    struct clmoe_tensor indices;      /* [rows, k] CLMOE_I32 */
    struct clmoe_tensor values;       /* [rows, k] dtype: SET and ADD, else absent */
    struct clmoe_tensor x;            /* [rows, n] dtype: MASK, else absent */
    struct clmoe_tensor slot_scale;   /* [rows, k] CLMOE_F32 */
    struct clmoe_tensor column_scale; /* [n] CLMOE_F32 */
    struct clmoe_tensor y;            /* [rows, n] dtype */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above, another dtype, an unknown mode, a scale of
 * NaN. */
CLMOE_API enum clmoe_status clmoe_scatter_plan(clmoe_context *ctx, const struct clmoe_scatter_params *params,
                                               clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_scatter_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                  const struct clmoe_scatter_args *args, cl_uint n_wait,
                                                  const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
