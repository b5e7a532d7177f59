/* SPDX-License-Identifier: MIT
 *
 * scatter: puts selected elements back into dense rows, or changes them there.
 *
 *   indices [rows, k] (+ values [rows, k], or x [rows, n])  ->  y [rows, n]
 *
 * With s = scale * (slot_scale[r,j] if given) * (column_scale[i] if given), and i = indices[r,j]:
 *
 *   CLMOE_SCATTER_SET       y[r,:] = fill;  then for j = 0..k-1:  y[r,i] = s * values[r,j]
 *   CLMOE_SCATTER_MASK      y[r,:] = fill;  then for j = 0..k-1:  y[r,i] = s * x[r,i]
 *   CLMOE_SCATTER_ADD       y = x, if given;  for j = 0..k-1:  y[r,i] = y[r,i] + (s * values[r,j])
 *   CLMOE_SCATTER_MULTIPLY  y = x, if given;  for j = 0..k-1:  y[r,i] = y[r,i] * (s * values[r,j])
 *
 * Slots are taken in order: when an index repeats in a row, SET and MASK keep the last slot's value, ADD and
 * MULTIPLY take all of them in slot order, in fp32, and round the result to dtype once; s * values[r,j] is an
 * fp32 number of its own (no fma). An index below 0 or not below n is skipped: it touches nothing. MASK
 * selects and never multiplies by zero: inf and NaN in elements that are not selected leave no trace. If
 * every factor of s is 1 (or not given) SET and MASK copy bits. ADD and MULTIPLY copy the bits of elements
 * that no slot names, or leave them alone: in place only the named elements are read and written. The result
 * is the same on every device as far as products and sums round alike (IEEE).
 *
 * Any axis. A row lies along dimension 1: tensors have two dimensions, [rows, n], or three, [outer, n,
 * inner], where rows = outer * inner, as in topk.h. All of indices, values, slot_scale, x and y of a call
 * have the same number.
 *
 * Samplers. Logits are rows of vocabularies [batch, n]. Only the tokens of a list are allowed:
 *
 *   params = {.n = n, .k = allowed, .mode = CLMOE_SCATTER_MASK, .fill = {.f = -INFINITY}, ...}
 *   args = {.indices = allowed tokens, .x = logits, .y = logits}                          in place
 *
 * The tokens so far cost `penalty` each time they occur; a list shorter than k ends in -1:
 *
 *   params = {.n = n, .k = length, .mode = CLMOE_SCATTER_ADD, .no_values = 1, .scale = -penalty, ...}
 *   args = {.indices = tokens so far, .y = logits}                                        in place
 *
 * With CLMOE_SCATTER_MULTIPLY and .scale = penalty it is a factor, again for each time. One list for all rows
 * of a batch is a view whose rows are all the same: strides {0, 1}.
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
    CLMOE_SCATTER_MULTIPLY,
};

struct clmoe_scatter_params {
    struct clmoe_plan_options plan;
    int64_t max_rows; /* 0 <= rows of a call <= max_rows */
    int64_t n;        /* 1 <= n <= 2^31 */
    int64_t k;        /* 0 <= k <= 2^31 slots a row; k may exceed n, since indices may repeat */
    /* Of values, x and y. CLMOE_F32, F16, BF16; for SET and MASK without a scale (0 or 1, and neither
     * slot_scale nor column_scale) also CLMOE_F64, I8, U8, I16, U16, I32, U32, I64, U64. */
    enum clmoe_dtype dtype;
    enum clmoe_dtype index_dtype; /* of indices: CLMOE_I32, which 0 stands for, or CLMOE_I64 */
    enum clmoe_scatter_mode mode;
    union clmoe_scalar fill; /* SET and MASK; rounded to floating dtypes, must be in the range of others */
    float scale;             /* 0 means 1 */
    int slot_scale;          /* 1: args.slot_scale is given */
    int column_scale;        /* 1: args.column_scale is given */
    int from_x;              /* ADD and MULTIPLY: 1: args.x is given, what y begins with; 0: y is changed */
    int no_values;           /* ADD and MULTIPLY: 1: args.values is absent, every value is 1 */
};

/* Strides of inputs are free, 0 included (but all of them 0 mean "contiguous", see tensor.h); those of y,
 * that of the elements of a row too, are free as long as no two elements overlap. y may be the same view as
 * x; apart from that it may not overlap an input. */
struct clmoe_scatter_args {
    struct clmoe_tensor indices;      /* [rows, k] or [outer, k, inner] index_dtype */
    struct clmoe_tensor values;       /* as indices, dtype: SET, ADD and MULTIPLY, else absent */
    struct clmoe_tensor x;            /* as y, dtype: MASK, and from_x, else absent */
    struct clmoe_tensor slot_scale;   /* as indices, CLMOE_F32 */
    struct clmoe_tensor column_scale; /* [n] CLMOE_F32 */
    struct clmoe_tensor y;            /* [rows, n] or [outer, n, inner] dtype */
};

/* The workspace is at most 16 MiB, or 4 MiB and 8 bytes for each slot of a single row if that is more.
 * Results do not depend on it.
 *
 * Errors: CLMOE_E_INVALID for a size outside the ranges above, another dtype, an unknown mode, flags other
 * than 0 and 1 or not of the mode, a fill that dtype cannot hold, a scale of NaN or for a dtype without
 * one. */
CLMOE_API enum clmoe_status clmoe_scatter_plan(clmoe_context *ctx, const struct clmoe_scatter_params *params,
                                               clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_scatter_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                  const struct clmoe_scatter_args *args, cl_uint n_wait,
                                                  const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
