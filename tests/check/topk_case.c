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

void *topk_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

static void fill_raw(struct rng *rng, int fill, enum clmoe_dtype dtype, char *raw, int64_t n) {
    const int bytes = dtype == CLMOE_F32 ? 4 : 2;
    float *const v = topk_room(n, sizeof *v);
    if (fill < FILL_COUNT) fill_floats(rng, (enum fill)fill, v, n);
    const float constant = rng_float(rng);
    for (int64_t i = 0; i < n; i++) {
        if (fill == FILL_CONSTANT) v[i] = constant;
        if (fill == FILL_NEG_INF) v[i] = -INFINITY;
        if (fill == FILL_NEG_MAX) v[i] = -FLT_MAX;
        if (fill == FILL_ASCENDING) v[i] = (float)(i / 3);
        const uint32_t bits = rng_u32(rng), sign = (bits & 1) << 31,
                       nan = sign | 0x7f800001u | (bits & 0x7fffffu);
        const uint16_t high = (uint16_t)(nan >> 16 | 1);
        if (fill == FILL_BITS)
            memcpy(raw + i * bytes, &bits, (size_t)bytes);
        else if (fill == FILL_ALL_NAN && bytes == 2) /* high bits of an f16 NaN, too */
            memcpy(raw + i * bytes, &(uint16_t){dtype == CLMOE_F16 ? high | 0x7c00 : high}, 2);
        else if (fill == FILL_ALL_NAN)
            memcpy(raw + i * bytes, &nan, 4);
        else
            ref_store(dtype, raw, i, v[i]);
    }
    free(v);
}

/* What follows from the selected indices. */
static void expect_cells(struct topk_sample *s) {
    const int64_t n = s->params.n, k = s->params.k;
    const float scale = s->params.dense_scale == 0 ? 1 : s->params.dense_scale;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; j < k; j++) {
            const int64_t i = s->indices[r * k + j];
            s->mask[r * n + i] = 1;
            s->bitmask[r * s->words + i / 32] |= 1u << i % 32;
        }
    for (int64_t i = 0; i < s->rows * n; i++) {
        if (!s->mask[i])
            ref_store(s->params.dtype, s->dense, i, (float)s->params.dense_fill.f);
        else if (scale != 1)
            ref_store(s->params.dtype, s->dense, i, scale * s->values[i]);
        else
            memcpy(s->dense + i * s->bytes, s->x + i * s->bytes, (size_t)s->bytes);
    }
}

struct topk_sample topk_sample_of(const struct clmoe_topk_params *params, int64_t rows, char *raw) {
    const int64_t n = params->n, cells = rows * n;
    struct topk_sample s = {.params = *params, .rows = rows, .words = (n + 31) / 32, .x = raw};
    s.bytes = params->dtype == CLMOE_F32 ? 4 : 2;
    s.values = topk_room(cells, sizeof *s.values);
    for (int64_t i = 0; i < cells; i++)
        s.values[i] = ref_load(params->dtype, raw, i);
    s.indices = topk_room(rows * params->k, sizeof *s.indices);
    s.mask = topk_room(cells, 1);
    s.bitmask = topk_room(rows * s.words, sizeof *s.bitmask);
    s.dense = topk_room(cells, (size_t)s.bytes);
    ref_topk(rows, n, params->k, s.values, params->smallest, params->nan == CLMOE_NAN_LOWEST,
             params->order != CLMOE_ORDER_SORTED, s.indices);
    expect_cells(&s);
    return s;
}

struct topk_sample topk_sample_filled(struct rng *rng, const struct clmoe_topk_params *params, int64_t rows,
                                      int fill) {
    char *const raw = topk_room(rows * params->n, 4);
    fill_raw(rng, fill, params->dtype, raw, rows * params->n);
    return topk_sample_of(params, rows, raw);
}

void topk_sample_free(struct topk_sample *s) {
    free(s->x), free(s->values), free(s->indices), free(s->mask), free(s->bitmask), free(s->dense);
}

/* ---- one run ---- */

struct topk_operands topk_operands_new(struct rng *rng, const struct topk_sample *s) {
    const enum clmoe_dtype dtype = s->params.dtype;
    const uint32_t out = s->params.outputs ? s->params.outputs : CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES;
    struct topk_operands o = {
        .x = guarded_ints(rng, dtype, s->rows, s->params.n, s->x),
        .values = guarded_ints(rng, dtype, s->rows, s->params.k, NULL),
        .indices = guarded_ints(rng, CLMOE_I32, s->rows, s->params.k, NULL),
        .mask = guarded_ints(rng, CLMOE_U8, s->rows, s->params.n, NULL),
        .bitmask = guarded_ints(rng, CLMOE_U32, s->rows, s->words, NULL),
        .dense = guarded_ints(rng, dtype, s->rows, s->params.n, NULL),
    };
    o.args.x = o.x.tensor;
    if (out & CLMOE_TOPK_VALUES) o.args.values = o.values.tensor;
    if (out & CLMOE_TOPK_INDICES) o.args.indices = o.indices.tensor;
    if (out & CLMOE_TOPK_MASK) o.args.mask = o.mask.tensor;
    if (out & CLMOE_TOPK_BITMASK) o.args.bitmask = o.bitmask.tensor;
    if (out & CLMOE_TOPK_DENSE) o.args.dense = o.dense.tensor;
    return o;
}

