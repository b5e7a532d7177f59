/* SPDX-License-Identifier: MIT */
#include "clmoe/topk.h"
#include "kernel/topk.h"
#include "operands.h"

#include <math.h>

#define ALL_OUTPUTS                                                                                          \
    (CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES | CLMOE_TOPK_MASK | CLMOE_TOPK_BITMASK | CLMOE_TOPK_DENSE |      \
     CLMOE_TOPK_THRESHOLD | CLMOE_TOPK_COUNTS)
#define MAX_SIZE ((int64_t)1 << 31)

static enum clmoe_status check_sizes(const struct log *log, const struct clmoe_topk_params *p) {
    REQUIRE(log, p->pad == 0 || p->pad == 1, "pad = %d", p->pad);
    REQUIRE(log, p->n >= 1 && p->n <= MAX_SIZE, "n = %lld", (long long)p->n);
    REQUIRE(log, p->k >= 0 && p->k <= (p->pad ? MAX_SIZE : p->n), "k = %lld, n = %lld, pad = %d",
            (long long)p->k, (long long)p->n, p->pad);
    REQUIRE(log,
            p->max_rows >= 0 && product_fits(p->max_rows, p->n, INT64_MAX / 64) &&
                product_fits(p->max_rows, p->k, INT64_MAX / 64),
            "max_rows = %lld, n = %lld, k = %lld", (long long)p->max_rows, (long long)p->n, (long long)p->k);
    return CLMOE_OK;
}

static enum clmoe_status check_options(const struct log *log, const struct clmoe_topk_params *p) {
    REQUIRE(log, p->smallest == 0 || p->smallest == 1, "smallest = %d", p->smallest);
    REQUIRE(log,
            p->order == CLMOE_ORDER_SORTED || p->order == CLMOE_ORDER_INDEX || p->order == CLMOE_ORDER_ANY,
            "order = %d", (int)p->order);
    REQUIRE(log,
            p->nan == CLMOE_NAN_GREATEST || p->nan == CLMOE_NAN_LOWEST || p->nan == CLMOE_NAN_TOTAL_ORDER,
            "nan = %d", (int)p->nan);
    REQUIRE(log, p->ties == CLMOE_TIES_LOWEST || p->ties == CLMOE_TIES_HIGHEST, "ties = %d", (int)p->ties);
    REQUIRE(log, p->index_dtype == 0 || p->index_dtype == CLMOE_I32 || p->index_dtype == CLMOE_I64,
            "index_dtype = %d", (int)p->index_dtype);
    REQUIRE(log, p->row_begin == 0 || p->row_begin == 1, "row_begin = %d", p->row_begin);
    REQUIRE(log, p->row_length == 0 || p->row_length == 1, "row_length = %d", p->row_length);
    REQUIRE(log, p->row_k == 0 || p->row_k == 1, "row_k = %d", p->row_k);
    REQUIRE(log, (p->outputs & ~(uint32_t)ALL_OUTPUTS) == 0, "outputs = 0x%x", (unsigned)p->outputs);
    return CLMOE_OK;
}

static enum clmoe_status check_values(const struct log *log, const struct clmoe_topk_params *p) {
    const struct dtype_info *const info = dtype_info(p->dtype);
    REQUIRE(log, dtype_is_plain(p->dtype), "dtype = %d", (int)p->dtype);
    REQUIRE(log, !isnan(p->dense_scale), "dense_scale = %g", (double)p->dense_scale);
    REQUIRE(log, dtype_is_float(p->dtype) || p->dense_scale == 0.0f || p->dense_scale == 1.0f,
            "dense_scale = %g with dtype %s", (double)p->dense_scale, info->name);
    REQUIRE(log, dtype_holds(p->dtype, p->dense_fill), "dense_fill = 0x%llx is out of the range of %s",
            (unsigned long long)p->dense_fill.u, info->name);
    REQUIRE(log, dtype_holds(p->dtype, p->pad_value), "pad_value = 0x%llx is out of the range of %s",
            (unsigned long long)p->pad_value.u, info->name);
    return CLMOE_OK;
}

