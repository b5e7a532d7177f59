/* SPDX-License-Identifier: MIT */
#include "block.h"
#include "io/mxfp4.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
    const struct checkpoint *checkpoint;
    const struct description *description;
    const char *prefix; /* the description's, "model.layers.{L}.mlp." */
    struct block *block;
    bool has_dtype, has_dense; /* the dtypes of the block are known */
    struct io_error *err;
};

struct tensor_name {
    char text[256];
};

/* PREFIX + NAME + SUFFIX with {L} and {E} replaced. Too long a name is cut, and not found. */
static struct tensor_name tensor_name(const struct search *s, const char *name, int32_t expert,
                                      const char *suffix) {
    const char *const parts[] = {s->prefix, name, suffix};
    struct tensor_name out = {""};
    size_t used = 0;
    for (int p = 0; p < 3; p++) {
        for (const char *c = parts[p]; *c && used < sizeof out.text - 24;) {
            const bool layer = strncmp(c, "{L}", 3) == 0;
            if (layer || strncmp(c, "{E}", 3) == 0) {
                used += (size_t)snprintf(out.text + used, 24, "%" PRId64,
                                         layer ? s->description->layer : (int64_t)expert);
                c += 3;
            } else {
                out.text[used++] = *c++;
            }
        }
    }
    out.text[used] = '\0';
    return out;
}

static bool exists(const struct search *s, const char *name, const char *suffix) {
    return checkpoint_find(s->checkpoint, tensor_name(s, name, 0, suffix).text) != NULL;
}

/* The first alternative of a name that the checkpoint has; if there is none *name is the first one, which is
 * what is then missed. NULL and false: the description has no such name. */
static bool choose(const struct search *s, enum description_key key, const char **name) {
    *name = description_text(s->description, key, 0);
    for (int i = 0; description_text(s->description, key, i); i++) {
        const char *const text = description_text(s->description, key, i);
        if (!exists(s, text, "") && !exists(s, text, "_blocks")) continue;
        *name = text;
        return true;
    }
    return false;
}

static bool is_float(enum array_dtype dtype) {
    return dtype == ARRAY_F32 || dtype == ARRAY_F16 || dtype == ARRAY_BF16;
}

static bool check_shape(const struct search *s, const char *name, const struct array *array, int ndim,
                        const int64_t *shape) {
    bool same = array->ndim == ndim;
    for (int d = 0; d < ndim && same; d++)
        same = array->shape[d] == shape[d];
    return same ||
           io_fail(s->err, s->checkpoint->name, "\"%.100s\" has shape %s, expected %s by config.json", name,
                   array_shape_text(array->ndim, array->shape).text, array_shape_text(ndim, shape).text);
}

/* One tensor of a given shape, of a type that the device takes. */
static bool take(const struct search *s, const char *name, int ndim, const int64_t *shape,
                 struct array *array) {
    if (!checkpoint_array(s->checkpoint, name, array, s->err) || !check_shape(s, name, array, ndim, shape))
        return false;
    return is_float(array->dtype) ||
           io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, expected f32, f16 or bf16", name,
                   array_dtype_name(array->dtype));
}

/* All weights of the experts share one type. */
static bool same_dtype(struct search *s, const char *name, enum array_dtype dtype) {
    if (s->has_dtype && dtype != s->block->dtype)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, but other experts' weights %s",
                       name, array_dtype_name(dtype), array_dtype_name(s->block->dtype));
    s->block->dtype = dtype;
    s->has_dtype = true;
    return true;
}

static bool make_matrix(struct search *s, int which, int32_t n_arrays, int64_t rows, int64_t columns,
                        enum clmoe_w_order order) {
    struct matrix *const m = &s->block->matrices[which];
    *m = (struct matrix){.rows = rows, .columns = columns, .order = order};
    m->arrays = calloc((size_t)n_arrays, sizeof *m->arrays);
    if (!m->arrays) return io_fail(s->err, s->checkpoint->name, "out of memory");
    m->n_arrays = n_arrays;
    return true;
}

