/* SPDX-License-Identifier: MIT */
#include "weights.h"
#include "progress.h"

#include <stdlib.h>

/* What packing needs to know of the product with W1 (gate and up become one) or W2. */
static struct clmoe_matmul_params product(const struct block *b, const struct weights *w, int which,
                                          int32_t experts) {
    const struct matrix *const m = &b->matrices[which];
    const bool glu = which == W1, fused = glu && w->glu != CLMOE_GLU_NONE && w->glu != CLMOE_GLU_APART;
    return (struct clmoe_matmul_params){
        .max_tokens = 1,
        .topk = 1,
        .experts = experts,
        .in = m->columns,
        .out = fused ? m->rows / 2 : m->rows,
        .w_dtype = m->dtype,
        .w_order = w->order,
        .glu = glu ? w->glu : CLMOE_GLU_NONE,
    };
}

/* Bytes of one expert in the largest buffer that it will have a part in. */
static int largest(struct session *s, const struct block *b, const struct weights *w, bool pack,
                   uint64_t *bytes) {
    *bytes = 0;
    for (int m = 0; m < N_MATRICES; m++) {
        if (b->matrices[m].n_sources == 0) continue;
        if (b->matrices[m].bytes > *bytes) *bytes = b->matrices[m].bytes;
        if (!pack || m == W1_UP) continue;
        int64_t shape[4];
        const struct clmoe_matmul_params p = product(b, w, m, 1);
        const enum clmoe_status status = clmoe_matmul_packed_shape(&p, shape);
        if (status != CLMOE_OK) return session_fail(s, status, "packing");
        const int64_t packed = clmoe_dtype_bytes(p.w_dtype, shape[0] * shape[1] * shape[2] * shape[3]);
        if ((uint64_t)packed > *bytes) *bytes = (uint64_t)packed;
    }
    return -1;
}

/* How many experts each buffer holds, and the list of buffers. */
static int split(struct session *s, const struct block *b, int64_t per_buffer, bool pack, struct weights *w,
                 int32_t *each) {
    struct clmoe_device_info info;
    uint64_t bytes;
    clmoe_context_device_info(s->ctx, &info);
    const int code = largest(s, b, w, pack, &bytes);
    if (code >= 0) return code;
    uint64_t fit = info.caps.max_alloc / bytes;
    if (fit == 0)
        return command_fail(s->usage, EXIT_FAILED,
                            "one expert needs a buffer of %llu bytes, the device allows %llu",
                            (unsigned long long)bytes, (unsigned long long)info.caps.max_alloc);
    if (per_buffer && (uint64_t)per_buffer < fit) fit = (uint64_t)per_buffer;
    *each = fit < (uint64_t)b->experts ? (int32_t)fit : b->experts;
    w->n_parts = (b->experts + *each - 1) / *each;
    for (int m = 0; m < N_MATRICES; m++) {
        if (b->matrices[m].n_sources == 0) continue;
        const struct {
            struct clmoe_tensor **list;
            bool wanted;
        } lists[] = {{&w->parts[m], true},
                     {&w->scales[m], b->matrices[m].scale_bytes > 0},
                     {&w->zeros[m], b->matrices[m].zero_bytes > 0}};
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
            if (!lists[i].wanted) continue;
            *lists[i].list = calloc((size_t)w->n_parts, sizeof **lists[i].list);
            if (!*lists[i].list) return command_fail(s->usage, EXIT_FAILED, "out of memory");
        }
    }
    return -1;
}

/* Experts first.. of one matrix, gathered into one buffer. */
static int upload_part(struct session *s, const struct matrix *m, int32_t first, int32_t n,
                       const struct weights *w, struct clmoe_tensor *part) {
    int64_t shape[3] = {n};
    matrix_shape(m, w->order, shape + 1);
    void *const scratch = malloc(m->bytes);
    int code = scratch ? session_buffer(s, m->dtype, 3, shape, part)
                       : command_fail(s->usage, EXIT_FAILED, "out of memory");
    for (int32_t e = 0; e < n && code < 0; e++)
        code = session_write(s, matrix_expert(m, first + e, w->order, scratch), m->bytes,
                             (size_t)e * m->bytes, part);
    free(scratch);
    return code;
}

static int upload_scales(struct session *s, const struct matrix *m, int32_t first, int32_t n,
                         struct clmoe_tensor *part) {
    const int64_t shape[] = {n, m->scale_shape[0], m->scale_shape[1]};
    int code = session_buffer(s, m->scale.dtype, 3, shape, part);
    for (int32_t e = 0; e < n && code < 0; e++)
        code =
            session_write(s, matrix_scales(m, first + e), m->scale_bytes, (size_t)e * m->scale_bytes, part);
    return code;
}

