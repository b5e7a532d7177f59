/* SPDX-License-Identifier: MIT */
#include "clmoe/lora.h"

#include "layer.h"
#include "operands.h"

#include <math.h>

/* Of the routing only what X-LoRA has may be set. */
static bool route_is_plain(const struct clmoe_route_params *r) {
    const bool chooses = r->bias || r->n_group || r->topk_group || r->group_score || r->select;
    const bool weighs = r->logit_cap != 0 || r->mixer_eps != 0 || r->expert_scale || r->shared_gamma != 0;
    const bool drops = r->expert_map || r->valid_tokens || r->token_mask || r->capacity ||
                       r->capacity_order || r->capacity_tokens || r->renorm_kept || r->pass_dropped;
    return layer_route_sizes_unset(r) && !chooses && !weighs && !drops && !r->zero_experts &&
           !r->shared_slots;
}

static enum clmoe_status check_params(const struct log *log, const struct clmoe_lora_params *p) {
    REQUIRE(log, (unsigned)p->source <= CLMOE_LORA_SCALINGS, "source = %d", (int)p->source);
    REQUIRE(log, route_is_plain(&p->route),
            "only score, temperature, renorm, renorm_eps and scale of route are lora's");
    REQUIRE(log, p->source == CLMOE_LORA_IDS || !p->weights, "weights are for CLMOE_LORA_IDS");
    REQUIRE(log, p->source == CLMOE_LORA_SCALINGS || !p->kept_softmax,
            "kept_softmax is for CLMOE_LORA_SCALINGS");
    REQUIRE(log, !p->kept_softmax || (p->route.renorm == CLMOE_RENORM_NONE && p->route.renorm_eps == 0.0f),
            "kept_softmax with route.renorm = %d, renorm_eps = %g", (int)p->route.renorm,
            (double)p->route.renorm_eps);
    REQUIRE(log, isfinite(p->route.temperature) && p->route.temperature >= 0.0f, "route.temperature = %g",
            (double)p->route.temperature);
    REQUIRE(log, dtype_is_float(p->w_dtype), "w_dtype = %d", (int)p->w_dtype);
    REQUIRE(log, isfinite(p->scale), "scale = %g", (double)p->scale);
    return CLMOE_OK;
}

enum clmoe_status clmoe_lora_plan(clmoe_context *ctx, const struct clmoe_lora_params *p, clmoe_plan **plan) {
    TRY(plan_check_create(ctx, p, plan));
    TRY(check_params(&ctx->log, p));
    const bool scalings = p->source == CLMOE_LORA_SCALINGS;
    struct layer_params layer = {
        .op = "lora",
        .plan = p->plan,
        .max_tokens = p->max_tokens,
        .experts = p->adapters,
        .topk = p->topk,
        .in = p->in,
        .mid = p->rank,
        .out = p->out,
        .x_dtype = p->x_dtype,
        .w1_dtype = p->w_dtype,
        .w2_dtype = p->w_dtype,
        .mid_dtype = CLMOE_F32,
        .dense_dtype = p->base_dtype,
        .source = scalings ? CLMOE_MOE_LOGITS : CLMOE_MOE_IDS,
        .route = p->route,
        .gamma = scalings || p->weights ? CLMOE_GAMMA_OUTPUT : CLMOE_GAMMA_NONE,
        .kept_softmax = p->kept_softmax,
        .expert_scale = p->adapter_scale,
        .limits = p->ranks,
        .residual = p->base,
        .base = p->w,
        .out_scale = p->scale == 0.0f ? 1.0f : p->scale,
        .sum_scale = 1.0f,
    };
    if (p->route.score == CLMOE_SCORE_IDENTITY) layer.route.temperature = 0.0f; /* the softmax's */
    /* Of plain values it is the softmax over all of them, which the kept ones share out: one stage. */
    if (p->kept_softmax && p->route.score == CLMOE_SCORE_IDENTITY) {
        layer.kept_softmax = false;
        layer.route.score = CLMOE_SCORE_SOFTMAX;
        layer.route.renorm = CLMOE_RENORM_SUM;
    }
    layer.route.max_tokens = p->max_tokens;
    layer.route.experts = p->adapters;
    layer.route.topk = p->topk;
    layer.route.logits_dtype = p->scalings_dtype;
    return layer_plan(ctx, &layer, plan);
}

enum clmoe_status clmoe_lora_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                     const struct clmoe_lora_args *a, cl_uint n_wait, const cl_event *wait,
                                     cl_event *event) {
    TRY(plan_check_enqueue(plan, "lora", queue, a, n_wait, wait, event));
    const struct layer_args layer = {
        .x = a->x,
        .logits = a->scalings,
        .ids = a->ids,
        .gamma = a->weights,
        .w1 = &a->a,
        .w2 = &a->b,
        .expert_scale = a->adapter_scale,
        .limits = a->ranks,
        .residual = a->base,
        .base_w = a->w,
        .y = a->y,
    };
    return layer_enqueue(plan, &layer, queue, n_wait, wait, event);
}
