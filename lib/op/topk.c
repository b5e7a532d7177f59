/* SPDX-License-Identifier: MIT */
#include "topk.h"

#include "operands.h"

#include <math.h>

#define ALL_OUTPUTS                                                                                          \
    (CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES | CLMOE_TOPK_MASK | CLMOE_TOPK_BITMASK | CLMOE_TOPK_DENSE)

static enum clmoe_status normalise(const struct log *log, const struct clmoe_topk_params *p,
                                   struct topk_problem *problem) {
    REQUIRE(log, p->n >= 1 && p->n <= INT32_MAX, "n = %lld", (long long)p->n);
    REQUIRE(log, p->k >= 0 && p->k <= p->n, "k = %lld, n = %lld", (long long)p->k, (long long)p->n);
    REQUIRE(log, p->max_rows >= 0 && product_fits(p->max_rows, p->n, INT64_MAX / 64),
            "max_rows = %lld, n = %lld", (long long)p->max_rows, (long long)p->n);
    REQUIRE(log, dtype_is_float(p->dtype), "dtype = %d", (int)p->dtype);
    REQUIRE(log, p->smallest == 0 || p->smallest == 1, "smallest = %d", p->smallest);
    REQUIRE(log,
            p->order == CLMOE_ORDER_SORTED || p->order == CLMOE_ORDER_INDEX || p->order == CLMOE_ORDER_ANY,
            "order = %d", (int)p->order);
    REQUIRE(log, p->nan == CLMOE_NAN_GREATEST || p->nan == CLMOE_NAN_LOWEST, "nan = %d", (int)p->nan);
    REQUIRE(log, (p->outputs & ~(uint32_t)ALL_OUTPUTS) == 0, "outputs = 0x%x", (unsigned)p->outputs);
    REQUIRE(log, !isnan(p->dense_scale), "dense_scale = %g", (double)p->dense_scale);
    *problem = (struct topk_problem){
        .max_rows = p->max_rows,
        .n = (int32_t)p->n,
        .k = (int32_t)p->k,
        .dtype = p->dtype,
        .smallest = p->smallest,
        .nan_lowest = p->nan == CLMOE_NAN_LOWEST,
        .order = p->order,
        .outputs = p->outputs ? p->outputs : CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES,
        .fill = p->dense_fill,
        .scale = p->dense_scale == 0.0f ? 1.0f : p->dense_scale,
    };
    return CLMOE_OK;
}

enum clmoe_status topk_stage(clmoe_context *ctx, const struct clmoe_topk_params *params, bool stage,
                             clmoe_plan **plan) {
    struct topk_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &topk_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status clmoe_topk_plan(clmoe_context *ctx, const struct clmoe_topk_params *params,
                                  clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return topk_stage(ctx, params, false, plan);
}

enum clmoe_status topk_check(const clmoe_plan *plan, const struct clmoe_topk_args *args,
                             struct topk_call *call) {
    const struct topk_problem *const p = plan->problem;
    int64_t t;
    TRY(operand_rows(plan, "x", &args->x, p->max_rows, &t));
    call->rows = t;
    const int64_t n = p->n, k = p->k;
    const uint32_t out = p->outputs;
    const struct operand_rule rules[] = {
        {"x", &args->x, &call->x, USE_READ, true, p->dtype, 2, {t, n}},
        {"values", &args->values, &call->values, USE_WRITE, out & CLMOE_TOPK_VALUES, p->dtype, 2, {t, k}},
        {"indices",
         &args->indices,
         &call->indices,
         USE_WRITE,
         out & CLMOE_TOPK_INDICES,
         CLMOE_I32,
         2,
         {t, k}},
        {"mask", &args->mask, &call->mask, USE_WRITE, out & CLMOE_TOPK_MASK, CLMOE_U8, 2, {t, n}},
        {"bitmask",
         &args->bitmask,
         &call->bitmask,
         USE_WRITE,
         out & CLMOE_TOPK_BITMASK,
         CLMOE_U32,
         2,
         {t, ceil_div(n, 32)}},
        {"dense", &args->dense, &call->dense, USE_WRITE, out & CLMOE_TOPK_DENSE, p->dtype, 2, {t, n}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_topk_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                     const struct clmoe_topk_args *args, cl_uint n_wait, const cl_event *wait,
                                     cl_event *event) {
    TRY(plan_check_enqueue(plan, "topk", queue, args, n_wait, wait, event));
    struct topk_call call;
    TRY(topk_check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
