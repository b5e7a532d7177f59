/* SPDX-License-Identifier: MIT */
#include "clmoe/moe.h"

#include "layer.h"
#include "operands.h"

#include <math.h>

static bool route_sizes_unset(const struct clmoe_route_params *r) {
    return !r->plan.kernel && !r->plan.external_workspace && r->max_tokens == 0 && r->experts == 0 &&
           r->topk == 0 && r->logits_dtype == CLMOE_F32;
}

enum clmoe_status clmoe_moe_plan(clmoe_context *ctx, const struct clmoe_moe_params *p, clmoe_plan **plan) {
    TRY(plan_check_create(ctx, p, plan));
    const struct log *const log = &ctx->log;
    REQUIRE(log, route_sizes_unset(&p->route),
            "the sizes, dtypes and plan options of route are the layer's own");
    REQUIRE(log, p->source == CLMOE_MOE_ROUTER || !p->router_bias, "router_bias is for CLMOE_MOE_ROUTER");
    REQUIRE(log, isfinite(p->out_scale), "out_scale = %g", (double)p->out_scale);
    REQUIRE(log, isfinite(p->sum_scale), "sum_scale = %g", (double)p->sum_scale);
    struct layer_params layer = {
        .op = "moe",
        .plan = p->plan,
        .max_tokens = p->max_tokens,
        .experts = p->experts,
        .topk = p->topk,
        .in = p->hidden,
        .mid = p->inter,
        .out = p->hidden,
        .latent = p->latent,
        .x_dtype = p->x_dtype,
        .w_dtype = p->w_dtype,
        .mid_dtype = p->mid_dtype,
        .bias_dtype = p->bias_dtype,
        .dense_dtype = p->dense_dtype,
        .source = p->source,
        .route = p->route,
        .w_order = p->w_order,
        .glu = p->glu,
        .act = p->act,
        .gamma = p->gamma_on_input ? CLMOE_GAMMA_INPUT : CLMOE_GAMMA_OUTPUT,
        .shared_experts = p->shared_experts,
        .adapters = p->adapters,
        .bias1 = p->bias1,
        .bias2 = p->bias2,
        .router_bias = p->router_bias,
        .residual = p->residual,
        .shared = p->shared,
        .unreduced = p->unreduced,
        .out_scale = p->out_scale == 0.0f ? 1.0f : p->out_scale,
        .sum_scale = p->sum_scale == 0.0f ? 1.0f : p->sum_scale,
    };
    if (p->shared_experts.act.kind == CLMOE_ACT_NONE) layer.shared_experts.act = p->act;
    layer.route.max_tokens = p->max_tokens;
    layer.route.experts = p->experts;
    layer.route.topk = p->topk;
    layer.route.logits_dtype = p->source == CLMOE_MOE_LOGITS ? p->x_dtype : CLMOE_F32;
    return layer_plan(ctx, &layer, plan);
}

enum clmoe_status clmoe_moe_enqueue(clmoe_plan *plan, cl_command_queue queue, const struct clmoe_moe_args *a,
                                    cl_uint n_wait, const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "moe", queue, a, n_wait, wait, event));
    const struct layer_args layer = {
        .x = a->x,
        .router = a->router,
        .router_bias = a->router_bias,
        .logits = a->logits,
        .select_bias = a->select_bias,
        .ids = a->ids,
        .gamma = a->gamma,
        .w1 = a->w1,
        .w1_up = a->w1_up,
        .w2 = a->w2,
        .n_w = a->n_w,
        .bias1 = a->bias1,
        .bias1_up = a->bias1_up,
        .bias2 = a->bias2,
        .down = a->down,
        .up = a->up,
        .shared_w1 = a->shared_w1,
        .shared_w1_up = a->shared_w1_up,
        .shared_w2 = a->shared_w2,
        .shared_gate = a->shared_gate,
        .adapter_ids = a->adapter_ids,
        .adapter_scale = a->adapter_scale,
        .a1 = a->a1,
        .a1_up = a->a1_up,
        .b1 = a->b1,
        .b1_up = a->b1_up,
        .a2 = a->a2,
        .b2 = a->b2,
        .residual = a->residual,
        .shared = a->shared,
        .out_ids = a->out_ids,
        .out_gamma = a->out_gamma,
        .y = a->y,
    };
    return layer_enqueue(plan, &layer, queue, n_wait, wait, event);
}
