/* SPDX-License-Identifier: MIT */
#include "clmoe/quant.h"
#include "kernel/quant.h"
#include "operands.h"

static enum clmoe_status check_words(const struct log *log, const struct clmoe_quant_params *p) {
    const struct clmoe_w_scale *const s = &p->scale;
    REQUIRE(log, p->order == CLMOE_W_AWQ || p->order == CLMOE_W_GPTQ, "order = %d, block = i32",
            (int)p->order);
    REQUIRE(log, p->n >= 1 && (p->order == CLMOE_W_AWQ || p->n % QUANT_IN_WORD == 0), "n = %lld, order = %d",
            (long long)p->n, (int)p->order);
    REQUIRE(log, s->rows == 1, "scale.rows = %lld, block = i32", (long long)s->rows);
    REQUIRE(log, dtype_is_float(s->dtype), "scale.dtype = %d, block = i32", (int)s->dtype);
    REQUIRE(log, (unsigned)s->zero <= CLMOE_ZERO_PLUS_ONE, "scale.zero = %d", (int)s->zero);
    return scale_check(log, "scale", s);
}

static enum clmoe_status check_format(const struct log *log, const struct clmoe_quant_params *p) {
    const struct clmoe_w_scale *const s = &p->scale;
    const bool codes = dtype_is_scaled(p->block);
    REQUIRE(log, dtype_is_block(p->block) || codes, "block = %d", (int)p->block);
    if (p->block == CLMOE_I32) return check_words(log, p);
    REQUIRE(log, p->order == CLMOE_W_ENK, "order = %d, block = %s", (int)p->order,
            dtype_info(p->block)->name);
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
        .order = p->order,
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
    const bool words = p->block == CLMOE_I32, zeros = s->zero != CLMOE_ZERO_EIGHT;
    REQUIRE(&plan->ctx->log, !words || rows % QUANT_IN_WORD == 0, "x has %lld rows, block = i32",
            (long long)rows);
    struct operand_rule rules[] = {
        {"x", &args->x, &call->x, from, true, p->plain, 2, {rows, p->n}},
        {"q", &args->q, &call->q, to, true, p->block, 2, {rows, p->n}},
        {"scale", &args->scale, &call->scale, to, dtype_is_scaled(p->block), s->dtype, 2, {bands, groups}},
        {"zero", &args->zero, &call->zero, to, zeros, CLMOE_I32, 2, {groups, rows / QUANT_IN_WORD}},
    };
    if (words) {
        const int64_t part = p->order == CLMOE_W_AWQ ? 1 : QUANT_IN_WORD;
        rules[1].shape[0] = p->n / part, rules[1].shape[1] = rows / (QUANT_IN_WORD / part);
        rules[2].shape[0] = groups, rules[2].shape[1] = rows;
    }
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
