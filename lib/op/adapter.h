/* SPDX-License-Identifier: MIT
 * adapter as a stage of a layer; it is no public operation. */
#ifndef CLMOE_OP_ADAPTER_H
#define CLMOE_OP_ADAPTER_H

#include "kernel/adapter.h"
#include "plan/plan.h"

/* `problem` must be legal. */
enum clmoe_status adapter_stage(clmoe_context *ctx, const struct adapter_problem *problem,
                                const struct clmoe_plan_options *options, clmoe_plan **plan);

/* Checks the tensors of one call, of `t` tokens, and fills `call`. */
struct adapter_args {
    struct clmoe_tensor ids;      /* [T, k] CLMOE_I32 */
    struct clmoe_tensor adapters; /* [T] CLMOE_I32 */
    struct clmoe_tensor scales;   /* [L] CLMOE_F32 or absent */
    struct clmoe_tensor virtuals; /* [T, k] CLMOE_I32 */
    struct clmoe_tensor weights;  /* [T, k] CLMOE_F32 */
};
enum clmoe_status adapter_check(const clmoe_plan *plan, const struct adapter_args *args, int64_t t,
                                struct adapter_call *call);

#endif
