/* SPDX-License-Identifier: MIT */
#include "moe_case.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *keep(struct moe_sample *s, void *array) {
    if (!array) abort();
    ck_assert_int_lt(s->n_arrays, 2 * MOE_ARRAYS);
    return s->arrays[s->n_arrays++] = array;
}

static float *floats(struct moe_sample *s, struct rng *rng, enum clmoe_dtype dtype, int64_t n, double size) {
    float *const v = keep(s, calloc((size_t)n + 1, sizeof *v));
    for (int64_t i = 0; i < n; i++)
        v[i] = ref_round(dtype, (float)size * rng_float(rng));
    return v;
}

/* n numbers as blocks, for the caller to free; those that blocks have go to `as`. */
static unsigned char *packed(enum clmoe_dtype dtype, const float *values, int64_t n, float *as) {
    unsigned char *const bytes = malloc((size_t)(n / ref_block_length(dtype) * ref_block_bytes(dtype)) + 1);
    if (!bytes) abort();
    ref_pack(dtype, values, n, bytes);
    ref_unpack(dtype, bytes, n, as);
    return bytes;
}

/* Weights of matrices with `columns` columns: sums of about the size of x. */
static float *weights(struct moe_sample *s, struct rng *rng, enum clmoe_dtype dtype, int64_t rows,
                      int64_t columns) {
    const bool coded = ref_is_coded(dtype);
    const int64_t n = rows * columns;
    float *const v = floats(s, rng, coded ? CLMOE_F32 : dtype, n, 1.5 / sqrt((double)columns));
    if (coded) free(packed(dtype, v, n, v));
    return v;
}

static void make_experts(struct moe_sample *s, struct rng *rng) {
    const struct clmoe_moe_params *const p = &s->params;
    struct ref_moe *const m = &s->ref;
    const int64_t e = moe_held(p), z = p->latent ? p->latent : p->hidden, n = p->inter;
    const bool gated = p->glu != CLMOE_GLU_NONE;
    m->gate = weights(s, rng, p->w_dtype, e * n, z);
    if (gated) m->up = weights(s, rng, p->w_dtype, e * n, z);
    m->w2 = weights(s, rng, p->w_dtype, e * z, n);
    if (p->bias1) m->bias_gate = floats(s, rng, p->bias_dtype, e * n, 1);
    if (p->bias1 && gated) m->bias_up = floats(s, rng, p->bias_dtype, e * n, 1);
    if (p->bias2) m->bias2 = floats(s, rng, p->bias_dtype, e * z, 1);
}

static void make_dense(struct moe_sample *s, struct rng *rng) {
    const struct clmoe_moe_params *const p = &s->params;
    const enum clmoe_dtype dtype = p->dense_dtype;
    struct ref_moe *const m = &s->ref;
    const int64_t h = p->hidden, n = p->shared_experts.inter;
    if (p->latent) m->down = weights(s, rng, dtype, p->latent, h);
    if (p->latent) m->project_up = weights(s, rng, dtype, h, p->latent);
    if (p->residual) m->residual = floats(s, rng, p->x_dtype, s->tokens * h, 1);
    if (p->shared) m->shared = floats(s, rng, p->x_dtype, s->tokens * h, 1);
    if (!n) return;
    m->shared_w_gate = weights(s, rng, dtype, n, h);
    if (p->shared_experts.glu) m->shared_w_up = weights(s, rng, dtype, n, h);
    m->shared_w2 = weights(s, rng, dtype, h, n);
    if (p->shared_experts.gate) m->shared_gate = weights(s, rng, dtype, 1, h);
    m->shared_act = p->shared_experts.act.kind ? p->shared_experts.act : p->act;
}

