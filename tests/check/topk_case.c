/* SPDX-License-Identifier: MIT
 * Samples of topk and runs of them. */
#include "topk_case.h"

#include "ref/convert.h"
#include "ref/topk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const own_fills[] = {"bits", "constant", "-inf", "nan", "-max", "ascending"};

const enum clmoe_dtype topk_dtypes[TOPK_DTYPES] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16, CLMOE_F64,
                                                   CLMOE_I8,  CLMOE_U8,  CLMOE_I16,  CLMOE_U16,
                                                   CLMOE_I32, CLMOE_U32, CLMOE_I64,  CLMOE_U64};

void *topk_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

/* ---- elements ---- */

static int bytes_of(enum clmoe_dtype dtype) {
    return (int)clmoe_dtype_bytes(dtype, 1);
}

static bool small_float(enum clmoe_dtype dtype) {
    return dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16;
}

static bool is_float(enum clmoe_dtype dtype) {
    return small_float(dtype) || dtype == CLMOE_F64;
}

static bool is_signed(enum clmoe_dtype dtype) {
    return dtype == CLMOE_I8 || dtype == CLMOE_I16 || dtype == CLMOE_I32 || dtype == CLMOE_I64;
}

static void store_bits(enum clmoe_dtype dtype, void *raw, int64_t i, uint64_t bits) {
    for (int b = 0; b < bytes_of(dtype); b++)
        ((unsigned char *)raw)[i * bytes_of(dtype) + b] = (unsigned char)(bits >> 8 * b);
}

void topk_store(enum clmoe_dtype dtype, void *raw, int64_t i, union clmoe_scalar v) {
    if (small_float(dtype))
        ref_store(dtype, raw, i, (float)v.f);
    else
        store_bits(dtype, raw, i, v.u);
}

union clmoe_scalar topk_scalar(enum clmoe_dtype dtype, double v) {
    union clmoe_scalar s = {0};
    if (is_float(dtype))
        s.f = v;
    else if (is_signed(dtype))
        s.i = (int64_t)v;
    else
        s.u = (uint64_t)v;
    return s;
}

/* The bits of an infinity, or all of the largest integer's. */
static uint64_t top_bits(enum clmoe_dtype dtype) {
    switch (dtype) {
    case CLMOE_F32: return 0x7f800000u;
    case CLMOE_F16: return 0x7c00;
    case CLMOE_BF16: return 0x7f80;
    case CLMOE_F64: return 0x7ff0000000000000u;
    default: return UINT64_MAX >> (64 - 8 * bytes_of(dtype) + is_signed(dtype));
    }
}

static uint64_t random_bits(struct rng *rng) {
    const uint64_t high = rng_u32(rng);
    return high << 32 | rng_u32(rng);
}

static uint64_t integer_bits(struct rng *rng, int fill, enum clmoe_dtype dtype) {
    const uint64_t top = top_bits(dtype), ends[] = {0, 1, top, top - 1, top + is_signed(dtype), UINT64_MAX};
    switch (fill) {
    case FILL_TIES: return (uint64_t)(rng_below(rng, 4) - (is_signed(dtype) ? 2 : 0));
    case FILL_EXTREMES: return ends[rng_below(rng, sizeof ends / sizeof *ends)];
    default: return random_bits(rng);
    }
}

