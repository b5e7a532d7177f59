/* SPDX-License-Identifier: MIT */
#include "matmul.h"

#include "kernel/matmul_parts.h"

#include <math.h>
#include <stdio.h>

static enum clmoe_status check_sizes(const struct log *log, const struct clmoe_matmul_params *p) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, product_fits(p->max_tokens, p->topk, INT32_MAX), "max_tokens = %lld, topk = %d",
            (long long)p->max_tokens, (int)p->topk);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->in >= 1 && p->in <= INT32_MAX, "in = %lld", (long long)p->in);
    REQUIRE(log, p->out >= 1 && p->out < INT32_MAX / 2 + 1, "out = %lld", (long long)p->out);
    return CLMOE_OK;
}

static enum clmoe_status check_scale(const struct log *log, const struct clmoe_matmul_params *p) {
    const struct clmoe_w_scale *const s = &p->w_scale;
    if (!dtype_is_scaled(p->w_dtype)) {
        REQUIRE(log, s->dtype == 0 && s->rows == 0 && s->columns == 0,
                "w_scale = {%d, %lld, %lld}, w_dtype = %s has none", (int)s->dtype, (long long)s->rows,
                (long long)s->columns, dtype_info(p->w_dtype)->name);
    } else {
        TRY(scale_check(log, "w_scale", s));
    }
    const bool words = matmul_in_words(p->w_order);
    REQUIRE(log, words ? (unsigned)s->zero <= CLMOE_ZERO_PLUS_ONE : s->zero == 0,
            "w_scale.zero = %d, w_order = %d", (int)s->zero, (int)p->w_order);
    REQUIRE(log, !words || s->rows == 1, "w_scale.rows = %lld with w_order = %d", (long long)s->rows,
            (int)p->w_order);
    return CLMOE_OK;
}

static enum clmoe_status check_words(const struct log *log, const struct clmoe_matmul_params *p) {
    const bool words = matmul_in_words(p->w_order);
    REQUIRE(log, words == (p->w_dtype == CLMOE_I32), "w_dtype = %d with w_order = %d", (int)p->w_dtype,
            (int)p->w_order);
    if (!words) return CLMOE_OK;
    REQUIRE(log, p->glu != CLMOE_GLU_INTERLEAVED, "glu = %d with w_order = %d", (int)p->glu, (int)p->w_order);
    REQUIRE(log, p->out % MATMUL_IN_WORD == 0, "out = %lld with w_order = %d", (long long)p->out,
            (int)p->w_order);
    REQUIRE(log, p->w_order != CLMOE_W_GPTQ || p->in % MATMUL_IN_WORD == 0, "in = %lld with w_order = %d",
            (long long)p->in, (int)p->w_order);
    return CLMOE_OK;
}

static enum clmoe_status check_dtypes(const struct log *log, const struct clmoe_matmul_params *p) {
    const struct dtype_info *const w = dtype_info(p->w_dtype);
    const bool coded = dtype_is_block(p->w_dtype) || dtype_is_scaled(p->w_dtype);
    REQUIRE(log, dtype_is_float(p->x_dtype), "x_dtype = %d", (int)p->x_dtype);
    REQUIRE(log, dtype_is_float(p->y_dtype), "y_dtype = %d", (int)p->y_dtype);
    REQUIRE(log, dtype_is_float(p->w_dtype) || coded, "w_dtype = %d", (int)p->w_dtype);
    REQUIRE(log, dtype_is_float(p->bias_dtype) || !p->bias, "bias_dtype = %d", (int)p->bias_dtype);
    TRY(check_words(log, p));
    const bool tiles = p->w_order == CLMOE_W_PACKED && matmul_has_panels(p->w_dtype);
    REQUIRE(log, !coded || p->w_order == CLMOE_W_ENK || matmul_in_words(p->w_order) || tiles,
            "w_dtype = %s with w_order = %d", w->name, (int)p->w_order);
    REQUIRE(log, p->in % w->block == 0, "w_dtype = %s, in = %lld, blocks of %d", w->name, (long long)p->in,
            w->block);
    return check_scale(log, p);
}