static void make_adapters(struct moe_sample *s, struct rng *rng) {
    const struct clmoe_moe_params *const p = &s->params;
    const struct clmoe_moe_adapters *const a = &p->adapters;
    struct ref_moe *const m = &s->ref;
    const int64_t v = (int64_t)a->count * moe_held(p), r = a->rank, n = p->inter;
    const int64_t z = p->latent ? p->latent : p->hidden;
    if (!a->count) return;
    m->a_gate = weights(s, rng, a->dtype, v * r, z);
    if (a->glu == CLMOE_GLU_APART) m->a_up = weights(s, rng, a->dtype, v * r, z);
    m->b_gate = weights(s, rng, a->dtype, v * n, r);
    if (a->glu != CLMOE_GLU_NONE) m->b_up = weights(s, rng, a->dtype, v * n, r);
    m->a2 = weights(s, rng, a->dtype, v * r, n);
    m->b2 = weights(s, rng, a->dtype, v * z, r);
    if (a->scale) m->adapter_scale = floats(s, rng, CLMOE_F32, a->count, 1);
    s->adapter_ids = keep(s, calloc((size_t)s->tokens + 1, sizeof *s->adapter_ids));
    /* The last two times six experts are in range again, modulo 2^32. */
    const int32_t none[] = {-1, a->count, INT32_MIN, 715827883};
    for (int64_t t = 0; t < s->tokens; t++)
        s->adapter_ids[t] = (int32_t)rng_below(rng, a->count + 1);
    for (int64_t t = 0; t < s->tokens; t++)
        if (s->adapter_ids[t] == a->count) s->adapter_ids[t] = none[rng_below(rng, 4)];
    m->adapter_ids = s->adapter_ids;
}

int moe_slots(const struct clmoe_moe_params *p) {
    return p->topk + (p->source == CLMOE_MOE_IDS ? 0 : p->route.shared_slots);
}

int moe_held(const struct clmoe_moe_params *p) {
    return p->local_experts ? p->local_experts : p->experts + moe_slots(p) - p->topk;
}

int64_t moe_rows(const struct moe_sample *s) {
    return s->params.unreduced ? s->tokens * moe_slots(&s->params) : s->tokens;
}

/* What routing takes besides logits; every third expert is elsewhere. */
static void make_routing(struct moe_sample *s, struct rng *rng) {
    const struct clmoe_moe_params *const p = &s->params;
    const int slots = moe_slots(p), routed = p->experts + p->route.zero_experts;
    s->gamma = floats(s, rng, CLMOE_F32, s->tokens * slots, 1);
    s->router = weights(s, rng, p->x_dtype, routed, p->hidden);
    s->expert_scale = floats(s, rng, CLMOE_F32, p->experts, 1);
    s->identity = floats(s, rng, CLMOE_F32, s->tokens, 1);
    s->ids = keep(s, calloc((size_t)(s->tokens * slots) + 1, sizeof *s->ids));
    s->given = keep(s, calloc((size_t)(s->tokens * p->topk) + 1, sizeof *s->given));
    s->map = keep(s, calloc((size_t)(p->experts + slots) + 1, sizeof *s->map));
    fill_ids(rng, ROUTING_SKIPS, s->given, s->tokens, p->topk, routed);
    for (int e = 0, local = 0; e < p->experts + p->route.shared_slots; e++)
        s->map[e] = e % 3 == 1 ? -1 : local++;
    s->valid = (int32_t)(s->tokens * 2 / 3);
    s->mask = keep(s, calloc((size_t)s->tokens + 1, 1));
    for (int64_t t = 0; t < s->tokens; t++)
        s->mask[t] = t % 4 != 1;
}

struct moe_sample *moe_sample_make(struct rng *rng, const struct clmoe_moe_params *p, int64_t tokens,
                                   enum routing_fill fill) {
    struct moe_sample *const s = calloc(1, sizeof *s);
    const int64_t pairs = tokens * moe_slots(p);
    if (!s) abort();
    s->params = *p;
    s->tokens = tokens;
    s->x = floats(s, rng, p->x_dtype, tokens * p->hidden, 1);
    make_routing(s, rng);
    fill_ids(rng, fill, s->ids, tokens, moe_slots(p), p->experts);
    s->ref = (struct ref_moe){
        .tokens = tokens,
        .hidden = p->hidden,
        .inter = p->inter,
        .latent = p->latent,
        .k = moe_slots(p),
        .experts = moe_held(p),
        .x = s->x,
        .ids = s->ids,
        .gamma = s->gamma,
        .identity = p->identity && p->source == CLMOE_MOE_IDS ? s->identity : NULL,
        .gamma_input = p->gamma_on_input,
        .act = p->act,
        .shared_inter = p->shared_experts.inter,
        .adapters = p->adapters.count,
        .rank = p->adapters.rank,
        .out_scale = p->out_scale == 0 ? 1 : (double)p->out_scale,
        .sum_scale = p->sum_scale == 0 ? 1 : (double)p->sum_scale,
    };
    make_experts(s, rng);
    make_dense(s, rng);
    make_adapters(s, rng);
    s->pairs = keep(s, calloc((size_t)(pairs * p->hidden) + 1, sizeof *s->pairs));
    s->want = keep(s, calloc((size_t)(tokens * p->hidden) + 1, sizeof *s->want));
    s->got = keep(s, calloc((size_t)(moe_rows(s) * p->hidden) + 1, sizeof *s->got));
    moe_upload(rng, s);
    return s;
}

