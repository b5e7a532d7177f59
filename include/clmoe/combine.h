/* SPDX-License-Identifier: MIT
 *
 * combine: the weighted sum of a token's k expert rows, plus other rows.
 *
 *   x [T*k, H] (+ gamma [T, k], residual [T, H], shared [T, H])  ->  y [T, H]
 *
 *   y[t] = round( residual[t] + shared_scale * shared[t]
 *                 + scale * ( sum over j = 0..k-1 of gamma[t,j] * x[row of pair (t,j)]
 *                             + identity[t] * identity_x[t] ) )
 *
 * in fp32, slots in order, rounded once to the dtype of y: no atomics, the same bits every time. A slot whose
 * id is < 0 or >= E is not read and adds nothing, whatever its row holds, and neither does an identity of 0;
 * a token with no valid slot gets residual + shared_scale * shared, or zeros. If clmoe_matmul already applied
 * gamma, do not give it again here.
 */
#ifndef CLMOE_COMBINE_H
#define CLMOE_COMBINE_H

#include "plan.h"
#include "matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

struct clmoe_combine_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens; /* 0 <= T of a call <= max_tokens; max_tokens * topk < 2^31 */
    int32_t topk;       /* 1 <= k <= 4096 */
    int32_t experts;    /* E >= 1: ids at or above it are skipped; unused without ids (0 is fine) */
    int64_t hidden;     /* H: 1 <= H < 2^31 */
    enum clmoe_dtype x_dtype,
        y_dtype;            /* CLMOE_F32, CLMOE_F16, CLMOE_BF16; residual and shared have y_dtype */
    enum clmoe_rows x_rows; /* PAIR: row p; SORTED: row inverse[p], see permute.h */
    int ids;                /* 1: args.ids is given, so that skipped slots are known */
    int gamma;              /* 1: args.gamma is given */
    int residual;           /* 1: args.residual is given */
    int shared;             /* 1: args.shared is given */
    int identity;       /* 1: args.identity and args.identity_x are given: experts that return their input */
    int shared_f32;     /* 1: shared is CLMOE_F32, whatever y_dtype */
    float scale;        /* 0 means 1; finite */
    float shared_scale; /* 0 means 1; finite */
};

/* The last stride of every tensor must be 1. y may be the same view as residual or shared; apart from that it
 * must not overlap an input. T is taken from y. */
struct clmoe_combine_args {
    struct clmoe_tensor x;          /* [T*k, H] x_dtype */
    struct clmoe_tensor ids;        /* [T, k] CLMOE_I32 */
    struct clmoe_tensor inverse;    /* [T*k] CLMOE_I32, with ROWS_SORTED */
    struct clmoe_tensor gamma;      /* [T, k] CLMOE_F32 */
    struct clmoe_tensor residual;   /* [T, H] y_dtype */
    struct clmoe_tensor shared;     /* [T, H] y_dtype, or CLMOE_F32 */
    struct clmoe_tensor identity;   /* [T] CLMOE_F32 */
    struct clmoe_tensor identity_x; /* [T, H] y_dtype */
    struct clmoe_tensor y;          /* [T, H] y_dtype */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above, another dtype, x_rows = TOKEN, a scale not
 * finite. */
CLMOE_API enum clmoe_status clmoe_combine_plan(clmoe_context *ctx, const struct clmoe_combine_params *params,
                                               clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_combine_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                  const struct clmoe_combine_args *args, cl_uint n_wait,
                                                  const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
