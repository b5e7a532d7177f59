/* SPDX-License-Identifier: MIT */
#include "weights.h"
#include "place.h"

#include <math.h>
#include <stdlib.h>

static void free_arrays(struct array *arrays, int64_t n) {
    for (int64_t i = 0; arrays && i < n; i++)
        array_free(&arrays[i]);
}

/* A weight as fp32. */
static cl_mem upload_f32(const struct device *device, const struct model *m, int64_t layer, const char *name,
                         struct io_error *err) {
    struct array array, wide = {0};
    if (!model_array(m, layer, -1, name, &array, err)) return NULL;
    cl_mem mem = NULL;
    if (array_to_f32(name, &array, &wide, err)) mem = device_buffer(device, wide.bytes, wide.data, err);
    array_free(&wide);
    array_free(&array);
    return mem;
}

static bool upload_dense(const struct model *m, int64_t layer, const struct dense *dense, int n,
                         const char *const *names, struct clmoe_tensor *out, struct io_error *err) {
    struct array arrays[3] = {{0}};
    bool ok = true;
    for (int i = 0; i < n && ok; i++)
        ok = model_array(m, layer, -1, names[i], &arrays[i], err);
    if (ok) ok = dense_weights(dense, n, arrays, out, err);
    free_arrays(arrays, n);
    return ok;
}

/* Both products of a layer's experts: `parts` of w1 and w3, or of w2 alone, in the order of the experts. */
static bool upload_experts(const struct device *device, const struct model *m,
                           const struct quant_format *format, int64_t layer, int parts,
                           const char *const *names, const struct clmoe_matmul_params *params,
                           struct quantised *out, struct io_error *err) {
    const int64_t n = m->experts * parts;
    struct array *const arrays = calloc((size_t)n, sizeof *arrays);
    bool ok = arrays || io_fail(err, "weights", "out of memory");
    for (int64_t i = 0; i < n && ok; i++)
        ok = model_array(m, layer, i / parts, names[i % parts], &arrays[i], err);
    struct clmoe_matmul_params plain = *params;
    plain.w_order = CLMOE_W_ENK;
    if (ok)
        ok = format ? quantise_weights(device, params, n, arrays, out, err)
                    : place_weights(device, &plain, n, arrays, &out->w, err);
    free_arrays(arrays, n);
    free(arrays);
    return ok;
}

void weights_experts(const struct device *device, const struct model *m, const struct quant_format *format,
                     struct clmoe_matmul_params *up, struct clmoe_matmul_params *down) {
    *up = (struct clmoe_matmul_params){.topk = 1,
                                       .experts = (int32_t)m->experts,
                                       .in = m->hidden,
                                       .out = m->inter,
                                       .w_dtype = place_dtype(m->dtype),
                                       .w_order = place_order(device),
                                       .glu = CLMOE_GLU_GATE_UP};
    *down = *up;
    down->in = m->inter;
    down->out = m->hidden;
    down->glu = CLMOE_GLU_NONE;
    if (format) quant_params(format, up), quant_params(format, down);
}

static bool upload_layer(const struct device *device, const struct model *m,
                         const struct quant_format *format, const struct products *products, int64_t l,
                         struct layer_weights *w, struct io_error *err) {
    static const char *const qkv[] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                      "self_attn.v_proj.weight"};
    static const char *const o[] = {"self_attn.o_proj.weight"}, *const w13[] = {"w1", "w3"},
                             *const w2[] = {"w2"};
    struct clmoe_matmul_params up, down;
    weights_experts(device, m, format, &up, &down);
    return (w->input_norm = upload_f32(device, m, l, "input_layernorm.weight", err)) &&
           (w->moe_norm = upload_f32(device, m, l, "post_attention_layernorm.weight", err)) &&
           (w->router = upload_f32(device, m, l, "block_sparse_moe.gate.weight", err)) &&
           upload_dense(m, l, products->qkv, 3, qkv, &w->qkv, err) &&
           upload_dense(m, l, products->o, 1, o, &w->o, err) &&
           upload_experts(device, m, format, l, 2, w13, &up, &w->w1, err) &&
           upload_experts(device, m, format, l, 1, w2, &down, &w->w2, err);
}

/* In double, as the angle of a late position has few bits left in fp32. */
static cl_mem upload_turns(const struct device *device, const struct model *m, struct io_error *err) {
    const int64_t pairs = m->head_dim / 2, n = m->context * pairs;
    float *const turns = malloc((size_t)n * 2 * sizeof *turns);
    if (!turns) {
        io_error_set(err, "weights", "out of memory");
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        const double rate = pow(m->theta, -(double)(i % pairs) * 2 / (double)m->head_dim);
        const double angle = (double)(i / pairs) * rate;
        turns[2 * i] = (float)cos(angle);
        turns[2 * i + 1] = (float)sin(angle);
    }
    const cl_mem mem = device_buffer(device, (size_t)n * 2 * sizeof *turns, turns, err);
    free(turns);
    return mem;
}

bool weights_create(const struct device *device, const struct model *m, const struct quant_format *format,
                    const struct products *products, struct weights *w, struct io_error *err) {
    static const char embedding[] = "model.embed_tokens.weight";
    const char *const head[] = {m->tied ? embedding : "lm_head.weight"};
    *w = (struct weights){.layers = calloc((size_t)m->layers, sizeof *w->layers)};
    if (!w->layers) return io_fail(err, "weights", "out of memory");
    w->n_layers = m->layers;
    bool ok = (w->embedding = upload_f32(device, m, -1, embedding, err)) &&
              (w->norm = upload_f32(device, m, -1, "model.norm.weight", err)) &&
              upload_dense(m, -1, products->head, 1, head, &w->head, err) &&
              (w->turns = upload_turns(device, m, err));
    for (int64_t l = 0; l < m->layers && ok; l++)
        ok = upload_layer(device, m, format, products, l, &w->layers[l], err);
    return ok;
}

void weights_destroy(struct weights *w) {
    for (int64_t l = 0; l < w->n_layers; l++) {
        struct layer_weights *const layer = &w->layers[l];
        cl_mem *const all[] = {&layer->input_norm, &layer->moe_norm, &layer->router, &layer->qkv.mem,
                               &layer->o.mem};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            device_release(all[i]);
        quantised_release(&layer->w1);
        quantised_release(&layer->w2);
    }
    device_release(&w->embedding);
    device_release(&w->norm);
    device_release(&w->head.mem);
    device_release(&w->turns);
    free(w->layers);
    *w = (struct weights){0};
}
