/* SPDX-License-Identifier: MIT */
#include "matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MXFP4_BLOCK 32 /* elements that share a scale, in 16 bytes */

/* What weights may be, by the names of types in either format of files. */
static const struct weight_type {
    const char *name;
    enum clmoe_dtype dtype;
    bool plain;
} types[] = {{"F32", CLMOE_F32, true},     {"F16", CLMOE_F16, true},    {"BF16", CLMOE_BF16, true},
             {"Q8_0", CLMOE_Q8_0, false},  {"Q4_0", CLMOE_Q4_0, false}, {"Q5_0", CLMOE_Q5_0, false},
             {"Q4_K", CLMOE_Q4_K, false},  {"Q5_K", CLMOE_Q5_K, false}, {"Q6_K", CLMOE_Q6_K, false},
             {"MXFP4", CLMOE_MXFP4, false}};

/* What the parts of matrix_find() share. */
struct finding {
    const struct search *s;
    const struct quantisation *q;
    const char *name;
    struct matrix *m;
};

static int64_t divide_up(int64_t n, int64_t by) {
    return (n + by - 1) / by;
}

static bool make_sources(const struct finding *f, int32_t n) {
    f->m->sources = calloc((size_t)n, sizeof *f->m->sources);
    if (!f->m->sources) return io_fail(f->s->err, f->s->checkpoint->name, "out of memory");
    f->m->n_sources = n;
    return true;
}

/* Source i's tensor of a type and of the shape of one expert, behind the number of experts where it is one of
 * all. */
static const void *find_part(const struct finding *f, int32_t i, const char *suffix, const char *type,
                             int ndim, const int64_t *shape) {
    const struct tensor_name name = search_name(f->s, f->name, i, suffix);
    const struct file_tensor *const t = search_tensor(f->s, name.text);
    const bool alone = f->m->experts == 1 && t && t->ndim == ndim;
    const bool stacked = f->m->n_sources == 1 && !alone;
    int64_t all[ARRAY_MAX_DIMS] = {f->m->experts};
    memcpy(all + stacked, shape, (size_t)ndim * sizeof *shape);
    if (!t || !search_shape(f->s, t, ndim + stacked, all)) return NULL;
    if (strcmp(t->type, type) == 0) return t->data;
    io_error_set(f->s->err, f->s->checkpoint->name, "\"%.100s\" holds %.40s, expected %s", t->name, t->type,
                 type);
    return NULL;
}

static void set_scale(struct matrix *m, enum clmoe_dtype dtype, int64_t rows, int64_t columns) {
    m->scale = (struct clmoe_w_scale){.dtype = dtype, .rows = rows, .columns = columns};
    m->scale_shape[0] = divide_up(m->rows, rows);
    m->scale_shape[1] = divide_up(m->columns, columns);
    m->scale_bytes = (size_t)clmoe_dtype_bytes(dtype, m->scale_shape[0] * m->scale_shape[1]);
}

/* [E, N, K/32, 16] bytes of blocks and [E, N, K/32] of scales. */
static bool find_mxfp4(const struct finding *f) {
    struct matrix *const m = f->m;
    const int64_t shape[] = {m->rows, m->columns / MXFP4_BLOCK, MXFP4_BLOCK / 2};
    if (m->columns % MXFP4_BLOCK)
        return io_fail(f->s->err, f->s->checkpoint->name, "\"%.100s\": rows of %lld do not make blocks of %d",
                       search_name(f->s, f->name, 0, "_blocks").text, (long long)m->columns, MXFP4_BLOCK);
    if (!make_sources(f, 1)) return false;
    m->order = CLMOE_W_ENK;
    m->dtype = CLMOE_F4_E2M1;
    set_scale(m, CLMOE_U8, 1, MXFP4_BLOCK);
    m->sources->data = find_part(f, 0, "_blocks", "U8", 3, shape);
    if (m->sources->data) m->sources->scales = find_part(f, 0, "_scales", "U8", 2, shape);
    return m->sources->scales != NULL;
}

