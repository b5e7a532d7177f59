/* SPDX-License-Identifier: MIT */
#include "problems.h"

#include "experts.h"
#include "peers.h"

#include <stdio.h>
#include <string.h>

#define RENORM                                                                                               \
    { .renorm = CLMOE_RENORM_SUM }
#define DEEPSEEK_V3                                                                                          \
    {                                                                                                        \
        .score = CLMOE_SCORE_SIGMOID, .bias = 1, .n_group = 8, .topk_group = 4,                              \
        .group_score = CLMOE_GROUP_TOP2_SUM, .renorm = CLMOE_RENORM_SUM, .renorm_eps = 1e-20f, .scale = 2.5f \
    }

static const struct shape shapes[] = {
    {"mixtral-8x7b", 8, 2, 4096, 14336, RENORM},     {"qwen3-30b-a3b", 128, 8, 2048, 768, RENORM},
    {"dsv3", 256, 8, 7168, 2048, DEEPSEEK_V3},       {"gptoss-120b", 128, 4, 2880, 2880, RENORM},
    {"olmoe", 64, 8, 2048, 1024, {.max_tokens = 0}}, {"cpu-8x", 8, 2, 1024, 3584, RENORM},
};

const struct shape *shape_at(int index) {
    return index >= 0 && index < (int)(sizeof shapes / sizeof *shapes) ? &shapes[index] : NULL;
}

const struct shape *shape_find(const char *model) {
    for (int i = 0; shape_at(i); i++)
        if (strcmp(shapes[i].model, model) == 0) return &shapes[i];
    return NULL;
}

double bytes_of(enum clmoe_dtype dtype, double count) {
    return count * (double)clmoe_dtype_bytes(dtype, 256) / 256.0;
}

/* What is multiplied with weights of the dtype. */
static enum clmoe_dtype activations(enum clmoe_dtype weights) {
    return weights == CLMOE_F16 || weights == CLMOE_BF16 ? weights : CLMOE_F32;
}

/* "op: row (refusals)": the row alone; of a layer, all of its rows */
static void result_add_kernels(struct result *r, const clmoe_plan *plan) {
    size_t used = strlen(r->kernel);
    for (const char *line = clmoe_plan_describe(plan); line && *line;) {
        const char *const row = strstr(line, ": ") + 2;
        const size_t size = strcspn(row, " \n");
        if (used + size + 2 < sizeof r->kernel)
            used += (size_t)snprintf(r->kernel + used, sizeof r->kernel - used, "%s%.*s", used ? "+" : "",
                                     (int)size, row);
        line = strchr(line, '\n');
        if (line) line++;
    }
}

struct result result_new(const char *op, const struct settings *s, const clmoe_plan *plan) {
    struct result r = {.op = op, .settings = *s};
    result_add_kernels(&r, plan);
    return r;
}

/* One plan with its args, whatever the operation. */
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

/* One of the two products of a layer: what differs between them. */
struct product {
    const char *op;
    int64_t in, out;
    enum clmoe_rows x_rows, y_rows;
    enum clmoe_gamma gamma;
};

static struct clmoe_matmul_params product_params(const struct settings *s, const struct product *p,
                                                 bool sorted) {
    return (struct clmoe_matmul_params){
        .plan.kernel = s->kernel,
        .max_tokens = s->tokens,
        .topk = s->shape.topk,
        .experts = s->shape.experts,
        .in = p->in,
        .out = p->out,
        .x_dtype = activations(s->dtype),
        .w_dtype = s->dtype,
        .y_dtype = activations(s->dtype),
        .x_rows = p->x_rows == CLMOE_ROWS_SORTED && !sorted ? CLMOE_ROWS_PAIR : p->x_rows,
        .y_rows = p->y_rows == CLMOE_ROWS_SORTED && !sorted ? CLMOE_ROWS_PAIR : p->y_rows,
        .routing = sorted ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
        .gamma = p->gamma,
    };
}

static int time_product(struct bench *b, const struct settings *s, const struct product *p,
                        const struct routing *r, const struct clmoe_matmul_params *params,
                        struct clmoe_matmul_args *args, result_sink sink, void *priv) {
    clmoe_plan *plan;
    const enum clmoe_status status = clmoe_matmul_plan(b->s->ctx, params, &plan);
    if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_matmul_plan");
    struct call call = {plan, args};
    struct result result = result_new(p->op, s, plan);
    const double pairs = (double)(s->tokens * s->shape.topk);
    const double x_rows = params->x_rows == CLMOE_ROWS_TOKEN ? (double)s->tokens : pairs;
    result.flops = 2.0 * pairs * (double)p->in * (double)p->out;
    result.bytes = bytes_of(s->dtype, (double)r->active * (double)p->in * (double)p->out) +
                   bytes_of(params->x_dtype, x_rows * (double)p->in) +
                   bytes_of(params->y_dtype, pairs * (double)p->out);
    int code = bench_time(b, call_matmul, &call, &result.timing);
    if (code < 0 && s->peer && s->dtype == CLMOE_F32) {
        result.has_peer = true;
        code = peer_time(b, s->peer, r, s->shape.experts, p->out, p->in, &result.peer);
    }
    clmoe_plan_destroy(&plan);
    return code < 0 ? sink(priv, &result) : code;
}

