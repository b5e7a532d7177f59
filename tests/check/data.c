/* SPDX-License-Identifier: MIT
 * Random data, guarded buffers, comparison. */
#include "harness.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 256
#define POISON 0xa5

/* splitmix64 */
static uint64_t next(struct rng *rng) {
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct rng rng_for(uint64_t test_case) {
    struct rng rng = {rng_seed() * 0x2545f4914f6cdd1du + test_case};
    next(&rng);
    return rng;
}

uint32_t rng_u32(struct rng *rng) {
    return (uint32_t)(next(rng) >> 32);
}

int64_t rng_below(struct rng *rng, int64_t n) {
    return (int64_t)(next(rng) % (uint64_t)n);
}

float rng_float(struct rng *rng) {
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (double)rng_u32(rng) / 4294967296.0;
    return (float)(sum - 6.0);
}

const char *fill_name(enum fill fill) {
    static const char *const names[FILL_COUNT] = {"random", "ties", "extremes", "nan_inf"};
    return names[fill];
}

static float extreme(struct rng *rng) {
    static const float values[] = {0.0f, -0.0f, FLT_MAX,  -FLT_MAX,  FLT_MIN, -FLT_MIN, 1e-40f,     -1e-40f,
                                   1.0f, -1.0f, 65504.0f, -65504.0f, 6e-8f,   -6e-8f,   1.0000001f, 3e38f};
    return values[rng_below(rng, sizeof values / sizeof *values)];
}

static float special(struct rng *rng) {
    static const uint32_t bits[] = {0x7fc00000u, 0xffc00000u, 0x7fc12300u,
                                    0xff812345u, 0x7f800000u, 0xff800000u};
    float v;
    memcpy(&v, &bits[rng_below(rng, sizeof bits / sizeof *bits)], sizeof v);
    return v;
}

void fill_floats(struct rng *rng, enum fill fill, float *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        switch (fill) {
        case FILL_TIES: v[i] = (float)(rng_below(rng, 4) - 2) * 0.5f; break;
        case FILL_EXTREMES: v[i] = extreme(rng); break;
        case FILL_NAN_INF: v[i] = rng_below(rng, 4) ? rng_float(rng) : special(rng); break;
        default: v[i] = rng_float(rng); break;
        }
    }
}

static void distinct_ids(struct rng *rng, int32_t *ids, int k, int experts) {
    for (int j = 0; j < k; j++) {
        bool taken;
        do {
            ids[j] = (int32_t)rng_below(rng, experts);
            taken = false;
            for (int i = 0; i < j; i++)
                taken |= ids[i] == ids[j];
        } while (taken && k <= experts);
    }
}

void fill_ids(struct rng *rng, enum routing_fill fill, int32_t *ids, int64_t tokens, int k, int experts) {
    const int32_t one = (int32_t)rng_below(rng, experts);
    for (int64_t t = 0; t < tokens; t++) {
        int32_t *const row = ids + t * k;
        if (fill == ROUTING_RANDOM) distinct_ids(rng, row, k, experts);
        if (fill == ROUTING_ONE_EXPERT)
            for (int j = 0; j < k; j++)
                row[j] = one;
        if (fill == ROUTING_SKIPS)
            for (int j = 0; j < k; j++)
                row[j] = (int32_t)rng_below(rng, experts + 2) - 1;
    }
}

/* ---- guarded buffers ---- */

static unsigned char *view_row(const struct guarded *g, unsigned char *base, int64_t row) {
    const int64_t blocks = row * g->tensor.stride[0] / ref_block_length(g->tensor.dtype);
    return base + g->tensor.offset + (size_t)(blocks * ref_block_bytes(g->tensor.dtype));
}

static bool align;

void guarded_align(bool on) {
    align = on;
}

static int64_t round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static struct guarded guarded_new(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                                  bool pad) {
    const int length = ref_block_length(dtype), size = ref_block_bytes(dtype);
    const int64_t padding = pad ? rng_below(rng, 4) * length : 0;
    const int64_t stride = pad && align ? round_up((n + padding) * size, 16) / size : n + padding;
    struct guarded g = {0};
    g.tensor.dtype = dtype;
    g.tensor.ndim = 2;
    g.tensor.shape[0] = rows;
    g.tensor.shape[1] = n;
    g.tensor.stride[0] = stride ? stride : 1;
    g.tensor.stride[1] = 1;
    g.tensor.offset = GUARD + (uint64_t)(rng_below(rng, 8) * (dtype == CLMOE_MXFP4 ? 1
                                                              : length > 1         ? 2
                                                                                   : size));
    if (align) g.tensor.offset = (uint64_t)round_up((int64_t)g.tensor.offset, 16);
    g.bytes = (size_t)(g.tensor.offset + (uint64_t)(rows * stride / length * size) + GUARD);
    g.image = malloc(g.bytes);
    if (!g.image) abort();
    memset(g.image, POISON, g.bytes);
    return g;
}