static int upload_zeros(struct session *s, const struct matrix *m, int32_t first, int32_t n,
                        struct clmoe_tensor *part) {
    const int64_t shape[] = {n, m->zero_shape[0], m->zero_shape[1]};
    int code = session_buffer(s, CLMOE_I32, 3, shape, part);
    for (int32_t e = 0; e < n && code < 0; e++)
        code = session_write(s, matrix_zeros(m, first + e), m->zero_bytes, (size_t)e * m->zero_bytes, part);
    return code;
}

/* Replaces a part by its packed form. Part by part, so that both forms of all weights never stand side by
 * side. */
static int pack_part(struct session *s, const struct block *b, const struct weights *w, int which, int32_t i,
                     int32_t n) {
    struct clmoe_tensor *const part = &w->parts[which][i], packed = {0};
    struct clmoe_tensor *const up = which == W1 && w->parts[W1_UP] ? &w->parts[W1_UP][i] : NULL;
    const struct clmoe_matmul_params p = product(b, w, which, n);
    const struct clmoe_matmul_pack_args args = {.w = part, .w_up = up, .n_w = 1, .packed = &packed};
    clmoe_plan *plan = NULL;
    int64_t shape[4];
    enum clmoe_status status = clmoe_matmul_packed_shape(&p, shape);
    int code = status == CLMOE_OK ? session_buffer(s, p.w_dtype, 4, shape, &packed) : -1;
    if (code >= 0) return code;
    if (status == CLMOE_OK) status = clmoe_matmul_pack_plan(s->ctx, &p, &plan);
    if (status == CLMOE_OK) status = clmoe_matmul_pack_enqueue(plan, s->queue, &args, 0, NULL, NULL);
    if (status == CLMOE_OK && clFinish(s->queue) != CL_SUCCESS) status = CLMOE_E_OPENCL;
    clmoe_plan_destroy(&plan);
    if (status != CLMOE_OK) {
        session_release(&packed);
        return session_fail(s, status, "packing");
    }
    session_release(part);
    if (up) session_release(up);
    *part = packed;
    return -1;
}

/* Stacked weights go up as they lie if all have one order. */
static enum clmoe_w_order common_order(const struct block *b) {
    const enum clmoe_w_order order = b->matrices[W1].order;
    for (int m = 0; m < N_MATRICES; m++)
        if (b->matrices[m].n_sources && b->matrices[m].order != order) return CLMOE_W_ENK;
    return order;
}

/* A matrix in blocks becomes f32 on the device. */
static int unpack(struct session *s, const struct matrix *m, const struct clmoe_tensor *blocks,
                  struct clmoe_tensor *tensor) {
    const struct clmoe_quant_params p = {.mode = CLMOE_QUANT_UNPACK,
                                         .max_rows = m->rows,
                                         .n = m->columns,
                                         .plain = tensor->dtype,
                                         .block = m->dtype};
    const struct clmoe_quant_args args = {.x = *tensor, .q = *blocks};
    clmoe_plan *plan = NULL;
    enum clmoe_status status = clmoe_quant_plan(s->ctx, &p, &plan);
    if (status == CLMOE_OK) status = clmoe_quant_enqueue(plan, s->queue, &args, 0, NULL, NULL);
    if (status == CLMOE_OK && clFinish(s->queue) != CL_SUCCESS) status = CLMOE_E_OPENCL;
    clmoe_plan_destroy(&plan);
    return status == CLMOE_OK ? -1 : session_fail(s, status, "unpacking");
}

static int upload_blocks(struct session *s, const struct matrix *m, const int64_t *shape,
                         struct clmoe_tensor *tensor) {
    struct clmoe_tensor blocks = {0};
    int code = session_buffer(s, m->dtype, 2, shape, &blocks);
    if (code < 0) code = session_write(s, matrix_expert(m, 0, m->order, NULL), m->bytes, 0, &blocks);
    if (code < 0) code = session_buffer(s, CLMOE_F32, 2, shape, tensor);
    if (code < 0) code = unpack(s, m, &blocks, tensor);
    session_release(&blocks);
    return code;
}

/* A matrix that every token uses, in the dtype that all of them get. */
static int upload_single(struct session *s, const struct matrix *m, enum clmoe_dtype dtype,
                         struct clmoe_tensor *tensor) {
    const int64_t shape[] = {m->rows, m->columns};
    struct array f32;
    struct io_error error;
    if (m->dtype == dtype && !m->is_int4) {
        const int code = session_buffer(s, dtype, 2, shape, tensor);
        return code >= 0 ? code : session_write(s, matrix_expert(m, 0, m->order, NULL), m->bytes, 0, tensor);
    }
    if (matrix_is_block(m)) return upload_blocks(s, m, shape, tensor);
    if (!matrix_to_f32(m, 0, &f32, &error)) return command_fail(s->usage, EXIT_FAILED, "%s", error.text);
    const int code = session_upload(s, &f32, tensor);
    array_free(&f32);
    return code;
}