static enum clmoe_status check_limits(const struct log *log, const struct clmoe_activation *act) {
    REQUIRE(log, act->gate_max >= 0, "act.gate_max = %g", (double)act->gate_max);
    REQUIRE(log, act->up_max >= 0, "act.up_max = %g", (double)act->up_max);
    REQUIRE(log, act->act_max >= 0, "act.act_max = %g", (double)act->act_max);
    if (act->kind == CLMOE_ACT_SITU) {
        REQUIRE(log, isfinite(act->gate_tanh) && act->gate_tanh > 0, "act.gate_tanh = %g with SITU",
                (double)act->gate_tanh);
        REQUIRE(log, isfinite(act->up_tanh) && act->up_tanh >= 0, "act.up_tanh = %g", (double)act->up_tanh);
    } else {
        REQUIRE(log, act->gate_tanh == 0 && act->up_tanh == 0,
                "act.gate_tanh = %g, act.up_tanh = %g, act.kind = %d is not SITU", (double)act->gate_tanh,
                (double)act->up_tanh, (int)act->kind);
    }
    return CLMOE_OK;
}

static enum clmoe_status check_options(const struct log *log, const struct clmoe_matmul_params *p) {
    REQUIRE(log, p->w_order >= CLMOE_W_ENK && p->w_order <= CLMOE_W_GPTQ, "w_order = %d", (int)p->w_order);
    REQUIRE(log, p->glu >= CLMOE_GLU_NONE && p->glu <= CLMOE_GLU_APART, "glu = %d", (int)p->glu);
    REQUIRE(log, p->act.kind >= CLMOE_ACT_NONE && p->act.kind <= CLMOE_ACT_SITU, "act.kind = %d",
            (int)p->act.kind);
    TRY(check_limits(log, &p->act));
    REQUIRE(log, p->gamma >= CLMOE_GAMMA_NONE && p->gamma <= CLMOE_GAMMA_INPUT, "gamma = %d", (int)p->gamma);
    REQUIRE(log, p->limit >= CLMOE_LIMIT_NONE && p->limit <= CLMOE_LIMIT_OUT, "limit = %d", (int)p->limit);
    REQUIRE(log, p->routing >= CLMOE_ROUTING_IDS && p->routing <= CLMOE_ROUTING_DENSE, "routing = %d",
            (int)p->routing);
    REQUIRE(log, p->routing != CLMOE_ROUTING_DENSE || (p->experts == 1 && p->topk == 1),
            "routing = DENSE with experts = %d, topk = %d", (int)p->experts, (int)p->topk);
    REQUIRE(log, p->routing != CLMOE_ROUTING_DENSE || p->x_rows == CLMOE_ROWS_PAIR,
            "routing = DENSE with x_rows = %d", (int)p->x_rows);
    const bool sorted = p->routing == CLMOE_ROUTING_SORTED;
    REQUIRE(log, p->x_rows >= CLMOE_ROWS_PAIR && p->x_rows <= CLMOE_ROWS_SORTED, "x_rows = %d",
            (int)p->x_rows);
    REQUIRE(log, p->y_rows == CLMOE_ROWS_PAIR || p->y_rows == CLMOE_ROWS_SORTED, "y_rows = %d",
            (int)p->y_rows);
    REQUIRE(log, sorted || p->x_rows != CLMOE_ROWS_SORTED, "x_rows = SORTED without sorted routing (%d)",
            (int)p->routing);
    REQUIRE(log, sorted || p->y_rows != CLMOE_ROWS_SORTED, "y_rows = SORTED without sorted routing (%d)",
            (int)p->routing);
    return CLMOE_OK;
}