static void fill_raw(struct rng *rng, int fill, enum clmoe_dtype dtype, char *raw, int64_t n) {
    const uint64_t sign = (uint64_t)1 << (8 * bytes_of(dtype) - 1), top = top_bits(dtype);
    const bool real = is_float(dtype);
    const uint64_t lowest = real ? sign | top : is_signed(dtype) ? sign : 0;
    float *const v = topk_room(n, sizeof *v);
    if (fill < FILL_COUNT) fill_floats(rng, (enum fill)fill, v, n);
    const uint64_t constant = real ? top - 1 - (uint64_t)rng_below(rng, 1000) : random_bits(rng);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t bits = random_bits(rng);
        if (fill == FILL_BITS)
            store_bits(dtype, raw, i, bits);
        else if (fill == FILL_CONSTANT)
            store_bits(dtype, raw, i, constant);
        else if (fill == FILL_NEG_INF)
            store_bits(dtype, raw, i, lowest);
        else if (fill == FILL_NEG_MAX)
            store_bits(dtype, raw, i, real ? lowest - 1 : lowest + 1);
        else if (fill == FILL_ALL_NAN)
            store_bits(dtype, raw, i, real ? (bits | top | 1) : top);
        else if (fill == FILL_ASCENDING)
            topk_store(dtype, raw, i, topk_scalar(dtype, (double)(i / 3 % 120)));
        else if (real) /* of f64 more than what a float holds */
            topk_store(dtype, raw, i,
                       (union clmoe_scalar){.f = fill == FILL_RANDOM && dtype == CLMOE_F64
                                                     ? (double)v[i] * (1 + (double)(bits >> 40) * 0x1p-50)
                                                     : (double)v[i]});
        else
            store_bits(dtype, raw, i, integer_bits(rng, fill, dtype));
    }
    free(v);
}

/* Numbers for an array of rows: mostly sensible, for some rows not at all. */
static int32_t *fill_array(struct rng *rng, int64_t rows, int64_t n) {
    const int64_t odd[] = {INT32_MIN, -1, 0, 1, n - 1, n, n + 1, INT32_MAX, -n};
    int32_t *const v = topk_room(rows, sizeof *v);
    for (int64_t r = 0; r < rows; r++)
        v[r] = (int32_t)(rng_below(rng, 3) ? rng_below(rng, n + 1)
                                           : odd[rng_below(rng, sizeof odd / sizeof *odd)]);
    return v;
}

/* ---- samples ---- */

/* What follows from the selected indices. */
static void expect_cells(struct topk_sample *s) {
    const int64_t n = s->params.n, k = s->params.k;
    const enum clmoe_dtype dtype = s->params.dtype;
    const float scale = s->params.dense_scale == 0 ? 1 : s->params.dense_scale;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; j < k; j++) {
            const int64_t i = s->indices[r * k + j];
            if (i < 0) continue;
            s->mask[r * n + i] = 1;
            s->bitmask[r * s->words + i / 32] |= 1u << i % 32;
            s->counts[i]++;
        }
    for (int64_t i = 0; i < s->rows * n; i++) {
        if (!s->mask[i])
            topk_store(dtype, s->dense, i, s->params.dense_fill);
        else if (scale != 1)
            ref_store(dtype, s->dense, i, scale * ref_load(dtype, s->x, i));
        else
            memcpy(s->dense + i * s->bytes, s->x + i * s->bytes, (size_t)s->bytes);
    }
    for (int64_t r = 0; r < s->rows; r++)
        memcpy(s->threshold + r * s->bytes, s->cut[r] < 0 ? s->pad : s->x + (r * n + s->cut[r]) * s->bytes,
               (size_t)s->bytes);
}

struct topk_sample topk_sample_with(const struct clmoe_topk_params *params, int64_t rows, char *raw,
                                    int32_t *row_begin, int32_t *row_length, int32_t *row_k) {
    const int64_t n = params->n, cells = rows * n;
    struct topk_sample s = {.params = *params,
                            .rows = rows,
                            .words = (n + 31) / 32,
                            .bytes = bytes_of(params->dtype),
                            .x = raw,
                            .row_begin = row_begin,
                            .row_length = row_length,
                            .row_k = row_k};
    const struct ref_topk ref = {.rows = rows,
                                 .n = n,
                                 .k = params->k,
                                 .dtype = params->dtype,
                                 .smallest = params->smallest,
                                 .by_index = params->order != CLMOE_ORDER_SORTED,
                                 .nan = params->nan,
                                 .ties = params->ties,
                                 .row_begin = row_begin,
                                 .row_length = row_length,
                                 .row_k = row_k};
    s.indices = topk_room(rows * params->k, sizeof *s.indices);
    s.cut = topk_room(rows, sizeof *s.cut);
    s.mask = topk_room(cells, 1);
    s.bitmask = topk_room(rows * s.words, sizeof *s.bitmask);
    s.counts = topk_room(n, sizeof *s.counts);
    s.dense = topk_room(cells, (size_t)s.bytes);
    s.threshold = topk_room(rows, (size_t)s.bytes);
    topk_store(params->dtype, s.pad, 0, params->pad_value);
    ref_topk(&ref, raw, s.indices, s.cut);
    expect_cells(&s);
    return s;
}