/* [E, N, K/32, 16] bytes of blocks and [E, N, K/32] of scales. */
static bool find_mxfp4(struct search *s, int which, const char *name, int64_t rows, int64_t columns) {
    const struct tensor_name blocks = tensor_name(s, name, 0, "_blocks"),
                             scales = tensor_name(s, name, 0, "_scales");
    const int64_t shape[] = {s->block->experts, rows, columns / MXFP4_BLOCK, MXFP4_BLOCK_BYTES};
    struct matrix *const m = &s->block->matrices[which];
    if (columns % MXFP4_BLOCK)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\": rows of %lld do not make blocks of %d",
                       blocks.text, (long long)columns, MXFP4_BLOCK);
    if (!make_matrix(s, which, 1, rows, columns, CLMOE_W_ENK) ||
        !checkpoint_array(s->checkpoint, blocks.text, &m->arrays[0], s->err) ||
        !checkpoint_array(s->checkpoint, scales.text, &m->scales, s->err) ||
        !check_shape(s, blocks.text, &m->arrays[0], 4, shape) ||
        !check_shape(s, scales.text, &m->scales, 3, shape))
        return false;
    if (m->arrays[0].dtype != ARRAY_U8 || m->scales.dtype != ARRAY_U8)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\" and its scales hold %s and %s, expected u8",
                       blocks.text, array_dtype_name(m->arrays[0].dtype), array_dtype_name(m->scales.dtype));
    return same_dtype(s, blocks.text, ARRAY_BF16);
}

/* [E, d0, d1] or the same rows as [E*d0, d1]. */
static bool find_stacked(struct search *s, const char *name, int64_t d0, int64_t d1, struct array *array) {
    const int64_t experts = s->block->experts, shape[] = {experts, d0, d1}, flat[] = {experts * d0, d1};
    const struct checkpoint_weight *const weight = checkpoint_find(s->checkpoint, name);
    const bool is_flat = weight && weight->tensor->ndim == 2;
    return take(s, name, is_flat ? 2 : 3, is_flat ? flat : shape, array) && same_dtype(s, name, array->dtype);
}

static bool find_matrix(struct search *s, int which, const char *name, int64_t rows, int64_t columns,
                        enum clmoe_w_order order) {
    const bool turned = order == CLMOE_W_EKN, apart = strstr(name, "{E}") != NULL;
    const int64_t shape[] = {turned ? columns : rows, turned ? rows : columns};
    if (!exists(s, name, "") && exists(s, name, "_blocks")) return find_mxfp4(s, which, name, rows, columns);
    if (!make_matrix(s, which, apart ? s->block->experts : 1, rows, columns, order)) return false;
    struct matrix *const m = &s->block->matrices[which];
    for (int32_t e = 0; e < m->n_arrays; e++) {
        const struct tensor_name n = tensor_name(s, name, e, "");
        if (!apart) return find_stacked(s, n.text, shape[0], shape[1], &m->arrays[0]);
        if (!take(s, n.text, 2, shape, &m->arrays[e]) || !same_dtype(s, n.text, m->arrays[e].dtype))
            return false;
    }
    return true;
}

static bool no_name(const struct search *s, enum description_key key) {
    const struct config_value v = description_list(s->description, key);
    return config_refuse(&v, "a tensor's name", s->err);
}

static bool find_experts(struct search *s, const struct family *f) {
    const int64_t width = family_width(f);
    const char *fused, *gate, *up, *down;
    const bool is_fused = choose(s, D_GATE_UP_PROJ, &fused), gated = f->glu != CLMOE_GLU_NONE;
    choose(s, D_GATE_PROJ, &gate);
    choose(s, D_UP_PROJ, &up);
    choose(s, D_DOWN_PROJ, &down);
    if (!down) return no_name(s, D_DOWN_PROJ);
    s->block->glu = f->glu;
    if (gated && fused && (is_fused || !gate)) {
        if (!find_matrix(s, W1, fused, 2 * f->inter, width, f->w1_order)) return false;
    } else {
        if (gated && !gate) return no_name(s, D_GATE_PROJ);
        if (!up) return no_name(s, D_UP_PROJ);
        if (gated) s->block->glu = CLMOE_GLU_APART;
        if (!find_matrix(s, W1, gated ? gate : up, f->inter, width, f->w1_order) ||
            (gated && !find_matrix(s, W1_UP, up, f->inter, width, f->w1_order)))
            return false;
    }
    return find_matrix(s, W2, down, width, f->inter, f->w2_order);
}