enum clmoe_status matmul_normalise(const struct log *log, const struct clmoe_matmul_params *p,
                                   struct matmul_problem *problem) {
    TRY(check_sizes(log, p));
    TRY(check_options(log, p));
    TRY(check_dtypes(log, p));
    *problem = (struct matmul_problem){
        .max_tokens = p->max_tokens,
        .in = p->in,
        .out = p->out,
        .topk = p->topk,
        .experts = p->experts,
        .x_dtype = p->x_dtype,
        .w_dtype = p->w_dtype,
        .y_dtype = p->y_dtype,
        .bias_dtype = p->bias ? p->bias_dtype : CLMOE_F32,
        .w_scale = p->w_scale,
        .w_order = p->w_order,
        .glu = p->glu,
        .act = p->act,
        .x_rows = p->x_rows,
        .y_rows = p->y_rows,
        .gamma = p->gamma,
        .sorted = p->routing == CLMOE_ROUTING_SORTED,
        .dense = p->routing == CLMOE_ROUTING_DENSE,
        .bias = p->bias,
        .add = p->add,
        .limit = p->limit,
        .expert_scale = p->expert_scale,
        .sum_dtype = p->y_dtype,
    };
    if (problem->act.alpha == 0.0f) problem->act.alpha = 1.0f;
    struct clmoe_w_scale *const s = &problem->w_scale;
    const int64_t rows = matmul_w_rows(problem);
    if (s->rows == 0 || s->rows > rows) s->rows = rows;
    if (s->columns == 0 || s->columns > p->in) s->columns = p->in;
    return CLMOE_OK;
}

enum clmoe_status matmul_stage(clmoe_context *ctx, const struct clmoe_matmul_params *params, bool stage,
                               clmoe_plan **plan) {
    struct matmul_problem problem;
    TRY(matmul_normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &matmul_table, &problem, sizeof problem, &params->plan, stage, plan);
}

enum clmoe_status matmul_sum_stage(clmoe_context *ctx, const struct clmoe_matmul_params *params,
                                   enum clmoe_dtype sum_dtype, clmoe_plan **plan) {
    struct matmul_problem problem;
    TRY(matmul_normalise(&ctx->log, params, &problem));
    problem.may_sum = true;
    problem.sum_dtype = sum_dtype;
    return plan_make(ctx, &matmul_table, &problem, sizeof problem, &params->plan, true, plan);
}

enum clmoe_status clmoe_matmul_plan(clmoe_context *ctx, const struct clmoe_matmul_params *params,
                                    clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    return matmul_stage(ctx, params, false, plan);
}

enum clmoe_status matmul_check_parts(const struct log *log, int32_t experts, const struct clmoe_tensor *w,
                                     int32_t *n_w) {
    REQUIRE(log, w != NULL, "w is NULL");
    REQUIRE(log, *n_w >= 0 && *n_w <= experts, "n_w = %d, experts = %d", (int)*n_w, (int)experts);
    if (*n_w == 0) *n_w = 1;
    int64_t sum = 0;
    for (int32_t i = 0; i < *n_w; i++) {
        REQUIRE(log, w[i].shape[0] >= 1 && w[i].shape[0] <= experts - sum,
                "w[%d] has %lld experts, those before it %lld, of %d", (int)i, (long long)w[i].shape[0],
                (long long)sum, (int)experts);
        sum += w[i].shape[0];
    }
    REQUIRE(log, sum == experts, "the parts of w have %lld experts of %d", (long long)sum, (int)experts);
    return CLMOE_OK;
}

struct operand_rule matmul_w_rule(const struct matmul_problem *p, const char *name,
                                  const struct clmoe_tensor *tensor, struct operand *out) {
    struct operand_rule rule = {name, tensor, out, USE_READ, true, p->w_dtype, 3, {tensor->shape[0]}};
    const int64_t rows = matmul_w_rows(p);
    const bool by_column = p->w_order == CLMOE_W_EKN;
    rule.shape[1] = by_column ? p->in : rows;
    rule.shape[2] = by_column ? rows : p->in;
    if (p->w_order == CLMOE_W_AWQ) rule.shape[1] = p->in, rule.shape[2] = rows / MATMUL_IN_WORD;
    if (p->w_order == CLMOE_W_GPTQ) rule.shape[1] = p->in / MATMUL_IN_WORD, rule.shape[2] = rows;
    if (p->w_order == CLMOE_W_PACKED) {
        rule.ndim = 4;
        rule.contiguous = true;
        rule.shape[1] = matmul_panels(p);
        rule.shape[2] = p->in;
        rule.shape[3] = MATMUL_PANEL;
    }
    return rule;
}

