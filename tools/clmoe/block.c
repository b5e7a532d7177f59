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
    bool has_dense; /* the dtype of what every token uses is known */
    struct io_error *err;
};

/* What weights may be, by the names of types in either format. */
static const struct {
    const char *type;
    enum clmoe_dtype dtype;
} weight_types[] = {{"F32", CLMOE_F32},   {"F16", CLMOE_F16},    {"BF16", CLMOE_BF16}, {"Q8_0", CLMOE_Q8_0},
                    {"Q4_0", CLMOE_Q4_0}, {"Q5_0", CLMOE_Q5_0},  {"Q4_K", CLMOE_Q4_K}, {"Q5_K", CLMOE_Q5_K},
                    {"Q6_K", CLMOE_Q6_K}, {"MXFP4", CLMOE_MXFP4}};

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

static bool check_shape(const struct search *s, const char *name, int ndim, const int64_t *shape,
                        int wanted_ndim, const int64_t *wanted) {
    bool same = ndim == wanted_ndim;
    for (int d = 0; d < ndim && same; d++)
        same = shape[d] == wanted[d];
    return same || io_fail(s->err, s->checkpoint->name, "\"%.100s\" has shape %s, expected %s by %s", name,
                           array_shape_text(ndim, shape).text, array_shape_text(wanted_ndim, wanted).text,
                           s->description->source);
}

static bool find_type(const struct search *s, const struct file_tensor *t, enum clmoe_dtype *dtype) {
    char known[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof weight_types / sizeof *weight_types; i++) {
        *dtype = weight_types[i].dtype;
        if (strcmp(weight_types[i].type, t->type) == 0) return true;
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", weight_types[i].type);
    }
    return io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %.40s, expected one of %s", t->name,
                   t->type, known);
}

static const struct file_tensor *find_tensor(const struct search *s, const char *name) {
    const struct checkpoint_weight *const weight = checkpoint_find(s->checkpoint, name);
    if (weight) return weight->tensor;
    io_error_set(s->err, s->checkpoint->name, "no tensor \"%.100s\" among %zu", name, s->checkpoint->count);
    return NULL;
}

/* One tensor of a given shape, of a type that activations may have. */
static bool take(const struct search *s, const char *name, int ndim, const int64_t *shape,
                 struct array *array) {
    if (!checkpoint_array(s->checkpoint, name, array, s->err) ||
        !check_shape(s, name, array->ndim, array->shape, ndim, shape))
        return false;
    return is_float(array->dtype) ||
           io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, expected f32, f16 or bf16", name,
                   array_dtype_name(array->dtype));
}

static bool same_dtype(const struct search *s, const char *name, enum clmoe_dtype dtype,
                       enum clmoe_dtype others) {
    return dtype == others ||
           io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, but other experts' weights %s", name,
                   clmoe_dtype_name(dtype), clmoe_dtype_name(others));
}

static bool make_matrix(struct search *s, int which, int32_t n_data, int64_t rows, int64_t columns,
                        enum clmoe_w_order order) {
    struct matrix *const m = &s->block->matrices[which];
    *m = (struct matrix){.rows = rows, .columns = columns, .order = order};
    m->data = calloc((size_t)n_data, sizeof *m->data);
    if (!m->data) return io_fail(s->err, s->checkpoint->name, "out of memory");
    m->n_data = n_data;
    return true;
}

