/* SPDX-License-Identifier: MIT */
#include "offload_case.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <stdlib.h>
#include <string.h>

static void *room(int64_t n, size_t size) {
    void *const p = calloc((size_t)n + 1, size);
    if (!p) abort();
    return p;
}

/* ---- weights ---- */

static bool is_plain(enum clmoe_dtype dtype) {
    return dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16;
}

/* Weights of about `size`, scales of about 1/100, and any words. */
static void fill_part(struct rng *rng, enum clmoe_dtype dtype, int64_t n, float size, bool scale,
                      unsigned char *bytes) {
    const int64_t all = clmoe_dtype_bytes(dtype, n);
    for (int64_t i = 0; i < all; i++)
        bytes[i] = (unsigned char)rng_u32(rng);
    if (is_plain(dtype))
        for (int64_t i = 0; i < n; i++)
            ref_store(dtype, bytes, i,
                      scale ? 0.01f * (float)(1 + rng_below(rng, 3)) : size * rng_float(rng));
    else if (scale)
        for (int64_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)(118 + bytes[i] % 4);
    else if (ref_is_coded(dtype))
        for (int64_t at = 0; at < all; at += ref_block_bytes(dtype))
            ref_tame_block(dtype, bytes + at, ref_is_scaled(dtype) ? 1 : size);
}

static void add_part(struct offload_case *c, struct rng *rng, enum offload_part part, enum clmoe_dtype dtype,
                     int ndim, const int64_t *shape) {
    const int64_t e = c->params.experts;
    const bool scale = part >= PART_W1_SCALE && part <= PART_W2_SCALE;
    int64_t dims[4] = {e}, n = 1;
    for (int d = 0; d < ndim; d++)
        n *= dims[d + 1] = shape[d];
    const int64_t bytes = clmoe_dtype_bytes(dtype, n);
    case_require(bytes > 0, "%lld elements of %s", (long long)n, clmoe_dtype_name(dtype));
    c->parts[part].bytes = room(e * bytes, 1);
    fill_part(rng, dtype, e * n, 0.1f, scale, c->parts[part].bytes);
    c->parts[part].of_expert = room(e, sizeof(void *));
    for (int64_t i = 0; i < e; i++)
        c->parts[part].of_expert[i] = c->parts[part].bytes + i * bytes;
    c->parts[part].on_device = guarded_bytes(rng, dtype, ndim + 1, dims, c->parts[part].bytes);
    c->expert_bytes += (uint64_t)bytes;
}

static int64_t ceil_to(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit;
}

/* One product's arrays, as struct clmoe_w_scale and the orders of weights say. */
static void add_product(struct offload_case *c, struct rng *rng, enum offload_part w, enum offload_part scale,
                        enum offload_part zero, enum clmoe_dtype dtype, enum clmoe_glu glu, int64_t out,
                        int64_t in) {
    const struct clmoe_moe_params *const p = &c->params;
    const int64_t rows = glu == CLMOE_GLU_NONE || glu == CLMOE_GLU_APART ? out : 2 * out;
    const bool words = p->w_order == CLMOE_W_AWQ || p->w_order == CLMOE_W_GPTQ;
    int64_t shape[3] = {rows, in};
    if (p->w_order == CLMOE_W_EKN) shape[0] = in, shape[1] = rows;
    if (p->w_order == CLMOE_W_AWQ) shape[0] = in, shape[1] = rows / 8;
    if (p->w_order == CLMOE_W_GPTQ) shape[0] = in / 8, shape[1] = rows;
    if (p->w_order == CLMOE_W_PACKED) shape[0] = ceil_to(out, glu ? 16 : 32), shape[1] = in, shape[2] = 32;
    add_part(c, rng, w, dtype, p->w_order == CLMOE_W_PACKED ? 3 : 2, shape);
    if (!words && !ref_is_scaled(dtype)) return;
    const struct clmoe_w_scale *const s = &p->w_scale;
    const int64_t columns = s->columns ? s->columns : in, per = s->rows && s->rows < rows ? s->rows : rows;
    const int64_t groups = ceil_to(in, columns), scales[2] = {ceil_to(rows, per), groups};
    const int64_t turned[2] = {groups, rows}, zeros[2] = {groups, rows / 8};
    add_part(c, rng, scale, s->dtype, 2, words ? turned : scales);
    if (words && s->zero != CLMOE_ZERO_EIGHT) add_part(c, rng, zero, CLMOE_I32, 2, zeros);
}