bool matmul_has_array(const struct matmul_problem *p, enum matmul_array array) {
    const bool apart = p->glu == CLMOE_GLU_APART && p->w_order != CLMOE_W_PACKED;
    const bool up = array == MATMUL_W_UP || array == MATMUL_SCALE_UP || array == MATMUL_ZERO_UP;
    const bool scale = array == MATMUL_SCALE || array == MATMUL_SCALE_UP;
    const bool zero = array == MATMUL_ZERO || array == MATMUL_ZERO_UP;
    return (!up || apart) && (!scale || dtype_is_scaled(p->w_dtype)) &&
           (!zero || p->w_scale.zero != CLMOE_ZERO_EIGHT);
}

struct operand_rule matmul_array_rule(const struct matmul_problem *p, enum matmul_array array,
                                      const char *name, const struct clmoe_tensor *tensor,
                                      struct operand *out) {
    const struct clmoe_w_scale *const s = &p->w_scale;
    if (array == MATMUL_W || array == MATMUL_W_UP) return matmul_w_rule(p, name, tensor, out);
    const bool words = matmul_in_words(p->w_order);
    const int64_t rows = ceil_div(matmul_w_rows(p), s->rows), groups = ceil_div(p->in, s->columns);
    struct operand_rule rule = {name, tensor, out, USE_READ, true, s->dtype, 3, {tensor->shape[0]}};
    rule.shape[1] = words ? groups : rows;
    rule.shape[2] = words ? rows : groups;
    if (array == MATMUL_SCALE || array == MATMUL_SCALE_UP) return rule;
    rule.dtype = CLMOE_I32;
    rule.shape[2] = rows / MATMUL_IN_WORD;
    return rule;
}

/* Part i against its rules, and against the outputs, which must not overlap it. */
static enum clmoe_status check_part(const clmoe_plan *plan, const struct matmul_call *c, int32_t i,
                                    const struct written *written) {
    const struct {
        const char *name;
        const struct clmoe_tensor *tensors;
    } arrays[MATMUL_ARRAYS] = {[MATMUL_W] = {"w", c->w},
                               [MATMUL_W_UP] = {"w_up", c->w_up},
                               [MATMUL_SCALE] = {"w_scale", c->w_scale},
                               [MATMUL_SCALE_UP] = {"w_scale_up", c->w_scale_up},
                               [MATMUL_ZERO] = {"w_zero", c->w_zero},
                               [MATMUL_ZERO_UP] = {"w_zero_up", c->w_zero_up}};
    struct operand out[MATMUL_ARRAYS];
    struct operand_rule rules[MATMUL_ARRAYS];
    char names[MATMUL_ARRAYS][24];
    int n = 0;
    for (int a = 0; a < MATMUL_ARRAYS; a++) {
        if (!arrays[a].tensors) continue;
        snprintf(names[n], sizeof names[n], "%s[%d]", arrays[a].name, (int)i);
        rules[n] =
            matmul_array_rule(plan->problem, (enum matmul_array)a, names[n], &arrays[a].tensors[i], &out[n]);
        rules[n++].shape[0] = c->w[i].shape[0];
    }
    return operands_check_inputs(plan, rules, n, written);
}

/* Which arrays must be given, and each of their parts. */
static enum clmoe_status check_weights(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                                       int32_t slots, const struct written *written,
                                       struct matmul_call *call) {
    const struct log *const log = &plan->ctx->log;
    const struct matmul_problem *const p = plan->problem;
    call->w = args->w;
    call->w_up = args->w_up;
    call->w_scale = args->w_scale;
    call->w_scale_up = args->w_scale_up;
    call->w_zero = args->w_zero;
    call->w_zero_up = args->w_zero_up;
    call->n_w = args->n_w;
    TRY(matmul_check_parts(log, slots, args->w, &call->n_w));
    const bool apart = matmul_has_array(p, MATMUL_W_UP);
    const bool scaled = dtype_is_scaled(p->w_dtype), zeros = p->w_scale.zero != CLMOE_ZERO_EIGHT;
    REQUIRE(log, !apart || args->w_up, "w_up is NULL with glu = APART");
    REQUIRE(log, apart || !args->w_up, "w_up is given, glu = %d, w_order = %d", (int)p->glu, (int)p->w_order);
    REQUIRE(log, scaled == (args->w_scale != NULL), "w_scale = %p, w_dtype = %s", (const void *)args->w_scale,
            dtype_info(p->w_dtype)->name);
    REQUIRE(log, (scaled && apart) == (args->w_scale_up != NULL), "w_scale_up = %p, w_dtype = %s, glu = %d",
            (const void *)args->w_scale_up, dtype_info(p->w_dtype)->name, (int)p->glu);
    REQUIRE(log, zeros == (args->w_zero != NULL), "w_zero = %p, w_scale.zero = %d",
            (const void *)args->w_zero, (int)p->w_scale.zero);
    REQUIRE(log, (zeros && apart) == (args->w_zero_up != NULL), "w_zero_up = %p, w_scale.zero = %d, glu = %d",
            (const void *)args->w_zero_up, (int)p->w_scale.zero, (int)p->glu);
    for (int32_t i = 0; i < call->n_w; i++)
        TRY(check_part(plan, call, i, written));
    return CLMOE_OK;
}

