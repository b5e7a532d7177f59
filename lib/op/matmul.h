/* SPDX-License-Identifier: MIT
 * matmul as a stage of a layer. */
#ifndef CLMOE_OP_MATMUL_H
#define CLMOE_OP_MATMUL_H

#include "clmoe/matmul.h"
#include "kernel/matmul.h"
#include "operands.h"
#include "plan/plan.h"

/* clmoe_matmul_plan for a layer's stage (external workspace, names of other operations allowed). */
enum clmoe_status matmul_stage(clmoe_context *ctx, const struct clmoe_matmul_params *params, bool stage,
                               clmoe_plan **plan);

/* Checks the args of one call and fills `call`, which points to args->w and args->w_up. `written`: outputs of
 * a layer around it, which the weights must not overlap either; NULL outside of layers. */
enum clmoe_status matmul_check(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                               const struct written *written, struct matmul_call *call);

/* The checks that packing shares. */
enum clmoe_status matmul_normalise(const struct log *log, const struct clmoe_matmul_params *params,
                                   struct matmul_problem *problem);

/* n_w and the counts of experts of the parts; 0 becomes 1. */
enum clmoe_status matmul_check_parts(const clmoe_plan *plan, const struct clmoe_tensor *w, int32_t *n_w);

/* The rule for one part of the weights, in the order of the problem; `up`: of w_up. */
struct operand_rule matmul_w_rule(const struct matmul_problem *p, const char *name,
                                  const struct clmoe_tensor *tensor, struct operand *out);

#endif