/* How many columns a source has, those of all its experts. */
static int64_t listed_columns(const struct matrix *m) {
    return m->columns * (m->n_sources > 1 ? 1 : m->experts);
}

/* Of each column a group that there is. */
static bool check_groups(const struct finding *f, const struct int4_matrix *m, int64_t groups, int32_t i) {
    for (int64_t c = 0; c < listed_columns(f->m); c++)
        if (int4_group(m, c) < 0 || int4_group(m, c) >= groups)
            return io_fail(f->s->err, f->s->checkpoint->name, "\"%.100s\": group %lld, expected 0..%lld",
                           search_name(f->s, f->name, i, ".g_idx").text, (long long)int4_group(m, c),
                           (long long)groups - 1);
    return true;
}

static bool find_int4_part(const struct finding *f, int32_t i) {
    const struct int4_matrix *const w = &f->m->int4;
    struct source *const source = &f->m->sources[i];
    const int64_t groups = divide_up(w->columns, w->group), words[] = {groups, w->rows / 8},
                  scales[] = {groups, w->rows};
    const int64_t awq[] = {w->columns, w->rows / 8}, gptq[] = {w->columns / 8, w->rows};
    source->data = find_part(f, i, ".qweight", "I32", 2, w->awq ? awq : gptq);
    if (source->data) source->zeros = find_part(f, i, ".qzeros", "I32", 2, words);
    if (source->zeros) source->scales = find_part(f, i, ".scales", "F16", 2, scales);
    if (!source->scales) return false;
    if (w->awq || !search_exists(f->s, f->name, ".g_idx")) return true;
    source->groups = find_part(f, i, ".g_idx", "I32", 1, &w->columns);
    struct int4_matrix listed = *w;
    listed.groups = source->groups;
    return source->groups && check_groups(f, &listed, groups, i);
}

/* AWQ and GPTQ: qweight, qzeros, scales, and g_idx of columns out of order. */
static bool find_int4(const struct finding *f, bool apart) {
    const struct quantisation *const q = f->q;
    struct matrix *const m = f->m;
    const struct tensor_name name = search_name(f->s, f->name, 0, ".qweight");
    if (q->method != QUANTISED_AWQ && q->method != QUANTISED_GPTQ)
        return io_fail(f->s->err, f->s->checkpoint->name,
                       "\"%.100s\" without quantization_config.quant_method \"awq\" or \"gptq\"", name.text);
    if (m->rows % 8 || (q->method == QUANTISED_GPTQ && m->columns % 8))
        return io_fail(f->s->err, f->s->checkpoint->name, "\"%.100s\": [%lld, %lld] does not fill words of 8",
                       name.text, (long long)m->rows, (long long)m->columns);
    m->dtype = CLMOE_F16;
    m->order = CLMOE_W_ENK;
    m->is_int4 = true;
    m->int4 = (struct int4_matrix){.rows = m->rows,
                                   .columns = m->columns,
                                   .group = q->group ? q->group : m->columns,
                                   .zero_added = q->zero_added,
                                   .awq = q->method == QUANTISED_AWQ};
    if (!make_sources(f, apart ? m->experts : 1)) return false;
    for (int32_t i = 0; i < m->n_sources; i++)
        if (!find_int4_part(f, i)) return false;
    return true;
}

static bool find_scales(const struct finding *f, const struct file_tensor *t, int32_t i) {
    struct matrix *const m = f->m;
    const struct tensor_name name = search_name(f->s, f->name, i, "_scale_inv");
    if (f->q->method != QUANTISED_FP8)
        return io_fail(f->s->err, f->s->checkpoint->name,
                       "\"%.100s\" holds F8_E4M3, without quantization_config.quant_method \"fp8\"", t->name);
    const struct file_tensor *const scales = search_tensor(f->s, name.text);
    if (!scales) return false;
    const enum clmoe_dtype dtype = strcmp(scales->type, "BF16") == 0 ? CLMOE_BF16 : CLMOE_F32;
    set_scale(m, i ? m->scale.dtype : dtype, f->q->block[0], f->q->block[1]);
    m->sources[i].scales =
        find_part(f, i, "_scale_inv", m->scale.dtype == CLMOE_F32 ? "F32" : "BF16", 2, m->scale_shape);
    return m->sources[i].scales != NULL;
}