static enum clmoe_status normalise(const struct log *log, const struct clmoe_topk_params *p,
                                   struct topk_problem *problem) {
    TRY(check_sizes(log, p));
    TRY(check_options(log, p));
    TRY(check_values(log, p));
    *problem = (struct topk_problem){
        .max_rows = p->max_rows,
        .n = p->n,
        .k = p->k,
        .dtype = p->dtype,
        .index_dtype = p->index_dtype ? p->index_dtype : CLMOE_I32,
        .smallest = p->smallest,
        .pad = p->pad,
        .row_begin = p->row_begin,
        .row_length = p->row_length,
        .row_k = p->row_k,
        .order = p->order,
        .nan = p->nan,
        .ties = p->ties,
        .outputs = p->outputs ? p->outputs : CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES,
        .fill = dtype_bits(p->dtype, p->dense_fill),
        .pad_bits = dtype_bits(p->dtype, p->pad_value),
        .scale = p->dense_scale == 0.0f ? 1.0f : p->dense_scale,
    };
    return CLMOE_OK;
}

enum clmoe_status clmoe_topk_plan(clmoe_context *ctx, const struct clmoe_topk_params *params,
                                  clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    struct topk_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &topk_table, &problem, sizeof problem, &params->plan, false, plan);
}

static struct operand_rule array(const char *name, const struct clmoe_tensor *tensor, struct operand *out,
                                 bool wanted, enum clmoe_dtype dtype, int64_t elements) {
    return (struct operand_rule){.name = name,
                                 .tensor = tensor,
                                 .out = out,
                                 .wanted = wanted,
                                 .dtype = dtype,
                                 .ndim = 1,
                                 .shape = {elements},
                                 .contiguous = true};
}

static enum clmoe_status check_call(const clmoe_plan *plan, const struct clmoe_topk_args *args,
                                    struct topk_call *call) {
    const struct topk_problem *const p = plan->problem;
    const struct clmoe_tensor *const x = &args->x;
    const bool values = p->outputs & CLMOE_TOPK_VALUES, indices = p->outputs & CLMOE_TOPK_INDICES;
    const bool mask = p->outputs & CLMOE_TOPK_MASK, bitmask = p->outputs & CLMOE_TOPK_BITMASK;
    const bool dense = p->outputs & CLMOE_TOPK_DENSE, cut = p->outputs & CLMOE_TOPK_THRESHOLD;
    int64_t outer, inner;
    *call = (struct topk_call){0};
    TRY(operand_axis(plan, "x", x, p->max_rows, &outer, &inner));
    const int64_t rows = outer * inner;
    call->rows = rows;
    call->inner = inner < 1 ? 1 : inner;
    struct operand_rule rules[] = {
        operand_rows_of(x, "x", x, &call->x, true, p->dtype, p->n),
        array("row_begin", &args->row_begin, &call->row_begin, p->row_begin, CLMOE_I32, rows),
        array("row_length", &args->row_length, &call->row_length, p->row_length, CLMOE_I32, rows),
        array("row_k", &args->row_k, &call->row_k, p->row_k, CLMOE_I32, rows),
        operand_rows_of(x, "values", &args->values, &call->values, values, p->dtype, p->k),
        operand_rows_of(x, "indices", &args->indices, &call->indices, indices, p->index_dtype, p->k),
        operand_rows_of(x, "mask", &args->mask, &call->mask, mask, CLMOE_U8, p->n),
        operand_rows_of(x, "bitmask", &args->bitmask, &call->bitmask, bitmask, CLMOE_U32, ceil_div(p->n, 32)),
        operand_rows_of(x, "dense", &args->dense, &call->dense, dense, p->dtype, p->n),
        array("threshold", &args->threshold, &call->threshold, cut, p->dtype, rows),
        array("cut", &args->cut, &call->cut, cut, p->index_dtype, rows),
        array("counts", &args->counts, &call->counts, p->outputs & CLMOE_TOPK_COUNTS, CLMOE_U32, p->n),
    };
    enum { N_RULES = sizeof rules / sizeof *rules, N_INPUTS = 4 };
    for (int i = N_INPUTS; i < N_RULES; i++)
        rules[i].use = USE_WRITE;
    return operands_check(plan, rules, N_RULES);
}

enum clmoe_status clmoe_topk_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                     const struct clmoe_topk_args *args, cl_uint n_wait, const cl_event *wait,
                                     cl_event *event) {
    TRY(plan_check_enqueue(plan, "topk", queue, args, n_wait, wait, event));
    struct topk_call call;
    TRY(check_call(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
