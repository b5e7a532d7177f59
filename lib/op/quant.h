/* SPDX-License-Identifier: MIT
 * quant as a stage of a layer. */
#ifndef CLMOE_OP_QUANT_H
#define CLMOE_OP_QUANT_H

#include "clmoe/quant.h"
#include "kernel/quant.h"
#include "plan/plan.h"

/* clmoe_quant_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status quant_stage(clmoe_context *ctx, const struct clmoe_quant_params *params, bool stage,
                              clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status quant_check(const clmoe_plan *plan, const struct clmoe_quant_args *args,
                              struct quant_call *call);

#endif
