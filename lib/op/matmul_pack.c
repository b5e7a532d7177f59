/* SPDX-License-Identifier: MIT */
#include "kernel/matmul_pack.h"

#include "kernel/matmul_parts.h"
#include "matmul.h"
#include "plan/dispatch.h"

#include <stdio.h>

static enum clmoe_status normalise(const struct log *log, const struct clmoe_matmul_params *params,
                                   struct matmul_problem *problem) {
    TRY(matmul_normalise(log, params, problem));
    REQUIRE(log, matmul_has_panels(params->w_dtype), "w_dtype = %s cannot be packed",
            dtype_info(params->w_dtype)->name);
    return CLMOE_OK;
}

enum clmoe_status clmoe_matmul_packed_shape(const struct clmoe_matmul_params *params, int64_t shape[4]) {
    const struct log silent = {0};
    struct matmul_problem problem;
    if (!params || !shape) return CLMOE_E_INVALID;
    TRY(normalise(&silent, params, &problem));
    shape[0] = problem.experts;
    shape[1] = matmul_panels(&problem);
    shape[2] = problem.in;
    shape[3] = MATMUL_PANEL;
    return CLMOE_OK;
}

enum clmoe_status clmoe_matmul_pack_plan(clmoe_context *ctx, const struct clmoe_matmul_params *params,
                                         clmoe_plan **plan) {
    TRY(plan_check_create(ctx, params, plan));
    struct matmul_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    REQUIRE(&ctx->log, params->w_order != CLMOE_W_PACKED, "w_order = %d, the weights are packed",
            (int)params->w_order);
    /* The params are those of the product: they may name its kernels. */
    TRY(dispatch_check_names(&ctx->log, params->plan.kernel,
                             (const char *const[]){"matmul", "matmul_pack", NULL}));
    return plan_make(ctx, &matmul_pack_table, &problem, sizeof problem, &params->plan, true, plan);
}

static enum clmoe_status check(const clmoe_plan *plan, const struct clmoe_matmul_pack_args *args,
                               struct matmul_pack_call *call) {
    const struct log *const log = &plan->ctx->log;
    const struct matmul_problem *const p = plan->problem;
    struct matmul_problem packed = *p;
    packed.w_order = CLMOE_W_PACKED;
    *call = (struct matmul_pack_call){args->w, args->w_up, args->packed, args->n_w};
    const bool apart = p->glu == CLMOE_GLU_APART;
    REQUIRE(log, args->packed != NULL, "packed is NULL");
    REQUIRE(log, apart == (args->w_up != NULL), "w_up = %p, glu = %d", (const void *)args->w_up, (int)p->glu);
    TRY(matmul_check_parts(log, p->experts, args->w, &call->n_w));
    for (int32_t i = 0; i < call->n_w; i++) {
        struct operand out[3];
        char names[3][24];
        snprintf(names[0], sizeof names[0], "w[%d]", (int)i);
        snprintf(names[1], sizeof names[1], "packed[%d]", (int)i);
        snprintf(names[2], sizeof names[2], "w_up[%d]", (int)i);
        struct operand_rule rules[3] = {matmul_w_rule(p, names[0], &args->w[i], &out[0]),
                                        matmul_w_rule(&packed, names[1], &args->packed[i], &out[1])};
        rules[1].use = USE_WRITE;
        if (apart) rules[2] = matmul_w_rule(p, names[2], &args->w_up[i], &out[2]);
        rules[1].shape[0] = rules[2].shape[0] = args->w[i].shape[0];
        TRY(operands_check(plan, rules, apart ? 3 : 2));
    }
    return CLMOE_OK;
}

enum clmoe_status clmoe_matmul_pack_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                            const struct clmoe_matmul_pack_args *args, cl_uint n_wait,
                                            const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "matmul_pack", queue, args, n_wait, wait, event));
    struct matmul_pack_call call;
    TRY(check(plan, args, &call));
    return plan_enqueue(plan, &call, queue, n_wait, wait, event);
}

int clmoe_matmul_wants_packing(const clmoe_context *ctx) {
    return ctx && (ctx->dev.features & CLMOE_FEATURE_CPU);
}
