/* SPDX-License-Identifier: MIT */
#include "layer_stages.h"

#include "kernel/matmul_mma_blocks.h"
#include "kernel/matmul_wgmma.h"
#include "kernel/matmul_wgmma_coded.h"
#include "kernel/matmul_wgmma_bytes.h"

/* With at most this many pairs for each expert, nearly all on different ones, the sort costs more than it
 * brings. From two pairs on the sorted order pays even for kernels that read the weights for every pair: the
 * pairs of an expert follow one another, and all but the first find its weights in the cache (H200, bf16: 7
 * to 22 % of a whole layer). */
#define FEW_PAIRS_PER_EXPERT 1
#define FEW_PAIRS_MIN 8

static uint64_t part(struct parts *parts, enum clmoe_dtype dtype, int64_t count) {
    return workspace_part(&parts->end, (uint64_t)clmoe_dtype_bytes(dtype, count));
}

static void lay_out_routing(const struct layer_params *p, struct parts *parts) {
    const int64_t pairs = p->max_tokens * p->topk;
    if (p->source == CLMOE_MOE_ROUTER)
        parts->logits = part(parts, CLMOE_F32, p->max_tokens * layer_logits(p));
    if (p->source != CLMOE_MOE_IDS) {
        parts->ids = part(parts, CLMOE_I32, pairs);
        parts->gamma = part(parts, CLMOE_F32, pairs);
        if (p->identity) parts->identity = part(parts, CLMOE_F32, p->max_tokens);
    }
    if (p->kept_softmax) {
        parts->kept_ids = part(parts, CLMOE_I32, pairs);
        parts->chosen_gamma = part(parts, CLMOE_F32, pairs);
    }
    if (p->offload) parts->numbers = part(parts, CLMOE_I32, pairs);
    parts->counts = part(parts, CLMOE_I32, layer_numbers(p));
    parts->offsets = part(parts, CLMOE_I32, layer_numbers(p) + 1);
    parts->order = part(parts, CLMOE_I32, pairs);
}

static void lay_out_adapters(const struct layer_params *p, struct parts *parts) {
    const int64_t pairs = p->max_tokens * p->topk, experts = (int64_t)p->adapters.count * p->experts;
    parts->virtuals = part(parts, CLMOE_I32, pairs);
    parts->weights = part(parts, CLMOE_F32, pairs);
    parts->virtual_counts = part(parts, CLMOE_I32, experts);
    parts->virtual_offsets = part(parts, CLMOE_I32, experts + 1);
    parts->virtual_order = part(parts, CLMOE_I32, pairs);
    parts->z = part(parts, CLMOE_F32, pairs * p->adapters.rank);
    parts->delta = part(parts, CLMOE_F32, pairs * layer_adapters_width(p));
}

struct parts layer_lay_out(const struct layer_params *p) {
    const int64_t pairs = p->max_tokens * p->topk;
    struct parts parts = {0};
    lay_out_routing(p, &parts);
    parts.h = part(&parts, p->mid_dtype, pairs * p->mid);
    if (!p->unreduced) parts.o = part(&parts, p->mid_dtype, pairs * layer_expert_out(p));
    if (p->latent) {
        parts.narrow = part(&parts, p->mid_dtype, p->max_tokens * p->latent);
        parts.narrow_sum = part(&parts, p->mid_dtype, p->max_tokens * p->latent);
        parts.wide = part(&parts, CLMOE_F32, p->max_tokens * p->out);
    }
    if (p->shared_experts.inter) {
        parts.shared_h = part(&parts, p->mid_dtype, p->max_tokens * p->shared_experts.inter);
        parts.shared_gate = part(&parts, CLMOE_F32, p->max_tokens);
    }
    if (p->shared_experts.inter || p->base) parts.shared = part(&parts, CLMOE_F32, p->max_tokens * p->out);
    if (p->adapters.count) lay_out_adapters(p, &parts);
    return parts;
}

enum clmoe_status layer_add_matmul(clmoe_plan *layer, const struct clmoe_matmul_params *params,
                                   clmoe_plan **stage) {
    TRY(matmul_stage(layer->ctx, params, true, stage));
    plan_add_stage(layer, *stage);
    return CLMOE_OK;
}

/* ---- dense products: one expert that every token is on ---- */

