/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Where a search is: the block's prefix, "model.layers.3.mlp.", and what all weights must agree on. */
struct search {
    const struct checkpoint *checkpoint;
    char prefix[128];
    struct block *block;
    bool has_dtype;
    struct io_error *err;
};

struct tensor_name {
    char text[256];
};

static struct tensor_name tensor_name(const struct search *s, const char *rest) {
    struct tensor_name name;
    snprintf(name.text, sizeof name.text, "%s%s", s->prefix, rest);
    return name;
}

static struct tensor_name expert_name(const struct search *s, int32_t expert, const char *matrix) {
    char rest[96];
    snprintf(rest, sizeof rest, "experts.%d.%s.weight", (int)expert, matrix);
    return tensor_name(s, rest);
}

/* One tensor of a given shape, of a type that the device takes. */
static bool take(const struct search *s, const char *name, int ndim, const int64_t *shape,
                 struct array *array) {
    const char *const model = s->checkpoint->name;
    if (!checkpoint_array(s->checkpoint, name, array, s->err)) return false;
    bool same = array->ndim == ndim;
    for (int d = 0; d < ndim && same; d++)
        same = array->shape[d] == shape[d];
    if (!same)
        return io_fail(s->err, model, "\"%.100s\" has shape %s, expected %s by config.json", name,
                       array_shape_text(array->ndim, array->shape).text, array_shape_text(ndim, shape).text);
    if (array->dtype != ARRAY_F32 && array->dtype != ARRAY_F16 && array->dtype != ARRAY_BF16)
        return io_fail(s->err, model, "\"%.100s\" holds %s, expected f32, f16 or bf16", name,
                       array_dtype_name(array->dtype));
    return true;
}

/* A weight of the experts; all of them share one type. */
static bool take_weight(struct search *s, const char *name, int ndim, const int64_t *shape,
                        struct array *array) {
    if (!take(s, name, ndim, shape, array)) return false;
    if (s->has_dtype && array->dtype != s->block->dtype)
        return io_fail(s->err, s->checkpoint->name, "\"%.100s\" holds %s, but other experts' weights %s",
                       name, array_dtype_name(array->dtype), array_dtype_name(s->block->dtype));
    s->block->dtype = array->dtype;
    s->has_dtype = true;
    return true;
}

static bool make_matrix(struct search *s, int which, int32_t n_arrays, int64_t rows, int64_t columns) {
    struct matrix *const m = &s->block->matrices[which];
    m->arrays = calloc((size_t)n_arrays, sizeof *m->arrays);
    if (!m->arrays) return io_fail(s->err, s->checkpoint->name, "out of memory");
    m->n_arrays = n_arrays;
    m->rows = rows;
    m->columns = columns;
    return true;
}

static bool find_stacked(struct search *s, int which, const char *rest, int64_t rows, int64_t columns) {
    const int64_t shape[] = {s->block->experts, rows, columns};
    return make_matrix(s, which, 1, rows, columns) &&
           take_weight(s, tensor_name(s, rest).text, 3, shape, s->block->matrices[which].arrays);
}

static bool find_apart(struct search *s, int which, const char *name, int64_t rows, int64_t columns) {
    const int64_t shape[] = {rows, columns};
    if (!make_matrix(s, which, s->block->experts, rows, columns)) return false;
    for (int32_t e = 0; e < s->block->experts; e++)
        if (!take_weight(s, expert_name(s, e, name).text, 2, shape, &s->block->matrices[which].arrays[e]))
            return false;
    return true;
}

/* The names whose router the layer has. */
static const struct family_names *find_names(struct search *s, const struct family *family, int64_t layer) {
    for (int i = 0; i < FAMILY_MAX_NAMES && family->names[i].block; i++) {
        snprintf(s->prefix, sizeof s->prefix, "model.layers.%" PRId64 ".%s.", layer, family->names[i].block);
        if (checkpoint_find(s->checkpoint, tensor_name(s, "gate.weight").text)) return &family->names[i];
    }
    io_error_set(s->err, s->checkpoint->name,
                 "no tensor \"model.layers.%" PRId64 ".%s.gate.weight\": layer %" PRId64 " has no experts",
                 layer, family->names[0].block, layer);
    return NULL;
}

bool block_find(const struct checkpoint *checkpoint, const struct family *family, int64_t layer,
                int32_t experts, const struct family_experts *sizes, struct block *block,
                struct io_error *err) {
    *block = (struct block){.experts = experts};
    struct search s = {.checkpoint = checkpoint, .block = block, .err = err};
    const int64_t hidden = sizes->hidden, inter = sizes->inter, router[] = {experts, hidden};
    const struct family_names *const names = find_names(&s, family, layer);
    if (!names || !take(&s, tensor_name(&s, "gate.weight").text, 2, router, &block->router)) return false;
    const bool stacked = checkpoint_find(checkpoint, tensor_name(&s, "experts.gate_up_proj").text) != NULL;
    const bool found = stacked ? find_stacked(&s, W1, "experts.gate_up_proj", 2 * inter, hidden) &&
                                     find_stacked(&s, W2, "experts.down_proj", hidden, inter)
                               : find_apart(&s, W1, names->gate, inter, hidden) &&
                                     find_apart(&s, W1_UP, names->up, inter, hidden) &&
                                     find_apart(&s, W2, names->down, hidden, inter);
    for (int m = 0; m < N_MATRICES && found; m++)
        block->matrices[m].bytes =
            (size_t)(block->matrices[m].rows * block->matrices[m].columns) * array_dtype_size(block->dtype);
    return found;
}

void block_free(struct block *block) {
    array_free(&block->router);
    for (int m = 0; m < N_MATRICES; m++) {
        for (int32_t i = 0; i < block->matrices[m].n_arrays; i++)
            array_free(&block->matrices[m].arrays[i]);
        free(block->matrices[m].arrays);
    }
    *block = (struct block){0};
}

const void *matrix_expert(const struct matrix *m, int32_t expert) {
    if (m->n_arrays > 1) return m->arrays[expert].data;
    return (const char *)m->arrays[0].data + (size_t)expert * m->bytes;
}
