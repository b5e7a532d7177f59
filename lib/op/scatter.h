/* SPDX-License-Identifier: MIT
 * scatter as a stage of a layer. */
#ifndef CLMOE_OP_SCATTER_H
#define CLMOE_OP_SCATTER_H

#include "clmoe/scatter.h"
#include "kernel/scatter.h"
#include "plan/plan.h"

/* clmoe_scatter_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status scatter_stage(clmoe_context *ctx, const struct clmoe_scatter_params *params, bool stage,
                                clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status scatter_check(const clmoe_plan *plan, const struct clmoe_scatter_args *args,
                                struct scatter_call *call);

#endif