enum clmoe_status matmul_check(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                               const struct written *written, struct matmul_call *call) {
    const struct matmul_problem *const p = plan->problem;
    return matmul_check_slots(plan, args, p->experts, p->experts, written, call);
}

enum clmoe_status matmul_check_slots(const clmoe_plan *plan, const struct clmoe_matmul_args *args,
                                     int32_t slots, int32_t numbers, const struct written *written,
                                     struct matmul_call *call) {
    const struct matmul_problem *const p = plan->problem;
    struct written outputs = written ? *written : (struct written){0};
    const bool apart = p->glu == CLMOE_GLU_APART;
    int64_t t;
    TRY(operand_rows(plan, p->dense ? "y" : "ids", p->dense ? &args->y : &args->ids, p->max_tokens, &t));
    call->tokens = t;
    call->first = 0;
    call->numbers = numbers;
    call->sum = NULL;
    call->sum_call = NULL;
    const int64_t pairs = t * p->topk, x_rows = p->x_rows == CLMOE_ROWS_TOKEN ? t : pairs;
    const struct operand_rule rules[] = {
        {"y", &args->y, &call->y, USE_WRITE, true, p->y_dtype, 2, {pairs, p->out}},
        {"x", &args->x, &call->x, USE_READ, true, p->x_dtype, 2, {x_rows, p->in}},
        {"bias", &args->bias, &call->bias, USE_READ, p->bias, p->bias_dtype, 2, {slots, matmul_w_rows(p)}},
        {"bias_up",
         &args->bias_up,
         &call->bias_up,
         USE_READ,
         p->bias && apart,
         p->bias_dtype,
         2,
         {slots, p->out}},
        {"add", &args->add, &call->add, USE_READ, p->add, CLMOE_F32, 2, {pairs, p->out}, .any_step = true},
        {"add_up",
         &args->add_up,
         &call->add_up,
         USE_READ,
         p->add && p->glu != CLMOE_GLU_NONE,
         CLMOE_F32,
         2,
         {pairs, p->out},
         .any_step = true},
        {"gamma",
         &args->gamma,
         &call->gamma,
         USE_READ,
         p->gamma != CLMOE_GAMMA_NONE,
         CLMOE_F32,
         2,
         {t, p->topk}},
        {"expert_scale",
         &args->expert_scale,
         &call->expert_scale,
         USE_READ,
         p->expert_scale,
         CLMOE_F32,
         1,
         {p->experts}},
        {"limits",
         &args->limits,
         &call->limits,
         USE_READ,
         p->limit != CLMOE_LIMIT_NONE,
         CLMOE_I32,
         1,
         {p->experts}},
        {"ids", &args->ids, &call->ids, USE_READ, !p->dense, CLMOE_I32, 2, {t, p->topk}},
        {"offsets",
         &args->offsets,
         &call->offsets,
         USE_READ,
         p->sorted,
         CLMOE_I32,
         1,
         {numbers + 1},
         .contiguous = true},
        {"order", &args->order, &call->order, USE_READ, p->sorted, CLMOE_I32, 1, {pairs}, .contiguous = true},
    };
    TRY(operands_check_outputs(plan, rules, sizeof rules / sizeof *rules, &outputs));
    return check_weights(plan, args, slots, &outputs, call);
}

enum clmoe_status clmoe_matmul_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                       const struct clmoe_matmul_args *args, cl_uint n_wait,
                                       const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "matmul", queue, args, n_wait, wait, event));
    struct matmul_call call;
    TRY(matmul_check(plan, args, NULL, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}
