/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include "combine.h"
#include "matmul.h"
#include "operands.h"
#include "permute.h"
#include "route.h"

/* With at most this many pairs for each expert, nearly all on different ones, the sort costs more than it
 * brings. From two pairs on the sorted order pays even for kernels that read the weights for every pair: the
 * pairs of an expert follow one another, and all but the first find its weights in the cache (H200, bf16: 7
 * to 22 % of a whole layer). */
#define FEW_PAIRS_PER_EXPERT 1
#define FEW_PAIRS_MIN 8

/* Two products with the same routing. */
struct path {
    clmoe_plan *first, *second;
};

/* Offsets of the layer's own buffers in the workspace, in bytes. */
struct parts {
    uint64_t logits, ids, gamma, counts, offsets, order, h, o, end;
};

struct layer_problem {
    struct layer_params p;
    struct parts parts;
    clmoe_plan *router, *route, *permute, *combine; /* NULL: not part of this layer */
    struct path few, many;
    int64_t few_tokens; /* calls of up to this many tokens take `few` */
};

/* What one call passes to its stages. */
struct stage_calls {
    struct clmoe_tensor router_w; /* the router as weights of one expert */
    struct matmul_call router, first, second;
    struct route_call route;
    struct permute_call permute;
    struct combine_call combine;
};

static uint64_t bytes_of(enum clmoe_dtype dtype, int64_t count) {
    return (uint64_t)clmoe_dtype_bytes(dtype, count);
}

static struct parts lay_out(const struct layer_params *p) {
    const int64_t pairs = p->max_tokens * p->topk;
    struct parts parts = {0};
    if (p->source == CLMOE_MOE_ROUTER)
        parts.logits = workspace_part(&parts.end, bytes_of(CLMOE_F32, p->max_tokens * p->experts));
    if (p->source != CLMOE_MOE_IDS) {
        parts.ids = workspace_part(&parts.end, bytes_of(CLMOE_I32, pairs));
        parts.gamma = workspace_part(&parts.end, bytes_of(CLMOE_F32, pairs));
    }
    parts.counts = workspace_part(&parts.end, bytes_of(CLMOE_I32, p->experts));
    parts.offsets = workspace_part(&parts.end, bytes_of(CLMOE_I32, p->experts + 1));
    parts.order = workspace_part(&parts.end, bytes_of(CLMOE_I32, pairs));
    parts.h = workspace_part(&parts.end, bytes_of(p->mid_dtype, pairs * p->mid));
    parts.o = workspace_part(&parts.end, bytes_of(p->mid_dtype, pairs * p->out));
    return parts;
}

/* ---- making the plan ---- */

static enum clmoe_status add_router(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    const struct clmoe_matmul_params params = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = p->max_tokens,
        .topk = 1,
        .experts = 1,
        .in = p->in,
        .out = p->experts,
        .x_dtype = p->x_dtype,
        .w_dtype = p->x_dtype,
        .y_dtype = CLMOE_F32,
        .bias_dtype = p->bias_dtype,
        .routing = CLMOE_ROUTING_DENSE,
        .bias = p->router_bias,
    };
    TRY(matmul_stage(layer->ctx, &params, true, &l->router));
    plan_add_stage(layer, l->router);
    return CLMOE_OK;
}

static enum clmoe_status add_route(clmoe_plan *layer, struct layer_problem *l) {
    struct clmoe_route_params params = l->p.route;
    params.plan = plan_stage_options(&l->p.plan);
    TRY(route_stage(layer->ctx, &params, true, &l->route));
    plan_add_stage(layer, l->route);
    return CLMOE_OK;
}

static enum clmoe_status add_permute(clmoe_plan *layer, struct layer_problem *l) {
    const struct clmoe_permute_params params = {
        .plan = plan_stage_options(&l->p.plan),
        .max_tokens = l->p.max_tokens,
        .topk = l->p.topk,
        .experts = l->p.experts,
    };
    TRY(permute_stage(layer->ctx, &params, true, &l->permute));
    plan_add_stage(layer, l->permute);
    return CLMOE_OK;
}

