/* SPDX-License-Identifier: MIT
 * From router logits to pairs in the order of their experts. */
#include "problems.h"

#include <string.h>

/* Routing, and sorting its pairs if there is a second plan. */
struct routing {
    clmoe_plan *route, *permute;
    struct clmoe_route_args route_args;
    struct clmoe_permute_args permute_args;
};

static enum clmoe_status call_routing(void *priv, cl_command_queue queue, cl_event *event) {
    const struct routing *const r = priv;
    const enum clmoe_status status =
        clmoe_route_enqueue(r->route, queue, &r->route_args, 0, NULL, r->permute ? NULL : event);
    if (status != CLMOE_OK || !r->permute) return status;
    return clmoe_permute_enqueue(r->permute, queue, &r->permute_args, 0, NULL, event);
}

static int time_routing(struct bench *b, const struct settings *s, struct routing *r, result_sink sink,
                        void *priv) {
    const double pairs = (double)s->tokens * s->shape.topk;
    struct result result = result_new(r->permute ? "order" : "route", s, r->route);
    result.bytes = bytes_of(s->dtype, (double)s->tokens * s->shape.experts) + 8 * pairs;
    if (r->permute) {
        result_add_kernels(&result, r->permute);
        result.bytes += 4 * pairs; /* the ids stay in caches */
    }
    const int code = bench_time(b, call_routing, r, &result.timing);
    return code < 0 ? sink(priv, &result) : code;
}

static int plan_route(struct bench *b, const struct settings *s, struct routing *r) {
    struct clmoe_route_params params = s->shape.route;
    params.plan.kernel = s->kernel;
    params.max_tokens = s->tokens;
    params.experts = s->shape.experts;
    params.topk = s->shape.topk;
    params.logits_dtype = s->dtype;
    const int64_t xs[2] = {s->tokens, s->shape.experts}, ys[2] = {s->tokens, s->shape.topk};
    struct clmoe_route_args *const args = &r->route_args;
    const enum clmoe_status status = clmoe_route_plan(b->s->ctx, &params, &r->route);
    int code = status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_route_plan");
    if (code < 0) code = bench_tensor(b, s->dtype, 2, xs, 3, 1.0f, &args->logits);
    if (code < 0 && params.bias) code = bench_tensor(b, CLMOE_F32, 1, xs + 1, 4, 0.1f, &args->bias);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 2, ys, &args->ids);
    if (code < 0) code = session_buffer(b->s, CLMOE_F32, 2, ys, &args->gamma);
    return code;
}

static int plan_permute(struct bench *b, const struct settings *s, struct routing *r) {
    const struct clmoe_permute_params params = {
        .max_tokens = s->tokens, .topk = s->shape.topk, .experts = s->shape.experts};
    const int64_t experts = s->shape.experts, ends = experts + 1, pairs = s->tokens * s->shape.topk;
    struct clmoe_permute_args *const args = &r->permute_args;
    args->ids = r->route_args.ids;
    const enum clmoe_status status = clmoe_permute_plan(b->s->ctx, &params, &r->permute);
    int code = status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_permute_plan");
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &experts, &args->counts);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &ends, &args->offsets);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &pairs, &args->order);
    return code;
}

int problem_route(struct bench *b, const struct settings *s, result_sink sink, void *priv) {
    struct routing r = {0};
    int code = plan_route(b, s, &r);
    if (code < 0) code = time_routing(b, s, &r, sink, priv);
    if (code < 0) code = plan_permute(b, s, &r);
    if (code < 0) code = time_routing(b, s, &r, sink, priv);
    clmoe_plan_destroy(&r.route);
    clmoe_plan_destroy(&r.permute);
    session_release(&r.route_args.logits);
    session_release(&r.route_args.bias);
    session_release(&r.route_args.ids);
    session_release(&r.route_args.gamma);
    session_release(&r.permute_args.counts);
    session_release(&r.permute_args.offsets);
    session_release(&r.permute_args.order);
    return code;
}