/* ---- on the device ---- */

static struct clmoe_tensor put(struct moe_sample *s, struct guarded g) {
    ck_assert_int_lt(s->n_buffers, MOE_ARRAYS);
    s->buffers[s->n_buffers++] = g;
    return g.tensor;
}

/* [e, rows, columns] or absent. */
static struct clmoe_tensor put_matrices(struct moe_sample *s, struct rng *rng, enum clmoe_dtype dtype,
                                        int64_t e, int64_t rows, int64_t columns, const float *values) {
    if (!values) return (struct clmoe_tensor){0};
    if (ref_is_coded(dtype)) {
        const int64_t n = e * rows * columns, shape[3] = {e, rows, columns};
        float *const same = keep(s, calloc((size_t)n, sizeof *same));
        unsigned char *const bytes = packed(dtype, values, n, same);
        const struct clmoe_tensor blocks = put(s, guarded_bytes(rng, dtype, 3, shape, bytes));
        ck_assert_int_eq(memcmp(same, values, (size_t)n * sizeof *same), 0);
        free(bytes);
        return blocks;
    }
    struct clmoe_tensor t = put(s, guarded_floats(rng, dtype, e * rows, columns, values));
    t.ndim = 3;
    t.shape[0] = e, t.shape[1] = rows, t.shape[2] = columns;
    t.stride[1] = t.stride[0];
    t.stride[0] = rows * t.stride[1], t.stride[2] = 1;
    return t;
}

static struct clmoe_tensor put_matrix(struct moe_sample *s, struct rng *rng, enum clmoe_dtype dtype,
                                      int64_t rows, int64_t columns, const float *values) {
    return values ? put(s, guarded_floats(rng, dtype, rows, columns, values)) : (struct clmoe_tensor){0};
}

static struct clmoe_tensor put_vector(struct moe_sample *s, struct rng *rng, enum clmoe_dtype dtype,
                                      int64_t n, const float *values) {
    if (!values) return (struct clmoe_tensor){0};
    put(s, guarded_floats(rng, dtype, 1, n, values));
    return as_1d(&s->buffers[s->n_buffers - 1]);
}

static struct clmoe_tensor put_ints(struct moe_sample *s, struct rng *rng, int64_t n, const int32_t *values) {
    put(s, guarded_ints(rng, CLMOE_I32, 1, n, values));
    return as_1d(&s->buffers[s->n_buffers - 1]);
}

/* Rows of gate and up [e, n, columns] in one array, as the layout has them; gate alone without up or APART.
 */
static const float *laid_out(struct moe_sample *s, enum clmoe_glu glu, const float *gate, const float *up,
                             int64_t e, int64_t n, int64_t columns) {
    if (!gate || !up || glu == CLMOE_GLU_APART) return gate;
    float *const both = keep(s, calloc((size_t)(2 * e * n * columns) + 1, sizeof *both));
    for (int64_t i = 0; i < e * n; i++) {
        const int64_t base = i / n * 2 * n, row = i % n;
        const int64_t first = base + (glu == CLMOE_GLU_INTERLEAVED ? 2 * row : row);
        const int64_t second = base + (glu == CLMOE_GLU_INTERLEAVED ? 2 * row + 1 : n + row);
        const bool swap = glu == CLMOE_GLU_UP_GATE;
        memcpy(both + first * columns, (swap ? up : gate) + i * columns, (size_t)columns * sizeof *both);
        memcpy(both + second * columns, (swap ? gate : up) + i * columns, (size_t)columns * sizeof *both);
    }
    return both;
}

static int64_t glu_rows(enum clmoe_glu glu, int64_t n) {
    return glu == CLMOE_GLU_NONE || glu == CLMOE_GLU_APART ? n : 2 * n;
}

