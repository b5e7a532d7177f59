/* SPDX-License-Identifier: MIT */
#include "offload.h"

#include <stdlib.h>
#include <string.h>

#define MAX_EXPERTS 1024

/* Weights in memory that the device copies from at full speed. */
struct pinned {
    cl_mem mem[EXPERT_PARTS];
    void *at[EXPERT_PARTS];
    int parts;
    const void *of_expert[MAX_EXPERTS];
};

/* What takes turns: one draw after another, with the experts there or here. */
struct turns {
    clmoe_plan *plan;
    struct clmoe_moe_args args;
    struct pairs *draws;
    int next;
};

static enum clmoe_status call_turns(void *priv, cl_command_queue queue, cl_event *event) {
    struct turns *const t = priv;
    t->args.logits = t->draws[t->next].d_logits;
    t->next = (t->next + 1) % OFFLOAD_DRAWS;
    return clmoe_moe_enqueue(t->plan, queue, &t->args, 0, NULL, event);
}

static void pinned_free(struct bench *b, struct pinned *p) {
    for (int i = 0; i < p->parts; i++) {
        if (p->at[i]) clEnqueueUnmapMemObject(b->s->queue, p->mem[i], p->at[i], 0, NULL, NULL);
        clReleaseMemObject(p->mem[i]);
    }
    clFinish(b->s->queue);
    p->parts = 0;
}

static int64_t expert_bytes(const struct clmoe_tensor *w) {
    int64_t n = 1;
    for (int d = 1; d < w->ndim; d++)
        n *= w->shape[d];
    return clmoe_dtype_bytes(w->dtype, n);
}

/* What lies on the device, brought back part by part. */
static int pinned_make(struct bench *b, const struct experts *e, struct pinned *p) {
    int32_t first = 0;
    for (int i = 0; i < e->parts; i++) {
        const int64_t each = expert_bytes(&e->w[i]), count = e->w[i].shape[0];
        const size_t bytes = (size_t)(each * count);
        cl_int err;
        p->mem[i] =
            clCreateBuffer(b->s->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &err);
        if (err == CL_SUCCESS) {
            p->parts++;
            p->at[i] = clEnqueueMapBuffer(b->s->queue, p->mem[i], CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                          bytes, 0, NULL, NULL, &err);
        }
        if (err == CL_SUCCESS)
            err = clEnqueueReadBuffer(b->s->queue, e->w[i].mem, CL_TRUE, (size_t)e->w[i].offset, bytes,
                                      p->at[i], 0, NULL, NULL);
        if (err != CL_SUCCESS)
            return command_fail(b->s->usage, EXIT_FAILED, "%zu bytes of host memory: OpenCL error %d", bytes,
                                (int)err);
        for (int64_t n = 0; n < count; n++)
            p->of_expert[first++] = (const char *)p->at[i] + n * each;
    }
    return -1;
}

/* One after another, until the slots hold what they will hold. */
static int settle(struct bench *b, struct turns *t, int calls) {
    for (int i = 0; i < calls; i++) {
        const enum clmoe_status status = call_turns(t, b->s->queue, NULL);
        if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_moe_enqueue");
    }
    clFinish(b->s->queue);
    return -1;
}

/* y of one draw, as it lies. */
static int read_y(struct bench *b, struct turns *t, void *y, size_t bytes) {
    t->next = OFFLOAD_DRAWS - 1;
    const int code = settle(b, t, 1);
    const cl_int err = clEnqueueReadBuffer(b->s->queue, t->args.y.mem, CL_TRUE, 0, bytes, y, 0, NULL, NULL);
    if (code >= 0 || err == CL_SUCCESS) return code;
    return command_fail(b->s->usage, EXIT_FAILED, "reading back: OpenCL error %d", (int)err);
}

/* Both give the same bits. */
static int compare(struct bench *b, struct turns *here, struct turns *there, struct errors *errors) {
    const struct clmoe_tensor *const y = &here->args.y;
    const size_t bytes = (size_t)clmoe_dtype_bytes(y->dtype, y->shape[0] * y->shape[1]);
    char *const ys = malloc(2 * bytes);
    if (!ys) return command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    int code = read_y(b, here, ys, bytes);
    if (code < 0) code = read_y(b, there, ys + bytes, bytes);
    *errors = (struct errors){.known = true, .good = memcmp(ys, ys + bytes, bytes) == 0};
    free(ys);
    return code;
}