/* [n], whatever dimensions of 1 it has besides. */
static bool is_vector(const struct array *array, int64_t n) {
    bool found = false;
    for (int d = 0; d < array->ndim; d++)
        found = found || array->shape[d] == n;
    return found && array_count(array) == n;
}

/* A tensor [E, each] as f32, or with each = 0 of [E]. */
static bool find_vector(const struct search *s, enum description_key key, int64_t each, struct array *out) {
    const int64_t shape[] = {s->block->experts, each};
    const int ndim = each ? 2 : 1;
    const char *name;
    struct array array;
    choose(s, key, &name);
    if (!name) return true;
    const struct tensor_name full = tensor_name(s, name, 0, "");
    if (!checkpoint_array(s->checkpoint, full.text, &array, s->err)) return false;
    const bool ok =
        (ndim == 1 && is_vector(&array, shape[0])) || check_shape(s, full.text, &array, ndim, shape);
    const bool done = ok && array_to_f32(full.text, &array, out, s->err);
    array_free(&array);
    if (!done) return false;
    out->ndim = ndim;
    memset(out->shape, 0, sizeof out->shape);
    memcpy(out->shape, shape, (size_t)ndim * sizeof *shape);
    return true;
}

/* A weight that every token uses. */
static bool find_dense(struct search *s, enum description_key key, int64_t rows, int64_t columns,
                       struct array *array) {
    const int64_t shape[] = {rows, columns};
    struct dense *const dense = &s->block->dense;
    const char *name;
    choose(s, key, &name);
    if (!name) return no_name(s, key);
    const struct tensor_name full = tensor_name(s, name, 0, "");
    if (!take(s, full.text, 2, shape, array)) return false;
    if (s->has_dense && array->dtype != dense->dtype)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, but other dense weights %s",
                       full.text, array_dtype_name(array->dtype), array_dtype_name(dense->dtype));
    dense->dtype = array->dtype;
    s->has_dense = true;
    return true;
}

/* How wide shared experts are is what their tensors say. */
static bool find_shared(struct search *s, const struct family *f) {
    struct dense *const d = &s->block->dense;
    const char *up;
    choose(s, D_SHARED_UP_PROJ, &up);
    const struct checkpoint_weight *const found =
        up ? checkpoint_find(s->checkpoint, tensor_name(s, up, 0, "").text) : NULL;
    const int64_t width = found && found->tensor->ndim == 2 ? found->tensor->shape[0] : 1;
    return find_dense(s, D_SHARED_UP_PROJ, width, f->hidden, &d->up) &&
           (!description_text(s->description, D_SHARED_GATE_PROJ, 0) ||
            find_dense(s, D_SHARED_GATE_PROJ, width, f->hidden, &d->gate)) &&
           find_dense(s, D_SHARED_DOWN_PROJ, f->hidden, width, &d->down) &&
           (!description_text(s->description, D_SHARED_GATE, 0) ||
            find_dense(s, D_SHARED_GATE, 1, f->hidden, &d->shared_gate));
}

static bool find_latent(struct search *s, const struct family *f) {
    return find_dense(s, D_LATENT_IN, f->latent, f->hidden, &s->block->dense.latent_in) &&
           find_dense(s, D_LATENT_OUT, f->hidden, f->latent, &s->block->dense.latent_out);
}

/* The prefix with which the layer has a router. */
static bool find_prefix(struct search *s, const char **router) {
    const struct description *const d = s->description;
    for (int i = 0; description_text(d, D_BLOCK, i); i++) {
        s->prefix = description_text(d, D_BLOCK, i);
        if (choose(s, D_ROUTER, router)) return true;
    }
    s->prefix = description_text(d, D_BLOCK, 0);
    if (!s->prefix) return no_name(s, D_BLOCK);
    if (!choose(s, D_ROUTER, router) && !*router) return no_name(s, D_ROUTER);
    return io_fail(s->err, s->checkpoint->name, "no tensor \"%.100s\": layer %" PRId64 " has no experts",
                   tensor_name(s, *router, 0, "").text, d->layer);
}

