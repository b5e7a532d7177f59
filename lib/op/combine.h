/* SPDX-License-Identifier: MIT
 * combine as a stage of a layer. */
#ifndef CLMOE_OP_COMBINE_H
#define CLMOE_OP_COMBINE_H

#include "clmoe/combine.h"
#include "kernel/combine.h"
#include "plan/plan.h"

/* clmoe_combine_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status combine_stage(clmoe_context *ctx, const struct clmoe_combine_params *params, bool stage,
                                clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status combine_check(const clmoe_plan *plan, const struct clmoe_combine_args *args,
                                struct combine_call *call);

#endif