static void upload_experts(struct rng *rng, struct moe_sample *s) {
    const struct clmoe_moe_params *const p = &s->params;
    const struct ref_moe *const m = &s->ref;
    const int64_t e = moe_held(p), z = p->latent ? p->latent : p->hidden, n = p->inter;
    const bool apart = p->glu == CLMOE_GLU_APART;
    const int64_t rows = glu_rows(p->glu, n);
    s->w1 = put_matrices(s, rng, p->w_dtype, e, rows, z, laid_out(s, p->glu, m->gate, m->up, e, n, z));
    if (apart) s->w1_up = put_matrices(s, rng, p->w_dtype, e, n, z, m->up);
    s->w2 = put_matrices(s, rng, p->w_dtype, e, z, n, m->w2);
    s->args.w1 = &s->w1;
    if (apart) s->args.w1_up = &s->w1_up;
    s->args.w2 = &s->w2;
    s->args.bias1 =
        put_matrix(s, rng, p->bias_dtype, e, rows, laid_out(s, p->glu, m->bias_gate, m->bias_up, e, n, 1));
    if (apart) s->args.bias1_up = put_matrix(s, rng, p->bias_dtype, e, n, m->bias_up);
    s->args.bias2 = put_matrix(s, rng, p->bias_dtype, e, z, m->bias2);
}

static void upload_dense(struct rng *rng, struct moe_sample *s) {
    const struct clmoe_moe_params *const p = &s->params;
    const struct ref_moe *const m = &s->ref;
    const enum clmoe_dtype dtype = p->dense_dtype;
    const enum clmoe_glu glu = p->shared_experts.glu;
    const int64_t h = p->hidden, n = m->shared_inter;
    struct clmoe_moe_args *const a = &s->args;
    a->down = put_matrix(s, rng, dtype, p->latent, h, m->down);
    a->up = put_matrix(s, rng, dtype, h, p->latent, m->project_up);
    a->shared_w1 = put_matrix(s, rng, dtype, glu_rows(glu, n), h,
                              laid_out(s, glu, m->shared_w_gate, m->shared_w_up, 1, n, h));
    if (glu == CLMOE_GLU_APART) a->shared_w1_up = put_matrix(s, rng, dtype, n, h, m->shared_w_up);
    a->shared_w2 = put_matrix(s, rng, dtype, h, n, m->shared_w2);
    a->shared_gate = put_matrix(s, rng, dtype, 1, h, m->shared_gate);
    a->residual = put_matrix(s, rng, p->x_dtype, s->tokens, h, m->residual);
    a->shared = put_matrix(s, rng, p->x_dtype, s->tokens, h, m->shared);
}

static void upload_adapters(struct rng *rng, struct moe_sample *s) {
    const struct clmoe_moe_adapters *const p = &s->params.adapters;
    const struct ref_moe *const m = &s->ref;
    const int64_t v = (int64_t)p->count * moe_held(&s->params), r = p->rank, n = s->params.inter;
    const int64_t z = s->params.latent ? s->params.latent : s->params.hidden;
    const bool apart = p->glu == CLMOE_GLU_APART;
    struct clmoe_moe_args *const a = &s->args;
    if (!p->count) return;
    a->a1 = put_matrices(s, rng, p->dtype, v, r, z, m->a_gate);
    a->a1_up = put_matrices(s, rng, p->dtype, v, r, z, m->a_up);
    a->b1 = put_matrices(s, rng, p->dtype, v, glu_rows(p->glu, n), r,
                         laid_out(s, p->glu, m->b_gate, m->b_up, v, n, r));
    if (apart) a->b1_up = put_matrices(s, rng, p->dtype, v, n, r, m->b_up);
    a->a2 = put_matrices(s, rng, p->dtype, v, r, n, m->a2);
    a->b2 = put_matrices(s, rng, p->dtype, v, z, r, m->b2);
    a->adapter_scale = put_vector(s, rng, CLMOE_F32, p->count, m->adapter_scale);
    a->adapter_ids = put_ints(s, rng, s->tokens, s->adapter_ids);
}

