/* SPDX-License-Identifier: MIT
 *
 * topk: the k largest (or smallest) elements of each row.
 *
 *   x [rows, n]  ->  values [rows, k], indices [rows, k], mask [rows, n], bitmask [rows, ceil(n/32)], dense
 * [rows, n]
 *
 * Any subset of the outputs is made in one call. Nothing is read back by the host.
 *
 * Order. The elements of a row are ordered by value, then equal ones by index ascending (for `smallest` too:
 * the lowest index wins). -0 equals +0. NaN is one value, of any sign and payload: the greatest (default, as
 * in PyTorch and NumPy) or the lowest. So the selected set and its order are unique, and the result has the
 * same bits on every device and for every kernel. Values are copied from the input, bits and all. Indices are
 * distinct and in [0, n) for any input.
 */
#ifndef CLMOE_TOPK_H
#define CLMOE_TOPK_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_topk_order {
    CLMOE_ORDER_SORTED = 0, /* best first: value descending (ascending for smallest), then index ascending */
    CLMOE_ORDER_INDEX,      /* by index ascending */
    CLMOE_ORDER_ANY,        /* whatever the kernel finds cheapest; the set is the same */
};

enum clmoe_nan {
    CLMOE_NAN_GREATEST = 0,
    CLMOE_NAN_LOWEST,
};

/* Outputs that the plan is made for; a mask of these. */
enum clmoe_topk_output {
    CLMOE_TOPK_VALUES = 1 << 0,
    CLMOE_TOPK_INDICES = 1 << 1,
    CLMOE_TOPK_MASK = 1 << 2,
    CLMOE_TOPK_BITMASK = 1 << 3,
    CLMOE_TOPK_DENSE = 1 << 4,
};

struct clmoe_topk_params {
    struct clmoe_plan_options plan;
    int64_t max_rows;       /* 0 <= rows of a call <= max_rows */
    int64_t n;              /* 1 <= n < 2^31 */
    int64_t k;              /* 0 <= k <= n; with k = 0 values and indices are empty, mask 0, dense all fill */
    enum clmoe_dtype dtype; /* of x, values and dense: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    int smallest;           /* 0: largest, 1: smallest */
    enum clmoe_topk_order order;
    enum clmoe_nan nan;
    uint32_t outputs;  /* mask of enum clmoe_topk_output; 0 means values and indices */
    float dense_fill;  /* dense: what elements that are not selected become, rounded to dtype; 0 by default */
    float dense_scale; /* dense: selected elements become scale * x, rounded to dtype; 0 means 1, a copy */
};

/* Tensors of outputs that the plan was not made for must be absent, the others present. The last stride of
 * every tensor must be 1; row strides are free. No output may overlap x or another output. */
struct clmoe_topk_args {
    struct clmoe_tensor x;       /* [rows, n] dtype */
    struct clmoe_tensor values;  /* [rows, k] dtype */
    struct clmoe_tensor indices; /* [rows, k] CLMOE_I32 */
    struct clmoe_tensor mask;    /* [rows, n] CLMOE_U8: 1 where selected, else 0 */
    struct clmoe_tensor
        bitmask; /* [rows, ceil(n/32)] CLMOE_U32: bit i%32 of word i/32 is element i; spare bits 0 */
    struct clmoe_tensor dense; /* [rows, n] dtype: scale * x where selected, else fill (a select: NaN and inf
                                  in places that are not selected leave no trace) */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above (k > n included), another dtype, unknown enum
 * values or output bits, a fill or scale of NaN for the scale. See plan.h for the rest. */
CLMOE_API enum clmoe_status clmoe_topk_plan(clmoe_context *ctx, const struct clmoe_topk_params *params,
                                            clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_topk_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                               const struct clmoe_topk_args *args, cl_uint n_wait,
                                               const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