static void add_experts(struct offload_case *c, struct rng *rng) {
    const struct clmoe_moe_params *const p = &c->params;
    const int64_t in = p->latent ? p->latent : p->hidden, n = p->inter;
    const bool apart = p->glu == CLMOE_GLU_APART;
    const enum clmoe_glu glu = apart && p->w_order != CLMOE_W_PACKED ? CLMOE_GLU_NONE : p->glu;
    const int64_t rows1 = apart || !p->glu ? n : 2 * n;
    add_product(c, rng, PART_W1, PART_W1_SCALE, PART_W1_ZERO, p->w_dtype, glu, n, in);
    if (apart && p->w_order != CLMOE_W_PACKED)
        add_product(c, rng, PART_W1_UP, PART_W1_SCALE_UP, PART_W1_ZERO_UP, p->w_dtype, glu, n, in);
    add_product(c, rng, PART_W2, PART_W2_SCALE, PART_W2_ZERO, p->mixed ? p->w2_dtype : p->w_dtype,
                CLMOE_GLU_NONE, in, n);
    if (p->bias1) add_part(c, rng, PART_BIAS1, p->bias_dtype, 1, &rows1);
    if (p->bias1 && apart) add_part(c, rng, PART_BIAS1_UP, p->bias_dtype, 1, &n);
    if (p->bias2) add_part(c, rng, PART_BIAS2, p->bias_dtype, 1, &in);
}

/* ---- the rest of a layer ---- */

static struct guarded random_matrix(struct offload_case *c, struct rng *rng, enum clmoe_dtype dtype,
                                    int64_t rows, int64_t n) {
    c->numbers = realloc(c->numbers, (size_t)(rows * n + 1) * sizeof *c->numbers);
    if (!c->numbers) abort();
    for (int64_t i = 0; i < rows * n; i++)
        c->numbers[i] = rng_float(rng);
    return guarded_floats(rng, dtype, rows, n, c->numbers);
}

static int64_t y_rows(const struct offload_case *c) {
    return c->params.unreduced ? c->tokens * c->params.topk : c->tokens;
}

struct offload_case *offload_case_make(struct rng *rng, const struct clmoe_moe_params *p, int64_t tokens) {
    struct offload_case *const c = room(1, sizeof *c);
    const int64_t s = p->shared_experts.inter;
    c->params = *p;
    c->tokens = tokens;
    add_experts(c, rng);
    c->x = random_matrix(c, rng, p->x_dtype, tokens, p->hidden);
    c->router = random_matrix(c, rng, p->x_dtype, p->experts, p->hidden);
    c->gamma = random_matrix(c, rng, CLMOE_F32, tokens, p->topk);
    c->residual = random_matrix(c, rng, p->x_dtype, tokens, p->hidden);
    if (p->latent) {
        c->dense[0] = random_matrix(c, rng, p->dense_dtype, p->latent, p->hidden);
        c->dense[1] = random_matrix(c, rng, p->dense_dtype, p->hidden, p->latent);
    }
    if (s) {
        c->dense[2] = random_matrix(c, rng, p->dense_dtype, s, p->hidden);
        c->dense[3] = random_matrix(c, rng, p->dense_dtype, p->hidden, s);
    }
    c->routing = room(tokens * p->topk, sizeof *c->routing);
    c->ids = guarded_ints(rng, CLMOE_I32, tokens, p->topk, c->routing);
    c->y = guarded_floats(rng, p->x_dtype, y_rows(c), p->hidden, NULL);
    c->y_bytes = (size_t)clmoe_dtype_bytes(p->x_dtype, y_rows(c) * p->hidden);
    c->want = room((int64_t)c->y_bytes, 1);
    return c;
}