/* Sorted routing keeps h in sorted order, so that the second product reads contiguous rows. */
static enum clmoe_status add_path(clmoe_plan *layer, const struct layer_params *p, int64_t tokens,
                                  enum clmoe_routing routing, struct path *path) {
    const enum clmoe_rows h_rows = routing == CLMOE_ROUTING_SORTED ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR;
    struct clmoe_matmul_params params = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = tokens,
        .topk = p->topk,
        .experts = p->experts,
        .in = p->in,
        .out = p->mid,
        .x_dtype = p->x_dtype,
        .w_dtype = p->w_dtype,
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
    };
    TRY(matmul_stage(layer->ctx, &params, true, &path->first));
    plan_add_stage(layer, path->first);
    params.in = p->mid;
    params.out = p->out;
    params.x_dtype = p->mid_dtype;
    params.glu = CLMOE_GLU_NONE;
    params.act = (struct clmoe_activation){0};
    params.x_rows = h_rows;
    params.y_rows = CLMOE_ROWS_PAIR;
    params.gamma = p->gamma == CLMOE_GAMMA_OUTPUT ? CLMOE_GAMMA_OUTPUT : CLMOE_GAMMA_NONE;
    params.bias = p->bias2;
    params.expert_scale = p->expert_scale;
    TRY(matmul_stage(layer->ctx, &params, true, &path->second));
    plan_add_stage(layer, path->second);
    return CLMOE_OK;
}

static enum clmoe_status add_combine(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    const struct clmoe_combine_params params = {
        .plan = plan_stage_options(&p->plan),
        .max_tokens = p->max_tokens,
        .topk = p->topk,
        .experts = p->experts,
        .hidden = p->out,
        .x_dtype = p->mid_dtype,
        .y_dtype = p->x_dtype,
        .ids = 1,
        .residual = p->residual,
        .shared = p->shared,
        .scale = p->out_scale,
    };
    TRY(combine_stage(layer->ctx, &params, true, &l->combine));
    plan_add_stage(layer, l->combine);
    return CLMOE_OK;
}

/* The two ways through the experts. Packed weights are for kernels that take sorted rows, and a caller who
 * names kernels wants those for every size of a call. */
static enum clmoe_status add_paths(clmoe_plan *layer, struct layer_problem *l) {
    const struct layer_params *const p = &l->p;
    int64_t few_pairs = (int64_t)p->experts * FEW_PAIRS_PER_EXPERT;
    if (few_pairs < FEW_PAIRS_MIN) few_pairs = FEW_PAIRS_MIN;
    if (p->w_order != CLMOE_W_PACKED && !p->plan.kernel) l->few_tokens = few_pairs / p->topk;
    if (l->few_tokens > p->max_tokens) l->few_tokens = p->max_tokens;
    if (l->few_tokens > 0) TRY(add_path(layer, p, l->few_tokens, CLMOE_ROUTING_IDS, &l->few));
    if (l->few_tokens == p->max_tokens) return CLMOE_OK;
    TRY(add_permute(layer, l));
    return add_path(layer, p, p->max_tokens, CLMOE_ROUTING_SORTED, &l->many);
}

static enum clmoe_status add_stages(clmoe_plan *layer) {
    struct layer_problem *const l = layer->problem;
    if (l->p.source == CLMOE_MOE_ROUTER) TRY(add_router(layer, l));
    if (l->p.source != CLMOE_MOE_IDS) TRY(add_route(layer, l));
    TRY(add_paths(layer, l));
    TRY(add_combine(layer, l));
    return plan_finish_layer(layer, l->p.plan.kernel, l->parts.end);
}

static enum clmoe_status check_sizes(const struct log *log, const struct layer_params *p) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, product_fits(p->max_tokens, p->topk, INT32_MAX), "max_tokens = %lld, topk = %d",
            (long long)p->max_tokens, (int)p->topk);
    REQUIRE(log, p->in >= 1 && p->in <= INT32_MAX, "size of the input: %lld", (long long)p->in);
    REQUIRE(log, p->mid >= 1 && p->mid < 1 << 30, "size between the products: %lld", (long long)p->mid);
    REQUIRE(log, p->out >= 1 && p->out < 1 << 30, "size of the output: %lld", (long long)p->out);
    REQUIRE(log, product_fits(p->max_tokens * p->topk, p->mid + p->out, INT64_MAX / 4),
            "max_tokens = %lld, topk = %d: %lld elements for each pair overflow", (long long)p->max_tokens,
            (int)p->topk, (long long)(p->mid + p->out));
    REQUIRE(log, dtype_is_float(p->x_dtype), "x_dtype = %d", (int)p->x_dtype);
    REQUIRE(log, dtype_is_float(p->mid_dtype), "mid_dtype = %d", (int)p->mid_dtype);
    REQUIRE(log, (unsigned)p->source <= CLMOE_MOE_IDS, "source = %d", (int)p->source);
    return CLMOE_OK;
}

enum clmoe_status layer_plan(clmoe_context *ctx, const struct layer_params *params, clmoe_plan **out) {
    TRY(check_sizes(&ctx->log, params));
    const struct layer_problem l = {.p = *params, .parts = lay_out(params)};
    clmoe_plan *plan = NULL;
    TRY(plan_make_layer(ctx, params->op, &l, sizeof l, &params->plan, &plan));
    const enum clmoe_status status = add_stages(plan);
    ((struct layer_problem *)plan->problem)->p.plan.kernel =
        NULL; /* the caller's string lives only for the call */
    if (status != CLMOE_OK) clmoe_plan_destroy(&plan);
    *out = plan;
    return status;
}

