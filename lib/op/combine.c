/* SPDX-License-Identifier: MIT */
#include "combine.h"

#include "operands.h"

#include <math.h>

static enum clmoe_status normalise(const struct log *log, const struct clmoe_combine_params *p,
                                   struct combine_problem *problem) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, product_fits(p->max_tokens, p->topk, INT32_MAX), "max_tokens = %lld, topk = %d",
            (long long)p->max_tokens, (int)p->topk);
    REQUIRE(log, p->experts >= 0 && (p->experts >= 1 || !p->ids), "experts = %d", (int)p->experts);
    REQUIRE(log, p->hidden >= 1 && p->hidden <= INT32_MAX, "hidden = %lld", (long long)p->hidden);
    REQUIRE(log, dtype_is_float(p->x_dtype), "x_dtype = %d", (int)p->x_dtype);
    REQUIRE(log, dtype_is_float(p->y_dtype), "y_dtype = %d", (int)p->y_dtype);
    REQUIRE(log, p->x_rows == CLMOE_ROWS_PAIR || p->x_rows == CLMOE_ROWS_SORTED, "x_rows = %d",
            (int)p->x_rows);
    REQUIRE(log, isfinite(p->scale), "scale = %g", (double)p->scale);
    REQUIRE(log, isfinite(p->shared_scale), "shared_scale = %g", (double)p->shared_scale);
    *problem = (struct combine_problem){
        .max_tokens = p->max_tokens,
        .hidden = p->hidden,
        .topk = p->topk,
        .experts = p->experts,
        .x_dtype = p->x_dtype,
        .y_dtype = p->y_dtype,
        .shared_dtype = p->shared_f32 ? CLMOE_F32 : p->y_dtype,
        .sorted = p->x_rows == CLMOE_ROWS_SORTED,
        .ids = p->ids,
        .gamma = p->gamma,
        .residual = p->residual,
        .shared = p->shared,
        .identity = p->identity,
        .scale = p->scale == 0.0f ? 1.0f : p->scale,
        .shared_scale = p->shared_scale == 0.0f ? 1.0f : p->shared_scale,
    };
    return CLMOE_OK;
}

enum clmoe_status combine_stage(clmoe_context *ctx, const struct clmoe_combine_params *params, bool stage,
                                clmoe_plan **plan) {
    struct combine_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &combine_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status clmoe_combine_plan(clmoe_context *ctx, const struct clmoe_combine_params *params,
                                     clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return combine_stage(ctx, params, false, plan);
}

enum clmoe_status combine_check(const clmoe_plan *plan, const struct clmoe_combine_args *args,
                                struct combine_call *call) {
    const struct combine_problem *const p = plan->problem;
    int64_t t;
    TRY(operand_rows(plan, "y", &args->y, p->max_tokens, &t));
    call->tokens = t;
    const int64_t pairs = t * p->topk;
    const struct operand_rule rules[] = {
        {"x", &args->x, &call->x, USE_READ, true, p->x_dtype, 2, {pairs, p->hidden}},
        {"ids", &args->ids, &call->ids, USE_READ, p->ids, CLMOE_I32, 2, {t, p->topk}},
        {"inverse", &args->inverse, &call->inverse, USE_READ, p->sorted, CLMOE_I32, 1, {pairs}},
        {"gamma", &args->gamma, &call->gamma, USE_READ, p->gamma, CLMOE_F32, 2, {t, p->topk}},
        {"residual", &args->residual, &call->residual, USE_READ, p->residual, p->y_dtype, 2, {t, p->hidden}},
        {"shared", &args->shared, &call->shared, USE_READ, p->shared, p->shared_dtype, 2, {t, p->hidden}},
        {"identity", &args->identity, &call->identity, USE_READ, p->identity, CLMOE_F32, 1, {t}},
        {"identity_x",
         &args->identity_x,
         &call->identity_x,
         USE_READ,
         p->identity,
         p->y_dtype,
         2,
         {t, p->hidden}},
        {"y",
         &args->y,
         &call->y,
         USE_WRITE,
         true,
         p->y_dtype,
         2,
         {t, p->hidden},
         .may_be = {"residual", "shared"}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_combine_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                        const struct clmoe_combine_args *args, cl_uint n_wait,
                                        const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "combine", queue, args, n_wait, wait, event));
    struct combine_call call;
    TRY(combine_check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
