/* SPDX-License-Identifier: MIT */
#include "forward.h"
#include "place.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

struct forward {
    const struct device *device;
    const struct model *model;
    int64_t sequences, max_rows;
    struct clmoe_matmul_params up, down; /* of the experts */
    struct kernels kernels;
    struct products products;
    struct weights weights;
    clmoe_plan *moe_one, *moe; /* for a row alone, as when text is written, and for any number */
    uint8_t *staging;          /* what `tokens` is written from without waiting */
    cl_mem tokens;             /* [max_rows] u8 */
    cl_mem x, normed;          /* [max_rows, hidden] */
    cl_mem branch;             /* [max_rows, hidden]: what attention adds to x */
    cl_mem qkv;                /* [max_rows, heads + 2 kv_heads, head_dim] */
    cl_mem mixed;              /* [max_rows, heads, head_dim] */
    cl_mem logits;             /* [max_rows, vocab] */
    cl_mem bits;               /* [max_rows] */
    cl_mem ids, gamma;         /* [layers, max_rows, topk] */
    cl_mem counts;             /* [layers, experts] u32 */
    cl_mem *keys, *values;     /* of each layer: see rope.cl */
};

/* The rows of one pass: `sequences` texts, each at positions start..start+length-1. */
struct pass {
    int64_t rows, length, start;
};

static bool create_products(struct forward *f, struct io_error *err) {
    const struct model *const m = f->model;
    const int64_t q = m->heads * m->head_dim, qkv = q + 2 * m->kv_heads * m->head_dim;
    struct products *const p = &f->products;
    return (p->qkv = dense_create(f->device, m->hidden, qkv, f->max_rows, m->dtype, err)) &&
           (p->o = dense_create(f->device, q, m->hidden, f->max_rows, m->dtype, err)) &&
           (p->head = dense_create(f->device, m->hidden, MODEL_VOCAB, f->max_rows, m->dtype, err));
}

static bool plan_moe(struct forward *f, int64_t rows, clmoe_plan **plan, struct io_error *err) {
    const struct model *const m = f->model;
    const struct clmoe_moe_params params = {
        .max_tokens = rows,
        .experts = (int32_t)m->experts,
        .topk = (int32_t)m->topk,
        .hidden = m->hidden,
        .inter = m->inter,
        .w_dtype = f->up.w_dtype,
        .mixed = 1,
        .w2_dtype = f->down.w_dtype,
        .w_scale = f->up.w_scale,
        .route = {.renorm = CLMOE_RENORM_SUM},
        .w_order = f->up.w_order,
        .glu = f->up.glu,
        .act = {.kind = CLMOE_ACT_SILU},
        .residual = 1,
    };
    return device_moe_ok(f->device, clmoe_moe_plan(f->device->ctx, &params, plan), "clmoe_moe_plan", err);
}

static bool create_cache(struct forward *f, struct io_error *err) {
    const struct model *const m = f->model;
    const size_t bytes = (size_t)(f->sequences * m->context * m->kv_heads * m->head_dim) * sizeof(float);
    f->keys = calloc((size_t)m->layers, sizeof *f->keys);
    f->values = calloc((size_t)m->layers, sizeof *f->values);
    if (!f->keys || !f->values) return io_fail(err, "forward", "out of memory");
    bool ok = true;
    for (int64_t l = 0; l < m->layers && ok; l++)
        ok = (f->keys[l] = device_buffer(f->device, bytes, NULL, err)) &&
             (f->values[l] = device_buffer(f->device, bytes, NULL, err));
    return ok;
}

static bool zero(struct forward *f, cl_mem mem, int64_t bytes, struct io_error *err) {
    const cl_uchar pattern = 0;
    return device_ok(clEnqueueFillBuffer(f->device->queue, mem, &pattern, 1, 0, (size_t)bytes, 0, NULL, NULL),
                     "clEnqueueFillBuffer", err);
}