static int upload_dense(struct session *s, const struct dense *d, struct weights *w) {
    const bool gated = d->gate.n_sources > 0;
    const struct {
        const struct matrix *matrix;
        struct clmoe_tensor *tensor;
    } matrices[] = {
        {&d->latent_in, &w->latent_in},     {&d->latent_out, &w->latent_out},
        {&d->down, &w->shared_w2},          {gated ? &d->gate : &d->up, &w->shared_w1},
        {&d->shared_gate, &w->shared_gate}, {gated ? &d->up : &d->gate, &w->shared_w1_up},
    };
    int code = -1;
    w->dense_dtype = d->dtype;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices && code < 0; i++)
        if (matrices[i].matrix->n_sources)
            code = upload_single(s, matrices[i].matrix, d->dtype, matrices[i].tensor);
    return code;
}

static int upload_arrays(struct session *s, const struct block *b, struct weights *w) {
    const struct {
        const struct array *array;
        struct clmoe_tensor *tensor;
    } arrays[] = {
        {&b->router, &w->router}, {&b->router_bias, &w->router_bias}, {&b->select_bias, &w->select_bias}};
    int code = -1;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && code < 0; i++)
        if (arrays[i].array->data) code = session_upload(s, arrays[i].array, arrays[i].tensor);
    return code < 0 ? upload_dense(s, &b->dense, w) : code;
}

static int upload_matrix(struct session *s, const struct matrix *m, int32_t first, int32_t n,
                         const struct weights *w, int which, int32_t i) {
    int code = upload_part(s, m, first, n, w, &w->parts[which][i]);
    if (code < 0 && w->scales[which]) code = upload_scales(s, m, first, n, &w->scales[which][i]);
    if (code < 0 && w->zeros[which]) code = upload_zeros(s, m, first, n, &w->zeros[which][i]);
    return code;
}

int weights_upload_others(struct session *s, const struct block *b, struct weights *w) {
    *w = (struct weights){.glu = b->glu, .order = common_order(b)};
    return upload_arrays(s, b, w);
}

int weights_upload(struct session *s, const struct block *b, int64_t per_buffer, bool pack,
                   struct weights *w) {
    int32_t each = 0;
    int code = weights_upload_others(s, b, w);
    if (code < 0 && b->bias1.data) code = session_upload(s, &b->bias1, &w->bias1);
    if (code < 0 && b->bias2.data) code = session_upload(s, &b->bias2, &w->bias2);
    if (code < 0) code = split(s, b, per_buffer, pack, w, &each);
    for (int32_t i = 0; i < w->n_parts && code < 0; i++) {
        const int32_t first = i * each, left = b->experts - first;
        const int32_t n = left < each ? left : each;
        for (int m = 0; m < N_MATRICES && code < 0; m++)
            if (w->parts[m]) code = upload_matrix(s, &b->matrices[m], first, n, w, m, i);
        if (code < 0 && pack) code = pack_part(s, b, w, W1, i, n);
        if (code < 0 && pack) code = pack_part(s, b, w, W2, i, n);
        progress("loading experts", first + n, b->experts);
    }
    if (code >= 0 || !pack) return code;
    free(w->parts[W1_UP]); /* gate and up are one now; their biases lie as they did */
    w->parts[W1_UP] = NULL;
    w->order = CLMOE_W_PACKED;
    if (w->glu == CLMOE_GLU_APART) w->glu = CLMOE_GLU_GATE_UP;
    return code;
}

void weights_release(struct weights *w) {
    struct clmoe_tensor *const tensors[] = {&w->router,       &w->router_bias, &w->select_bias, &w->bias1,
                                            &w->bias2,        &w->latent_in,   &w->latent_out,  &w->shared_w1,
                                            &w->shared_w1_up, &w->shared_w2,   &w->shared_gate};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        session_release(tensors[i]);
    for (int m = 0; m < N_MATRICES; m++) {
        struct clmoe_tensor *const lists[] = {w->parts[m], w->scales[m], w->zeros[m]};
        for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
            for (int32_t i = 0; i < w->n_parts && lists[l]; i++)
                session_release(&lists[l][i]);
            free(lists[l]);
        }
    }
    *w = (struct weights){0};
}
