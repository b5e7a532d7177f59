/* SPDX-License-Identifier: MIT */
#include "clmoe/moe.h"

#include "layer.h"
#include "operands.h"

#include <math.h>

/* Without a router of its own the layer has the experts and slots that it is told of. */
static struct clmoe_route_params route_of(const struct clmoe_moe_params *p) {
    struct clmoe_route_params r = p->source == CLMOE_MOE_IDS ? (struct clmoe_route_params){0} : p->route;
    r.max_tokens = p->max_tokens;
    r.experts = p->experts;
    r.topk = p->topk;
    r.logits_dtype = p->source == CLMOE_MOE_LOGITS ? p->x_dtype : CLMOE_F32;
    return r;
}

static enum clmoe_status check_params(const struct log *log, const struct clmoe_moe_params *p) {
    REQUIRE(log, layer_route_sizes_unset(&p->route),
            "the sizes, dtypes, sorting and plan options of route are the layer's own");
    REQUIRE(log, p->mixed || !p->w2_dtype, "w2_dtype = %d without mixed", (int)p->w2_dtype);
    const struct clmoe_w_scale *const s = &p->w_scale;
    REQUIRE(log,
            dtype_is_scaled(p->w_dtype) || (p->mixed && dtype_is_scaled(p->w2_dtype)) ||
                (s->dtype == 0 && s->rows == 0 && s->columns == 0 && s->zero == 0),
            "w_scale = {%d, %lld, %lld}, w_dtype = %d, w2_dtype = %d", (int)s->dtype, (long long)s->rows,
            (long long)s->columns, (int)p->w_dtype, (int)p->w2_dtype);
    REQUIRE(log, p->source == CLMOE_MOE_ROUTER || !p->router_bias, "router_bias is for CLMOE_MOE_ROUTER");
    REQUIRE(log, p->local_experts == 0 || (p->source != CLMOE_MOE_IDS && p->route.expert_map),
            "local_experts = %d without route.expert_map", (int)p->local_experts);
    REQUIRE(log, p->local_experts >= 0, "local_experts = %d", (int)p->local_experts);
    /* route checks these too, but the sums below come first. */
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, p->route.shared_slots >= 0 && p->route.shared_slots <= 64, "route.shared_slots = %d",
            (int)p->route.shared_slots);
    REQUIRE(log, p->route.zero_experts >= 0 && p->route.zero_experts <= 4096, "route.zero_experts = %d",
            (int)p->route.zero_experts);
    REQUIRE(log, isfinite(p->out_scale), "out_scale = %g", (double)p->out_scale);
    REQUIRE(log, isfinite(p->sum_scale), "sum_scale = %g", (double)p->sum_scale);
    /* One factor in combine, where 0 means 1. */
    const float scales = p->out_scale * p->sum_scale;
    REQUIRE(log, p->out_scale == 0.0f || p->sum_scale == 0.0f || (isfinite(scales) && scales != 0.0f),
            "out_scale = %g, sum_scale = %g: their product is %g", (double)p->out_scale, (double)p->sum_scale,
            (double)scales);
    return CLMOE_OK;
}

enum clmoe_status clmoe_moe_plan(clmoe_context *ctx, const struct clmoe_moe_params *p, clmoe_plan **plan) {
    TRY(plan_check_create(ctx, p, plan));
    TRY(check_params(&ctx->log, p));
    const struct clmoe_route_params route = route_of(p);
    struct layer_params layer = {
        .op = "moe",
        .plan = p->plan,
        .max_tokens = p->max_tokens,
        .experts = p->local_experts ? p->local_experts : p->experts + route.shared_slots,
        .topk = p->topk + route.shared_slots,
        .in = p->hidden,
        .mid = p->inter,
        .out = p->hidden,
        .latent = p->latent,
        .x_dtype = p->x_dtype,
        .w1_dtype = p->w_dtype,
        .w2_dtype = p->mixed ? p->w2_dtype : p->w_dtype,
        .mid_dtype = p->mid_dtype,
        .bias_dtype = p->bias_dtype,
        .dense_dtype = p->dense_dtype,
        .source = p->source,
        .route = route,
        .w_scale = p->w_scale,
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
        .identity = p->identity,
        .unreduced = p->unreduced,
        .offload = p->offload,
        .out_scale = p->out_scale == 0.0f ? 1.0f : p->out_scale,
        .sum_scale = p->sum_scale == 0.0f ? 1.0f : p->sum_scale,
    };
    if (p->shared_experts.act.kind == CLMOE_ACT_NONE) layer.shared_experts.act = p->act;
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
        .given = a->given,
        .route_scale = a->expert_scale,
        .expert_map = a->expert_map,
        .valid_tokens = a->valid_tokens,
        .token_mask = a->token_mask,
        .identity_gamma = a->identity_gamma,
        .identity_x = a->identity_x,
        .capacity = a->capacity,
        .w1 = a->w1,
        .w1_up = a->w1_up,
        .w2 = a->w2,
        .w1_scale = a->w1_scale,
        .w1_scale_up = a->w1_scale_up,
        .w2_scale = a->w2_scale,
        .w1_zero = a->w1_zero,
        .w1_zero_up = a->w1_zero_up,
        .w2_zero = a->w2_zero,
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
        .offload = a->offload,
    };
    return layer_enqueue(plan, &layer, queue, n_wait, wait, event);
}