struct topk_sample topk_sample_of(const struct clmoe_topk_params *params, int64_t rows, char *raw) {
    return topk_sample_with(params, rows, raw, NULL, NULL, NULL);
}

struct topk_sample topk_sample_filled(struct rng *rng, const struct clmoe_topk_params *params, int64_t rows,
                                      int fill) {
    char *const raw = topk_room(rows * params->n, 8);
    fill_raw(rng, fill, params->dtype, raw, rows * params->n);
    return topk_sample_with(params, rows, raw, params->row_begin ? fill_array(rng, rows, params->n) : NULL,
                            params->row_length ? fill_array(rng, rows, params->n) : NULL,
                            params->row_k ? fill_array(rng, rows, params->k) : NULL);
}

void topk_sample_free(struct topk_sample *s) {
    free(s->x), free(s->row_begin), free(s->row_length), free(s->row_k);
    free(s->indices), free(s->cut), free(s->mask), free(s->bitmask), free(s->counts), free(s->dense);
    free(s->threshold);
}

/* ---- operands ---- */

/* From [rows, columns] to [rows / inner, columns, inner], or back. */
static void turn(const struct topk_sample *s, char *to, const char *from, int64_t columns, int bytes,
                 bool back) {
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t i = 0; i < columns; i++) {
            const int64_t flat = r * columns + i,
                          deep = (r / s->inner * columns + i) * s->inner + r % s->inner;
            memcpy(to + (back ? flat : deep) * bytes, from + (back ? deep : flat) * bytes, (size_t)bytes);
        }
}

/* Dimensions in any order, each stepping past what the ones before span, with a gap or without. */
static void choose_strides(struct rng *rng, int ndim, const int64_t *shape, bool gaps, int64_t *stride) {
    bool done[3] = {false};
    int64_t step = 1;
    for (int i = 0; i < ndim; i++) {
        int d = gaps ? (int)rng_below(rng, ndim) : ndim - 1 - i;
        while (done[d])
            d = (d + 1) % ndim;
        done[d] = true;
        stride[d] = step + (gaps ? rng_below(rng, 3) : 0);
        step = stride[d] * (shape[d] > 1 ? shape[d] : 1);
    }
}

/* A tensor with a row of `columns` for each row, in the layout of the sample; `raw` [rows, columns] or NULL.
 */
static struct guarded matrix_new(struct rng *rng, const struct topk_sample *s, enum clmoe_dtype dtype,
                                 int64_t columns, const char *raw, bool broadcast) {
    if (!s->inner && !s->strided && !broadcast) return guarded_raw(rng, dtype, s->rows, columns, raw);
    const int ndim = s->inner ? 3 : 2;
    const int64_t shape[3] = {s->inner ? s->rows / s->inner : s->rows, columns, s->inner};
    int64_t stride[3] = {0};
    choose_strides(rng, ndim, shape, s->strided, stride);
    if (broadcast) stride[0] = stride[2] = 0;
    if (!raw || !s->inner) return guarded_strided(rng, dtype, ndim, shape, stride, raw);
    char *const turned = topk_room(s->rows * columns, (size_t)bytes_of(dtype));
    turn(s, turned, raw, columns, bytes_of(dtype), false);
    const struct guarded g = guarded_strided(rng, dtype, ndim, shape, stride, turned);
    free(turned);
    return g;
}

