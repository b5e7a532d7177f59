/* SPDX-License-Identifier: MIT */
#include "quantise.h"
#include "place.h"

#define WORD 8 /* numbers of 4 bits in a word */

struct quant_format {
    const char *name;
    enum clmoe_dtype dtype;
    enum clmoe_dtype narrow; /* K formats: of rows that blocks of 256 do not divide; others: the same */
    int64_t block;           /* elements that `narrow` comes in, and words */
    struct clmoe_w_scale scale;
};

const struct quant_format *quant_format(enum quant_choice choice) {
    static const struct quant_format formats[] = {
        [QUANT_Q8_0] = {"q8_0", CLMOE_Q8_0, CLMOE_Q8_0, 32},
        [QUANT_Q6_K] = {"q6_k", CLMOE_Q6_K, CLMOE_Q8_0, 32},
        [QUANT_Q5_K] = {"q5_k", CLMOE_Q5_K, CLMOE_Q8_0, 32},
        [QUANT_Q5_0] = {"q5_0", CLMOE_Q5_0, CLMOE_Q5_0, 32},
        [QUANT_Q4_K] = {"q4_k", CLMOE_Q4_K, CLMOE_Q5_0, 32},
        [QUANT_Q4_0] = {"q4_0", CLMOE_Q4_0, CLMOE_Q4_0, 32},
        [QUANT_MXFP4] = {"mxfp4", CLMOE_MXFP4, CLMOE_MXFP4, 32},
        [QUANT_FP8] = {"fp8", CLMOE_F8_E4M3, CLMOE_F8_E4M3, 1, {CLMOE_F32, 128, 128}},
        [QUANT_INT8] = {"int8", CLMOE_I8, CLMOE_I8, 1, {CLMOE_F32, 1}},
        [QUANT_INT4] = {"int4", CLMOE_I32, CLMOE_I32, WORD, {CLMOE_F16, 1, 32, CLMOE_ZERO_GIVEN}},
    };
    return &formats[choice];
}

static bool is_k(const struct quant_format *f) {
    return f->dtype != f->narrow;
}

bool quant_fits(const struct quant_format *f, int64_t hidden, int64_t inter, struct io_error *err) {
    const int64_t odd = hidden % f->block ? hidden : inter;
    return odd % f->block == 0 || io_fail(err, f->name, "%lld numbers are no whole blocks of %lld",
                                          (long long)odd, (long long)f->block);
}

void quant_params(const struct quant_format *f, struct clmoe_matmul_params *p) {
    p->w_dtype = is_k(f) && p->in % 256 ? f->narrow : f->dtype;
    p->w_scale = f->scale;
    p->w_order = f->dtype == CLMOE_I32 ? CLMOE_W_AWQ : CLMOE_W_ENK;
}

void quantised_release(struct quantised *q) {
    device_release(&q->w.mem);
    device_release(&q->scale.mem);
    device_release(&q->zero.mem);
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t expert_rows(const struct clmoe_matmul_params *p) {
    return p->out * (p->glu ? 2 : 1);
}

static int64_t scale_columns(const struct clmoe_matmul_params *p) {
    return p->w_scale.columns ? p->w_scale.columns : p->in;
}

double quant_bits(const struct clmoe_matmul_params *p) {
    const int64_t rows = expert_rows(p), weights = rows * p->in;
    if (!p->w_scale.rows) return (double)clmoe_dtype_bytes(p->w_dtype, weights) * 8 / (double)weights;
    const int64_t scales = ceil_div(rows, p->w_scale.rows) * ceil_div(p->in, scale_columns(p));
    const bool words = p->w_dtype == CLMOE_I32;
    const double bits = words ? 4 : 8, zero = words ? 4 : 0;
    const double scale = 8 * (double)clmoe_dtype_bytes(p->w_scale.dtype, 1);
    return bits + (scale + zero) * (double)scales / (double)weights;
}

/* Bytes of a stack divided by `parts`. */
static size_t bytes_of(const struct clmoe_tensor *t, int64_t parts) {
    return (size_t)clmoe_dtype_bytes(t->dtype, t->shape[0] * t->shape[1] * t->shape[2] / parts);
}

/* One expert of a stack. */
static struct clmoe_tensor expert_of(const struct clmoe_tensor *t, int64_t e) {
    struct clmoe_tensor one = clmoe_tensor_2d(t->mem, t->dtype, t->shape[1], t->shape[2]);
    one.offset = (uint64_t)e * bytes_of(t, t->shape[0]);
    return one;
}

/* What the product reads, [E, ...], without memory. */
static struct quantised shapes_of(const struct clmoe_matmul_params *p) {
    const struct clmoe_w_scale *const s = &p->w_scale;
    const int64_t e = p->experts, rows = expert_rows(p), groups = ceil_div(p->in, scale_columns(p));
    struct quantised q = {.w = clmoe_tensor_3d(NULL, p->w_dtype, e, rows, p->in)};
    if (p->w_dtype == CLMOE_I32) {
        q.w = clmoe_tensor_3d(NULL, p->w_dtype, e, p->in, rows / WORD);
        q.scale = clmoe_tensor_3d(NULL, s->dtype, e, groups, rows);
        q.zero = clmoe_tensor_3d(NULL, CLMOE_I32, e, groups, rows / WORD);
    } else if (s->rows) {
        q.scale = clmoe_tensor_3d(NULL, s->dtype, e, ceil_div(rows, s->rows), groups);
    }
    return q;
}

static bool allocate(const struct device *device, struct clmoe_tensor *t, struct io_error *err) {
    return !t->ndim || (t->mem = device_buffer(device, bytes_of(t, 1), NULL, err));
}

static bool pack_experts(const struct device *device, clmoe_plan *plan, const struct clmoe_tensor *x,
                         const struct quantised *q, struct io_error *err) {
    bool ok = true;
    for (int64_t e = 0; e < x->shape[0] && ok; e++) {
        struct clmoe_quant_args args = {.x = expert_of(x, e), .q = expert_of(&q->w, e)};
        if (q->scale.ndim) args.scale = expert_of(&q->scale, e);
        if (q->zero.ndim) args.zero = expert_of(&q->zero, e);
        ok = device_moe_ok(device, clmoe_quant_enqueue(plan, device->queue, &args, 0, NULL, NULL),
                           "clmoe_quant_enqueue", err);
    }
    return ok;
}

bool quantise_weights(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                      const struct array *arrays, struct quantised *q, struct io_error *err) {
    struct clmoe_matmul_params plain = *params;
    plain.w_dtype = place_dtype(arrays[0].dtype);
    const struct clmoe_quant_params pack = {.max_rows = expert_rows(params),
                                            .n = params->in,
                                            .plain = plain.w_dtype,
                                            .block = params->w_dtype,
                                            .order = params->w_order,
                                            .scale = params->w_scale};
    struct clmoe_tensor x = {0};
    clmoe_plan *plan = NULL;
    *q = shapes_of(params);
    bool ok = device_moe_ok(device, clmoe_quant_plan(device->ctx, &pack, &plan), "clmoe_quant_plan", err) &&
              place_rows(device, &plain, n, arrays, &x, err) && allocate(device, &q->w, err) &&
              allocate(device, &q->scale, err) && allocate(device, &q->zero, err) &&
              pack_experts(device, plan, &x, q, err);
    clmoe_plan_destroy(&plan);
    device_release(&x.mem);
    return ok;
}
