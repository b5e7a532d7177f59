/* SPDX-License-Identifier: MIT */
#include "clmoe/quant.h"
#include "kernel/quant.h"
#include "operands.h"

static enum clmoe_status check_format(const struct log *log, const struct clmoe_quant_params *p) {
    const struct clmoe_w_scale *const s = &p->scale;
    const bool codes = dtype_is_scaled(p->block) && p->block != CLMOE_I32;
    REQUIRE(log, dtype_is_block(p->block) || codes, "block = %d", (int)p->block);
    REQUIRE(log, p->n >= 1 && p->n % dtype_info(p->block)->block == 0, "n = %lld, blocks of %d",
            (long long)p->n, dtype_info(p->block)->block);
    REQUIRE(log, s->zero == 0, "scale.zero = %d, block = %s", (int)s->zero, dtype_info(p->block)->name);
    if (codes) return scale_check(log, "scale", s);
    REQUIRE(log, s->dtype == 0 && s->rows == 0 && s->columns == 0,
            "scale = {%d, %lld, %lld}, block = %s has none", (int)s->dtype, (long long)s->rows,
            (long long)s->columns, dtype_info(p->block)->name);
    return CLMOE_OK;
}

static enum clmoe_status normalise(const struct log *log, const struct clmoe_quant_params *p,
                                   struct quant_problem *problem) {
    REQUIRE(log, p->mode == CLMOE_QUANT_PACK || p->mode == CLMOE_QUANT_UNPACK, "mode = %d", (int)p->mode);
    REQUIRE(log, p->max_rows >= 0, "max_rows = %lld", (long long)p->max_rows);
    REQUIRE(log, dtype_is_float(p->plain), "plain = %d", (int)p->plain);
    TRY(check_format(log, p));
    *problem = (struct quant_problem){
        .mode = p->mode,
        .max_rows = p->max_rows,
        .n = p->n,
        .plain = p->plain,
        .block = p->block,
        .scale = p->scale,
    };
    struct clmoe_w_scale *const s = &problem->scale;
    if (s->rows == 0 || s->rows > p->max_rows) s->rows = p->max_rows > 0 ? p->max_rows : 1;
    if (s->columns == 0 || s->columns > p->n) s->columns = p->n;
    return CLMOE_OK;
}

enum clmoe_status clmoe_quant_plan(clmoe_context *ctx, const struct clmoe_quant_params *params,
                                   clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    struct quant_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &quant_table, &problem, sizeof problem, &params->plan, false, plan);
}

static enum clmoe_status check_call(const clmoe_plan *plan, const struct clmoe_quant_args *args,
                                    struct quant_call *call) {
    const struct quant_problem *const p = plan->problem;
    const bool pack = p->mode == CLMOE_QUANT_PACK;
    int64_t rows;
    TRY(operand_rows(plan, "x", &args->x, p->max_rows, &rows));
    call->rows = rows;
    const struct clmoe_w_scale *const s = &p->scale;
    const enum operand_use from = pack ? USE_READ : USE_WRITE, to = pack ? USE_WRITE : USE_READ;
    /* Either may be so large that a sum with another overflows. */
    const int64_t bands = rows / s->rows + (rows % s->rows > 0);
    const int64_t groups = p->n / s->columns + (p->n % s->columns > 0);
    const struct operand_rule rules[] = {
        {"x", &args->x, &call->x, from, true, p->plain, 2, {rows, p->n}},
        {"q", &args->q, &call->q, to, true, p->block, 2, {rows, p->n}},
        {"scale", &args->scale, &call->scale, to, dtype_is_scaled(p->block), s->dtype, 2, {bands, groups}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

enum clmoe_status clmoe_quant_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                      const struct clmoe_quant_args *args, cl_uint n_wait,
                                      const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "quant", queue, args, n_wait, wait, event));
    struct quant_call call;
    TRY(check_call(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
