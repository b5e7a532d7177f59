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

/* The same, for calls that may ask for sums over slots, of `sum_dtype` (struct matmul_call). */
enum clmoe_status matmul_sum_stage(clmoe_context *ctx, const struct clmoe_matmul_params *params,
                                   enum clmoe_dtype sum_dtype, clmoe_plan **plan);

/* Checks the args of one call and fills `call`, which points to args->w and args->w_up. `written`: outputs of
 * a layer around it, which the weights must not overlap either; NULL outside of layers. */
enum clmoe_status matmul_check(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                               const struct written *written, struct matmul_call *call);

/* The same for offloaded experts: w and bias hold the first `slots` of `numbers`. See struct matmul_call. */
enum clmoe_status matmul_check_slots(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                                     int32_t slots, int32_t numbers, const struct written *written,
                                     struct matmul_call *call);

/* The arrays that make up the weights of a call. */
enum matmul_array {
    MATMUL_W = 0,
    MATMUL_W_UP,
    MATMUL_SCALE,
    MATMUL_SCALE_UP,
    MATMUL_ZERO,
    MATMUL_ZERO_UP,
    MATMUL_ARRAYS
};

/* Whether a call must have it, and the rule for one part of it, which has as many experts as `tensor`. */
bool matmul_has_array(const struct matmul_problem *p, enum matmul_array array);
struct operand_rule matmul_array_rule(const struct matmul_problem *p, enum matmul_array array,
                                      const char *name, const struct clmoe_tensor *tensor,
                                      struct operand *out);

/* The checks that packing shares. */
enum clmoe_status matmul_normalise(const struct log *log, const struct clmoe_matmul_params *params,
                                   struct matmul_problem *problem);

/* n_w, 0 of which becomes 1, and the counts of experts of the parts, `experts` together. */
enum clmoe_status matmul_check_parts(const struct log *log, int32_t experts, const struct clmoe_tensor *w,
                                     int32_t *n_w);

/* The rule for one part of the weights, in the order of the problem; `up`: of w_up. */
struct operand_rule matmul_w_rule(const struct matmul_problem *p, const char *name,
                                  const struct clmoe_tensor *tensor, struct operand *out);

#endif