bool block_find(const struct checkpoint *checkpoint, const struct description *description,
                const struct family *family, struct block *block, struct io_error *err) {
    *block = (struct block){.experts = family->route.experts};
    struct search s = {.checkpoint = checkpoint, .description = description, .block = block, .err = err};
    const int64_t router_shape[] = {block->experts, family->hidden};
    const char *router;
    if (!find_prefix(&s, &router) ||
        !take(&s, tensor_name(&s, router, 0, "").text, 2, router_shape, &block->router) ||
        !find_experts(&s, family))
        return false;
    const int64_t rows = family->glu == CLMOE_GLU_NONE ? family->inter : 2 * family->inter;
    const int64_t width = family_width(family);
    for (int m = 0; m < N_MATRICES; m++)
        block->matrices[m].bytes =
            (size_t)(block->matrices[m].rows * block->matrices[m].columns) * array_dtype_size(block->dtype);
    if (block->glu == CLMOE_GLU_APART && description_text(description, D_GATE_UP_BIAS, 0))
        return io_fail(err, description->file,
                       "gate_up_proj_bias: expected with gate_up_proj, not with gate_proj");
    return find_vector(&s, D_ROUTER_BIAS, 0, &block->router_bias) &&
           find_vector(&s, D_SELECT_BIAS, 0, &block->select_bias) &&
           find_vector(&s, D_GATE_UP_BIAS, rows, &block->bias1) &&
           find_vector(&s, D_DOWN_BIAS, width, &block->bias2) &&
           (!family->latent || find_latent(&s, family)) && (!family->shared || find_shared(&s, family));
}

void block_free(struct block *block) {
    struct dense *const d = &block->dense;
    struct array *const arrays[] = {&block->router,
                                    &block->router_bias,
                                    &block->select_bias,
                                    &block->bias1,
                                    &block->bias2,
                                    &d->latent_in,
                                    &d->latent_out,
                                    &d->gate,
                                    &d->up,
                                    &d->down,
                                    &d->shared_gate};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        array_free(arrays[i]);
    for (int m = 0; m < N_MATRICES; m++) {
        for (int32_t i = 0; i < block->matrices[m].n_arrays; i++)
            array_free(&block->matrices[m].arrays[i]);
        array_free(&block->matrices[m].scales);
        free(block->matrices[m].arrays);
    }
    *block = (struct block){0};
}

/* [d0, d1] to [d1, d0], in squares that stay in the cache. */
static void transpose(const char *from, char *to, int64_t d0, int64_t d1, size_t size) {
    enum { SIDE = 32 };
    for (int64_t i0 = 0; i0 < d0; i0 += SIDE)
        for (int64_t j0 = 0; j0 < d1; j0 += SIDE)
            for (int64_t i = i0; i < d0 && i < i0 + SIDE; i++)
                for (int64_t j = j0; j < d1 && j < j0 + SIDE; j++)
                    memcpy(to + (size_t)(j * d0 + i) * size, from + (size_t)(i * d1 + j) * size, size);
}

const void *matrix_expert(const struct matrix *m, int32_t expert, enum clmoe_w_order order, void *scratch) {
    const size_t e = (size_t)expert;
    if (m->scales.data) {
        const size_t n = m->scales.bytes / (size_t)m->scales.shape[0];
        mxfp4_to_bf16((const uint8_t *)m->arrays[0].data + e * n * MXFP4_BLOCK_BYTES,
                      (const uint8_t *)m->scales.data + e * n, n, scratch);
        return scratch;
    }
    const char *const data =
        m->n_arrays > 1 ? m->arrays[e].data : (const char *)m->arrays[0].data + e * m->bytes;
    if (m->order == order) return data;
    transpose(data, scratch, m->columns, m->rows, array_dtype_size(m->arrays[0].dtype));
    return scratch;
}