static struct clmoe_matmul_params dense(const struct layer_params *p, int64_t in, int64_t out) {
    return (struct clmoe_matmul_params){
        .plan = plan_stage_options(&p->plan),
        .max_tokens = p->max_tokens,
        .topk = 1,
        .experts = 1,
        .in = in,
        .out = out,
        .x_dtype = p->x_dtype,
        .w_dtype = p->dense_dtype,
        .y_dtype = CLMOE_F32,
        .routing = CLMOE_ROUTING_DENSE,
    };
}

static enum clmoe_status add_router(clmoe_plan *layer, struct layer_problem *l) {
    struct clmoe_matmul_params params = dense(&l->p, l->p.in, layer_logits(&l->p));
    params.w_dtype = l->p.x_dtype;
    params.bias_dtype = l->p.bias_dtype;
    params.bias = l->p.router_bias;
    return layer_add_matmul(layer, &params, &l->router);
}

/* Into the latent space before the experts, back after them. */
static enum clmoe_status add_latent(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    struct clmoe_matmul_params params = dense(p, p->in, p->latent);
    params.y_dtype = p->mid_dtype;
    TRY(layer_add_matmul(layer, &params, &l->down));
    params = dense(p, p->latent, p->out);
    params.x_dtype = p->mid_dtype;
    return layer_add_matmul(layer, &params, &l->up);
}

/* The gate of the shared experts is the gamma of their second product. */
static enum clmoe_status add_shared(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    const struct clmoe_moe_shared *const s = &p->shared_experts;
    struct clmoe_matmul_params params = dense(p, p->in, s->inter);
    params.y_dtype = p->mid_dtype;
    params.glu = s->glu;
    params.act = s->act;
    TRY(layer_add_matmul(layer, &params, &l->shared_first));
    params = dense(p, s->inter, p->out);
    params.x_dtype = p->mid_dtype;
    params.gamma = s->gate ? CLMOE_GAMMA_OUTPUT : CLMOE_GAMMA_NONE;
    TRY(layer_add_matmul(layer, &params, &l->shared_second));
    if (!s->gate) return CLMOE_OK;
    params = dense(p, p->in, 1);
    params.act.kind = CLMOE_ACT_SIGMOID;
    return layer_add_matmul(layer, &params, &l->shared_gate);
}

static enum clmoe_status add_base(clmoe_plan *layer, struct layer_problem *l) {
    const struct clmoe_matmul_params params = dense(&l->p, l->p.in, l->p.out);
    return layer_add_matmul(layer, &params, &l->base);
}

/* ---- routing ---- */

static enum clmoe_status add_route_stage(clmoe_plan *layer, struct clmoe_route_params *params,
                                         clmoe_plan **stage) {
    const struct layer_problem *const l = layer->problem;
    params->plan = plan_stage_options(&l->p.plan);
    TRY(route_stage(layer->ctx, params, true, stage));
    plan_add_stage(layer, *stage);
    return CLMOE_OK;
}

/* The softmax over what was kept is a second routing, to k of the k weights. Each is a group of its own, so
 * that it stays in its slot: scores of sparsemixer are in no order. */
static enum clmoe_status add_route(clmoe_plan *layer, struct layer_problem *l) {
    struct clmoe_route_params params = l->p.route;
    if (l->p.kept_softmax) params.scale = 1.0f;
    if (l->few_tokens < l->p.max_tokens && !l->p.offload) params.permute_experts = l->p.experts;
    TRY(add_route_stage(layer, &params, &l->route));
    if (!l->p.kept_softmax) return CLMOE_OK;
    struct clmoe_route_params kept = {
        .max_tokens = params.max_tokens,
        .experts = params.topk,
        .topk = params.topk,
        .n_group = params.topk,
        .group_score = CLMOE_GROUP_EACH,
        .scale = l->p.route.scale,
    };
    return add_route_stage(layer, &kept, &l->kept);
}

enum clmoe_status layer_add_permute(clmoe_plan *layer, int32_t experts, clmoe_plan **stage) {
    const struct layer_problem *const l = layer->problem;
    const struct clmoe_permute_params params = {
        .plan = plan_stage_options(&l->p.plan),
        .max_tokens = l->p.max_tokens,
        .topk = l->p.topk,
        .experts = experts,
    };
    TRY(permute_stage(layer->ctx, &params, true, stage));
    plan_add_stage(layer, *stage);
    return CLMOE_OK;
}