/* [E, N, K/32, 16] bytes of blocks and [E, N, K/32] of scales. */
static bool find_mxfp4(struct search *s, int which, const char *name, int64_t rows, int64_t columns) {
    const struct tensor_name blocks = tensor_name(s, name, 0, "_blocks"),
                             scales = tensor_name(s, name, 0, "_scales");
    const int64_t shape[] = {s->block->experts, rows, columns / MXFP4_BLOCK, MXFP4_BLOCK_BYTES};
    struct matrix *const m = &s->block->matrices[which];
    const struct file_tensor *const b = find_tensor(s, blocks.text), *const c = find_tensor(s, scales.text);
    if (columns % MXFP4_BLOCK)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\": rows of %lld do not make blocks of %d",
                       blocks.text, (long long)columns, MXFP4_BLOCK);
    if (!make_matrix(s, which, 1, rows, columns, CLMOE_W_ENK) || !b || !c ||
        !check_shape(s, blocks.text, b->ndim, b->shape, 4, shape) ||
        !check_shape(s, scales.text, c->ndim, c->shape, 3, shape))
        return false;
    if (strcmp(b->type, "U8") != 0 || strcmp(c->type, "U8") != 0)
        return io_fail(s->err, s->checkpoint->name,
                       "\"%.100s\" and its scales hold %.40s and %.40s, expected U8", blocks.text, b->type,
                       c->type);
    m->data[0] = b->data;
    m->scales = c->data;
    m->dtype = CLMOE_BF16;
    return true;
}

/* [E, d0, d1] or the same rows as [E*d0, d1]; or, one of several, [d0, d1]. */
static bool find_data(const struct search *s, const char *name, struct matrix *m, int32_t i) {
    const bool turned = m->order == CLMOE_W_EKN, apart = m->n_data > 1;
    const int64_t d0 = turned ? m->columns : m->rows, d1 = turned ? m->rows : m->columns,
                  experts = apart ? 1 : s->block->experts;
    const int64_t stacked[] = {experts, d0, d1}, flat[] = {experts * d0, d1};
    const struct file_tensor *const t = find_tensor(s, name);
    const bool is_flat = t && (apart || t->ndim == 2);
    enum clmoe_dtype dtype;
    if (!t || !check_shape(s, name, t->ndim, t->shape, is_flat ? 2 : 3, is_flat ? flat : stacked) ||
        !find_type(s, t, &dtype) || (i > 0 && !same_dtype(s, name, dtype, m->dtype)))
        return false;
    if (turned && !t->loadable)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\": blocks of %.40s with the order ekn", name,
                       t->type);
    m->dtype = dtype;
    m->data[i] = t->data;
    return true;
}

static bool find_matrix(struct search *s, int which, const char *name, int64_t rows, int64_t columns,
                        enum clmoe_w_order order) {
    struct matrix *const m = &s->block->matrices[which];
    const bool apart = strstr(name, "{E}") != NULL;
    if (!exists(s, name, "") && exists(s, name, "_blocks")) return find_mxfp4(s, which, name, rows, columns);
    if (!make_matrix(s, which, apart ? s->block->experts : 1, rows, columns, order)) return false;
    for (int32_t i = 0; i < m->n_data; i++)
        if (!find_data(s, tensor_name(s, name, i, "").text, m, i)) return false;
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
        const struct matrix *const m = s->block->matrices;
        if (!find_matrix(s, W1, gated ? gate : up, f->inter, width, f->w1_order) ||
            (gated && (!find_matrix(s, W1_UP, up, f->inter, width, f->w1_order) ||
                       !same_dtype(s, tensor_name(s, up, 0, "").text, m[W1_UP].dtype, m[W1].dtype))))
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
    const bool ok = (ndim == 1 && is_vector(&array, shape[0])) ||
                    check_shape(s, full.text, array.ndim, array.shape, ndim, shape);
    const bool done = ok && array_to_f32(full.text, &array, out, s->err);
    array_free(&array);
    if (!done) return false;
    out->ndim = ndim;
    memset(out->shape, 0, sizeof out->shape);
    memcpy(out->shape, shape, (size_t)ndim * sizeof *shape);
    return true;
}

/* Gate's and up's [E, I] side by side, as one matrix of both has its bias. */
static bool join_biases(struct search *s, const struct array *gate, const struct array *up,
                        struct array *out) {
    const int64_t experts = gate->shape[0], inter = gate->shape[1], shape[] = {experts, 2 * inter};
    const size_t row = (size_t)inter * sizeof(float);
    if (!array_alloc(s->checkpoint->name, ARRAY_F32, 2, shape, out, s->err)) return false;
    for (int64_t e = 0; e < experts; e++) {
        char *const to = (char *)out->data + 2 * (size_t)e * row;
        memcpy(to, (const char *)gate->data + (size_t)e * row, row);
        memcpy(to + row, (const char *)up->data + (size_t)e * row, row);
    }
    return true;
}