static bool find_type(const struct finding *f, const struct file_tensor *t, enum clmoe_dtype *dtype) {
    char known[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *dtype = types[i].dtype;
        if (strcmp(types[i].name, t->type) != 0) {
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", types[i].name);
            continue;
        }
        /* Of a type that it does not know safetensors does not say how many bytes there must be. */
        if (!types[i].plain && f->s->checkpoint->gguf_count == 0)
            return io_fail(f->s->err, f->s->checkpoint->name,
                           "\"%.100s\": blocks of %.40s, which only GGUF files have", t->name, t->type);
        return types[i].plain || f->m->order == CLMOE_W_ENK ||
               io_fail(f->s->err, f->s->checkpoint->name, "\"%.100s\": blocks of %.40s with the order ekn",
                       t->name, t->type);
    }
    *dtype = CLMOE_F8_E4M3;
    if (strcmp(t->type, "F8_E4M3") == 0 && f->m->order == CLMOE_W_ENK) return true;
    return io_fail(f->s->err, f->s->checkpoint->name, "\"%.100s\" holds %.40s, expected one of %s", t->name,
                   t->type, known);
}

/* [E, d0, d1] or the same rows as [E*d0, d1]; or, one of several, [d0, d1], where a single row may be a
 * vector. */
static bool find_plain(const struct finding *f, int32_t i) {
    struct matrix *const m = f->m;
    const bool turned = m->order == CLMOE_W_EKN;
    const int64_t d0 = turned ? m->columns : m->rows, d1 = turned ? m->rows : m->columns,
                  experts = m->n_sources > 1 ? 1 : m->experts;
    const int64_t stacked[] = {experts, d0, d1}, flat[] = {experts * d0, d1};
    const struct file_tensor *const t = search_tensor(f->s, search_name(f->s, f->name, i, "").text);
    enum clmoe_dtype dtype;
    if (!t) return false;
    const bool is_flat = m->n_sources > 1 || t->ndim == 2, is_row = flat[0] == 1 && t->ndim == 1;
    if (!search_shape(f->s, t,
                      is_row    ? 1
                      : is_flat ? 2
                                : 3,
                      is_row    ? &d1
                      : is_flat ? flat
                                : stacked) ||
        !find_type(f, t, &dtype))
        return false;
    if (i > 0 && dtype != m->dtype)
        return io_fail(f->s->err, f->s->checkpoint->name,
                       "\"%.100s\" holds %s, but other experts' weights %s", t->name, clmoe_dtype_name(dtype),
                       clmoe_dtype_name(m->dtype));
    m->dtype = dtype;
    m->sources[i].data = t->data;
    return dtype != CLMOE_F8_E4M3 || find_scales(f, t, i);
}

bool matrix_find(const struct search *s, const struct quantisation *q, const char *name, int32_t experts,
                 int64_t rows, int64_t columns, enum clmoe_w_order order, struct matrix *m) {
    const struct finding f = {s, q, name, m};
    const bool apart = strstr(name, "{E}") != NULL, plain = search_exists(s, name, "");
    *m = (struct matrix){.experts = experts, .rows = rows, .columns = columns, .order = order};
    bool ok;
    if (!plain && search_exists(s, name, "_blocks")) {
        ok = find_mxfp4(&f);
    } else if (!plain && search_exists(s, name, ".qweight")) {
        ok = find_int4(&f, apart);
    } else {
        ok = make_sources(&f, apart ? experts : 1);
        for (int32_t i = 0; i < m->n_sources && ok; i++)
            ok = find_plain(&f, i);
    }
    if (ok) m->bytes = (size_t)clmoe_dtype_bytes(m->dtype, rows * columns);
    return ok;
}

