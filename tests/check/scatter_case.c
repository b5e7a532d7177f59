/* SPDX-License-Identifier: MIT */
#include "scatter_case.h"

#include "ref/convert.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void *scatter_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

bool scatter_folds(enum clmoe_scatter_mode mode) {
    return mode == CLMOE_SCATTER_ADD || mode == CLMOE_SCATTER_MULTIPLY;
}

const char *scatter_mode_name(enum clmoe_scatter_mode mode) {
    static const char *const names[] = {"set", "mask", "add", "multiply"};
    return names[mode];
}

/* ---- tensors ---- */

/* Dimensions in a random order of their strides, steps of 1 to 3 in the nearest, gaps between the others. */
static void random_strides(struct rng *rng, int ndim, const int64_t *shape, int64_t *stride) {
    bool done[3] = {false};
    int64_t next = 1 + rng_below(rng, 2) * rng_below(rng, 3);
    for (int i = 0; i < ndim; i++) {
        int d;
        do
            d = (int)rng_below(rng, ndim);
        while (done[d]);
        done[d] = true;
        stride[d] = next;
        next = next * (shape[d] > 0 ? shape[d] : 1) + rng_below(rng, 3);
    }
}

/* The nearest dimension side by side, all others a multiple of 16 elements apart, as is the beginning. */
static struct guarded aligned_operand(struct rng *rng, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                                      const void *values) {
    const int nearest = 1; /* the inner dimension, or the columns where there is none */
    int64_t stride[3] = {0};
    int64_t next = (shape[nearest] + 15) / 16 * 16;
    stride[nearest] = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        if (d == nearest) continue;
        stride[d] = next + 16 * rng_below(rng, 3);
        next = stride[d] * shape[d];
    }
    struct guarded g = guarded_strided(rng, dtype, ndim, shape, stride, values);
    while (g.tensor.offset % 16 != 0) {
        guarded_free(&g);
        g = guarded_strided(rng, dtype, ndim, shape, stride, values);
    }
    return g;
}

/* [rows, columns] of values, laid out as the way says. The view of the test is [outer, inner, columns], that
 * of the call has the last two exchanged. */
static struct guarded operand(struct rng *rng, const struct scatter_way *way, enum clmoe_dtype dtype,
                              int64_t rows, int64_t columns, const void *values) {
    if (!way->inner && !way->strided && !way->aligned) return guarded_raw(rng, dtype, rows, columns, values);
    const int ndim = way->inner ? 3 : 2;
    const int64_t inner = way->inner ? way->inner : 1;
    const int64_t shape[3] = {rows / inner, way->inner ? inner : columns, columns};
    if (way->aligned) return aligned_operand(rng, dtype, ndim, shape, values);
    int64_t stride[3] = {columns * inner + rng_below(rng, 4), 1, inner};
    if (way->strided) random_strides(rng, ndim, shape, stride);
    return guarded_strided(rng, dtype, ndim, shape, stride, values);
}

static struct clmoe_tensor tensor_of(const struct guarded *g) {
    struct clmoe_tensor t = g->tensor;
    if (t.ndim < 3) return t;
    t.shape[1] = g->tensor.shape[2], t.shape[2] = g->tensor.shape[1];
    t.stride[1] = g->tensor.stride[2], t.stride[2] = g->tensor.stride[1];
    return t;
}

static struct guarded index_operand(struct rng *rng, const struct ref_scatter *p,
                                    const struct scatter_way *way) {
    if (way->wide) return operand(rng, way, CLMOE_I64, p->rows, p->k, p->indices);
    int32_t *const narrow = scatter_room(p->rows * p->k, sizeof *narrow);
    for (int64_t i = 0; i < p->rows * p->k; i++)
        narrow[i] = p->indices[i] > INT_MAX   ? INT_MAX
                    : p->indices[i] < INT_MIN ? INT_MIN
                                              : (int32_t)p->indices[i];
    const struct guarded g = operand(rng, way, CLMOE_I32, p->rows, p->k, narrow);
    free(narrow);
    return g;
}

/* ---- one call ---- */

cl_mem scatter_rubbish(clmoe_plan *plan) {
    const size_t size = (size_t)clmoe_plan_workspace_size(plan);
    if (!size) return NULL;
    unsigned char *const bytes = scatter_room((int64_t)size, 1);
    memset(bytes, 0x37, size);
    cl_int err;
    const cl_mem mem =
        clCreateBuffer(tester()->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, size, bytes, &err);
    free(bytes);
    case_require(err == CL_SUCCESS, "clCreateBuffer of %zu bytes: %d", size, (int)err);
    case_ok(clmoe_plan_set_workspace(plan, mem, 0));
    return mem;
}

static struct clmoe_scatter_params params_of(struct rng *rng, const struct ref_scatter *p,
                                             const struct scatter_way *way) {
    return (struct clmoe_scatter_params){
        .plan.external_workspace = 1,
        .max_rows = p->rows + rng_below(rng, 2),
        .n = p->n,
        .k = p->k,
        .dtype = p->dtype,
        .index_dtype = way->wide           ? CLMOE_I64
                       : rng_below(rng, 2) ? CLMOE_I32
                                           : (enum clmoe_dtype)0,
        .mode = p->mode,
        .fill = p->fill,
        .scale = p->scale == 1.0f && rng_below(rng, 2) ? 0.0f : p->scale,
        .slot_scale = p->slot_scale != NULL,
        .column_scale = p->column_scale != NULL,
        .from_x = scatter_folds(p->mode) && way->start != START_Y,
        .no_values = scatter_folds(p->mode) && !p->source,
    };
}

