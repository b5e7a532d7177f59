/* SPDX-License-Identifier: MIT
 *
 * topk: the k largest (or smallest) elements of each row.
 *
 *   x [rows, n]  ->  values [rows, k], indices [rows, k], mask [rows, n], bitmask [rows, ceil(n/32)],
 *                    dense [rows, n], threshold [rows], cut [rows], counts [n]
 *
 * Any subset of the outputs is made in one call. Nothing is read back by the host.
 *
 * Order. The elements of a row are ordered by value, then equal ones by index: ascending, so that the lowest
 * index wins (for `smallest` too), or descending with CLMOE_TIES_HIGHEST. Integers are compared as integers.
 * Of floats -0 equals +0, and NaN is one value, of any sign and payload: the greatest (default, as in PyTorch
 * and NumPy) or the lowest; or all of them have the order of IEEE 754. So the selected set and its order are
 * unique, and the result has the same bits on every device and for every kernel. Values are copied from the
 * input, bits and all. Indices are distinct and in [0, n) for any input.
 *
 * Any axis. A row lies along dimension 1: tensors have two dimensions, [rows, n], or three, [outer, n,
 * inner], where rows = outer * inner and row o * inner + i is x[o, :, i]. So an axis of any contiguous tensor
 * is a view with three dimensions. All of x, values, indices, mask, bitmask and dense of a call have the same
 * number.
 *
 * Windows. With row_begin and row_length a row is only a part of x: for its numbers `begin` and `length`
 *
 *   begin' = clamp(begin, 0, n), n' = clamp(length, 0, n - begin')    (0 and n - begin' where not given)
 *   k' = clamp(row_k, 0, min(k, n'))                                  (min(k, n') where not given)
 *
 * Elements outside of [begin', begin' + n') are as if they were not there: never selected, 0 in mask and
 * bitmask, the fill in dense. Indices are positions in the whole row all the same: values[r, j] = x[r,
 * indices[r, j]]. Slots j >= k' of values and indices hold pad_value and -1. The arrays stay on the device,
 * and whatever they hold is harmless.
 *
 * Threshold. The last selected element, the k'-th in the order, has the value threshold[r] and the index
 * cut[r]: an element of the window is selected if and only if it is that one or comes before it. With k' = 0
 * they are pad_value and -1.
 */
#ifndef CLMOE_TOPK_H
#define CLMOE_TOPK_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_topk_order {
    CLMOE_ORDER_SORTED = 0, /* best first: value descending (ascending for smallest), ties as `ties` says */
    CLMOE_ORDER_INDEX,      /* by index ascending */
    CLMOE_ORDER_ANY,        /* whatever the kernel finds cheapest; the set is the same */
};

/* Where NaN ranks; for integers there is no difference. */
enum clmoe_nan {
    CLMOE_NAN_GREATEST = 0,
    CLMOE_NAN_LOWEST,
    CLMOE_NAN_TOTAL_ORDER, /* totalOrder of IEEE 754: -NaN < -inf .. -0 < +0 .. +inf < +NaN, payloads count */
};

/* Which of equal elements come first. */
enum clmoe_ties {
    CLMOE_TIES_LOWEST = 0, /* the one with the lowest index */
    CLMOE_TIES_HIGHEST,    /* the one with the highest index: equal ones by index descending */
};

/* Outputs that the plan is made for; a mask of these. */
enum clmoe_topk_output {
    CLMOE_TOPK_VALUES = 1 << 0,
    CLMOE_TOPK_INDICES = 1 << 1,
    CLMOE_TOPK_MASK = 1 << 2,
    CLMOE_TOPK_BITMASK = 1 << 3,
    CLMOE_TOPK_DENSE = 1 << 4,
    CLMOE_TOPK_THRESHOLD = 1 << 5, /* two tensors: threshold and cut */
    CLMOE_TOPK_COUNTS = 1 << 6,
};