void matrix_free(struct matrix *m) {
    free(m->sources);
    *m = (struct matrix){0};
}

bool matrix_is_float(const struct matrix *m) {
    return m->dtype == CLMOE_F32 || m->dtype == CLMOE_F16 || m->dtype == CLMOE_BF16;
}

bool matrix_has_panels(const struct matrix *m) {
    return matrix_is_float(m) || m->dtype == CLMOE_Q8_0 || m->dtype == CLMOE_Q4_0 || m->dtype == CLMOE_MXFP4;
}

bool matrix_is_block(const struct matrix *m) {
    return !matrix_is_float(m) && m->scale_bytes == 0;
}

bool matrix_has_words(const struct matrix *m) {
    const int64_t group = m->int4.group;
    const bool whole = group >= m->columns;
    if (!m->is_int4 || (!whole && (group < 16 || (group & (group - 1))))) return false;
    for (int32_t i = 0; i < m->n_sources; i++) {
        struct int4_matrix listed = m->int4;
        listed.groups = m->sources[i].groups;
        for (int64_t c = 0; listed.groups && c < listed_columns(m); c++)
            if (int4_group(&listed, c) != c % m->columns / group) return false;
    }
    return true;
}

void matrix_keep_words(struct matrix *m) {
    const int64_t groups = divide_up(m->columns, m->int4.group);
    const int64_t scale[] = {groups, m->rows}, zero[] = {groups, m->rows / 8};
    m->dtype = CLMOE_I32;
    m->order = m->int4.awq ? CLMOE_W_AWQ : CLMOE_W_GPTQ;
    m->bytes = (size_t)(m->rows * m->columns / 2);
    m->scale = (struct clmoe_w_scale){.dtype = CLMOE_F16,
                                      .rows = 1,
                                      .columns = groups == 1 ? 0 : m->int4.group,
                                      .zero = m->int4.zero_added ? CLMOE_ZERO_PLUS_ONE : CLMOE_ZERO_GIVEN};
    memcpy(m->scale_shape, scale, sizeof scale);
    memcpy(m->zero_shape, zero, sizeof zero);
    m->scale_bytes = (size_t)clmoe_dtype_bytes(CLMOE_F16, scale[0] * scale[1]);
    m->zero_bytes = (size_t)clmoe_dtype_bytes(CLMOE_I32, zero[0] * zero[1]);
}

void matrix_shape(const struct matrix *m, enum clmoe_w_order order, int64_t *shape) {
    const bool by_row = order == CLMOE_W_ENK;
    shape[0] = by_row ? m->rows : m->columns;
    shape[1] = by_row ? m->columns : m->rows;
    if (order == CLMOE_W_AWQ) shape[1] /= 8;
    if (order == CLMOE_W_GPTQ) shape[0] /= 8;
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

static const struct source *find_source(const struct matrix *m, int32_t expert) {
    return &m->sources[m->n_sources > 1 ? expert : 0];
}

/* Of one expert, when each has `bytes` of something in its source. */
static const char *place(const struct matrix *m, int32_t expert, const void *in_source, size_t bytes) {
    return (const char *)in_source + (m->n_sources > 1 ? 0 : (size_t)expert * bytes);
}

static struct int4_matrix int4_expert(const struct matrix *m, int32_t expert) {
    struct int4_matrix w = m->int4;
    const size_t elements = (size_t)(m->rows * m->columns);
    const size_t scales = (size_t)(divide_up(w.columns, w.group) * w.rows);
    const struct source *const source = find_source(m, expert);
    w.data = place(m, expert, source->data, elements / 2);
    w.zeros = place(m, expert, source->zeros, scales / 2);
    w.scales = place(m, expert, source->scales, scales * 2);
    w.groups = source->groups ? place(m, expert, source->groups, (size_t)w.columns * 4) : NULL;
    return w;
}

/* The columns of a row at a time would need as much memory again: they go through a piece of it. */
static void decode_int4(const struct matrix *m, int32_t expert, uint16_t *out) {
    const struct int4_matrix w = int4_expert(m, expert);
    enum { PIECE = 256 };
    float values[PIECE];
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t c = 0; c < m->columns; c += PIECE) {
            const int64_t n = m->columns - c < PIECE ? m->columns - c : PIECE;
            int4_values(&w, r, c, n, values);
            for (int64_t i = 0; i < n; i++)
                *out++ = array_f32_to_f16(values[i]);
        }
}

