/* SPDX-License-Identifier: MIT
 * route as a stage of a layer. */
#ifndef CLMOE_OP_ROUTE_H
#define CLMOE_OP_ROUTE_H

#include "clmoe/route.h"
#include "kernel/route.h"
#include "plan/plan.h"

/* clmoe_route_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status route_stage(clmoe_context *ctx, const struct clmoe_route_params *params, bool stage,
                              clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status route_check(const clmoe_plan *plan, const struct clmoe_route_args *args,
                              struct route_call *call);

#endif
