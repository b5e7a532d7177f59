/* SPDX-License-Identifier: MIT */
#include "experts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How many experts go into one buffer. */
static int32_t experts_per_part(struct bench *b, int32_t experts, int64_t bytes) {
    struct clmoe_device_info info;
    clmoe_context_device_info(b->s->ctx, &info);
    const uint64_t fit = info.caps.max_alloc / (uint64_t)bytes;
    const int32_t least = (experts + EXPERT_PARTS - 1) / EXPERT_PARTS;
    return fit > (uint64_t)experts ? experts : (int32_t)fit < least ? least : (int32_t)fit;
}

/* Packs part by part, so that only one part exists twice at a time. */
static int pack(struct bench *b, const struct clmoe_matmul_params *product, struct experts *e) {
    clmoe_plan *plan = NULL;
    int code = -1;
    for (int i = 0; i < e->parts && code < 0; i++) {
        struct clmoe_matmul_params params = *product;
        params.plan.kernel = NULL;
        params.w_order = CLMOE_W_ENK;
        params.experts = (int32_t)e->w[i].shape[0];
        int64_t shape[4];
        struct clmoe_tensor packed;
        enum clmoe_status status = clmoe_matmul_packed_shape(&params, shape);
        if (status == CLMOE_OK) status = clmoe_matmul_pack_plan(b->s->ctx, &params, &plan);
        if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_matmul_pack_plan");
        code = session_buffer(b->s, params.w_dtype, 4, shape, &packed);
        const struct clmoe_matmul_pack_args args = {.w = &e->w[i], .n_w = 1, .packed = &packed};
        if (code < 0) status = clmoe_matmul_pack_enqueue(plan, b->s->queue, &args, 0, NULL, NULL);
        if (code < 0 && status != CLMOE_OK) code = session_fail(b->s, status, "clmoe_matmul_pack_enqueue");
        clFinish(b->s->queue);
        clmoe_plan_destroy(&plan);
        session_release(&e->w[i]);
        e->w[i] = packed;
    }
    e->order = CLMOE_W_PACKED;
    return code;
}

int experts_make(struct bench *b, const struct clmoe_matmul_params *product, uint32_t seed,
                 struct experts *e) {
    *e = (struct experts){.order = CLMOE_W_ENK};
    const int64_t rows = product->glu == CLMOE_GLU_NONE ? product->out : 2 * product->out;
    const int64_t bytes = clmoe_dtype_bytes(product->w_dtype, rows * product->in);
    if (bytes <= 0)
        return command_fail(b->s->usage, EXIT_USAGE, "weights of %lld x %lld", (long long)rows,
                            (long long)product->in);
    const int32_t each = experts_per_part(b, product->experts, bytes);
    int code = -1;
    for (int32_t first = 0; first < product->experts && code < 0; first += each) {
        const int32_t left = product->experts - first;
        const int64_t shape[3] = {left < each ? left : each, rows, product->in};
        code = bench_tensor(b, product->w_dtype, 3, shape, seed + (uint32_t)first,
                            (float)(1.0 / sqrt((double)product->in)), &e->w[e->parts]);
        if (code < 0) e->parts++;
    }
    if (code < 0 && clmoe_matmul_wants_packing(b->s->ctx) && clmoe_dtype_bytes(product->w_dtype, 1) > 0)
        code = pack(b, product, e);
    if (code >= 0) experts_free(e);
    return code;
}

void experts_free(struct experts *e) {
    for (int i = 0; i < e->parts; i++)
        session_release(&e->w[i]);
    e->parts = 0;
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void draw_ids(const struct settings *s, struct routing *r) {
    uint32_t state = 20240607u;
    const int k = s->shape.topk, experts = s->shape.experts;
    for (int64_t t = 0; t < s->tokens; t++) {
        int32_t *const row = r->ids + t * k;
        for (int j = 0; j < k;) {
            row[j] = (int32_t)(next_random(&state) % (uint32_t)experts);
            int i = 0;
            while (row[i] != row[j])
                i++;
            j += i == j; /* drawn before: again */
        }
        for (int j = 0; j < k; j++)
            r->active += r->counts[row[j]]++ == 0;
    }
}

static int upload_ids(struct bench *b, const struct settings *s, struct routing *r) {
    const struct array ids = {.dtype = ARRAY_I32,
                              .ndim = 2,
                              .shape = {s->tokens, s->shape.topk},
                              .data = r->ids,
                              .bytes = (size_t)(s->tokens * s->shape.topk) * sizeof *r->ids};
    const int64_t experts = s->shape.experts, offsets = experts + 1, pairs = s->tokens * s->shape.topk;
    int code = session_upload(b->s, &ids, &r->d_ids);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &experts, &r->d_counts);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &offsets, &r->d_offsets);
    if (code < 0) code = session_buffer(b->s, CLMOE_I32, 1, &pairs, &r->d_order);
    if (code < 0) code = bench_tensor(b, CLMOE_F32, 2, ids.shape, 7, 1.0f, &r->d_gamma);
    return code;
}

static int sort_pairs(struct bench *b, const struct settings *s, struct routing *r) {
    const struct clmoe_permute_params params = {
        .max_tokens = s->tokens, .topk = s->shape.topk, .experts = s->shape.experts};
    const struct clmoe_permute_args args = {
        .ids = r->d_ids, .counts = r->d_counts, .offsets = r->d_offsets, .order = r->d_order};
    clmoe_plan *plan;
    enum clmoe_status status = clmoe_permute_plan(b->s->ctx, &params, &plan);
    if (status == CLMOE_OK) status = clmoe_permute_enqueue(plan, b->s->queue, &args, 0, NULL, NULL);
    clFinish(b->s->queue);
    clmoe_plan_destroy(&plan);
    return status == CLMOE_OK ? -1 : session_fail(b->s, status, "clmoe_permute");
}

int routing_make(struct bench *b, const struct settings *s, struct routing *r) {
    *r = (struct routing){0};
    r->ids = calloc((size_t)(s->tokens * s->shape.topk), sizeof *r->ids);
    r->counts = calloc((size_t)s->shape.experts, sizeof *r->counts);
    int code = r->ids && r->counts ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) {
        draw_ids(s, r);
        code = upload_ids(b, s, r);
    }
    if (code < 0) code = sort_pairs(b, s, r);
    if (code >= 0) routing_free(r);
    return code;
}

void routing_free(struct routing *r) {
    free(r->ids);
    free(r->counts);
    session_release(&r->d_ids);
    session_release(&r->d_counts);
    session_release(&r->d_offsets);
    session_release(&r->d_order);
    session_release(&r->d_gamma);
    *r = (struct routing){0};
}

bool routing_is_few(const struct settings *s) {
    const int64_t pairs = s->tokens * s->shape.topk;
    return pairs <= s->shape.experts || pairs <= 8;
}