static char *matrix_read(const struct topk_sample *s, const struct guarded *g, int64_t columns) {
    const int bytes = bytes_of(g->tensor.dtype);
    char *const got = topk_room(s->rows * columns, (size_t)bytes);
    guarded_read(g, got);
    if (!s->inner) return got;
    char *const flat = topk_room(s->rows * columns, (size_t)bytes);
    turn(s, flat, got, columns, bytes, true);
    free(got);
    return flat;
}

static struct guarded array_new(struct rng *rng, enum clmoe_dtype dtype, int64_t n, const void *raw) {
    return guarded_bytes(rng, dtype, 1, &n, raw);
}

static enum clmoe_dtype index_dtype(const struct topk_sample *s) {
    return s->params.index_dtype == CLMOE_I64 ? CLMOE_I64 : CLMOE_I32;
}

struct topk_operands topk_operands_new(struct rng *rng, const struct topk_sample *s) {
    const enum clmoe_dtype dtype = s->params.dtype, index = index_dtype(s);
    const uint32_t out = s->params.outputs ? s->params.outputs : CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES;
    const int64_t n = s->params.n, k = s->params.k;
    struct topk_operands o = {
        .x = matrix_new(rng, s, dtype, n, s->x, s->broadcast),
        .row_begin = array_new(rng, CLMOE_I32, s->rows, s->row_begin),
        .row_length = array_new(rng, CLMOE_I32, s->rows, s->row_length),
        .row_k = array_new(rng, CLMOE_I32, s->rows, s->row_k),
        .values = matrix_new(rng, s, dtype, k, NULL, false),
        .indices = matrix_new(rng, s, index, k, NULL, false),
        .mask = matrix_new(rng, s, CLMOE_U8, n, NULL, false),
        .bitmask = matrix_new(rng, s, CLMOE_U32, s->words, NULL, false),
        .dense = matrix_new(rng, s, dtype, n, NULL, false),
        .threshold = array_new(rng, dtype, s->rows, NULL),
        .cut = array_new(rng, index, s->rows, NULL),
        .counts = array_new(rng, CLMOE_U32, n, NULL),
    };
    o.args.x = o.x.tensor;
    if (s->row_begin) o.args.row_begin = o.row_begin.tensor;
    if (s->row_length) o.args.row_length = o.row_length.tensor;
    if (s->row_k) o.args.row_k = o.row_k.tensor;
    if (out & CLMOE_TOPK_VALUES) o.args.values = o.values.tensor;
    if (out & CLMOE_TOPK_INDICES) o.args.indices = o.indices.tensor;
    if (out & CLMOE_TOPK_MASK) o.args.mask = o.mask.tensor;
    if (out & CLMOE_TOPK_BITMASK) o.args.bitmask = o.bitmask.tensor;
    if (out & CLMOE_TOPK_DENSE) o.args.dense = o.dense.tensor;
    if (out & CLMOE_TOPK_THRESHOLD) o.args.threshold = o.threshold.tensor, o.args.cut = o.cut.tensor;
    if (out & CLMOE_TOPK_COUNTS) o.args.counts = o.counts.tensor;
    return o;
}

void topk_operands_free(struct topk_operands *o) {
    guarded_free(&o->x), guarded_free(&o->row_begin), guarded_free(&o->row_length), guarded_free(&o->row_k);
    guarded_free(&o->values), guarded_free(&o->indices), guarded_free(&o->mask), guarded_free(&o->bitmask);
    guarded_free(&o->dense), guarded_free(&o->threshold), guarded_free(&o->cut), guarded_free(&o->counts);
}

/* ---- comparison ---- */

static int ascending(const void *a, const void *b) {
    const int64_t p = *(const int64_t *)a, q = *(const int64_t *)b;
    return (p > q) - (p < q);
}

/* Indices of either width; freed by the caller. */
static int64_t *widened(char *raw, enum clmoe_dtype dtype, int64_t n) {
    if (dtype == CLMOE_I64) return (int64_t *)(void *)raw;
    int64_t *const wide = topk_room(n, sizeof *wide);
    for (int64_t i = 0; i < n; i++) {
        int32_t v;
        memcpy(&v, raw + 4 * i, 4);
        wide[i] = v;
    }
    free(raw);
    return wide;
}

