/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <inttypes.h>
#include <string.h>

struct finder {
    struct search s;
    struct quantisation q;
    struct block *block;
    bool has_dense; /* the dtype of what every token uses is known */
};

/* One tensor of a given shape, of a type that activations may have. */
static bool take(const struct search *s, const char *name, int ndim, const int64_t *shape,
                 struct array *array) {
    const struct file_tensor *const t = search_tensor(s, name);
    if (!t || !search_shape(s, t, ndim, shape) || !checkpoint_array(s->checkpoint, name, array, s->err))
        return false;
    return array->dtype == ARRAY_F32 || array->dtype == ARRAY_F16 || array->dtype == ARRAY_BF16 ||
           io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, expected f32, f16 or bf16", name,
                   array_dtype_name(array->dtype));
}

static bool find_matrix(struct finder *f, int which, const char *name, int64_t rows, int64_t columns,
                        enum clmoe_w_order order) {
    return matrix_find(&f->s, &f->q, name, f->block->experts, rows, columns, order,
                       &f->block->matrices[which]);
}

/* Gate and up go through one product. */
static bool same_form(const struct search *s, const char *up, const struct matrix *a,
                      const struct matrix *b) {
    if (a->dtype != b->dtype)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, but other experts' weights %s",
                       search_name(s, up, 0, "").text, clmoe_dtype_name(b->dtype),
                       clmoe_dtype_name(a->dtype));
    return a->scale.dtype == b->scale.dtype ||
           io_fail(s->err, s->checkpoint->name,
                   "\"%.100s\" has scales in %s, but other experts' weights in %s",
                   search_name(s, up, 0, "").text, clmoe_dtype_name(b->scale.dtype),
                   clmoe_dtype_name(a->scale.dtype));
}

static bool find_experts(struct finder *f, const struct family *family) {
    const struct search *const s = &f->s;
    const struct matrix *const m = f->block->matrices;
    const int64_t width = family_width(family), inter = family->inter;
    const char *fused, *gate, *up, *down;
    const bool is_fused = search_choose(s, D_GATE_UP_PROJ, &fused), gated = family->glu != CLMOE_GLU_NONE;
    search_choose(s, D_GATE_PROJ, &gate);
    search_choose(s, D_UP_PROJ, &up);
    search_choose(s, D_DOWN_PROJ, &down);
    if (!down) return search_no_name(s, D_DOWN_PROJ);
    f->block->glu = family->glu;
    if (gated && fused && (is_fused || !gate)) {
        if (!find_matrix(f, W1, fused, 2 * inter, width, family->w1_order)) return false;
    } else {
        if (gated && !gate) return search_no_name(s, D_GATE_PROJ);
        if (!up) return search_no_name(s, D_UP_PROJ);
        if (gated) f->block->glu = CLMOE_GLU_APART;
        if (!find_matrix(f, W1, gated ? gate : up, inter, width, family->w1_order) ||
            (gated && (!find_matrix(f, W1_UP, up, inter, width, family->w1_order) ||
                       !same_form(s, up, &m[W1], &m[W1_UP]))))
            return false;
    }
    return find_matrix(f, W2, down, width, inter, family->w2_order);
}

/* Four bits of all matrices, or of none: the device wants one order. */
static void keep_words(struct block *block) {
    bool all = true;
    for (int m = 0; m < N_MATRICES; m++)
        all = all && (!block->matrices[m].n_sources || matrix_has_words(&block->matrices[m]));
    for (int m = 0; m < N_MATRICES && all && block->glu != CLMOE_GLU_INTERLEAVED; m++)
        if (block->matrices[m].n_sources) matrix_keep_words(&block->matrices[m]);
}

/* [n], whatever dimensions of 1 it has besides. */
static bool is_vector(const struct array *array, int64_t n) {
    bool found = false;
    for (int d = 0; d < array->ndim; d++)
        found = found || array->shape[d] == n;
    return found && array_count(array) == n;
}