struct clmoe_topk_params {
    struct clmoe_plan_options plan;
    int64_t max_rows; /* 0 <= rows of a call <= max_rows */
    int64_t n;        /* 1 <= n <= 2^31 */
    int64_t k; /* 0 <= k <= n, with `pad` up to 2^31; with k = 0 values and indices are empty, mask and counts
                  0, dense all fill */
    enum clmoe_dtype dtype; /* of x, values, dense and threshold: CLMOE_F32, F16, BF16, F64, I8, U8, I16, U16,
                               I32, U32, I64, U64; F64 needs no double precision on the device */
    int smallest;           /* 0: largest, 1: smallest */
    enum clmoe_topk_order order;
    enum clmoe_nan nan;
    enum clmoe_ties ties;
    enum clmoe_dtype index_dtype; /* of indices and cut: CLMOE_I32, which 0 stands for, or CLMOE_I64 */
    int pad;                      /* 1: k > n is allowed, and slots from n on are padding */
    int row_begin;                /* 1: the array of that name is given with each call */
    int row_length;
    int row_k;
    uint32_t outputs;              /* mask of enum clmoe_topk_output; 0 means values and indices */
    union clmoe_scalar dense_fill; /* dense: what elements that are not selected become */
    union clmoe_scalar pad_value;  /* values: slots from k' on; threshold: with k' = 0 */
    float dense_scale; /* dense: selected elements become scale * x, rounded to dtype; 0 means 1, a copy. For
                          dtypes other than f32, f16 and bf16 only 0 and 1 */
};
/* dense_fill and pad_value are rounded to floating dtypes, and must be in the range of integer ones. */

/* Tensors of outputs that the plan was not made for must be absent, the others present; so must the arrays of
 * rows. Strides of x are free, 0 included (but all of them 0 mean "contiguous", see tensor.h); strides of the
 * outputs, that of the elements of a row too, are free as long as no two elements of an output overlap.
 * row_begin, row_length, row_k, threshold, cut and counts must be contiguous. No output may overlap x, an
 * array of rows or another output. */
struct clmoe_topk_args {
    struct clmoe_tensor x;          /* [rows, n] or [outer, n, inner] dtype */
    struct clmoe_tensor row_begin;  /* [rows] CLMOE_I32: first element of the row's window */
    struct clmoe_tensor row_length; /* [rows] CLMOE_I32: elements of the window */
    struct clmoe_tensor row_k;      /* [rows] CLMOE_I32: how many of the row */
    struct clmoe_tensor values;     /* [rows, k] or [outer, k, inner] dtype */
    struct clmoe_tensor indices;    /* as values, index_dtype */
    struct clmoe_tensor mask;       /* as x, CLMOE_U8: 1 where selected, else 0 */
    struct clmoe_tensor bitmask; /* [rows, words] or [outer, words, inner] CLMOE_U32, words = ceil(n/32): bit
                                    i%32 of word i/32 is element i; spare bits 0 */
    struct clmoe_tensor dense;   /* as x, dtype: scale * x where selected, else fill (a select: NaN and inf in
                                    places that are not selected leave no trace) */
    struct clmoe_tensor threshold; /* [rows] dtype: the value of the last selected element */
    struct clmoe_tensor cut;       /* [rows] index_dtype: its index */
    struct clmoe_tensor counts;    /* [n] CLMOE_U32: in how many rows of this call element i is selected */
};

/* A row of the table that cannot do everything says so in clmoe_plan_describe; the last one can.
 *
 * The workspace is at most 16 MiB, or what a single row needs if that is more: 8 bytes (12 with dtypes of 64
 * bits) for each of k pairs where values or indices are wanted best first, and 64 KiB. Rows are processed in
 * slabs that fit; results do not depend on their size.
 *
 * Errors: CLMOE_E_INVALID for a size outside the ranges above (k > n without `pad` included), another dtype,
 * unknown enum values or output bits, flags other than 0 and 1, a fill or pad value that dtype cannot hold, a
 * scale of NaN or for a dtype without one. See plan.h for the rest. */
CLMOE_API enum clmoe_status clmoe_topk_plan(clmoe_context *ctx, const struct clmoe_topk_params *params,
                                            clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_topk_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                               const struct clmoe_topk_args *args, cl_uint n_wait,
                                               const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