static int run_product(struct bench *b, const struct settings *s, const struct product *p,
                       const struct routing *r, result_sink sink, void *priv) {
    const bool sorted = clmoe_matmul_wants_packing(b->s->ctx) || s->kernel || !routing_is_few(s);
    struct clmoe_matmul_params params = product_params(s, p, sorted);
    const int64_t pairs = s->tokens * s->shape.topk;
    const int64_t xs[2] = {params.x_rows == CLMOE_ROWS_TOKEN ? s->tokens : pairs, p->in},
                  ys[2] = {pairs, p->out};
    struct clmoe_matmul_args args = {.ids = r->d_ids};
    struct experts w;
    int code = experts_make(b, &params, 5, &w);
    if (code >= 0) return code;
    params.w_order = w.order;
    args.w = w.w;
    args.n_w = w.parts;
    if (sorted) {
        args.offsets = r->d_offsets;
        args.order = r->d_order;
    }
    if (p->gamma != CLMOE_GAMMA_NONE) args.gamma = r->d_gamma;
    code = bench_tensor(b, params.x_dtype, 2, xs, 9, 1.0f, &args.x);
    if (code < 0) code = session_buffer(b->s, params.y_dtype, 2, ys, &args.y);
    if (code < 0) code = time_product(b, s, p, r, &params, &args, sink, priv);
    session_release(&args.x);
    session_release(&args.y);
    experts_free(&w);
    return code;
}

int problem_matmul(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    const struct product products[] = {
        {"matmul1", s->shape.hidden, 2 * s->shape.inter, CLMOE_ROWS_TOKEN, CLMOE_ROWS_SORTED,
         CLMOE_GAMMA_NONE},
        {"matmul2", s->shape.inter, s->shape.hidden, CLMOE_ROWS_SORTED, CLMOE_ROWS_PAIR, CLMOE_GAMMA_OUTPUT},
    };
    struct routing r;
    int code = routing_make(b, s, &r);
    for (int i = 0; i < 2 && code < 0; i++)
        code = run_product(b, s, &products[i], &r, sink, priv);
    routing_free(&r);
    return code;
}

static int time_layer(struct bench *b, const struct settings *s, const struct clmoe_moe_params *params,
                      struct clmoe_moe_args *args, result_sink sink, void *priv) {
    clmoe_plan *plan;
    const enum clmoe_status status = clmoe_moe_plan(b->s->ctx, params, &plan);
    if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_moe_plan");
    struct call call = {plan, args};
    struct result r = result_new("moe", s, plan);
    const double pairs = (double)(s->tokens * s->shape.topk), h = (double)s->shape.hidden,
                 i = (double)s->shape.inter;
    const double used =
        pairs < s->shape.experts ? pairs : s->shape.experts; /* at most: routing is on the device */
    r.flops = 6.0 * pairs * h * i;
    r.bytes = bytes_of(s->dtype, 3.0 * used * h * i) +
              bytes_of(params->x_dtype, (double)s->tokens * (2.0 * h + s->shape.experts));
    int code = bench_time(b, call_moe, &call, &r.timing);
    clmoe_plan_destroy(&plan);
    return code < 0 ? sink(priv, &r) : code;
}

int problem_moe(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    /* gpt-oss's activation and layout, as the peers' script has them. */
    struct clmoe_moe_params params = {
        .plan.kernel = s->kernel,
        .max_tokens = s->tokens,
        .experts = s->shape.experts,
        .topk = s->shape.topk,
        .hidden = s->shape.hidden,
        .inter = s->shape.inter,
        .x_dtype = activations(s->dtype),
        .w_dtype = s->dtype,
        .mid_dtype = activations(s->dtype),
        .source = CLMOE_MOE_LOGITS,
        .route = {.renorm = CLMOE_RENORM_SUM},
        .glu = CLMOE_GLU_INTERLEAVED,
        .act = {CLMOE_ACT_SILU, 1.702f, 7.0f, 7.0f, 1.0f},
    };
    struct clmoe_matmul_params first = {.experts = s->shape.experts,
                                        .topk = 1,
                                        .w_dtype = s->dtype,
                                        .glu = params.glu,
                                        .x_dtype = params.x_dtype,
                                        .y_dtype = params.x_dtype,
                                        .in = s->shape.hidden,
                                        .out = s->shape.inter};
    struct clmoe_matmul_params second = first;
    second.glu = CLMOE_GLU_NONE;
    second.in = s->shape.inter;
    second.out = s->shape.hidden;
    const int64_t xs[2] = {s->tokens, s->shape.hidden}, ls[2] = {s->tokens, s->shape.experts};
    struct clmoe_moe_args args = {0};
    struct experts w1 = {0}, w2 = {0};
    int code = experts_make(b, &first, 5, &w1);
    if (code < 0) code = experts_make(b, &second, 6, &w2);
    if (code < 0) code = bench_tensor(b, params.x_dtype, 2, xs, 9, 1.0f, &args.x);
    if (code < 0) code = bench_tensor(b, params.x_dtype, 2, ls, 10, 1.0f, &args.logits);
    if (code < 0) code = session_buffer(b->s, params.x_dtype, 2, xs, &args.y);
    args.w1 = w1.w;
    args.w2 = w2.w;
    args.n_w = w1.parts;
    params.w_order = w1.order;
    if (code < 0 && w1.parts != w2.parts)
        code =
            command_fail(b->s->usage, EXIT_FAILED, "the weights need %d and %d buffers", w1.parts, w2.parts);
    if (code < 0) code = time_layer(b, s, &params, &args, sink, priv);
    session_release(&args.x);
    session_release(&args.logits);
    session_release(&args.y);
    experts_free(&w1);
    experts_free(&w2);
    return code;
}