/* ---- the experts ---- */

/* Sorted routing keeps h in sorted order, so that the second product reads contiguous rows; adapters have an
 * order of their own, so with them h is in that of the pairs. */
static enum clmoe_status add_path(clmoe_plan *layer, int64_t tokens, enum clmoe_routing routing,
                                  struct path *path) {
    const struct layer_problem *const l = layer->problem;
    const struct layer_params *const p = &l->p;
    const bool in_order = routing == CLMOE_ROUTING_SORTED && !p->adapters.count;
    const enum clmoe_rows h_rows = in_order ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR;
    const struct clmoe_w_scale none = {0};
    struct clmoe_matmul_params params = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = tokens,
        .topk = p->topk,
        .experts = p->experts,
        .in = layer_expert_in(p),
        .out = p->mid,
        .x_dtype = layer_expert_dtype(p),
        .w_dtype = p->w1_dtype,
        .w_scale = dtype_is_scaled(p->w1_dtype) ? p->w_scale : none,
        .y_dtype = p->mid_dtype,
        .bias_dtype = p->bias_dtype,
        .w_order = p->w_order,
        .glu = p->glu,
        .act = p->act,
        .x_rows = CLMOE_ROWS_TOKEN,
        .y_rows = h_rows,
        .routing = routing,
        .gamma = p->gamma == CLMOE_GAMMA_INPUT ? CLMOE_GAMMA_INPUT : CLMOE_GAMMA_NONE,
        .bias = p->bias1,
        .add = p->adapters.count > 0,
        .limit = p->limits ? CLMOE_LIMIT_OUT : CLMOE_LIMIT_NONE,
    };
    TRY(layer_add_matmul(layer, &params, &path->first));
    params.in = p->mid;
    params.out = layer_expert_out(p);
    params.x_dtype = p->mid_dtype;
    params.w_dtype = p->w2_dtype;
    params.w_scale = dtype_is_scaled(p->w2_dtype) ? p->w_scale : none;
    if (p->unreduced) params.y_dtype = p->x_dtype;
    params.glu = CLMOE_GLU_NONE;
    params.act = (struct clmoe_activation){0};
    params.x_rows = h_rows;
    params.y_rows = CLMOE_ROWS_PAIR;
    params.gamma = p->gamma == CLMOE_GAMMA_OUTPUT ? CLMOE_GAMMA_OUTPUT : CLMOE_GAMMA_NONE;
    params.bias = p->bias2;
    params.expert_scale = p->expert_scale;
    if (p->limits) params.limit = CLMOE_LIMIT_IN;
    if (routing == CLMOE_ROUTING_IDS && !p->unreduced) {
        TRY(matmul_sum_stage(layer->ctx, &params, layer_expert_dtype(p), &path->second));
        plan_add_stage(layer, path->second);
    } else
        TRY(layer_add_matmul(layer, &params, &path->second));
    return p->adapters.count ? layer_adapters_add_path(layer, tokens, routing, path) : CLMOE_OK;
}

/* Packed weights are for kernels that take sorted rows, and a caller who names kernels wants those for every
 * size of a call. */
static int64_t few_tokens(const struct device *dev, const struct layer_params *p) {
    const bool blocks = dev->features & CLMOE_FEATURE_NV_MMA && p->w_order == CLMOE_W_ENK && !p->limits &&
                        layer_expert_dtype(p) != CLMOE_F32 && dtype_is_block(p->w1_dtype);
    const int64_t pairs =
        blocks ? matmul_blocks_few_pairs(p->experts) : (int64_t)p->experts * FEW_PAIRS_PER_EXPERT;
    const bool hopper = dev->features & CLMOE_FEATURE_NV_WGMMA && p->w_order == CLMOE_W_ENK;
    const bool wgmma = hopper && (p->w1_dtype == CLMOE_BF16 || p->w1_dtype == CLMOE_F16);
    const bool coded = hopper && layer_expert_dtype(p) == CLMOE_BF16 &&
                       (p->w1_dtype == CLMOE_MXFP4 || p->w1_dtype == CLMOE_F4_E2M1);
    const bool bytes = hopper && layer_expert_dtype(p) != CLMOE_F32 && p->w_scale.dtype == CLMOE_F32 &&
                       (p->w_scale.columns == 0 || p->w_scale.columns >= MATMUL_BYTES_STEPS) &&
                       (p->w1_dtype == CLMOE_F8_E4M3 || p->w1_dtype == CLMOE_I8);
    const int64_t tokens = wgmma   ? MATMUL_FEW_TOKENS
                           : coded ? MATMUL_CODED_FEW_TOKENS
                           : bytes ? MATMUL_BYTES_FEW_TOKENS
                                   : (pairs < FEW_PAIRS_MIN ? FEW_PAIRS_MIN : pairs) / p->topk;
    if (p->w_order == CLMOE_W_PACKED || p->plan.kernel) return 0;
    return tokens < p->max_tokens ? tokens : p->max_tokens;
}

