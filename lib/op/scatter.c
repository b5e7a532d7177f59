/* SPDX-License-Identifier: MIT */
#include "scatter.h"

#include "operands.h"

#include <math.h>

static enum clmoe_status normalise(const struct log *log, const struct clmoe_scatter_params *p,
                                   struct scatter_problem *problem) {
    REQUIRE(log, p->max_rows >= 0, "max_rows = %lld", (long long)p->max_rows);
    REQUIRE(log, p->n >= 1 && p->n <= INT32_MAX, "n = %lld", (long long)p->n);
    REQUIRE(log, p->k >= 0 && p->k <= INT32_MAX, "k = %lld", (long long)p->k);
    REQUIRE(log, dtype_is_float(p->dtype), "dtype = %d", (int)p->dtype);
    REQUIRE(log,
            p->mode == CLMOE_SCATTER_SET || p->mode == CLMOE_SCATTER_MASK || p->mode == CLMOE_SCATTER_ADD,
            "mode = %d", (int)p->mode);
    REQUIRE(log, !isnan(p->scale), "scale = %g", (double)p->scale);
    *problem = (struct scatter_problem){
        .max_rows = p->max_rows,
        .n = p->n,
        .k = p->k,
        .dtype = p->dtype,
        .mode = p->mode,
        .fill = p->fill,
        .scale = p->scale == 0.0f ? 1.0f : p->scale,
        .slot_scale = p->slot_scale,
        .column_scale = p->column_scale,
    };
    return CLMOE_OK;
}

enum clmoe_status scatter_stage(clmoe_context *ctx, const struct clmoe_scatter_params *params, bool stage,
                                clmoe_plan **plan) {
    struct scatter_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &scatter_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status clmoe_scatter_plan(clmoe_context *ctx, const struct clmoe_scatter_params *params,
                                     clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return scatter_stage(ctx, params, false, plan);
}

enum clmoe_status scatter_check(const clmoe_plan *plan, const struct clmoe_scatter_args *args,
                                struct scatter_call *call) {
    const struct scatter_problem *const p = plan->problem;
    const bool mask = p->mode == CLMOE_SCATTER_MASK;
    int64_t rows;
    TRY(operand_rows(plan, "y", &args->y, p->max_rows, &rows));
    call->rows = rows;
    const struct operand_rule rules[] = {
        {"indices", &args->indices, &call->indices, USE_READ, true, CLMOE_I32, 2, {rows, p->k}},
        {"values", &args->values, &call->values, USE_READ, !mask, p->dtype, 2, {rows, p->k}},
        {"x", &args->x, &call->x, USE_READ, mask, p->dtype, 2, {rows, p->n}},
        {"slot_scale",
         &args->slot_scale,
         &call->slot_scale,
         USE_READ,
         p->slot_scale,
         CLMOE_F32,
         2,
         {rows, p->k}},
        {"column_scale",
         &args->column_scale,
         &call->column_scale,
         USE_READ,
         p->column_scale,
         CLMOE_F32,
         1,
         {p->n}},
        {"y", &args->y, &call->y, USE_WRITE, true, p->dtype, 2, {rows, p->n}, .may_be = {"x"}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_scatter_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                        const struct clmoe_scatter_args *args, cl_uint n_wait,
                                        const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "scatter", queue, args, n_wait, wait, event));
    struct scatter_call call;
    TRY(scatter_check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
