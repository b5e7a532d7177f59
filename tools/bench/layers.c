/* SPDX-License-Identifier: MIT
 * The products of an expert layer, and whole layers. Weights are made once for all numbers of tokens. */
#include "offload.h"
#include "peers.h"
#include "verify.h"

#define W1_SEED 5
#define W2_SEED 6
#define X_SEED 9

/* One plan with its args. */
struct call {
    clmoe_plan *plan;
    const void *args;
};

static enum clmoe_status call_matmul(void *priv, cl_command_queue queue, cl_event *event) {
    const struct call *const c = priv;
    return clmoe_matmul_enqueue(c->plan, queue, c->args, 0, NULL, event);
}

static enum clmoe_status call_moe(void *priv, cl_command_queue queue, cl_event *event) {
    const struct call *const c = priv;
    return clmoe_moe_enqueue(c->plan, queue, c->args, 0, NULL, event);
}

static enum clmoe_status plan_matmul(clmoe_context *ctx, const void *params, clmoe_plan **plan) {
    return clmoe_matmul_plan(ctx, params, plan);
}

static enum clmoe_status plan_moe(clmoe_context *ctx, const void *params, clmoe_plan **plan) {
    return clmoe_moe_plan(ctx, params, plan);
}

/* One of the two products of a layer: what differs between them. */
struct product {
    const char *op;
    int64_t in, out;
    enum clmoe_glu glu;
    enum clmoe_rows x_rows, y_rows;
    enum clmoe_gamma gamma;
    uint32_t seed; /* of its weights */
};

static enum clmoe_rows rows_of(enum clmoe_rows rows, bool sorted) {
    return rows == CLMOE_ROWS_SORTED && !sorted ? CLMOE_ROWS_PAIR : rows;
}

/* Words of 4-bit codes cannot have gate and up rows in turns. */
static enum clmoe_glu glu_of(const struct settings *s, enum clmoe_glu glu) {
    return glu != CLMOE_GLU_NONE && settings_words(s) ? CLMOE_GLU_GATE_UP : glu;
}

static struct clmoe_matmul_params product_params(const struct settings *s, const struct product *p,
                                                 bool sorted) {
    struct clmoe_matmul_params params = {
        .plan.kernel = s->kernel,
        .max_tokens = s->tokens,
        .topk = s->shape.topk,
        .experts = s->shape.experts,
        .in = p->in,
        .out = p->out,
        .x_dtype = s->x_dtype,
        .w_dtype = s->dtype,
        .y_dtype = s->x_dtype,
        .w_scale = experts_scale(s),
        .w_order = s->w_order,
        .glu = glu_of(s, p->glu),
        .x_rows = rows_of(p->x_rows, sorted),
        .y_rows = rows_of(p->y_rows, sorted),
        .routing = sorted ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
        .gamma = p->gamma,
    };
    if (p->glu != CLMOE_GLU_NONE) params.act = bench_act;
    return params;
}

static int time_product(struct bench *b, const struct settings *s, const struct product *p,
                        const struct product_run *run, result_sink sink, void *priv) {
    const struct clmoe_matmul_params *const params = run->params;
    struct plan_times plan_times = {0};
    clmoe_plan *plan;
    int code = s->plan_times ? time_plan(b, plan_matmul, params, &plan_times) : -1;
    if (code >= 0) return code;
    const enum clmoe_status status = clmoe_matmul_plan(b->s->ctx, params, &plan);
    if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_matmul_plan");
    struct call call = {plan, run->args};
    struct result result = result_new(p->op, s, plan);
    const double pairs = (double)(s->tokens * s->shape.topk), rows = run->w->glu ? 2.0 : 1.0;
    const double x_rows = params->x_rows == CLMOE_ROWS_TOKEN ? (double)s->tokens : pairs;
    result.flops = 2.0 * pairs * (double)p->in * (double)p->out * rows;
    result.bytes = experts_bytes(s, run->pairs->active * (double)p->out * rows, (double)p->in) +
                   bytes_of(params->x_dtype, x_rows * (double)p->in) +
                   bytes_of(params->y_dtype, pairs * (double)p->out) + 4 * pairs;
    result.active = run->pairs->active;
    result.most = run->pairs->most;
    result.plan_times = plan_times;
    code = bench_time(b, call_matmul, &call, &result.timing);
    if (code < 0) code = verify_product(b, run, &result.errors);
    if (code < 0 && s->peer) {
        result.has_peer = true;
        code =
            peer_time(b, s->peer, run->pairs, s->shape.experts, p->out * (int64_t)rows, p->in, &result.peer);
    }
    clmoe_plan_destroy(&plan);
    return code < 0 ? sink(priv, &result) : code;
}