void offload_case_free(struct offload_case *c) {
    for (int i = 0; i < PARTS; i++) {
        free(c->parts[i].bytes), free((void *)c->parts[i].of_expert);
        guarded_free(&c->parts[i].on_device);
    }
    struct guarded *const all[] = {&c->x,        &c->router,   &c->gamma,    &c->ids,      &c->residual,
                                   &c->dense[0], &c->dense[1], &c->dense[2], &c->dense[3], &c->y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guarded_free(all[i]);
    free(c->numbers), free(c->routing), free(c->want);
    free(c);
}

/* Expert 0 half of the time, else expert 1 half of the time, and so on. */
static int32_t zipf(struct rng *rng, int experts) {
    int32_t e = 0;
    while (e < experts - 1 && rng_below(rng, 2))
        e++;
    return e;
}

void offload_case_route(struct rng *rng, struct offload_case *c, enum offload_routing kind) {
    const int k = c->params.topk, experts = c->params.experts;
    const enum routing_fill fill = kind == OFFLOAD_ONE     ? ROUTING_ONE_EXPERT
                                   : kind == OFFLOAD_SKIPS ? ROUTING_SKIPS
                                                           : ROUTING_RANDOM;
    fill_ids(rng, fill, c->routing, c->tokens, k, experts);
    for (int64_t i = 0; i < c->tokens * k; i++) {
        if (kind == OFFLOAD_ZIPF) c->routing[i] = zipf(rng, experts);
        if (kind == OFFLOAD_NONE) c->routing[i] = i % 2 ? -1 : experts;
    }
    offload_case_put_ids(rng, c);
}

void offload_case_put_ids(struct rng *rng, struct offload_case *c) {
    guarded_free(&c->ids);
    c->ids = guarded_ints(rng, CLMOE_I32, c->tokens, c->params.topk, c->routing);
}

void offload_case_shuffle(struct rng *rng, struct offload_case *c) {
    guarded_free(&c->x);
    c->x = random_matrix(c, rng, c->params.x_dtype, c->tokens, c->params.hidden);
}

/* ---- calls ---- */

clmoe_plan *offload_case_plan(const struct offload_case *c, clmoe_context *ctx, bool offload) {
    struct clmoe_moe_params params = c->params;
    clmoe_plan *plan;
    params.offload = offload;
    case_ok(clmoe_moe_plan(ctx, &params, &plan));
    return plan;
}

struct clmoe_offload_params offload_case_params(const struct offload_case *c, uint64_t budget) {
    return (struct clmoe_offload_params){
        .budget = budget,
        .w1 = c->parts[PART_W1].of_expert,
        .w1_up = c->parts[PART_W1_UP].of_expert,
        .w2 = c->parts[PART_W2].of_expert,
        .w1_scale = c->parts[PART_W1_SCALE].of_expert,
        .w1_scale_up = c->parts[PART_W1_SCALE_UP].of_expert,
        .w2_scale = c->parts[PART_W2_SCALE].of_expert,
        .w1_zero = c->parts[PART_W1_ZERO].of_expert,
        .w1_zero_up = c->parts[PART_W1_ZERO_UP].of_expert,
        .w2_zero = c->parts[PART_W2_ZERO].of_expert,
        .bias1 = c->parts[PART_BIAS1].of_expert,
        .bias1_up = c->parts[PART_BIAS1_UP].of_expert,
        .bias2 = c->parts[PART_BIAS2].of_expert,
    };
}

clmoe_offload *offload_case_create(const struct offload_case *c, const clmoe_plan *plan, uint64_t budget) {
    const struct clmoe_offload_params params = offload_case_params(c, budget);
    clmoe_offload *offload;
    case_ok(clmoe_offload_create(plan, &params, &offload));
    return offload;
}

static const struct clmoe_tensor *resident(const struct offload_case *c, enum offload_part part) {
    return c->parts[part].bytes ? &c->parts[part].on_device.tensor : NULL;
}

struct clmoe_moe_args offload_case_args(const struct offload_case *c, clmoe_offload *offload) {
    const struct clmoe_moe_params *const p = &c->params;
    struct clmoe_moe_args a = {.x = c->x.tensor, .y = c->y.tensor, .offload = offload};
    if (p->source == CLMOE_MOE_ROUTER) a.router = c->router.tensor;
    if (p->source == CLMOE_MOE_IDS) a.ids = c->ids.tensor, a.gamma = c->gamma.tensor;
    if (p->residual) a.residual = c->residual.tensor;
    if (p->latent) a.down = c->dense[0].tensor, a.up = c->dense[1].tensor;
    if (p->shared_experts.inter) a.shared_w1 = c->dense[2].tensor, a.shared_w2 = c->dense[3].tensor;
    if (offload) return a;
    a.w1 = resident(c, PART_W1);
    a.w1_up = resident(c, PART_W1_UP);
    a.w2 = resident(c, PART_W2);
    a.w1_scale = resident(c, PART_W1_SCALE);
    a.w1_scale_up = resident(c, PART_W1_SCALE_UP);
    a.w2_scale = resident(c, PART_W2_SCALE);
    a.w1_zero = resident(c, PART_W1_ZERO);
    a.w1_zero_up = resident(c, PART_W1_ZERO_UP);
    a.w2_zero = resident(c, PART_W2_ZERO);
    a.bias1 = c->parts[PART_BIAS1].on_device.tensor;
    a.bias1_up = c->parts[PART_BIAS1_UP].on_device.tensor;
    a.bias2 = c->parts[PART_BIAS2].on_device.tensor;
    return a;
}

static void poison(struct offload_case *c) {
    struct rng rng = rng_for(c->y_bytes);
    guarded_free(&c->y);
    c->y = guarded_floats(&rng, c->params.x_dtype, y_rows(c), c->params.hidden, NULL);
}

void offload_case_solve(struct offload_case *c, clmoe_plan *plan) {
    const struct clmoe_moe_args args = offload_case_args(c, NULL);
    case_ok(clmoe_moe_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(&c->y, c->want);
    poison(c);
}

void offload_case_compare(struct offload_case *c) {
    unsigned char *const got = room((int64_t)c->y_bytes, 1);
    guarded_read(&c->y, got);
    for (size_t i = 0; i < c->y_bytes; i++)
        case_require(got[i] == c->want[i], "byte %zu of y is %02x, with all experts on the device %02x", i,
                     (unsigned)got[i], (unsigned)c->want[i]);
    free(got);
    poison(c);
}

int offload_case_wanted(const struct offload_case *c) {
    int n = 0;
    for (int e = 0; e < c->params.experts; e++) {
        bool wanted = false;
        for (int64_t i = 0; i < c->tokens * c->params.topk; i++)
            wanted |= c->routing[i] == e;
        n += wanted;
    }
    return n;
}
