/* SPDX-License-Identifier: MIT */
#include "layer.h"
#include "offloaded.h"
#include "progress.h"

/* Tokens of one call: bounds the workspace, which holds every pair's rows. */
#define MAX_TOKENS 8192

/* Packing reads and writes all experts once; from so many rows an expert on it is worth that. */
#define PACK_ROWS 8

struct layer {
    struct session *s;
    const struct family *family;
    const struct block *block;
    int64_t tokens, call_tokens; /* of all calls, of one at most */
    enum clmoe_dtype x_dtype;
    bool own_router; /* the router is of another dtype than x: its product and the choice come before the
                        layer, which would have to round it */
    bool routing;    /* ids and gamma are in buffers */
    int64_t budget;  /* 0: all experts on the device */
    struct weights weights;
    struct offloaded offloaded;
    clmoe_plan *logits_plan, *route_plan, *moe_plan;
    struct clmoe_tensor x, y, ids, gamma; /* of all tokens */
    struct clmoe_tensor logits;           /* of one call */
};

static enum clmoe_status plan_moe(struct layer *l) {
    const struct family *const f = l->family;
    const struct block *const b = l->block;
    const struct dense *const d = &b->dense;
    const enum clmoe_dtype w1 = b->matrices[W1].dtype, w2 = b->matrices[W2].dtype;
    struct clmoe_moe_params p = {
        .max_tokens = l->call_tokens,
        .experts = f->route.experts,
        .topk = f->route.topk,
        .hidden = f->hidden,
        .inter = f->inter,
        .latent = f->latent,
        .x_dtype = l->x_dtype,
        .w_dtype = w1,
        .mixed = w1 != w2,
        .w2_dtype = w1 != w2 ? w2 : CLMOE_F32,
        .w_scale = b->matrices[b->matrices[W1].scale_bytes ? W1 : W2].scale,
        .dense_dtype = l->weights.dense_dtype,
        .source = l->own_router ? CLMOE_MOE_IDS : CLMOE_MOE_ROUTER,
        .w_order = l->weights.order,
        .glu = l->weights.glu,
        .act = f->act,
        .shared_experts = {.inter = d->up.rows,
                           .glu = d->gate.n_sources ? CLMOE_GLU_APART : CLMOE_GLU_NONE,
                           .gate = d->shared_gate.n_sources > 0},
        .gamma_on_input = f->gamma_on_input,
        .bias1 = b->bias1.data != NULL,
        .bias2 = b->bias2.data != NULL,
        .offload = l->budget > 0,
    };
    if (!l->own_router) {
        p.route = f->route;
        p.route.experts = p.route.topk = 0; /* the layer's own */
        p.router_bias = b->router_bias.data != NULL;
    }
    return clmoe_moe_plan(l->s->ctx, &p, &l->moe_plan);
}

static enum clmoe_status plan_router(struct layer *l) {
    const struct clmoe_matmul_params product = {
        .max_tokens = l->call_tokens,
        .topk = 1,
        .experts = 1,
        .in = l->family->hidden,
        .out = l->family->route.experts,
        .x_dtype = l->x_dtype,
        .w_dtype = l->weights.router.dtype,
        .routing = CLMOE_ROUTING_DENSE,
        .bias = l->block->router_bias.data != NULL,
    };
    struct clmoe_route_params route = l->family->route;
    route.max_tokens = l->call_tokens;
    const enum clmoe_status status = clmoe_matmul_plan(l->s->ctx, &product, &l->logits_plan);
    return status == CLMOE_OK ? clmoe_route_plan(l->s->ctx, &route, &l->route_plan) : status;
}

/* Rows first..first+n-1 of a contiguous matrix. */
static struct clmoe_tensor some_rows(const struct clmoe_tensor *all, int64_t first, int64_t n) {
    struct clmoe_tensor part = *all;
    part.offset += (uint64_t)clmoe_dtype_bytes(all->dtype, first * all->shape[1]);
    part.shape[0] = n;
    return part;
}

/* A matrix as the one expert of a product, a vector as its bias. */
static struct clmoe_tensor as_expert(const struct clmoe_tensor *t) {
    if (t->ndim == 1) return clmoe_tensor_2d(t->mem, t->dtype, 1, t->shape[0]);
    return t->ndim == 2 ? clmoe_tensor_3d(t->mem, t->dtype, 1, t->shape[0], t->shape[1]) : *t;
}

static enum clmoe_status enqueue_router(struct layer *l, const struct clmoe_moe_args *call) {
    const struct clmoe_tensor w = as_expert(&l->weights.router),
                              logits = some_rows(&l->logits, 0, call->x.shape[0]);
    const struct clmoe_matmul_args product = {
        .x = call->x, .w = &w, .n_w = 1, .bias = as_expert(&l->weights.router_bias), .y = logits};
    const struct clmoe_route_args route = {
        .logits = logits, .bias = l->weights.select_bias, .ids = call->ids, .gamma = call->gamma};
    const enum clmoe_status status =
        clmoe_matmul_enqueue(l->logits_plan, l->s->queue, &product, 0, NULL, NULL);
    return status == CLMOE_OK ? clmoe_route_enqueue(l->route_plan, l->s->queue, &route, 0, NULL, NULL)
                              : status;
}

/* The bias of gate and up lies as if they were one matrix. */
static void split_bias(const struct weights *w, struct clmoe_moe_args *args) {
    const int64_t columns = w->bias1.shape[1];
    args->bias1.shape[1] = columns / 2;
    args->bias1.stride[0] = columns;
    args->bias1.stride[1] = 1;
    args->bias1_up = args->bias1;
    args->bias1_up.offset += (uint64_t)clmoe_dtype_bytes(CLMOE_F32, columns / 2);
}