static int run_product(struct bench *b, const struct settings *s, const struct product *p,
                       const struct experts *w, result_sink sink, void *priv) {
    const bool sorted = clmoe_matmul_wants_packing(b->s->ctx) || s->kernel || !pairs_are_few(b, s);
    struct clmoe_matmul_params params = product_params(s, p, sorted);
    const int64_t n = s->tokens * s->shape.topk;
    const int64_t xs[2] = {params.x_rows == CLMOE_ROWS_TOKEN ? s->tokens : n, p->in}, ys[2] = {n, p->out};
    struct pairs pairs;
    int code = pairs_make(b, s, CLMOE_F32, &pairs);
    if (code >= 0) return code;
    params.w_order = w->order;
    struct clmoe_matmul_args args = {.ids = pairs.d_ids, .w = w->w, .n_w = w->parts};
    if (sorted) {
        args.offsets = pairs.d_offsets;
        args.order = pairs.d_order;
    }
    if (p->gamma != CLMOE_GAMMA_NONE) args.gamma = pairs.d_gamma;
    if (params.w_scale.rows) args.w_scale = w->scale;
    if (params.w_scale.zero) args.w_zero = w->zero;
    code = bench_tensor(b, params.x_dtype, 2, xs, X_SEED, 1.0f, &args.x);
    if (code < 0) code = session_buffer(b->s, params.y_dtype, 2, ys, &args.y);
    const struct product_run run = {&params, &args, w, &pairs};
    if (code < 0) code = time_product(b, s, p, &run, sink, priv);
    session_release(&args.x);
    session_release(&args.y);
    pairs_free(&pairs);
    return code;
}

int problem_matmul(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    const int64_t h = s->shape.hidden, inter = s->shape.inter;
    const struct product products[] = {
        {"matmul1", h, 2 * inter, CLMOE_GLU_NONE, CLMOE_ROWS_TOKEN, CLMOE_ROWS_SORTED, CLMOE_GAMMA_NONE,
         W1_SEED},
        {"matmul1_glu", h, inter, CLMOE_GLU_INTERLEAVED, CLMOE_ROWS_TOKEN, CLMOE_ROWS_SORTED,
         CLMOE_GAMMA_NONE, W1_SEED},
        {"matmul2", inter, h, CLMOE_GLU_NONE, CLMOE_ROWS_SORTED, CLMOE_ROWS_PAIR, CLMOE_GAMMA_OUTPUT,
         W2_SEED},
    };
    int code = pairs_check(b, s);
    for (size_t i = 0; i < sizeof products / sizeof *products && code < 0; i++) {
        const struct product *const p = &products[i];
        const struct clmoe_matmul_params params = product_params(s, p, false);
        struct experts w;
        if (p->glu != CLMOE_GLU_NONE && !s->glu) continue;
        code = experts_make(b, &params, p->seed, &w);
        if (code >= 0) return code;
        for (int t = 0; t < s->n_token_counts && code < 0; t++) {
            struct settings one = *s;
            one.tokens = s->token_counts[t];
            code = run_product(b, &one, p, &w, sink, priv);
        }
        experts_free(&w);
    }
    return code;
}

