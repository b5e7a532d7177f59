/* SPDX-License-Identifier: MIT
 * From router logits to pairs in the order of their experts. */
#include "verify.h"

struct routing {
    clmoe_plan *plan;
    struct clmoe_route_args args;
    const struct pairs *pairs;
};

static enum clmoe_status call_routing(void *priv, cl_command_queue queue, cl_event *event) {
    const struct routing *const r = priv;
    return clmoe_route_enqueue(r->plan, queue, &r->args, 0, NULL, event);
}

static int time_routing(struct bench *b, const struct settings *s, struct routing *r, const char *op,
                        result_sink sink, void *priv) {
    const double pairs = (double)s->tokens * s->shape.topk;
    struct result result = result_new(op, s, r->plan);
    result.bytes = bytes_of(s->dtype, (double)s->tokens * s->shape.experts) + 8 * pairs;
    if (r->args.order.mem) result.bytes += 4 * pairs; /* the ids stay in caches */
    int code = bench_time(b, call_routing, r, &result.timing);
    if (code < 0) code = verify_routing(b, s, &r->args, r->pairs, &result.errors);
    return code < 0 ? sink(priv, &result) : code;
}

static int plan_routing(struct bench *b, const struct settings *s, bool sorted, struct routing *r) {
    struct clmoe_route_params params = s->shape.route;
    params.plan.kernel = s->kernel;
    params.max_tokens = s->tokens;
    params.experts = s->shape.experts;
    params.topk = s->shape.topk;
    params.logits_dtype = s->dtype;
    if (sorted) params.permute_experts = s->shape.experts;
    const enum clmoe_status status = clmoe_route_plan(b->s->ctx, &params, &r->plan);
    return status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_route_plan");
}

static int make_buffers(struct bench *b, const struct settings *s, struct clmoe_route_args *args) {
    const int64_t experts = s->shape.experts, ys[2] = {s->tokens, s->shape.topk};
    int code = -1;
    if (s->shape.route.bias) code = bench_tensor(b, CLMOE_F32, 1, &experts, 4, 0.1f, &args->bias);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 2, ys, &args->ids);
    if (code < 0) code = session_buffer(b->s, CLMOE_F32, 2, ys, &args->gamma);
    return code;
}

static int make_order(struct bench *b, const struct settings *s, struct clmoe_route_args *args) {
    const int64_t experts = s->shape.experts, ends = experts + 1, pairs = s->tokens * s->shape.topk;
    int code = session_buffer(b->s, CLMOE_I32, 1, &experts, &args->counts);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &ends, &args->offsets);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &pairs, &args->order);
    return code;
}

static int run_routing(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    struct routing r = {0};
    struct pairs pairs;
    int code = pairs_make(b, s, s->dtype, &pairs);
    if (code >= 0) return code;
    r.pairs = &pairs;
    r.args.logits = pairs.d_logits;
    code = make_buffers(b, s, &r.args);
    if (code < 0) code = plan_routing(b, s, false, &r);
    if (code < 0) code = time_routing(b, s, &r, "route", sink, priv);
    clmoe_plan_destroy(&r.plan);
    if (code < 0) code = plan_routing(b, s, true, &r);
    if (code < 0) code = make_order(b, s, &r.args);
    if (code < 0) code = time_routing(b, s, &r, "order", sink, priv);
    clmoe_plan_destroy(&r.plan);
    struct clmoe_tensor *const tensors[] = {&r.args.bias,   &r.args.ids,     &r.args.gamma,
                                            &r.args.counts, &r.args.offsets, &r.args.order};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        session_release(tensors[i]);
    pairs_free(&pairs);
    return code;
}

/* Routing, then routing with its pairs sorted. */
int problem_route(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    int code = -1;
    for (int i = 0; i < s->n_token_counts && code < 0; i++) {
        struct settings one = *s;
        one.tokens = s->token_counts[i];
        code = run_routing(b, &one, sink, priv);
    }
    return code;
}