/* Inputs, of `last` elements or more, end with them where the simulator is, which then sees any read behind. */
static void guarded_upload(struct guarded *g, int64_t last) {
    cl_int err;
    if (tester()->small && last > 0)
        g->bytes = (size_t)g->tensor.offset + (size_t)clmoe_dtype_bytes(g->tensor.dtype, last);
    g->mem =
        clCreateBuffer(tester()->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, g->bytes, g->image, &err);
    case_require(err == CL_SUCCESS, "clCreateBuffer of %zu bytes: %d", g->bytes, (int)err);
    g->tensor.mem = g->mem;
}

struct guarded guarded_floats(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                              const float *values) {
    struct guarded g = guarded_new(rng, dtype, rows, n, true);
    for (int64_t r = 0; values && r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            ref_store(dtype, view_row(&g, g.image, r), i, values[r * n + i]);
    guarded_upload(&g, values ? (rows - 1) * g.tensor.stride[0] + n : 0);
    return g;
}

struct guarded guarded_raw(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                           const void *values) {
    struct guarded g = guarded_new(rng, dtype, rows, n, true);
    const size_t row = (size_t)clmoe_dtype_bytes(dtype, n);
    for (int64_t r = 0; values && r < rows; r++)
        if (row) memcpy(view_row(&g, g.image, r), (const char *)values + (size_t)r * row, row);
    guarded_upload(&g, values ? (rows - 1) * g.tensor.stride[0] + n : 0);
    return g;
}

struct guarded guarded_ints(struct rng *rng, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                            const void *values) {
    return guarded_raw(rng, dtype, rows, n, values);
}

struct guarded guarded_bytes(struct rng *rng, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                             const void *bytes) {
    int64_t count = 1;
    for (int d = 0; d < ndim; d++)
        count *= shape[d];
    const int64_t size = clmoe_dtype_bytes(dtype, count);
    struct guarded g = guarded_new(rng, dtype, 1, count, false);
    if (bytes && size) memcpy(view_row(&g, g.image, 0), bytes, (size_t)size);
    guarded_upload(&g, bytes ? count : 0);
    g.tensor.ndim = ndim;
    memset(g.tensor.stride, 0, sizeof g.tensor.stride);
    for (int d = 0; d < ndim; d++)
        g.tensor.shape[d] = shape[d];
    return g;
}

/* Where element `e` of all, counted densely, lies in the image. */
static size_t strided_place(const struct guarded *g, int64_t e) {
    int64_t at = 0;
    for (int d = g->tensor.ndim - 1; d >= 0; d--) {
        const int64_t i = e % g->tensor.shape[d];
        e /= g->tensor.shape[d];
        at += i * g->tensor.stride[d];
    }
    return (size_t)g->tensor.offset + (size_t)(at * clmoe_dtype_bytes(g->tensor.dtype, 1));
}

static int64_t elements_of(const struct clmoe_tensor *t) {
    int64_t count = 1;
    for (int d = 0; d < t->ndim; d++)
        count *= t->shape[d];
    return count;
}

struct guarded guarded_strided(struct rng *rng, enum clmoe_dtype dtype, int ndim, const int64_t *shape,
                               const int64_t *stride, const void *values) {
    int64_t span = 1;
    for (int d = 0; d < ndim; d++)
        span += shape[d] > 0 ? (shape[d] - 1) * stride[d] : 0;
    struct guarded g = guarded_new(rng, dtype, 1, span, false);
    const size_t size = (size_t)clmoe_dtype_bytes(dtype, 1);
    g.strided = true;
    g.tensor.ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        g.tensor.shape[d] = shape[d];
        g.tensor.stride[d] = stride[d];
    }
    for (int64_t e = 0, count = elements_of(&g.tensor); values && e < count; e++)
        memcpy(g.image + strided_place(&g, e), (const char *)values + (size_t)e * size, size);
    guarded_upload(&g, values ? span : 0);
    return g;
}