/* All zero at first: see dense_run(). */
static bool create_buffers(struct forward *f, struct io_error *err) {
    const struct model *const m = f->model;
    const int64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, r = f->max_rows;
    const int64_t routed = m->layers * r * m->topk;
    const struct {
        cl_mem *mem;
        int64_t elements, size;
    } buffers[] = {
        {&f->tokens, r, 1},
        {&f->x, r * m->hidden, 4},
        {&f->normed, r * m->hidden, 4},
        {&f->branch, r * m->hidden, 4},
        {&f->qkv, r * (q + 2 * kv), 4},
        {&f->mixed, r * q, 4},
        {&f->logits, r * MODEL_VOCAB, 4},
        {&f->bits, r, 4},
        {&f->ids, routed, 4},
        {&f->gamma, routed, 4},
        {&f->counts, m->layers * m->experts, 4},
    };
    f->staging = malloc((size_t)r);
    if (!f->staging) return io_fail(err, "forward", "out of memory");
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        const int64_t bytes = buffers[i].elements * buffers[i].size;
        *buffers[i].mem = device_buffer(f->device, (size_t)bytes, NULL, err);
        if (!*buffers[i].mem || !zero(f, *buffers[i].mem, bytes, err)) return false;
    }
    return true;
}

bool forward_create(const struct device *device, const struct model *model, const struct quant_format *format,
                    int64_t sequences, struct forward **out, struct io_error *err) {
    struct forward *f = *out = calloc(1, sizeof *f);
    if (!f) return io_fail(err, "forward", "out of memory");
    f->device = device;
    f->model = model;
    f->sequences = sequences;
    f->max_rows = sequences * model->context;
    weights_experts(device, model, format, &f->up, &f->down);
    if (kernels_create(device, model->head_dim, &f->kernels, err) && create_products(f, err) &&
        weights_create(device, model, format, &f->products, &f->weights, err) &&
        plan_moe(f, 1, &f->moe_one, err) && plan_moe(f, f->max_rows, &f->moe, err) && create_cache(f, err) &&
        create_buffers(f, err))
        return true;
    forward_destroy(out);
    return false;
}