/* Values must be those at the indices, in the order they come in. */
static void check_values(const struct topk_sample *s, const char *values, const int64_t *indices) {
    const int64_t n = s->params.n, k = s->params.k;
    for (int64_t j = 0; j < s->rows * k; j++) {
        const int64_t i = indices[j], r = j / k;
        case_require(i >= -1 && i < n, "indices[%lld,%lld] = %lld", (long long)r, (long long)(j % k),
                     (long long)i);
        const char *const want = i < 0 ? s->pad : s->x + (r * n + i) * s->bytes;
        case_require(memcmp(values + j * s->bytes, want, (size_t)s->bytes) == 0,
                     "values[%lld,%lld] is not x[%lld,%lld]", (long long)r, (long long)(j % k), (long long)r,
                     (long long)i);
    }
}

/* With the order ANY the indices of a row are sorted first, all but the padding behind them. */
static void check_lists(const struct topk_sample *s, const struct topk_operands *o) {
    const int64_t k = s->params.k;
    const bool any = s->params.order == CLMOE_ORDER_ANY;
    int64_t *const indices =
        o->args.indices.mem ? widened(matrix_read(s, &o->indices, k), index_dtype(s), s->rows * k) : NULL;
    if (o->args.values.mem && (!any || indices)) {
        char *const values = matrix_read(s, &o->values, k);
        check_values(s, values, any ? indices : s->indices);
        free(values);
    }
    for (int64_t r = 0; any && indices && r < s->rows; r++) {
        int64_t selected = 0;
        while (selected < k && s->indices[r * k + selected] >= 0)
            selected++;
        qsort(indices + r * k, (size_t)selected, sizeof *indices, ascending);
    }
    for (int64_t j = 0; indices && j < s->rows * k; j++)
        case_require(indices[j] == s->indices[j], "indices[%lld,%lld] = %lld, expected %lld",
                     (long long)(j / k), (long long)(j % k), (long long)indices[j], (long long)s->indices[j]);
    free(indices);
}

/* Frees what was read. */
static void check_bytes(char *got, const void *want, int64_t n, int bytes, int64_t columns,
                        const char *what) {
    for (int64_t i = 0; i < n; i++)
        case_require(memcmp(got + i * bytes, (const char *)want + i * bytes, (size_t)bytes) == 0,
                     "%s[%lld,%lld] differs", what, (long long)(i / columns), (long long)(i % columns));
    free(got);
}

/* Bits, except that a NaN which was multiplied or rounded may be any NaN. */
static void check_dense(const struct topk_sample *s, const struct topk_operands *o) {
    const int64_t n = s->rows * s->params.n;
    const enum clmoe_dtype dtype = s->params.dtype;
    char *const got = matrix_read(s, &o->dense, s->params.n);
    const bool copies = s->params.dense_scale == 0 || s->params.dense_scale == 1;
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(got + i * s->bytes, s->dense + i * s->bytes, (size_t)s->bytes) == 0) continue;
        if (small_float(dtype) && isnan(ref_load(dtype, got, i)) && isnan(ref_load(dtype, s->dense, i)) &&
            !(copies && s->mask[i]))
            continue;
        case_fail("dense[%lld,%lld] differs", (long long)(i / s->params.n), (long long)(i % s->params.n));
    }
    free(got);
}

static void check_threshold(const struct topk_sample *s, const struct topk_operands *o) {
    char *const values = topk_room(s->rows, (size_t)s->bytes), *const raw = topk_room(s->rows, 8);
    guarded_read(&o->threshold, values);
    guarded_read(&o->cut, raw);
    int64_t *const cut = widened(raw, index_dtype(s), s->rows);
    for (int64_t r = 0; r < s->rows; r++)
        case_require(cut[r] == s->cut[r], "cut[%lld] = %lld, expected %lld", (long long)r, (long long)cut[r],
                     (long long)s->cut[r]);
    free(cut);
    check_bytes(values, s->threshold, s->rows, s->bytes, 1, "threshold");
}