static void upload_routing(struct rng *rng, struct moe_sample *s) {
    const struct clmoe_moe_params *const p = &s->params;
    const struct clmoe_route_params *const r = &p->route;
    const int64_t t = s->tokens, routed = p->experts + r->zero_experts;
    struct clmoe_moe_args *const a = &s->args;
    if (p->source == CLMOE_MOE_IDS) {
        if (p->identity) a->identity_gamma = put_vector(s, rng, CLMOE_F32, t, s->identity);
        return;
    }
    a->router = put_matrix(s, rng, p->x_dtype, routed, p->hidden, s->router);
    if (r->select == CLMOE_SELECT_GIVEN)
        a->given = put(s, guarded_ints(rng, CLMOE_I32, t, p->topk, s->given));
    if (r->expert_scale) a->expert_scale = put_vector(s, rng, CLMOE_F32, p->experts, s->expert_scale);
    if (r->expert_map) a->expert_map = put_ints(s, rng, p->experts + r->shared_slots, s->map);
    if (r->valid_tokens) a->valid_tokens = put_ints(s, rng, 1, &s->valid);
    if (!r->token_mask) return;
    put(s, guarded_ints(rng, CLMOE_U8, 1, t, s->mask));
    a->token_mask = as_1d(&s->buffers[s->n_buffers - 1]);
}

static void release(struct moe_sample *s) {
    for (int i = 0; i < s->n_buffers; i++)
        guarded_free(&s->buffers[i]);
    guarded_free(&s->y);
    s->n_buffers = 0;
}

void moe_upload(struct rng *rng, struct moe_sample *s) {
    const struct clmoe_moe_params *const p = &s->params;
    const bool given = p->source == CLMOE_MOE_IDS;
    const int64_t t = s->tokens;
    release(s);
    s->args = (struct clmoe_moe_args){0};
    s->args.x = put_matrix(s, rng, p->x_dtype, t, p->hidden, s->x);
    *(given ? &s->args.ids : &s->args.out_ids) =
        put(s, guarded_ints(rng, CLMOE_I32, t, moe_slots(p), given ? s->ids : NULL));
    *(given ? &s->args.gamma : &s->args.out_gamma) =
        put(s, guarded_floats(rng, CLMOE_F32, t, moe_slots(p), given ? s->gamma : NULL));
    upload_routing(rng, s);
    upload_experts(rng, s);
    upload_dense(rng, s);
    upload_adapters(rng, s);
    s->y = guarded_floats(rng, p->x_dtype, moe_rows(s), p->hidden, NULL);
    s->args.y = s->y.tensor;
}

static void read_routing(struct moe_sample *s) {
    for (int i = 0; i < s->n_buffers; i++) {
        if (s->buffers[i].mem == s->args.out_ids.mem) guarded_read(&s->buffers[i], s->ids);
        if (s->buffers[i].mem == s->args.out_gamma.mem) guarded_read(&s->buffers[i], s->gamma);
    }
}

void moe_run(struct moe_sample *s, clmoe_context *ctx, cl_command_queue queue) {
    clmoe_plan *plan;
    cl_event event = NULL;
    case_ok(clmoe_moe_plan(ctx, &s->params, &plan));
    case_ok(clmoe_moe_enqueue(plan, queue, &s->args, 0, NULL, &event));
    ck_assert_int_eq(clWaitForEvents(1, &event), CL_SUCCESS);
    clReleaseEvent(event);
    guarded_read_floats(&s->y, s->got);
    if (s->params.source != CLMOE_MOE_IDS) read_routing(s);
    clmoe_plan_destroy(&plan);
}

void moe_compare(struct moe_sample *s, double tolerance) {
    const int64_t n = moe_rows(s) * s->params.hidden;
    ref_moe(&s->ref, s->pairs, s->want);
    const double *const want = s->params.unreduced ? s->pairs : s->want;
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs(want[i]) > largest) largest = fabs(want[i]);
    for (int64_t i = 0; i < n; i++)
        case_require(fabs((double)s->got[i] - want[i]) <= tolerance * largest,
                     "y[%lld, %lld] = %g, expected %g (largest %g)", (long long)(i / s->params.hidden),
                     (long long)(i % s->params.hidden), (double)s->got[i], want[i], largest);
}

void moe_sample_free(struct moe_sample *s) {
    release(s);
    for (int i = 0; i < s->n_arrays; i++)
        free(s->arrays[i]);
    free(s);
}