/* ---- one call ---- */

static struct clmoe_tensor own(const clmoe_plan *plan, uint64_t part, enum clmoe_dtype dtype, int64_t rows,
                               int64_t n) {
    struct clmoe_tensor t = clmoe_tensor_2d(plan->workspace, dtype, rows, n);
    t.offset = plan->workspace_offset + part;
    return t;
}

static struct clmoe_tensor own_1d(const clmoe_plan *plan, uint64_t part, int64_t n) {
    struct clmoe_tensor t = clmoe_tensor_1d(plan->workspace, CLMOE_I32, n);
    t.offset = plan->workspace_offset + part;
    return t;
}

/* What the stages do not see together: operands that must be absent, and inputs of one against outputs of
 * another. The weights come later, against `written`. */
static enum clmoe_status check_args(const clmoe_plan *plan, const struct layer_problem *l,
                                    const struct layer_args *a, int64_t t, struct written *written) {
    const struct layer_params *const p = &l->p;
    const bool router = p->source == CLMOE_MOE_ROUTER, logits = p->source == CLMOE_MOE_LOGITS;
    const bool ids = p->source == CLMOE_MOE_IDS;
    const bool apart = p->glu == CLMOE_GLU_APART;
    const int64_t rows1 = p->glu == CLMOE_GLU_NONE || apart ? p->mid : 2 * p->mid;
    struct operand unused;
    const struct operand_rule rules[] = {
        {"bias1", &a->bias1, &unused, USE_READ, p->bias1, p->bias_dtype, 2, {p->experts, rows1}},
        {"bias1_up",
         &a->bias1_up,
         &unused,
         USE_READ,
         p->bias1 && apart,
         p->bias_dtype,
         2,
         {p->experts, p->mid}},
        {"bias2", &a->bias2, &unused, USE_READ, p->bias2, p->bias_dtype, 2, {p->experts, p->out}},
        {"expert_scale", &a->expert_scale, &unused, USE_READ, p->expert_scale, CLMOE_F32, 1, {p->experts}},
        {"x", &a->x, &unused, USE_READ, true, p->x_dtype, 2, {t, p->in}},
        {"router", &a->router, &unused, USE_READ, router, p->x_dtype, 2, {p->experts, p->in}},
        {"router_bias", &a->router_bias, &unused, USE_READ, p->router_bias, p->bias_dtype, 1, {p->experts}},
        {"logits", &a->logits, &unused, USE_READ, logits, p->route.logits_dtype, 2, {t, p->experts}},
        {"select_bias",
         &a->select_bias,
         &unused,
         USE_READ,
         !ids && p->route.bias,
         CLMOE_F32,
         1,
         {p->experts}},
        {"ids", &a->ids, &unused, USE_READ, ids, CLMOE_I32, 2, {t, p->topk}},
        {"gamma",
         &a->gamma,
         &unused,
         USE_READ,
         ids && p->gamma != CLMOE_GAMMA_NONE,
         CLMOE_F32,
         2,
         {t, p->topk}},
        {"residual", &a->residual, &unused, USE_READ, p->residual, p->x_dtype, 2, {t, p->out}},
        {"shared", &a->shared, &unused, USE_READ, p->shared, p->x_dtype, 2, {t, p->out}},
        {"out_ids", &a->out_ids, &unused, USE_WRITE, a->out_ids.mem != NULL, CLMOE_I32, 2, {t, p->topk}},
        {"out_gamma",
         &a->out_gamma,
         &unused,
         USE_WRITE,
         a->out_gamma.mem != NULL,
         CLMOE_F32,
         2,
         {t, p->topk}},
        {"y", &a->y, &unused, USE_WRITE, true, p->x_dtype, 2, {t, p->out}, .may_be = {"residual", "shared"}},
    };
    REQUIRE(&plan->ctx->log, !ids || (!a->out_ids.mem && !a->out_gamma.mem),
            "out_ids or out_gamma is given, but the routing comes from the caller");
    return operands_check_outputs(plan, rules, sizeof rules / sizeof *rules, written);
}

/* The same elements with a dimension of one in front; an absent tensor stays absent. */
static struct clmoe_tensor one_expert(const struct clmoe_tensor *t) {
    struct clmoe_tensor r = *t;
    if (!t->mem) return r;
    r.ndim = t->ndim + 1;
    r.shape[0] = 1;
    r.stride[0] = 0;
    for (int d = 0; d < t->ndim; d++) {
        r.shape[d + 1] = t->shape[d];
        r.stride[d + 1] = t->stride[d];
    }
    return r;
}