/* As the weights are: of one matrix, or of gate and up. */
static bool find_bias1(struct search *s, const struct family *f) {
    const struct description *const d = s->description;
    const bool apart = s->block->glu == CLMOE_GLU_APART;
    struct array gate = {0}, up = {0};
    if (description_text(d, apart ? D_GATE_UP_BIAS : D_GATE_BIAS, 0) &&
        !description_text(d, apart ? D_GATE_BIAS : D_GATE_UP_BIAS, 0))
        return io_fail(s->err, d->file, "%s_proj_bias: expected with %s_proj, not with %s_proj",
                       apart ? "gate_up" : "gate", apart ? "gate_up" : "gate", apart ? "gate" : "gate_up");
    if (!apart)
        return find_vector(s, D_GATE_UP_BIAS, f->glu == CLMOE_GLU_NONE ? f->inter : 2 * f->inter,
                           &s->block->bias1);
    if (!description_text(d, D_GATE_BIAS, 0)) return true;
    if (!description_text(d, D_UP_BIAS, 0)) return no_name(s, D_UP_BIAS);
    const bool ok = find_vector(s, D_GATE_BIAS, f->inter, &gate) &&
                    find_vector(s, D_UP_BIAS, f->inter, &up) && join_biases(s, &gate, &up, &s->block->bias1);
    array_free(&gate);
    array_free(&up);
    return ok;
}

/* A weight that every token uses. A single row may be a vector. */
static bool find_dense(struct search *s, enum description_key key, int64_t rows, int64_t columns,
                       struct stored *out) {
    const int64_t shape[] = {rows, columns};
    struct dense *const dense = &s->block->dense;
    const char *name;
    choose(s, key, &name);
    if (!name) return no_name(s, key);
    const struct tensor_name full = tensor_name(s, name, 0, "");
    const struct file_tensor *const t = find_tensor(s, full.text);
    if (!t) return false;
    const bool is_row = rows == 1 && t->ndim == 1;
    *out = (struct stored){.tensor = t, .rows = rows, .columns = columns};
    if (!check_shape(s, full.text, t->ndim, t->shape, is_row ? 1 : 2, is_row ? &columns : shape) ||
        !find_type(s, t, &out->dtype))
        return false;
    dense->dtype = t->loadable && (!s->has_dense || out->dtype == dense->dtype) ? out->dtype : CLMOE_F32;
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
    for (int m = 0; m < N_MATRICES; m++) {
        struct matrix *const matrix = &block->matrices[m];
        matrix->bytes = (size_t)clmoe_dtype_bytes(matrix->dtype, matrix->rows * matrix->columns);
    }
    return find_vector(&s, D_ROUTER_BIAS, 0, &block->router_bias) &&
           find_vector(&s, D_SELECT_BIAS, 0, &block->select_bias) && find_bias1(&s, family) &&
           find_vector(&s, D_DOWN_BIAS, family_width(family), &block->bias2) &&
           (!family->latent || find_latent(&s, family)) && (!family->shared || find_shared(&s, family));
}

void block_free(struct block *block) {
    struct array *const arrays[] = {&block->router, &block->router_bias, &block->select_bias, &block->bias1,
                                    &block->bias2};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        array_free(arrays[i]);
    for (int m = 0; m < N_MATRICES; m++)
        free(block->matrices[m].data);
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
    const size_t e = (size_t)expert, elements = (size_t)(m->rows * m->columns);
    if (m->scales) {
        const size_t n = elements / MXFP4_BLOCK;
        mxfp4_to_bf16((const uint8_t *)m->data[0] + e * n * MXFP4_BLOCK_BYTES, m->scales + e * n, n, scratch);
        return scratch;
    }
    const char *const data = m->n_data > 1 ? m->data[e] : (const char *)m->data[0] + e * m->bytes;
    if (m->order == order) return data;
    transpose(data, scratch, m->columns, m->rows, m->bytes / elements);
    return scratch;
}