void topk_compare(const struct topk_sample *s, const struct topk_operands *o) {
    const int64_t n = s->params.n;
    check_lists(s, o);
    if (o->args.mask.mem) check_bytes(matrix_read(s, &o->mask, n), s->mask, s->rows * n, 1, n, "mask");
    if (o->args.bitmask.mem)
        check_bytes(matrix_read(s, &o->bitmask, s->words), s->bitmask, s->rows * s->words, 4, s->words,
                    "bitmask");
    if (o->args.dense.mem) check_dense(s, o);
    if (o->args.threshold.mem) check_threshold(s, o);
    if (o->args.counts.mem) {
        char *const counts = topk_room(n, 4);
        guarded_read(&o->counts, counts);
        check_bytes(counts, s->counts, n, 4, n, "counts");
    }
    guarded_read(&o->x, NULL);
    guarded_read(&o->row_begin, NULL), guarded_read(&o->row_length, NULL), guarded_read(&o->row_k, NULL);
}

/* ---- runs ---- */

bool topk_affordable(const char *name, const struct topk_sample *s) {
    const int64_t steps = s->rows * s->params.n * (strcmp(name, "topk_ref") == 0 ? s->params.k + 1 : 1);
    return steps <= (tester()->small ? 30000 : 40000000);
}

cl_mem topk_workspace(clmoe_plan *plan) {
    const size_t size = (size_t)clmoe_plan_workspace_size(plan);
    if (size == 0) return NULL;
    unsigned char *const rubbish = topk_room((int64_t)size, 1);
    memset(rubbish, 0xa5, size);
    cl_int err;
    const cl_mem mem =
        clCreateBuffer(tester()->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, size, rubbish, &err);
    free(rubbish);
    case_require(err == CL_SUCCESS, "clCreateBuffer of %zu bytes: %d", size, (int)err);
    case_ok(clmoe_plan_set_workspace(plan, mem, 0));
    return mem;
}

static void describe_case(const struct topk_sample *s, enum forced_caps caps, const char *what) {
    const struct clmoe_topk_params *const p = &s->params;
    case_begin("%s %s rows=%lld inner=%lld n=%lld k=%lld %s%s order %d nan %d ties %d arrays %d%d%d "
               "outputs %u%s%s%s caps %s",
               p->plan.kernel, what, (long long)s->rows, (long long)s->inner, (long long)p->n,
               (long long)p->k, clmoe_dtype_name(p->dtype), p->smallest ? " smallest" : "", (int)p->order,
               (int)p->nan, (int)p->ties, p->row_begin, p->row_length, p->row_k, (unsigned)p->outputs,
               p->index_dtype == CLMOE_I64 ? " i64" : "", s->strided ? " strided" : "",
               s->broadcast ? " broadcast" : "", caps_name(caps));
}

void topk_run_rows(struct rng *rng, struct topk_sample *s, enum forced_caps caps, const char *what) {
    s->params.plan.external_workspace = 1;
    for (int row = 0; (s->params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        describe_case(s, caps, what);
        if (!topk_affordable(s->params.plan.kernel, s)) continue;
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(caps), &s->params, &plan))) continue;
        const cl_mem workspace = topk_workspace(plan);
        struct topk_operands o = topk_operands_new(rng, s);
        case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
        topk_compare(s, &o);
        topk_operands_free(&o);
        if (workspace) clReleaseMemObject(workspace);
        clmoe_plan_destroy(&plan);
    }
}

void topk_run_fill(uint64_t number, struct clmoe_topk_params params, int64_t rows, int fill,
                   enum forced_caps caps) {
    struct rng rng = rng_for(number);
    if (params.max_rows == 0) params.max_rows = rows;
    struct topk_sample s = topk_sample_filled(&rng, &params, rows, fill);
    topk_run_rows(&rng, &s, caps,
                  fill < FILL_COUNT ? fill_name((enum fill)fill) : own_fills[fill - FILL_COUNT]);
    topk_sample_free(&s);
}