static int time_both(struct bench *b, const struct settings *s, struct turns *here, struct turns *there,
                     result_sink sink, void *priv) {
    struct result r = result_new("offload", s, there->plan);
    const double tokens = (double)s->tokens, h = (double)s->shape.hidden, i = (double)s->shape.inter;
    double active = 0;
    for (int d = 0; d < OFFLOAD_DRAWS; d++)
        active += (double)here->draws[d].active / OFFLOAD_DRAWS;
    r.flops = 6.0 * tokens * s->shape.topk * h * i;
    r.bytes = bytes_of(s->dtype, 3.0 * active * h * i) +
              bytes_of(s->x_dtype, tokens * (2.0 * h + s->shape.experts));
    r.has_peer = true;
    int code = bench_time(b, call_turns, here, &r.peer);
    if (code < 0) code = settle(b, there, 2 * OFFLOAD_DRAWS);
    clmoe_offload_clear_stats(there->args.offload);
    if (code < 0) code = bench_time(b, call_turns, there, &r.timing);
    clmoe_offload_stats(there->args.offload, &r.offload);
    if (code < 0) code = compare(b, here, there, &r.errors);
    return code < 0 ? sink(priv, &r) : code;
}

static int make_plans(struct bench *b, const struct settings *s, const struct clmoe_moe_params *params,
                      const struct pinned *w1, const struct pinned *w2, uint64_t expert, struct turns *here,
                      struct turns *there) {
    struct clmoe_moe_params offloaded = *params;
    const int32_t wanted = (int32_t)(s->resident * s->shape.experts + 0.5);
    const struct clmoe_offload_params objects = {.budget = expert * (uint64_t)(wanted > 0 ? wanted : 1),
                                                 .w1 = w1->of_expert,
                                                 .w2 = w2->of_expert,
                                                 .pinned = 1};
    offloaded.offload = 1;
    enum clmoe_status status = clmoe_moe_plan(b->s->ctx, params, &here->plan);
    if (status == CLMOE_OK) status = clmoe_moe_plan(b->s->ctx, &offloaded, &there->plan);
    if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_moe_plan");
    status = clmoe_offload_create(there->plan, &objects, &there->args.offload);
    return status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_offload_create");
}

int problem_offload(struct bench *b, const struct settings *s, const struct clmoe_moe_params *params,
                    const struct experts *w1, const struct experts *w2, result_sink sink, void *priv) {
    const int64_t xs[2] = {s->tokens, s->shape.hidden};
    const uint64_t expert = (uint64_t)(expert_bytes(&w1->w[0]) + expert_bytes(&w2->w[0]));
    struct turns here = {0}, there = {0};
    struct pinned host1 = {0}, host2 = {0};
    struct pairs *const draws = calloc(OFFLOAD_DRAWS, sizeof *draws);
    int code = draws ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    here.draws = there.draws = draws;
    for (int d = 0; d < OFFLOAD_DRAWS && code < 0; d++) {
        struct settings one = *s;
        one.draw = d;
        code = pairs_make(b, &one, s->x_dtype, &draws[d]);
    }
    if (code < 0) code = pinned_make(b, w1, &host1);
    if (code < 0) code = pinned_make(b, w2, &host2);
    if (code < 0) code = bench_tensor(b, s->x_dtype, 2, xs, 1, 1.0f, &here.args.x);
    if (code < 0) code = session_buffer(b->s, s->x_dtype, 2, xs, &here.args.y);
    there.args = here.args;
    here.args.w1 = w1->w, here.args.w2 = w2->w, here.args.n_w = w1->parts;
    if (code < 0) code = make_plans(b, s, params, &host1, &host2, expert, &here, &there);
    if (code < 0) code = time_both(b, s, &here, &there, sink, priv);
    clmoe_offload_destroy(&there.args.offload);
    clmoe_plan_destroy(&here.plan);
    clmoe_plan_destroy(&there.plan);
    session_release(&here.args.x);
    session_release(&here.args.y);
    pinned_free(b, &host1);
    pinned_free(b, &host2);
    for (int d = 0; draws && d < OFFLOAD_DRAWS; d++)
        pairs_free(&draws[d]);
    free(draws);
    return code;
}