/* Whatever a call's number of tokens: without any nothing is launched. */
static bool sorts_in_route(const clmoe_plan *layer) {
    const struct layer_problem *const l = layer->problem;
    return l->route && route_sorts(&layer->ctx->dev, l->route->row, l->route->problem, 1);
}

/* The two ways through the experts. A layer for no tokens has one, too: objects are made by its products. */
static enum clmoe_status add_paths(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    if (p->adapters.count) TRY(layer_adapters_add(layer));
    if (l->few_tokens > 0) TRY(add_path(layer, l->few_tokens, CLMOE_ROUTING_IDS, &l->few));
    if (l->few_tokens > 0 && l->few_tokens == p->max_tokens) return CLMOE_OK;
    if (!sorts_in_route(layer)) TRY(layer_add_permute(layer, layer_numbers(p), &l->permute));
    if (p->adapters.count) TRY(layer_add_permute(layer, p->adapters.count * p->experts, &l->adapter_permute));
    return add_path(layer, p->max_tokens, CLMOE_ROUTING_SORTED, &l->many);
}

/* ---- the sum ---- */

static enum clmoe_status add_combine(clmoe_plan *layer, const struct clmoe_combine_params *params,
                                     clmoe_plan **stage) {
    TRY(combine_stage(layer->ctx, params, true, stage));
    plan_add_stage(layer, *stage);
    return CLMOE_OK;
}

/* The sum over slots, and, behind the projection out of a latent space, that of the rest. */
static enum clmoe_status add_sums(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    struct clmoe_combine_params last = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = p->max_tokens,
        .hidden = p->out,
        .y_dtype = p->x_dtype,
        .residual = p->residual,
        .identity = p->identity,
        .shared = p->shared || p->shared_experts.inter || p->base,
        .shared_f32 = p->shared_experts.inter || p->base,
        .shared_scale = p->sum_scale,
    };
    struct clmoe_combine_params slots = p->latent ? (struct clmoe_combine_params){0} : last;
    slots.plan = last.plan;
    slots.max_tokens = p->max_tokens;
    slots.topk = p->topk;
    slots.experts = p->experts;
    slots.hidden = layer_expert_out(p);
    slots.x_dtype = p->mid_dtype;
    slots.y_dtype = layer_expert_dtype(p);
    slots.ids = 1;
    slots.scale = p->latent ? p->out_scale : p->out_scale * p->sum_scale;
    TRY(add_combine(layer, &slots, &l->combine));
    if (!p->latent) return CLMOE_OK;
    last.topk = 1;
    last.x_dtype = CLMOE_F32;
    last.scale = p->sum_scale;
    return add_combine(layer, &last, &l->finish);
}

enum clmoe_status layer_add_stages(clmoe_plan *layer) {
    struct layer_problem *const l = layer->problem;
    l->few_tokens = few_tokens(&layer->ctx->dev, &l->p);
    if (l->p.source == CLMOE_MOE_ROUTER) TRY(add_router(layer, l));
    if (l->p.source != CLMOE_MOE_IDS) TRY(add_route(layer, l));
    if (l->p.latent) TRY(add_latent(layer, l));
    if (l->p.offload) TRY(layer_offload_add(layer));
    TRY(add_paths(layer, l));
    if (l->p.shared_experts.inter) TRY(add_shared(layer, l));
    if (l->p.base) TRY(add_base(layer, l));
    if (!l->p.unreduced) TRY(add_sums(layer, l));
    return plan_finish_layer(layer, l->p.plan.kernel, l->parts.end);
}
