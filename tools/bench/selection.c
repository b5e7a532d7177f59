/* SPDX-License-Identifier: MIT
 * Selecting elements of rows, and putting them back. */
#include "peers.h"
#include "problems.h"

static double cells(const struct settings *s) {
    return (double)s->rows * (double)s->n;
}

static double slots(const struct settings *s) {
    return (double)s->rows * (double)s->k;
}

/* Times what `result` describes, and the copy beside it if that is the peer. */
static int time_beside_copy(struct bench *b, timed_call call, void *priv, struct result *result) {
    int code = bench_time(b, call, priv, &result->timing);
    if (code >= 0 || !result->settings.peer) return code;
    result->has_peer = true;
    return peer_copy_time(b, result->bytes, &result->peer);
}

struct topk_call {
    clmoe_plan *plan;
    struct clmoe_topk_args args;
};

static enum clmoe_status call_topk(void *priv, cl_command_queue queue, cl_event *event) {
    const struct topk_call *const c = priv;
    return clmoe_topk_enqueue(c->plan, queue, &c->args, 0, NULL, event);
}

/* x, and what is written: pairs of a value and an index, or a byte and a number for each element. */
static double topk_bytes(const struct settings *s) {
    const double values = s->masks ? cells(s) : slots(s), other = s->masks ? cells(s) : 4 * slots(s);
    return bytes_of(s->dtype, cells(s) + values) + other;
}

static int topk_buffers(struct bench *b, const struct settings *s, struct clmoe_topk_args *args) {
    const int64_t xs[2] = {s->rows, s->n}, ys[2] = {s->rows, s->k};
    int code = session_buffer(b->s, s->dtype, 2, xs, &args->x);
    if (code < 0) code = bench_fill_rows(b, &args->x, 3, s->fill);
    if (code < 0 && s->masks) {
        code = session_buffer(b->s, CLMOE_U8, 2, xs, &args->mask);
        return code < 0 ? session_buffer(b->s, s->dtype, 2, xs, &args->dense) : code;
    }
    if (code < 0) code = session_buffer(b->s, s->dtype, 2, ys, &args->values);
    return code < 0 ? session_buffer(b->s, CLMOE_I32, 2, ys, &args->indices) : code;
}

int problem_topk(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    const struct clmoe_topk_params params = {.plan.kernel = s->kernel,
                                             .max_rows = s->rows,
                                             .n = s->n,
                                             .k = s->k,
                                             .dtype = s->dtype,
                                             .order = s->order,
                                             .smallest = s->smallest,
                                             .outputs = s->masks ? CLMOE_TOPK_MASK | CLMOE_TOPK_DENSE : 0};
    struct topk_call call = {0};
    const enum clmoe_status status = clmoe_topk_plan(b->s->ctx, &params, &call.plan);
    int code = status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_topk_plan");
    if (code < 0) code = topk_buffers(b, s, &call.args);
    if (code < 0) {
        struct result r = result_new("topk", s, call.plan);
        r.bytes = topk_bytes(s);
        code = time_beside_copy(b, call_topk, &call, &r);
        if (code < 0) code = sink(priv, &r);
    }
    clmoe_plan_destroy(&call.plan);
    session_release(&call.args.x);
    session_release(&call.args.values);
    session_release(&call.args.indices);
    session_release(&call.args.mask);
    session_release(&call.args.dense);
    return code;
}

struct scatter_call {
    clmoe_plan *plan;
    struct clmoe_scatter_args args;
};

static enum clmoe_status call_scatter(void *priv, cl_command_queue queue, cl_event *event) {
    const struct scatter_call *const c = priv;
    return clmoe_scatter_enqueue(c->plan, queue, &c->args, 0, NULL, event);
}

static bool folds(const struct settings *s) {
    return s->mode == CLMOE_SCATTER_ADD || s->mode == CLMOE_SCATTER_MULTIPLY;
}

/* Ids; values, or the elements of x that ids name; y, or only the elements that are named, read and written;
 * x where it is copied. */
static double scatter_bytes(const struct settings *s) {
    const double y = !folds(s) ? cells(s) : s->in_place ? 2 * slots(s) : 2 * cells(s);
    return 4.0 * slots(s) + bytes_of(s->dtype, slots(s) + y);
}

static int scatter_buffers(struct bench *b, const struct settings *s, struct clmoe_scatter_args *args,
                           struct clmoe_tensor *x) {
    const bool mask = s->mode == CLMOE_SCATTER_MASK;
    const int64_t dense[2] = {s->rows, s->n}, pairs[2] = {s->rows, s->k};
    int code = session_buffer(b->s, CLMOE_I32, 2, pairs, &args->indices);
    if (code < 0) code = bench_fill_ids(b, &args->indices, 4, s->n);
    if (code < 0 && !mask) code = bench_tensor(b, s->dtype, 2, pairs, 3, 1.0f, &args->values);
    if (code < 0) code = bench_tensor(b, s->dtype, 2, dense, 5, 1.0f, &args->y);
    if (code < 0 && (mask || folds(s)) && !s->in_place)
        code = bench_tensor(b, s->dtype, 2, dense, 6, 1.0f, x);
    args->x = mask && s->in_place ? args->y : *x;
    return code;
}

int problem_scatter(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    const struct clmoe_scatter_params params = {.plan.kernel = s->kernel,
                                                .max_rows = s->rows,
                                                .n = s->n,
                                                .k = s->k,
                                                .dtype = s->dtype,
                                                .mode = s->mode,
                                                .from_x = folds(s) && !s->in_place};
    struct scatter_call call = {0};
    struct clmoe_tensor x = {0};
    const enum clmoe_status status = clmoe_scatter_plan(b->s->ctx, &params, &call.plan);
    int code = status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_scatter_plan");
    if (code < 0) code = scatter_buffers(b, s, &call.args, &x);
    if (code < 0) {
        struct result r = result_new("scatter", s, call.plan);
        r.bytes = scatter_bytes(s);
        code = time_beside_copy(b, call_scatter, &call, &r);
        if (code < 0) code = sink(priv, &r);
    }
    clmoe_plan_destroy(&call.plan);
    session_release(&call.args.indices);
    session_release(&call.args.values);
    session_release(&call.args.y);
    session_release(&x);
    return code;
}