static bool is_decoded(const struct matrix *m) {
    return m->is_int4 && m->dtype != CLMOE_I32;
}

bool matrix_is_there(const struct matrix *m, enum clmoe_w_order order) {
    return !is_decoded(m) && m->order == order;
}

const void *matrix_expert(const struct matrix *m, int32_t expert, enum clmoe_w_order order, void *scratch) {
    if (is_decoded(m)) {
        decode_int4(m, expert, scratch);
        return scratch;
    }
    const char *const data = place(m, expert, find_source(m, expert)->data, m->bytes);
    if (m->order == order) return data;
    transpose(data, scratch, m->columns, m->rows, m->bytes / (size_t)(m->rows * m->columns));
    return scratch;
}

const void *matrix_scales(const struct matrix *m, int32_t expert) {
    return place(m, expert, find_source(m, expert)->scales, m->scale_bytes);
}

const void *matrix_zeros(const struct matrix *m, int32_t expert) {
    return place(m, expert, find_source(m, expert)->zeros, m->zero_bytes);
}

static bool fp8_to_f32(const struct matrix *m, int32_t expert, float *out, struct io_error *err) {
    struct array scales = {0}, f32 = {0};
    const enum array_dtype dtype = m->scale.dtype == CLMOE_F32 ? ARRAY_F32 : ARRAY_BF16;
    const bool ok = array_view("scales", dtype, 2, m->scale_shape, matrix_scales(m, expert), &scales, err) &&
                    array_to_f32("scales", &scales, &f32, err);
    const struct fp8_matrix w = {.data = matrix_expert(m, expert, m->order, NULL),
                                 .scales = f32.data,
                                 .rows = m->rows,
                                 .columns = m->columns,
                                 .block_rows = m->scale.rows,
                                 .block_columns = m->scale.columns};
    for (int64_t r = 0; r < m->rows && ok; r++)
        fp8_row(&w, r, out + r * m->columns);
    array_free(&scales);
    array_free(&f32);
    return ok;
}

bool matrix_to_f32(const struct matrix *m, int32_t expert, struct array *out, struct io_error *err) {
    const int64_t shape[] = {m->rows, m->columns};
    struct array array = {0};
    if (!m->is_int4 && m->dtype != CLMOE_F8_E4M3) {
        const enum array_dtype dtype = m->dtype == CLMOE_F32   ? ARRAY_F32
                                       : m->dtype == CLMOE_F16 ? ARRAY_F16
                                                               : ARRAY_BF16;
        const bool ok =
            array_view("weights", dtype, 2, shape, matrix_expert(m, expert, m->order, NULL), &array, err) &&
            array_to_f32("weights", &array, out, err);
        array_free(&array);
        return ok;
    }
    if (!array_alloc("weights", ARRAY_F32, 2, shape, out, err)) return false;
    if (!m->is_int4) return fp8_to_f32(m, expert, out->data, err);
    const struct int4_matrix w = int4_expert(m, expert);
    for (int64_t r = 0; r < m->rows; r++)
        int4_values(&w, r, 0, m->columns, (float *)out->data + r * m->columns);
    return true;
}