static enum clmoe_status check_routing(const clmoe_plan *plan, const struct layer_problem *l,
                                       struct layer_args *a, int64_t t, struct stage_calls *calls) {
    const struct layer_params *const p = &l->p;
    if (l->router) {
        a->logits = own(plan, l->parts.logits, CLMOE_F32, t, p->experts);
        calls->router_w = one_expert(&a->router);
        const struct clmoe_matmul_args args = {
            .x = a->x, .w = &calls->router_w, .bias = one_expert(&a->router_bias), .y = a->logits};
        TRY(matmul_check(l->router, &args, NULL, &calls->router));
    }
    if (l->route) {
        a->ids = a->out_ids.mem ? a->out_ids : own(plan, l->parts.ids, CLMOE_I32, t, p->topk);
        a->gamma = a->out_gamma.mem ? a->out_gamma : own(plan, l->parts.gamma, CLMOE_F32, t, p->topk);
        const struct clmoe_route_args args = {
            .logits = a->logits, .bias = a->select_bias, .ids = a->ids, .gamma = a->gamma};
        TRY(route_check(l->route, &args, &calls->route));
    }
    return CLMOE_OK;
}

static enum clmoe_status check_experts(const clmoe_plan *plan, const struct layer_problem *l,
                                       const struct layer_args *a, int64_t t, const struct path *path,
                                       const struct written *written, struct stage_calls *calls) {
    const struct layer_params *const p = &l->p;
    const int64_t pairs = t * p->topk;
    const struct clmoe_tensor none = {0};
    const bool sorted = path == &l->many;
    struct clmoe_matmul_args args = {
        .x = a->x,
        .w = a->w1,
        .w_up = a->w1_up,
        .n_w = a->n_w,
        .bias = a->bias1,
        .bias_up = a->bias1_up,
        .gamma = p->gamma == CLMOE_GAMMA_INPUT ? a->gamma : none,
        .ids = a->ids,
        .y = own(plan, l->parts.h, p->mid_dtype, pairs, p->mid),
    };
    if (sorted) {
        args.offsets = own_1d(plan, l->parts.offsets, p->experts + 1);
        args.order = own_1d(plan, l->parts.order, pairs);
        const struct clmoe_permute_args permute = {.ids = a->ids,
                                                   .counts = own_1d(plan, l->parts.counts, p->experts),
                                                   .offsets = args.offsets,
                                                   .order = args.order};
        TRY(permute_check(l->permute, &permute, &calls->permute));
    }
    TRY(matmul_check(path->first, &args, written, &calls->first));
    args.x = args.y;
    args.w = a->w2;
    args.w_up = NULL;
    args.bias = a->bias2;
    args.bias_up = none;
    args.gamma = p->gamma == CLMOE_GAMMA_OUTPUT ? a->gamma : none;
    args.expert_scale = a->expert_scale;
    args.y = own(plan, l->parts.o, p->mid_dtype, pairs, p->out);
    TRY(matmul_check(path->second, &args, written, &calls->second));
    const struct clmoe_combine_args combine = {
        .x = args.y, .ids = a->ids, .residual = a->residual, .shared = a->shared, .y = a->y};
    return combine_check(l->combine, &combine, &calls->combine);
}

static enum clmoe_status launch_stages(const struct layer_problem *l, const struct path *path,
                                       const struct stage_calls *calls, struct launch *launch) {
    if (l->router) TRY(plan_launch(l->router, &calls->router, launch));
    if (l->route) TRY(plan_launch(l->route, &calls->route, launch));
    if (path == &l->many) TRY(plan_launch(l->permute, &calls->permute, launch));
    TRY(plan_launch(path->first, &calls->first, launch));
    TRY(plan_launch(path->second, &calls->second, launch));
    return plan_launch(l->combine, &calls->combine, launch);
}

enum clmoe_status layer_enqueue(const clmoe_plan *plan, const struct layer_args *args, cl_command_queue queue,
                                cl_uint n_wait, const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, plan->op, queue, args, n_wait, wait, event));
    const struct layer_problem *const l = plan->problem;
    int64_t t;
    struct written written = {0};
    TRY(operand_rows(plan, "x", &args->x, l->p.max_tokens, &t));
    TRY(check_args(plan, l, args, t, &written));
    const struct path *const path = t <= l->few_tokens && l->few.first ? &l->few : &l->many;
    struct layer_args a = *args;
    struct stage_calls calls;
    struct launch launch;
    if (t > 0) {
        TRY(check_routing(plan, l, &a, t, &calls));
        TRY(check_experts(plan, l, &a, t, path, &written, &calls));
    }
    TRY(launch_begin(&launch, &plan->ctx->log, queue, n_wait, wait, event));
    return launch_end(&launch, t > 0 ? launch_stages(l, path, &calls, &launch) : CLMOE_OK);
}