void topk_operands_free(struct topk_operands *o) {
    guarded_free(&o->x), guarded_free(&o->values), guarded_free(&o->indices);
    guarded_free(&o->mask), guarded_free(&o->bitmask), guarded_free(&o->dense);
}

static int ascending(const void *a, const void *b) {
    const int32_t p = *(const int32_t *)a, q = *(const int32_t *)b;
    return (p > q) - (p < q);
}

/* Values must be those at the indices; with the order ANY the indices of a row are sorted first. */
static void check_lists(const struct topk_sample *s, const struct topk_operands *o) {
    const int64_t n = s->params.n, k = s->params.k;
    int32_t *const indices = topk_room(s->rows * k, sizeof *indices);
    char *const values = topk_room(s->rows * k, (size_t)s->bytes);
    const bool any = s->params.order == CLMOE_ORDER_ANY;
    if (o->args.indices.mem) guarded_read(&o->indices, indices);
    if (o->args.values.mem) guarded_read(&o->values, values);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; o->args.values.mem && (!any || o->args.indices.mem) && j < k; j++) {
            const int32_t i = any ? indices[r * k + j] : s->indices[r * k + j];
            case_require(i >= 0 && i < n, "indices[%lld,%lld] = %d", (long long)r, (long long)j, (int)i);
            case_require(
                memcmp(values + (r * k + j) * s->bytes, s->x + (r * n + i) * s->bytes, (size_t)s->bytes) == 0,
                "values[%lld,%lld] is not x[%lld,%d]", (long long)r, (long long)j, (long long)r, (int)i);
        }
    for (int64_t r = 0; any && r < s->rows; r++)
        qsort(indices + r * k, (size_t)k, sizeof *indices, ascending);
    for (int64_t j = 0; o->args.indices.mem && j < s->rows * k; j++)
        case_require(indices[j] == s->indices[j], "indices[%lld,%lld] = %d, expected %d", (long long)(j / k),
                     (long long)(j % k), (int)indices[j], (int)s->indices[j]);
    free(indices), free(values);
}

static void check_bytes(const struct guarded *g, const void *want, int64_t n, int bytes, int64_t columns,
                        const char *what) {
    char *const got = topk_room(n, (size_t)bytes);
    guarded_read(g, got);
    for (int64_t i = 0; i < n; i++)
        case_require(memcmp(got + i * bytes, (const char *)want + i * bytes, (size_t)bytes) == 0,
                     "%s[%lld,%lld] differs", what, (long long)(i / columns), (long long)(i % columns));
    free(got);
}

/* Bits, except that a NaN which was multiplied or rounded may be any NaN. */
static void check_dense(const struct topk_sample *s, const struct topk_operands *o) {
    const int64_t n = s->rows * s->params.n;
    char *const got = topk_room(n, (size_t)s->bytes);
    guarded_read(&o->dense, got);
    const bool copies = s->params.dense_scale == 0 || s->params.dense_scale == 1;
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(got + i * s->bytes, s->dense + i * s->bytes, (size_t)s->bytes) == 0) continue;
        const float g = ref_load(s->params.dtype, got, i), w = ref_load(s->params.dtype, s->dense, i);
        if (isnan(g) && isnan(w) && !(copies && s->mask[i])) continue;
        case_fail("dense[%lld,%lld] = %.9g, expected %.9g", (long long)(i / s->params.n),
                  (long long)(i % s->params.n), (double)g, (double)w);
    }
    free(got);
}

void topk_compare(const struct topk_sample *s, const struct topk_operands *o) {
    check_lists(s, o);
    if (o->args.mask.mem) check_bytes(&o->mask, s->mask, s->rows * s->params.n, 1, s->params.n, "mask");
    if (o->args.bitmask.mem) check_bytes(&o->bitmask, s->bitmask, s->rows * s->words, 4, s->words, "bitmask");
    if (o->args.dense.mem) check_dense(s, o);
    guarded_read(&o->x, NULL);
}

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

void topk_run_rows(struct rng *rng, struct topk_sample *s, enum forced_caps caps, const char *what) {
    const struct clmoe_topk_params *const p = &s->params;
    s->params.plan.external_workspace = 1;
    for (int row = 0; (s->params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s %s rows=%lld n=%lld k=%lld %s%s order %d nan %d outputs %u caps %s", p->plan.kernel,
                   what, (long long)s->rows, (long long)p->n, (long long)p->k, clmoe_dtype_name(p->dtype),
                   p->smallest ? " smallest" : "", (int)p->order, (int)p->nan, (unsigned)p->outputs,
                   caps_name(caps));
        if (!topk_affordable(p->plan.kernel, s)) continue;
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(caps), p, &plan))) continue;
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