struct clmoe_tensor as_1d(const struct guarded *g) {
    struct clmoe_tensor t = g->tensor;
    t.ndim = 1;
    t.shape[0] = g->tensor.shape[g->tensor.ndim - 1] * (g->tensor.ndim == 2 ? g->tensor.shape[0] : 1);
    memset(t.stride, 0, sizeof t.stride);
    return t;
}

/* Copies the view's elements to `out` and puts those of the image in their place: what is left may only
 * differ outside of the view. */
static void take_elements(const struct guarded *g, unsigned char *now, void *out) {
    const size_t size = (size_t)clmoe_dtype_bytes(g->tensor.dtype, 1);
    for (int64_t e = 0, count = elements_of(&g->tensor); e < count; e++) {
        const size_t at = strided_place(g, e);
        if (out) memcpy((char *)out + (size_t)e * size, now + at, size);
    }
    for (int64_t e = 0, count = elements_of(&g->tensor); e < count; e++)
        memcpy(now + strided_place(g, e), g->image + strided_place(g, e), size);
}

static void take_rows(const struct guarded *g, unsigned char *now, void *out) {
    const bool flat = g->tensor.stride[0] == 0; /* made by guarded_bytes */
    const int64_t rows = flat ? 1 : g->tensor.shape[0];
    const size_t row =
        (size_t)clmoe_dtype_bytes(g->tensor.dtype, flat ? elements_of(&g->tensor) : g->tensor.shape[1]);
    for (int64_t r = 0; r < rows; r++) {
        unsigned char *const at = flat ? now + g->tensor.offset : view_row(g, now, r);
        if (out && row) memcpy((char *)out + (size_t)r * row, at, row);
        memcpy(at, g->image + (at - now), row);
    }
}

void guarded_read(const struct guarded *g, void *out) {
    unsigned char *const now = malloc(g->bytes);
    if (!now) abort();
    const cl_int err = clEnqueueReadBuffer(tester()->queue, g->mem, CL_TRUE, 0, g->bytes, now, 0, NULL, NULL);
    if (err == CL_SUCCESS && g->strided)
        take_elements(g, now, out);
    else if (err == CL_SUCCESS)
        take_rows(g, now, out);
    size_t bad = 0;
    while (bad < g->bytes && now[bad] == g->image[bad])
        bad++;
    free(now);
    case_require(err == CL_SUCCESS, "clEnqueueReadBuffer: %d", (int)err);
    case_require(bad == g->bytes, "byte %zu of %zu, outside of the view (offset %llu), was written", bad,
                 g->bytes, (unsigned long long)g->tensor.offset);
}

void guarded_read_floats(const struct guarded *g, float *out) {
    const int64_t count = g->tensor.shape[0] * g->tensor.shape[1];
    void *const raw = malloc((size_t)clmoe_dtype_bytes(g->tensor.dtype, count) + 1);
    if (!raw) abort();
    guarded_read(g, raw);
    for (int64_t i = 0; i < count; i++)
        out[i] = ref_load(g->tensor.dtype, raw, i);
    free(raw);
}

void guarded_free(struct guarded *g) {
    if (g->mem) clReleaseMemObject(g->mem);
    free(g->image);
    *g = (struct guarded){0};
}

void case_close(enum clmoe_dtype dtype, const float *got, const double *want, const double *magnitude,
                int64_t n, double tolerance, const char *what) {
    const double unit = dtype == CLMOE_BF16 ? 0x1p-8 : dtype == CLMOE_F16 ? 0x1p-11 : 0x1p-24;
    const double largest = dtype == CLMOE_F16 ? 65504.0 : FLT_MAX,
                 tiny = dtype == CLMOE_F16 ? 0x1p-24 : FLT_MIN;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)got[i], w = want[i];
        if (isnan(w) ? isnan(g) : g == w) continue;
        /* Partial sums (before a scale) may overflow fp32 where the exact sum does not: then anything goes.
         */
        if (magnitude && magnitude[i] > FLT_MAX / 16) continue;
        if (fabs(w) > largest * (1 - tolerance) && isinf(g) && (g > 0) == (w > 0)) continue;
        const double bound = tolerance * (magnitude ? magnitude[i] : fabs(w)) + 1.01 * unit * fabs(w) + tiny;
        case_require(fabs(g - w) <= bound, "%s[%lld] = %.9g, expected %.9g (error %.3g, allowed %.3g)", what,
                     (long long)i, g, w, fabs(g - w), bound);
    }
}