static int time_layer(struct bench *b, const struct settings *s, const struct layer_run *run,
                      result_sink sink, void *priv) {
    struct plan_times plan_times = {0};
    clmoe_plan *plan;
    int code = s->plan_times ? time_plan(b, plan_moe, run->params, &plan_times) : -1;
    if (code >= 0) return code;
    const enum clmoe_status status = clmoe_moe_plan(b->s->ctx, run->params, &plan);
    if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_moe_plan");
    struct call call = {plan, run->args};
    struct result r = result_new("moe", s, plan);
    const double tokens = (double)s->tokens, h = (double)s->shape.hidden, i = (double)s->shape.inter;
    r.flops = 6.0 * tokens * s->shape.topk * h * i;
    r.bytes = experts_bytes(s, 2.0 * run->pairs->active * i, h) +
              experts_bytes(s, run->pairs->active * h, i) +
              bytes_of(s->x_dtype, tokens * (2.0 * h + s->shape.experts));
    r.active = run->pairs->active;
    r.most = run->pairs->most;
    r.plan_times = plan_times;
    code = bench_time(b, call_moe, &call, &r.timing);
    if (code < 0) code = verify_layer(b, run, s->tokens, &r.errors);
    clmoe_plan_destroy(&plan);
    return code < 0 ? sink(priv, &r) : code;
}

static int run_layer(struct bench *b, const struct settings *s, const struct experts *w1,
                     const struct experts *w2, result_sink sink, void *priv) {
    const struct clmoe_moe_params params = {
        .plan.kernel = s->kernel,
        .max_tokens = s->tokens,
        .experts = s->shape.experts,
        .topk = s->shape.topk,
        .hidden = s->shape.hidden,
        .inter = s->shape.inter,
        .x_dtype = s->x_dtype,
        .w_dtype = s->dtype,
        .w_scale = experts_scale(s),
        .mid_dtype = s->x_dtype,
        .source = CLMOE_MOE_LOGITS,
        .route = {.renorm = CLMOE_RENORM_SUM},
        .w_order = w1->order,
        .glu = w1->glu,
        .act = bench_act,
    };
    if (s->resident > 0) return problem_offload(b, s, &params, w1, w2, sink, priv);
    const int64_t xs[2] = {s->tokens, s->shape.hidden};
    struct pairs pairs;
    int code = pairs_make(b, s, s->x_dtype, &pairs);
    if (code >= 0) return code;
    struct clmoe_moe_args args = {.logits = pairs.d_logits, .w1 = w1->w, .w2 = w2->w, .n_w = w1->parts};
    if (params.w_scale.rows) args.w1_scale = w1->scale, args.w2_scale = w2->scale;
    if (params.w_scale.zero) args.w1_zero = w1->zero, args.w2_zero = w2->zero;
    const struct layer_run run = {&params, &args, w1, w2, &pairs};
    code = bench_tensor(b, s->x_dtype, 2, xs, X_SEED, 1.0f, &args.x);
    if (code < 0) code = session_buffer(b->s, s->x_dtype, 2, xs, &args.y);
    if (code < 0) code = time_layer(b, s, &run, sink, priv);
    session_release(&args.x);
    session_release(&args.y);
    pairs_free(&pairs);
    return code;
}

int problem_moe(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    const struct product first = {.in = s->shape.hidden, .out = s->shape.inter, .glu = CLMOE_GLU_INTERLEAVED},
                         second = {.in = s->shape.inter, .out = s->shape.hidden};
    const struct clmoe_matmul_params params1 = product_params(s, &first, false),
                                     params2 = product_params(s, &second, false);
    struct experts w1 = {0}, w2 = {0};
    int code = pairs_check(b, s);
    if (code < 0) code = experts_make(b, &params1, W1_SEED, &w1);
    if (code < 0) code = experts_make(b, &params2, W2_SEED, &w2);
    if (code < 0 && w1.parts != w2.parts)
        code =
            command_fail(b->s->usage, EXIT_FAILED, "the weights need %d and %d buffers", w1.parts, w2.parts);
    for (int t = 0; t < s->n_token_counts && code < 0; t++) {
        struct settings one = *s;
        one.tokens = s->token_counts[t];
        code = run_layer(b, &one, &w1, &w2, sink, priv);
    }
    experts_free(&w1);
    experts_free(&w2);
    return code;
}
