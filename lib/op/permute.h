/* SPDX-License-Identifier: MIT
 * permute as a stage of a layer. */
#ifndef CLMOE_OP_PERMUTE_H
#define CLMOE_OP_PERMUTE_H

#include "clmoe/permute.h"
#include "kernel/permute.h"
#include "plan/plan.h"

/* clmoe_permute_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status permute_stage(clmoe_context *ctx, const struct clmoe_permute_params *params, bool stage,
                                clmoe_plan **plan);

/* Checks the args of one call and fills `call`. */
enum clmoe_status permute_check(const clmoe_plan *plan, const struct clmoe_permute_args *args,
                                struct permute_call *call);

/* The same for pairs that another plan sorts along the way. */
enum clmoe_status permute_check_by(const clmoe_plan *plan, const struct permute_problem *problem,
                                   const struct clmoe_permute_args *args, struct permute_call *call);

/* What order or inverse must have: more than the pairs of a call is left alone. */
int64_t permute_length(const struct clmoe_tensor *tensor, int64_t pairs);

#endif
