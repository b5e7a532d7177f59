/* SPDX-License-Identifier: MIT */
#include "adapter.h"

#include "operands.h"

enum clmoe_status adapter_stage(clmoe_context *ctx, const struct adapter_problem *problem,
                                const struct clmoe_plan_options *options, clmoe_plan **plan) {
    return plan_make(ctx, &adapter_table, problem, sizeof *problem, options, true, plan);
}

enum clmoe_status adapter_check(const clmoe_plan *plan, const struct adapter_args *args, int64_t t,
                                struct adapter_call *call) {
    const struct adapter_problem *const p = plan->problem;
    const bool scales = args->scales.mem != NULL;
    call->pairs = t * p->topk;
    const struct operand_rule rules[] = {
        {"ids", &args->ids, &call->ids, USE_READ, true, CLMOE_I32, 2, {t, p->topk}},
        {"adapter_ids", &args->adapters, &call->adapters, USE_READ, true, CLMOE_I32, 1, {t}},
        {"adapter_scale", &args->scales, &call->scales, USE_READ, scales, CLMOE_F32, 1, {p->adapters}},
        {"virtual ids", &args->virtuals, &call->virtuals, USE_WRITE, true, CLMOE_I32, 2, {t, p->topk}},
        {"weights", &args->weights, &call->weights, USE_WRITE, true, CLMOE_F32, 2, {t, p->topk}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}
