/* SPDX-License-Identifier: MIT */
#include "permute.h"

#include "operands.h"

static enum clmoe_status normalise(const struct log *log, const struct clmoe_permute_params *p,
                                   struct permute_problem *problem) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, product_fits(p->max_tokens, p->topk, INT32_MAX), "max_tokens = %lld, topk = %d",
            (long long)p->max_tokens, (int)p->topk);
    *problem = (struct permute_problem){
        .max_tokens = p->max_tokens,
        .topk = p->topk,
        .experts = p->experts,
    };
    return CLMOE_OK;
}

enum clmoe_status permute_stage(clmoe_context *ctx, const struct clmoe_permute_params *params, bool stage,
                                clmoe_plan **plan) {
    struct permute_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &permute_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status clmoe_permute_plan(clmoe_context *ctx, const struct clmoe_permute_params *params,
                                     clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return permute_stage(ctx, params, false, plan);
}

int64_t permute_length(const struct clmoe_tensor *tensor, int64_t pairs) {
    return tensor->shape[0] > pairs ? tensor->shape[0] : pairs;
}

enum clmoe_status permute_check(const clmoe_plan *plan, const struct clmoe_permute_args *args,
                                struct permute_call *call) {
    return permute_check_by(plan, plan->problem, args, call);
}

enum clmoe_status permute_check_by(const clmoe_plan *plan, const struct permute_problem *p,
                                   const struct clmoe_permute_args *args, struct permute_call *call) {
    int64_t t;
    TRY(operand_rows(plan, "ids", &args->ids, p->max_tokens, &t));
    call->pairs = t * p->topk;
    const bool inverse = args->inverse.mem != NULL;
    const struct operand_rule rules[] = {
        {"ids", &args->ids, &call->ids, USE_READ, true, CLMOE_I32, 2, {t, p->topk}},
        {"counts", &args->counts, &call->counts, USE_WRITE, true, CLMOE_I32, 1, {p->experts}},
        {"offsets", &args->offsets, &call->offsets, USE_WRITE, true, CLMOE_I32, 1, {p->experts + 1}},
        {"order",
         &args->order,
         &call->order,
         USE_WRITE,
         true,
         CLMOE_I32,
         1,
         {permute_length(&args->order, call->pairs)}},
        {"inverse",
         &args->inverse,
         &call->inverse,
         USE_WRITE,
         inverse,
         CLMOE_I32,
         1,
         {permute_length(&args->inverse, call->pairs)}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_permute_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                        const struct clmoe_permute_args *args, cl_uint n_wait,
                                        const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "permute", queue, args, n_wait, wait, event));
    struct permute_call call;
    TRY(permute_check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
