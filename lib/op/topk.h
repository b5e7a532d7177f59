/* SPDX-License-Identifier: MIT
 * topk as a stage of a layer. */
#ifndef CLMOE_OP_TOPK_H
#define CLMOE_OP_TOPK_H

#include "clmoe/topk.h"
#include "kernel/topk.h"
#include "plan/plan.h"

/* clmoe_topk_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status topk_stage(clmoe_context *ctx, const struct clmoe_topk_params *params, bool stage,
                             clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status topk_check(const clmoe_plan *plan, const struct clmoe_topk_args *args,
                             struct topk_call *call);

#endif
