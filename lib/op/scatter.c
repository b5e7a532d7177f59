/* SPDX-License-Identifier: MIT */
#include "clmoe/scatter.h"
#include "kernel/scatter.h"
#include "operands.h"

#include <math.h>

#define MAX_SIZE ((int64_t)1 << 31)

static enum clmoe_status check_sizes(const struct log *log, const struct clmoe_scatter_params *p) {
    REQUIRE(log, p->n >= 1 && p->n <= MAX_SIZE, "n = %lld", (long long)p->n);
    REQUIRE(log, p->k >= 0 && p->k <= MAX_SIZE, "k = %lld", (long long)p->k);
    REQUIRE(log,
            p->max_rows >= 0 && product_fits(p->max_rows, p->n, INT64_MAX / 64) &&
                product_fits(p->max_rows, p->k, INT64_MAX / 64),
            "max_rows = %lld, n = %lld, k = %lld", (long long)p->max_rows, (long long)p->n, (long long)p->k);
    REQUIRE(log, p->index_dtype == 0 || p->index_dtype == CLMOE_I32 || p->index_dtype == CLMOE_I64,
            "index_dtype = %d", (int)p->index_dtype);
    return CLMOE_OK;
}

static enum clmoe_status check_mode(const struct log *log, const struct clmoe_scatter_params *p) {
    const bool folds = p->mode == CLMOE_SCATTER_ADD || p->mode == CLMOE_SCATTER_MULTIPLY;
    REQUIRE(log, folds || p->mode == CLMOE_SCATTER_SET || p->mode == CLMOE_SCATTER_MASK, "mode = %d",
            (int)p->mode);
    REQUIRE(log, p->slot_scale == 0 || p->slot_scale == 1, "slot_scale = %d", p->slot_scale);
    REQUIRE(log, p->column_scale == 0 || p->column_scale == 1, "column_scale = %d", p->column_scale);
    REQUIRE(log, p->from_x == 0 || (folds && p->from_x == 1), "from_x = %d, mode = %d", p->from_x,
            (int)p->mode);
    REQUIRE(log, p->no_values == 0 || (folds && p->no_values == 1), "no_values = %d, mode = %d", p->no_values,
            (int)p->mode);
    return CLMOE_OK;
}

static enum clmoe_status check_dtype(const struct log *log, const struct clmoe_scatter_params *p) {
    const struct dtype_info *const info = dtype_info(p->dtype);
    const bool placed = p->mode == CLMOE_SCATTER_SET || p->mode == CLMOE_SCATTER_MASK;
    REQUIRE(log, dtype_is_plain(p->dtype), "dtype = %d", (int)p->dtype);
    REQUIRE(log, !isnan(p->scale), "scale = %g", (double)p->scale);
    REQUIRE(log, placed || dtype_is_float(p->dtype), "mode = %d adds or multiplies f32, f16 and bf16, not %s",
            (int)p->mode, info->name);
    REQUIRE(log,
            dtype_is_float(p->dtype) ||
                ((p->scale == 0.0f || p->scale == 1.0f) && !p->slot_scale && !p->column_scale),
            "scale = %g, slot_scale = %d, column_scale = %d with dtype %s", (double)p->scale, p->slot_scale,
            p->column_scale, info->name);
    REQUIRE(log, !placed || dtype_holds(p->dtype, p->fill), "fill = 0x%llx is out of the range of %s",
            (unsigned long long)p->fill.u, info->name);
    return CLMOE_OK;
}

static enum clmoe_status normalise(const struct log *log, const struct clmoe_scatter_params *p,
                                   struct scatter_problem *problem) {
    TRY(check_sizes(log, p));
    TRY(check_mode(log, p));
    TRY(check_dtype(log, p));
    *problem = (struct scatter_problem){
        .max_rows = p->max_rows,
        .n = p->n,
        .k = p->k,
        .dtype = p->dtype,
        .index_dtype = p->index_dtype ? p->index_dtype : CLMOE_I32,
        .mode = p->mode,
        .fill = dtype_bits(p->dtype, p->fill),
        .scale = p->scale == 0.0f ? 1.0f : p->scale,
        .slot_scale = p->slot_scale,
        .column_scale = p->column_scale,
        .from_x = p->from_x,
        .no_values = p->no_values,
    };
    return CLMOE_OK;
}

enum clmoe_status clmoe_scatter_plan(clmoe_context *ctx, const struct clmoe_scatter_params *params,
                                     clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    struct scatter_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &scatter_table, &problem, sizeof problem, &params->plan, false, plan);
}

static enum clmoe_status check_call(const clmoe_plan *plan, const struct clmoe_scatter_args *args,
                                    struct scatter_call *call) {
    const struct scatter_problem *const p = plan->problem;
    const bool mask = p->mode == CLMOE_SCATTER_MASK;
    const struct clmoe_tensor *const y = &args->y;
    *call = (struct scatter_call){0};
    TRY(operand_axis(plan, "y", y, p->max_rows, &call->outer, &call->inner));
    struct operand_rule rules[] = {
        operand_rows_of(y, "y", y, &call->y, true, p->dtype, p->n),
        operand_rows_of(y, "indices", &args->indices, &call->indices, true, p->index_dtype, p->k),
        operand_rows_of(y, "values", &args->values, &call->values, !mask && !p->no_values, p->dtype, p->k),
        operand_rows_of(y, "x", &args->x, &call->x, mask || p->from_x, p->dtype, p->n),
        operand_rows_of(y, "slot_scale", &args->slot_scale, &call->slot_scale, p->slot_scale, CLMOE_F32,
                        p->k),
        {.name = "column_scale",
         .tensor = &args->column_scale,
         .out = &call->column_scale,
         .wanted = p->column_scale,
         .dtype = CLMOE_F32,
         .ndim = 1,
         .shape = {p->n},
         .any_step = true},
    };
    rules[0].use = USE_WRITE;
    rules[0].may_be[0] = "x";
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_scatter_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                        const struct clmoe_scatter_args *args, cl_uint n_wait,
                                        const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "scatter", queue, args, n_wait, wait, event));
    struct scatter_call call;
    TRY(check_call(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