void forward_destroy(struct forward **out) {
    struct forward *const f = *out;
    if (!f) return;
    clFinish(f->device->queue); /* `staging` may still be read */
    cl_mem *const all[] = {&f->tokens, &f->x,    &f->normed, &f->branch, &f->qkv,   &f->mixed,
                           &f->logits, &f->bits, &f->ids,    &f->gamma,  &f->counts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        device_release(all[i]);
    for (int64_t l = 0; l < f->model->layers; l++) {
        if (f->keys) device_release(&f->keys[l]);
        if (f->values) device_release(&f->values[l]);
    }
    free(f->keys);
    free(f->values);
    free(f->staging);
    clmoe_plan_destroy(&f->moe_one);
    clmoe_plan_destroy(&f->moe);
    weights_destroy(&f->weights);
    dense_destroy(&f->products.qkv);
    dense_destroy(&f->products.o);
    dense_destroy(&f->products.head);
    dense_cleanup();
    kernels_destroy(&f->kernels);
    free(f);
    *out = NULL;
}

static bool embed(struct forward *f, const uint8_t *text, int64_t rows, struct io_error *err) {
    const size_t global[3] = {(size_t)f->model->hidden, (size_t)rows, 1};
    const struct kernel_arg args[] = {KERNEL_ARG(f->tokens), KERNEL_ARG(f->weights.embedding),
                                      KERNEL_ARG(f->x)};
    memcpy(f->staging, text, (size_t)rows);
    const cl_int code = clEnqueueWriteBuffer(f->device->queue, f->tokens, CL_FALSE, 0, (size_t)rows,
                                             f->staging, 0, NULL, NULL);
    return device_ok(code, "clEnqueueWriteBuffer", err) &&
           kernels_run(&f->kernels, KERNEL_EMBED, false, global, 3, args, err);
}

/* `branch`, unless it is NULL, joins x first. */
static bool norm(struct forward *f, int64_t rows, cl_mem branch, cl_mem w, struct io_error *err) {
    const size_t global[3] = {1, (size_t)rows, 1};
    const cl_int has_branch = branch != NULL, hidden = (cl_int)f->model->hidden;
    const cl_float eps = (cl_float)f->model->eps;
    if (!branch) branch = f->x;
    const struct kernel_arg args[] = {KERNEL_ARG(f->x), KERNEL_ARG(branch),    KERNEL_ARG(has_branch),
                                      KERNEL_ARG(w),    KERNEL_ARG(f->normed), KERNEL_ARG(hidden),
                                      KERNEL_ARG(eps)};
    return kernels_run(&f->kernels, KERNEL_NORM, true, global, 7, args, err);
}

static bool rope(struct forward *f, int64_t l, const struct pass *p, struct io_error *err) {
    const struct model *const m = f->model;
    const size_t global[3] = {(size_t)m->head_dim / 2, (size_t)(m->heads + 2 * m->kv_heads), (size_t)p->rows};
    const cl_int heads = (cl_int)m->heads, kv_heads = (cl_int)m->kv_heads, length = (cl_int)p->length;
    const cl_int start = (cl_int)p->start, context = (cl_int)m->context;
    const struct kernel_arg args[] = {
        KERNEL_ARG(f->qkv),  KERNEL_ARG(f->weights.turns), KERNEL_ARG(f->keys[l]), KERNEL_ARG(f->values[l]),
        KERNEL_ARG(heads),   KERNEL_ARG(kv_heads),         KERNEL_ARG(length),     KERNEL_ARG(start),
        KERNEL_ARG(context),
    };
    return kernels_run(&f->kernels, KERNEL_ROPE, false, global, 9, args, err);
}

static bool attention(struct forward *f, int64_t l, const struct pass *p, struct io_error *err) {
    const struct model *const m = f->model;
    const size_t global[3] = {1, (size_t)p->rows, (size_t)m->heads};
    const cl_int heads = (cl_int)m->heads, kv_heads = (cl_int)m->kv_heads, length = (cl_int)p->length;
    const cl_int start = (cl_int)p->start, context = (cl_int)m->context;
    const struct kernel_arg args[] = {
        KERNEL_ARG(f->qkv),
        KERNEL_ARG(f->keys[l]),
        KERNEL_ARG(f->values[l]),
        KERNEL_ARG(f->mixed),
        {(size_t)m->context * sizeof(cl_float), NULL},
        KERNEL_ARG(heads),
        KERNEL_ARG(kv_heads),
        KERNEL_ARG(length),
        KERNEL_ARG(start),
        KERNEL_ARG(context),
    };
    return kernels_run(&f->kernels, KERNEL_ATTENTION, true, global, 10, args, err);
}

static const struct clmoe_tensor *given(const struct clmoe_tensor *t) {
    return t->mem ? t : NULL;
}

/* x += moe(normed), and the routing kept for forward_routing(). */
static bool experts(struct forward *f, int64_t l, int64_t rows, struct io_error *err) {
    const struct model *const m = f->model;
    const struct layer_weights *const w = &f->weights.layers[l];
    struct clmoe_moe_args args = {
        .x = clmoe_tensor_2d(f->normed, CLMOE_F32, rows, m->hidden),
        .router = clmoe_tensor_2d(w->router, CLMOE_F32, m->experts, m->hidden),
        .w1 = &w->w1.w,
        .w2 = &w->w2.w,
        .w1_scale = given(&w->w1.scale),
        .w2_scale = given(&w->w2.scale),
        .w1_zero = given(&w->w1.zero),
        .w2_zero = given(&w->w2.zero),
        .residual = clmoe_tensor_2d(f->x, CLMOE_F32, rows, m->hidden),
        .out_ids = clmoe_tensor_2d(f->ids, CLMOE_I32, rows, m->topk),
        .out_gamma = clmoe_tensor_2d(f->gamma, CLMOE_F32, rows, m->topk),
        .y = clmoe_tensor_2d(f->x, CLMOE_F32, rows, m->hidden),
    };
    args.out_ids.offset = args.out_gamma.offset = (uint64_t)(l * f->max_rows * m->topk) * 4;
    return device_moe_ok(
        f->device, clmoe_moe_enqueue(rows == 1 ? f->moe_one : f->moe, f->device->queue, &args, 0, NULL, NULL),
        "clmoe_moe_enqueue", err);
}

static bool count(struct forward *f, int64_t rows, struct io_error *err) {
    const struct model *const m = f->model;
    const size_t global[3] = {(size_t)(rows * m->topk), (size_t)m->layers, 1};
    const cl_int n_experts = (cl_int)m->experts, stride = (cl_int)(f->max_rows * m->topk);
    const struct kernel_arg args[] = {KERNEL_ARG(f->ids), KERNEL_ARG(f->counts), KERNEL_ARG(n_experts),
                                      KERNEL_ARG(stride)};
    return kernels_run(&f->kernels, KERNEL_COUNT, false, global, 4, args, err);
}

/* All layers, and the last norm: `normed` holds what the output head takes. */
static bool run_layers(struct forward *f, const uint8_t *text, const struct pass *p, struct io_error *err) {
    bool ok = embed(f, text, p->rows, err);
    for (int64_t l = 0; l < f->model->layers && ok; l++) {
        const struct layer_weights *const w = &f->weights.layers[l];
        ok = norm(f, p->rows, NULL, w->input_norm, err) &&
             dense_run(f->products.qkv, &w->qkv, f->normed, 0, p->rows, f->qkv, err) && rope(f, l, p, err) &&
             attention(f, l, p, err) &&
             dense_run(f->products.o, &w->o, f->mixed, 0, p->rows, f->branch, err) &&
             norm(f, p->rows, f->branch, w->moe_norm, err) && experts(f, l, p->rows, err);
    }
    return ok && norm(f, p->rows, NULL, f->weights.norm, err) && count(f, p->rows, err);
}

static bool read_back(struct forward *f, cl_mem mem, int64_t first, int64_t n, void *out,
                      struct io_error *err) {
    return device_ok(clEnqueueReadBuffer(f->device->queue, mem, CL_TRUE, (size_t)first * 4, (size_t)n * 4,
                                         out, 0, NULL, NULL),
                     "clEnqueueReadBuffer", err);
}

bool forward_next(struct forward *f, const uint8_t *text, int64_t n, int64_t start, float logits[MODEL_VOCAB],
                  struct io_error *err) {
    const struct pass pass = {n, n, start};
    return run_layers(f, text, &pass, err) &&
           dense_run(f->products.head, &f->weights.head, f->normed, n - 1, 1, f->logits, err) &&
           read_back(f, f->logits, 0, MODEL_VOCAB, logits, err);
}

bool forward_surprise(struct forward *f, const uint8_t *text, int64_t sequences, int64_t length, float *bits,
                      struct io_error *err) {
    const struct pass pass = {sequences * length, length, 0};
    const size_t global[3] = {1, (size_t)pass.rows, 1};
    const cl_int vocab = MODEL_VOCAB, window = (cl_int)length;
    const struct kernel_arg args[] = {KERNEL_ARG(f->logits), KERNEL_ARG(f->tokens), KERNEL_ARG(f->bits),
                                      KERNEL_ARG(vocab), KERNEL_ARG(window)};
    return run_layers(f, text, &pass, err) &&
           dense_run(f->products.head, &f->weights.head, f->normed, 0, pass.rows, f->logits, err) &&
           kernels_run(&f->kernels, KERNEL_SURPRISE, true, global, 5, args, err) &&
           read_back(f, f->bits, 0, pass.rows, bits, err);
}

bool forward_routing(struct forward *f, int64_t layer, int64_t row, int32_t *ids, float *gamma,
                     struct io_error *err) {
    const int64_t topk = f->model->topk, first = (layer * f->max_rows + row) * topk;
    return read_back(f, f->ids, first, topk, ids, err) && read_back(f, f->gamma, first, topk, gamma, err);
}

double forward_expert_bits(const struct forward *f) {
    /* Two thirds of an expert's weights are in w1. */
    return (2 * quant_bits(&f->up) + quant_bits(&f->down)) / 3;
}

bool forward_counts(struct forward *f, uint32_t *counts, struct io_error *err) {
    return read_back(f, f->counts, 0, f->model->layers * f->model->experts, counts, err);
}

bool forward_forget_counts(struct forward *f, struct io_error *err) {
    return zero(f, f->counts, f->model->layers * f->model->experts * (int64_t)sizeof(cl_uint), err);
}