/* Tokens first..first+n-1. */
static enum clmoe_status enqueue_call(struct layer *l, int64_t first, int64_t n) {
    const struct weights *const w = &l->weights;
    struct clmoe_moe_args args = {.x = some_rows(&l->x, first, n),
                                  .y = some_rows(&l->y, first, n),
                                  .bias1 = w->bias1,
                                  .bias2 = w->bias2,
                                  .down = w->latent_in,
                                  .up = w->latent_out,
                                  .shared_w1 = w->shared_w1,
                                  .shared_w1_up = w->shared_w1_up,
                                  .shared_w2 = w->shared_w2,
                                  .shared_gate = w->shared_gate,
                                  .w1 = w->parts[W1],
                                  .w1_up = w->parts[W1_UP],
                                  .w2 = w->parts[W2],
                                  .w1_scale = w->scales[W1],
                                  .w1_scale_up = w->scales[W1_UP],
                                  .w2_scale = w->scales[W2],
                                  .w1_zero = w->zeros[W1],
                                  .w1_zero_up = w->zeros[W1_UP],
                                  .w2_zero = w->zeros[W2],
                                  .n_w = w->n_parts,
                                  .offload = l->offloaded.object};
    enum clmoe_status status = CLMOE_OK;
    if (w->glu == CLMOE_GLU_APART && w->bias1.mem) split_bias(w, &args);
    if (l->own_router) {
        args.ids = some_rows(&l->ids, first, n);
        args.gamma = some_rows(&l->gamma, first, n);
        status = enqueue_router(l, &args);
    } else {
        args.router = w->router;
        args.router_bias = w->router_bias;
        args.select_bias = w->select_bias;
        if (l->routing) args.out_ids = some_rows(&l->ids, first, n);
        if (l->routing) args.out_gamma = some_rows(&l->gamma, first, n);
    }
    return status == CLMOE_OK ? clmoe_moe_enqueue(l->moe_plan, l->s->queue, &args, 0, NULL, NULL) : status;
}

static int run_calls(struct layer *l) {
    for (int64_t first = 0; first < l->tokens; first += l->call_tokens) {
        const int64_t left = l->tokens - first, n = left < l->call_tokens ? left : l->call_tokens;
        enum clmoe_status status = enqueue_call(l, first, n);
        if (status == CLMOE_OK && clFinish(l->s->queue) != CL_SUCCESS) status = CLMOE_E_OPENCL;
        if (status != CLMOE_OK) return session_fail(l->s, status, "moe");
        progress("tokens", first + n, l->tokens);
    }
    return -1;
}

static int make_buffers(struct layer *l, const struct array *x) {
    const int64_t chosen[] = {l->tokens, l->family->route.topk},
                  logits[] = {l->call_tokens, l->family->route.experts};
    int code = session_upload(l->s, x, &l->x);
    if (code < 0) code = session_buffer(l->s, l->x_dtype, 2, x->shape, &l->y);
    if (code < 0 && l->routing) code = session_buffer(l->s, CLMOE_I32, 2, chosen, &l->ids);
    if (code < 0 && l->routing) code = session_buffer(l->s, CLMOE_F32, 2, chosen, &l->gamma);
    if (code < 0 && l->own_router) code = session_buffer(l->s, CLMOE_F32, 2, logits, &l->logits);
    return code;
}

static int make_plans(struct layer *l) {
    enum clmoe_status status = plan_moe(l);
    if (status == CLMOE_OK && l->own_router) status = plan_router(l);
    return status == CLMOE_OK ? -1 : session_fail(l->s, status, "moe");
}

static void layer_close(struct layer *l) {
    struct clmoe_tensor *const tensors[] = {&l->x, &l->y, &l->ids, &l->gamma, &l->logits};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        session_release(tensors[i]);
    clmoe_plan_destroy(&l->logits_plan);
    clmoe_plan_destroy(&l->route_plan);
    clmoe_plan_destroy(&l->moe_plan);
    offloaded_close(&l->offloaded);
    weights_release(&l->weights);
}

int layer_run(struct session *s, const struct family *family, const struct block *block,
              const struct placement *placement, const struct array *x, bool routing,
              struct layer_results *results) {
    struct layer l = {
        .s = s, .family = family, .block = block, .tokens = x->shape[0], .budget = placement->budget};
    l.call_tokens = l.tokens < MAX_TOKENS ? l.tokens : MAX_TOKENS;
    l.own_router = block->router.dtype != x->dtype;
    l.routing = routing || l.own_router;
    session_dtype(x->dtype, &l.x_dtype);
    const bool pack = clmoe_matmul_wants_packing(s->ctx) && matrix_has_panels(&block->matrices[W1]) &&
                      matrix_has_panels(&block->matrices[W2]) &&
                      l.tokens * family->route.topk >= (int64_t)PACK_ROWS * family->route.experts;
    *results = (struct layer_results){0};
    int code = l.budget ? weights_upload_others(s, block, &l.weights)
                        : weights_upload(s, block, placement->per_buffer, pack, &l.weights);
    if (code < 0) code = make_buffers(&l, x);
    if (code < 0) code = make_plans(&l);
    if (code < 0 && l.budget) code = offloaded_open(s, block, &l.weights, l.moe_plan, l.budget, &l.offloaded);
    if (code < 0) code = run_calls(&l);
    if (code < 0 && l.budget) offloaded_report(&l.offloaded);
    if (code < 0) code = session_download(s, &l.y, &results->y);
    if (code < 0 && routing) code = session_download(s, &l.ids, &results->ids);
    if (code < 0 && routing) code = session_download(s, &l.gamma, &results->weights);
    layer_close(&l);
    return code;
}