bool scatter_run_row(struct rng *rng, int row, const struct ref_scatter *p, const struct scatter_way *way,
                     void *y) {
    struct clmoe_scatter_params params = params_of(rng, p, way);
    clmoe_plan *plan;
    params.plan.kernel = clmoe_kernel_name("scatter", row);
    if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(way->caps), &params, &plan)))
        return false;
    const bool mask = p->mode == CLMOE_SCATTER_MASK, folds = scatter_folds(p->mode);
    const bool x_apart = mask ? way->start != START_SAME : way->start == START_X;
    const void *const x0 = mask ? p->source : y;
    struct guarded ids = index_operand(rng, p, way);
    struct guarded values = operand(rng, way, p->dtype, p->rows, p->k, mask ? NULL : p->source);
    struct guarded slots = operand(rng, way, CLMOE_F32, p->rows, p->k, p->slot_scale);
    struct guarded columns = guarded_floats(rng, CLMOE_F32, 1, p->n, p->column_scale);
    struct guarded x = operand(rng, way, p->dtype, p->rows, p->n, mask || folds ? x0 : NULL);
    struct guarded out = operand(rng, way, p->dtype, p->rows, p->n, (mask || folds) && !x_apart ? x0 : NULL);
    struct clmoe_scatter_args args = {.indices = tensor_of(&ids), .y = tensor_of(&out)};
    if (!mask && !params.no_values) args.values = tensor_of(&values);
    if (mask || params.from_x) args.x = x_apart ? tensor_of(&x) : args.y;
    if (p->slot_scale) args.slot_scale = tensor_of(&slots);
    if (p->column_scale) args.column_scale = as_1d(&columns);
    const cl_mem workspace = scatter_rubbish(plan);
    case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(&out, y);
    guarded_read(&ids, NULL), guarded_read(&x, NULL);
    guarded_free(&ids), guarded_free(&values), guarded_free(&slots), guarded_free(&columns);
    guarded_free(&x), guarded_free(&out);
    if (workspace) clReleaseMemObject(workspace);
    clmoe_plan_destroy(&plan);
    return true;
}

/* ---- comparison ---- */

/* fp32 denormals are optional in OpenCL: without them tiny products may become zero. */
static bool keeps_denormals(void) {
    cl_device_fp_config config = 0;
    clGetDeviceInfo(tester()->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    return config & CL_FP_DENORM;
}

static void compare(const struct ref_scatter *p, const unsigned char *got, const unsigned char *want,
                    const unsigned char *exact) {
    const size_t size = (size_t)clmoe_dtype_bytes(p->dtype, 1);
    const bool strict = keeps_denormals();
    for (int64_t i = 0; i < p->rows * p->n; i++) {
        if (memcmp(got + size * (size_t)i, want + size * (size_t)i, size) == 0) continue;
        if (exact[i]) {
            uint64_t g = 0, w = 0;
            memcpy(&g, got + size * (size_t)i, size);
            memcpy(&w, want + size * (size_t)i, size);
            case_fail("y[%lld, %lld] has bits %llx, expected %llx", (long long)(i / p->n),
                      (long long)(i % p->n), (unsigned long long)g, (unsigned long long)w);
        }
        const float g = ref_load(p->dtype, got, i), w = ref_load(p->dtype, want, i);
        if (isnan(g) && isnan(w)) continue;
        if (!strict && fabsf(g - w) <= 0x1p-100f) continue;
        case_fail("y[%lld, %lld] = %.9g, expected %.9g", (long long)(i / p->n), (long long)(i % p->n),
                  (double)g, (double)w);
    }
}

/* The reference row takes rows * n * k steps. */
static bool affordable(const char *name, const struct ref_scatter *p) {
    return strcmp(name, "scatter_ref") != 0 || p->rows * p->n * p->k <= (int64_t)40000000;
}

void scatter_check_rows(struct rng *rng, const struct ref_scatter *p, const struct scatter_way *way,
                        const void *y0, const char *what) {
    static const char *const starts[] = {"", " from x", " x is y"};
    const int64_t cells = p->rows * p->n;
    const size_t bytes = (size_t)clmoe_dtype_bytes(p->dtype, cells);
    void *const want = scatter_room((int64_t)bytes, 1), *const got = scatter_room((int64_t)bytes, 1);
    unsigned char *const exact = scatter_room(cells, 1);
    if (y0) memcpy(want, y0, bytes);
    ref_scatter(p, want, exact);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("scatter", row)); row++) {
        if (!affordable(name, p)) continue;
        case_begin("%s %s %s rows=%lld (inner %lld) n=%lld k=%lld %s scale %g caps %s%s%s%s%s%s%s", name,
                   scatter_mode_name(p->mode), what, (long long)p->rows, (long long)way->inner,
                   (long long)p->n, (long long)p->k, clmoe_dtype_name(p->dtype), (double)p->scale,
                   caps_name(way->caps), p->slot_scale ? " slot_scale" : "",
                   p->column_scale ? " column_scale" : "", starts[way->start],
                   way->strided   ? " strided"
                   : way->aligned ? " aligned"
                                  : "",
                   way->wide ? " i64" : "", scatter_folds(p->mode) && !p->source ? " no values" : "");
        if (y0) memcpy(got, y0, bytes);
        if (scatter_run_row(rng, row, p, way, got)) compare(p, got, want, exact);
    }
    free(want), free(got), free(exact);
}
