/* SPDX-License-Identifier: MIT */
#include "route.h"

#include "operands.h"

#include <math.h>

static enum clmoe_status check_groups(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, p->group_score == CLMOE_GROUP_MAX || p->group_score == CLMOE_GROUP_TOP2_SUM,
            "group_score = %d", (int)p->group_score);
    REQUIRE(log, p->n_group >= 0 && p->n_group <= 64, "n_group = %d", (int)p->n_group);
    if (p->n_group <= 1) return CLMOE_OK;
    REQUIRE(log, p->experts % p->n_group == 0, "experts = %d, n_group = %d", (int)p->experts,
            (int)p->n_group);
    REQUIRE(log, p->topk_group >= 1 && p->topk_group <= p->n_group, "topk_group = %d, n_group = %d",
            (int)p->topk_group, (int)p->n_group);
    REQUIRE(log, p->topk_group * (p->experts / p->n_group) >= p->topk,
            "topk_group = %d of %d experts each hold fewer than topk = %d", (int)p->topk_group,
            (int)(p->experts / p->n_group), (int)p->topk);
    return CLMOE_OK;
}

static enum clmoe_status check_params(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->topk >= 0 && p->topk <= p->experts && p->topk <= 64, "topk = %d, experts = %d",
            (int)p->topk, (int)p->experts);
    REQUIRE(log, dtype_is_float(p->logits_dtype), "logits_dtype = %d", (int)p->logits_dtype);
    REQUIRE(log,
            p->score == CLMOE_SCORE_SOFTMAX || p->score == CLMOE_SCORE_SIGMOID ||
                p->score == CLMOE_SCORE_IDENTITY,
            "score = %d", (int)p->score);
    REQUIRE(log, p->renorm == CLMOE_RENORM_NONE || p->renorm == CLMOE_RENORM_SUM, "renorm = %d",
            (int)p->renorm);
    REQUIRE(log, isfinite(p->renorm_eps) && p->renorm_eps >= 0.0f, "renorm_eps = %g", (double)p->renorm_eps);
    REQUIRE(log, isfinite(p->scale), "scale = %g", (double)p->scale);
    return check_groups(log, p);
}

/* Groups that all stay change nothing; the sum over a group of one is its largest. */
static enum route_group group_of(const struct clmoe_route_params *p) {
    if (p->n_group <= 1 || p->topk_group == p->n_group) return ROUTE_GROUP_NONE;
    if (p->group_score == CLMOE_GROUP_MAX || p->n_group == p->experts) return ROUTE_GROUP_MAX;
    return ROUTE_GROUP_TOP2_SUM;
}

static enum clmoe_status normalise(const struct log *log, const struct clmoe_route_params *p,
                                   struct route_problem *problem) {
    TRY(check_params(log, p));
    const enum route_group group = group_of(p);
    *problem = (struct route_problem){
        .max_tokens = p->max_tokens,
        .experts = p->experts,
        .topk = p->topk,
        .logits_dtype = p->logits_dtype,
        .score = p->score,
        .bias = p->bias,
        .group = group,
        .n_group = group == ROUTE_GROUP_NONE ? 1 : p->n_group,
        .topk_group = group == ROUTE_GROUP_NONE ? 1 : p->topk_group,
        .renorm = p->renorm == CLMOE_RENORM_SUM,
        .eps = p->renorm_eps,
        .scale = p->scale == 0.0f ? 1.0f : p->scale,
    };
    return CLMOE_OK;
}

enum clmoe_status route_stage(clmoe_context *ctx, const struct clmoe_route_params *params, bool stage,
                              clmoe_plan **plan) {
    struct route_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &route_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status clmoe_route_plan(clmoe_context *ctx, const struct clmoe_route_params *params,
                                   clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return route_stage(ctx, params, false, plan);
}

enum clmoe_status route_check(const clmoe_plan *plan, const struct clmoe_route_args *args,
                              struct route_call *call) {
    const struct route_problem *const p = plan->problem;
    int64_t t;
    TRY(operand_rows(plan, "logits", &args->logits, p->max_tokens, &t));
    call->tokens = t;
    const struct operand_rule rules[] = {
        {"logits", &args->logits, &call->logits, USE_READ, true, p->logits_dtype, 2, {t, p->experts}},
        {"bias", &args->bias, &call->bias, USE_READ, p->bias, CLMOE_F32, 1, {p->experts}},
        {"ids", &args->ids, &call->ids, USE_WRITE, true, CLMOE_I32, 2, {t, p->topk}},
        {"gamma", &args->gamma, &call->gamma, USE_WRITE, true, CLMOE_F32, 2, {t, p->topk}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_route_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                      const struct clmoe_route_args *args, cl_uint n_wait,
                                      const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "route", queue, args, n_wait, wait, event));
    struct route_call call;
    TRY(route_check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