/* A tensor [E, each] as f32, or with each = 0 of [E]. */
static bool find_vector(const struct finder *f, enum description_key key, int64_t each, struct array *out) {
    const struct search *const s = &f->s;
    const int64_t shape[] = {f->block->experts, each};
    const int ndim = each ? 2 : 1;
    const char *name;
    struct array array;
    search_choose(s, key, &name);
    if (!name) return true;
    const struct tensor_name full = search_name(s, name, 0, "");
    const struct file_tensor *const t = search_tensor(s, full.text);
    if (!t || !checkpoint_array(s->checkpoint, full.text, &array, s->err)) return false;
    const bool ok = (ndim == 1 && is_vector(&array, shape[0])) || search_shape(s, t, ndim, shape);
    const bool done = ok && array_to_f32(full.text, &array, out, s->err);
    array_free(&array);
    if (!done) return false;
    out->ndim = ndim;
    memset(out->shape, 0, sizeof out->shape);
    memcpy(out->shape, shape, (size_t)ndim * sizeof *shape);
    return true;
}

/* Gate's and up's [E, I] side by side, as one matrix of both has its bias. */
static bool join_biases(const struct search *s, const struct array *gate, const struct array *up,
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
static bool find_bias1(const struct finder *f, const struct family *family) {
    const struct description *const d = f->s.description;
    const bool apart = f->block->glu == CLMOE_GLU_APART;
    struct array gate = {0}, up = {0}, *const out = &f->block->bias1;
    const int64_t inter = family->inter;
    if (description_text(d, apart ? D_GATE_UP_BIAS : D_GATE_BIAS, 0) &&
        !description_text(d, apart ? D_GATE_BIAS : D_GATE_UP_BIAS, 0))
        return io_fail(f->s.err, d->file, "%s_proj_bias: expected with %s_proj, not with %s_proj",
                       apart ? "gate_up" : "gate", apart ? "gate_up" : "gate", apart ? "gate" : "gate_up");
    if (!apart) return find_vector(f, D_GATE_UP_BIAS, family->glu == CLMOE_GLU_NONE ? inter : 2 * inter, out);
    if (!description_text(d, D_GATE_BIAS, 0)) return true;
    if (!description_text(d, D_UP_BIAS, 0)) return search_no_name(&f->s, D_UP_BIAS);
    const bool ok = find_vector(f, D_GATE_BIAS, inter, &gate) && find_vector(f, D_UP_BIAS, inter, &up) &&
                    join_biases(&f->s, &gate, &up, out);
    array_free(&gate);
    array_free(&up);
    return ok;
}

/* A weight that every token uses. */
static bool find_dense(struct finder *f, enum description_key key, int64_t rows, int64_t columns,
                       struct matrix *m) {
    struct dense *const dense = &f->block->dense;
    const char *name;
    search_choose(&f->s, key, &name);
    if (!name) return search_no_name(&f->s, key);
    if (!matrix_find(&f->s, &f->q, name, 1, rows, columns, CLMOE_W_ENK, m)) return false;
    const bool as_is = matrix_is_float(m) && !m->is_int4 && (!f->has_dense || m->dtype == dense->dtype);
    dense->dtype = as_is ? m->dtype : CLMOE_F32;
    f->has_dense = true;
    return true;
}

/* How wide shared experts are is what their tensors say. */
static int64_t shared_width(const struct search *s) {
    const char *up;
    if (!search_choose(s, D_SHARED_UP_PROJ, &up)) return 1;
    const struct checkpoint_weight *const plain =
        checkpoint_find(s->checkpoint, search_name(s, up, 0, "").text);
    const struct checkpoint_weight *const scales =
        checkpoint_find(s->checkpoint, search_name(s, up, 0, ".scales").text);
    if (plain) return plain->tensor->ndim == 2 ? plain->tensor->shape[0] : 1;
    return scales && scales->tensor->ndim == 2 ? scales->tensor->shape[1] : 1;
}

static bool find_shared(struct finder *f, const struct family *family) {
    const struct description *const d = f->s.description;
    struct dense *const dense = &f->block->dense;
    const int64_t width = shared_width(&f->s), hidden = family->hidden;
    return find_dense(f, D_SHARED_UP_PROJ, width, hidden, &dense->up) &&
           (!description_text(d, D_SHARED_GATE_PROJ, 0) ||
            find_dense(f, D_SHARED_GATE_PROJ, width, hidden, &dense->gate)) &&
           find_dense(f, D_SHARED_DOWN_PROJ, hidden, width, &dense->down) &&
           (!description_text(d, D_SHARED_GATE, 0) ||
            find_dense(f, D_SHARED_GATE, 1, hidden, &dense->shared_gate));
}

static bool find_latent(struct finder *f, const struct family *family) {
    return find_dense(f, D_LATENT_IN, family->latent, family->hidden, &f->block->dense.latent_in) &&
           find_dense(f, D_LATENT_OUT, family->hidden, family->latent, &f->block->dense.latent_out);
}

/* The prefix with which the layer has a router. */
static bool find_prefix(struct search *s, const char **router) {
    const struct description *const d = s->description;
    for (int i = 0; description_text(d, D_BLOCK, i); i++) {
        s->prefix = description_text(d, D_BLOCK, i);
        if (search_choose(s, D_ROUTER, router)) return true;
    }
    s->prefix = description_text(d, D_BLOCK, 0);
    if (!s->prefix) return search_no_name(s, D_BLOCK);
    if (!search_choose(s, D_ROUTER, router) && !*router) return search_no_name(s, D_ROUTER);
    return io_fail(s->err, s->checkpoint->name, "no tensor \"%.100s\": layer %" PRId64 " has no experts",
                   search_name(s, *router, 0, "").text, d->layer);
}

bool block_find(const struct checkpoint *checkpoint, const struct description *description,
                const struct family *family, struct block *block, struct io_error *err) {
    *block = (struct block){.experts = family->route.experts};
    struct finder f = {.s = {checkpoint, description, NULL, err}, .block = block};
    const int64_t router_shape[] = {block->experts, family->hidden};
    const char *router;
    const bool ok = quantisation_read(description, &f.q, err) && find_prefix(&f.s, &router) &&
                    take(&f.s, search_name(&f.s, router, 0, "").text, 2, router_shape, &block->router) &&
                    find_experts(&f, family);
    if (ok) keep_words(block);
    return ok && find_vector(&f, D_ROUTER_BIAS, 0, &block->router_bias) &&
           find_vector(&f, D_SELECT_BIAS, 0, &block->select_bias) && find_bias1(&f, family) &&
           find_vector(&f, D_DOWN_BIAS, family_width(family), &block->bias2) &&
           (!family->latent || find_latent(&f, family)) && (!family->shared || find_shared(&f, family));
}

bool block_find_select_bias(const struct checkpoint *checkpoint, const struct description *description,
                            int32_t experts, struct array *bias, struct io_error *err) {
    struct block none = {.experts = experts};
    struct finder f = {.s = {checkpoint, description, NULL, err}, .block = &none};
    const char *router;
    return find_prefix(&f.s, &router) && find_vector(&f, D_SELECT_BIAS, 0, bias);
}

void block_free(struct block *block) {
    struct dense *const d = &block->dense;
    struct array *const arrays[] = {&block->router, &block->router_bias, &block->select_bias, &block->bias1,
                                    &block->bias2};
    struct matrix *const matrices[] = {&d->latent_in, &d->latent_out, &d->gate,
                                       &d->up,        &d->down,       &d->shared_gate};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        array_free(arrays[i]);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        matrix_free(matrices[i]);
    for (int m = 0; m < N_MATRICES; m++)
        matrix_free(&block->matrices[m]);
    *block = (struct block){0};
}
