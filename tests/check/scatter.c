/* SPDX-License-Identifier: MIT
 * scatter: every row of its table against ref_scatter, bit by bit. */
#include "harness.h"
#include "ref/convert.h"
#include "ref/scatter.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A segment has 2048 elements, 1024 for ADD; work-groups have 64, 128 or 256 work-items. */
static const struct {
    int64_t rows, n, k;
} shapes[] = {
    {1, 1, 1},     {3, 5, 2},    {2, 1, 3},       {2, 5, 9},     {0, 16, 2},   {5, 64, 16},
    {2, 65, 17},   {1, 100, 0},  {3, 127, 64},    {2, 4, 257},   {1, 1023, 5}, {2, 1024, 40},
    {1, 1025, 63}, {1, 2047, 2}, {1, 2048, 300},  {2, 2049, 33}, {1, 4097, 1}, {1, 2500, 2600},
    {40, 7, 2},    {2, 255, 65}, {1, 3000, 1024},
};
static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};

enum factors { PLAIN, POWERS_OF_TWO, SLOTS, ONES, N_FACTORS };
enum ids { DISTINCT, SKIPS, ONE, WILD, N_IDS };
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_MODES = 3, N_DTYPES = 3 };
enum { N_CASES = N_SHAPES * N_MODES * N_DTYPES * 2, N_SMALL = 7, RAW_BITS = FILL_COUNT };

static const char *const mode_names[] = {"set", "mask", "add"};
static const char *const id_names[] = {"distinct", "skips", "one", "wild"};

static void *room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

/* Elements of dtype; fill RAW_BITS is any bits at all. */
static void *elements(struct rng *rng, int fill, enum clmoe_dtype dtype, int64_t n) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    unsigned char *const raw = room(n, (size_t)size);
    float *const v = room(n, sizeof *v);
    if (fill < FILL_COUNT) fill_floats(rng, (enum fill)fill, v, n);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = rng_u32(rng);
        if (fill < FILL_COUNT)
            ref_store(dtype, raw, i, v[i]);
        else
            memcpy(raw + i * size, &bits, (size_t)size);
    }
    free(v);
    return raw;
}

static int32_t *indices(struct rng *rng, enum ids fill, int64_t rows, int64_t n, int64_t k) {
    static const int32_t wild[] = {INT_MIN, INT_MAX, -1, INT_MIN + 1, INT_MAX - 1, -2};
    int32_t *const ids = room(rows * k, sizeof *ids);
    if (fill == DISTINCT) fill_ids(rng, ROUTING_RANDOM, ids, rows, (int)k, (int)n);
    if (fill == SKIPS) fill_ids(rng, ROUTING_SKIPS, ids, rows, (int)k, (int)n);
    if (fill == ONE) fill_ids(rng, ROUTING_ONE_EXPERT, ids, rows, (int)k, (int)n);
    for (int64_t i = 0; fill == WILD && i < rows * k; i++)
        ids[i] = rng_below(rng, 2) ? (int32_t)rng_below(rng, n) : wild[rng_below(rng, 6)];
    return ids;
}

static float *scales(struct rng *rng, enum factors factors, int64_t n) {
    float *const v = room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        if (factors == POWERS_OF_TWO) v[i] = ldexpf(rng_below(rng, 2) ? 1 : -1, (int)rng_below(rng, 7) - 3);
        if (factors == SLOTS) v[i] = rng_float(rng);
        if (factors == ONES) v[i] = rng_below(rng, 3) ? 1.0f : 0.7f;
    }
    return v;
}

/* fp32 denormals are optional in OpenCL: without them tiny products may become zero. */
static bool keeps_denormals(void) {
    cl_device_fp_config config = 0;
    clGetDeviceInfo(tester()->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    return config & CL_FP_DENORM;
}

static void compare(enum clmoe_dtype dtype, const void *got, const void *want, const unsigned char *exact,
                    int64_t count) {
    const size_t size = (size_t)clmoe_dtype_bytes(dtype, 1);
    const bool strict = keeps_denormals();
    for (int64_t i = 0; i < count; i++) {
        if (memcmp((const char *)got + size * (size_t)i, (const char *)want + size * (size_t)i, size) == 0)
            continue;
        const float g = ref_load(dtype, got, i), w = ref_load(dtype, want, i);
        if (!exact[i] && isnan(g) && isnan(w)) continue;
        if (!exact[i] && !strict && fabsf(g - w) <= 0x1p-100f) continue;
        case_fail("y[%lld] = %.9g, expected %.9g%s", (long long)i, (double)g, (double)w,
                  exact[i] ? " (or other bits of it)" : "");
    }
}

/* Runs one row of the table on a problem; `y` holds what y is at first (NULL: poison, or x in place) and gets
 * the result. Returns false if the row refuses. */
static bool run_row(struct rng *rng, int row, const struct ref_scatter *p, enum forced_caps caps,
                    bool in_place, void *y) {
    const struct clmoe_scatter_params params = {
        .plan.kernel = clmoe_kernel_name("scatter", row),
        .max_rows = p->rows + (int64_t)rng_below(rng, 2),
        .n = p->n,
        .k = p->k,
        .dtype = p->dtype,
        .mode = p->mode,
        .fill = p->fill,
        .scale = p->scale == 1.0f && rng_below(rng, 2) ? 0.0f : p->scale,
        .slot_scale = p->slot_scale != NULL,
        .column_scale = p->column_scale != NULL,
    };
    clmoe_plan *plan;
    if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(caps), &params, &plan))) return false;
    const bool mask = p->mode == CLMOE_SCATTER_MASK;
    struct guarded ids = guarded_ints(rng, CLMOE_I32, p->rows, p->k, p->indices);
    struct guarded source = guarded_raw(rng, p->dtype, p->rows, mask ? p->n : p->k, p->source);
    struct guarded slots = guarded_floats(rng, CLMOE_F32, p->rows, p->k, p->slot_scale);
    struct guarded columns = guarded_floats(rng, CLMOE_F32, 1, p->n, p->column_scale);
    struct guarded out = guarded_raw(rng, p->dtype, p->rows, p->n, p->mode == CLMOE_SCATTER_ADD ? y : NULL);
    struct clmoe_scatter_args args = {.indices = ids.tensor, .y = in_place ? source.tensor : out.tensor};
    *(mask ? &args.x : &args.values) = source.tensor;
    if (p->slot_scale) args.slot_scale = slots.tensor;
    if (p->column_scale) args.column_scale = as_1d(&columns);
    case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(in_place ? &source : &out, y);
    guarded_read(&ids, NULL);
    guarded_free(&ids), guarded_free(&source), guarded_free(&slots), guarded_free(&columns);
    guarded_free(&out);
    clmoe_plan_destroy(&plan);
    return true;
}

/* All rows of the table against the reference. `y0`: what y is at first, for ADD. */
static void check_rows(struct rng *rng, const struct ref_scatter *p, enum forced_caps caps, bool in_place,
                       const void *y0, const char *what) {
    const int64_t cells = p->rows * p->n;
    const size_t bytes = (size_t)clmoe_dtype_bytes(p->dtype, cells);
    void *const want = room((int64_t)bytes, 1), *const got = room((int64_t)bytes, 1);
    unsigned char *const exact = room(cells, 1);
    if (y0) memcpy(want, y0, bytes);
    ref_scatter(p, want, exact);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("scatter", row)); row++) {
        case_begin("%s %s %s rows=%lld n=%lld k=%lld %s fill %g scale %g caps %s%s%s%s", name,
                   mode_names[p->mode], what, (long long)p->rows, (long long)p->n, (long long)p->k,
                   clmoe_dtype_name(p->dtype), (double)p->fill, (double)p->scale, caps_name(caps),
                   p->slot_scale ? " slot_scale" : "", p->column_scale ? " column_scale" : "",
                   in_place ? " in place" : "");
        if (y0) memcpy(got, y0, bytes);
        if (run_row(rng, row, p, caps, in_place, got)) compare(p->dtype, got, want, exact, cells);
    }
    free(want), free(got), free(exact);
}

START_TEST(against_reference) {
    static const float fills[] = {0.0f, -INFINITY, NAN, 1.5f, 70000.0f};
    struct rng rng = rng_for((uint64_t)_i);
    const int shape = _i % N_SHAPES, rest = _i / N_SHAPES;
    const int data = (int)rng_below(&rng, FILL_COUNT + 1);
    const enum factors factors = (enum factors)((_i + rest) % N_FACTORS);
    struct ref_scatter p = {
        .rows = shapes[shape].rows,
        .n = shapes[shape].n,
        .k = shapes[shape].k,
        .mode = (enum clmoe_scatter_mode)(rest % N_MODES),
        .dtype = dtypes[rest / N_MODES % N_DTYPES],
        .fill = fills[_i % 5],
        .scale = factors == SLOTS           ? -1.7f
                 : factors == POWERS_OF_TWO ? 0.5f
                                            : 1.0f,
    };
    enum ids ids = (enum ids)(rng_below(&rng, N_IDS));
    if (ids == DISTINCT && p.k > p.n) ids = SKIPS;
    const int64_t cells = p.rows * p.n, slots = p.rows * p.k;
    int32_t *const index = indices(&rng, ids, p.rows, p.n, p.k);
    void *const source = elements(&rng, data, p.dtype, p.mode == CLMOE_SCATTER_MASK ? cells : slots);
    void *const y0 = p.mode == CLMOE_SCATTER_ADD ? elements(&rng, data, p.dtype, cells) : NULL;
    float *const slot_scale = scales(&rng, factors, slots), *const column = scales(&rng, factors, p.n);
    p.indices = index;
    p.source = source;
    if (factors != PLAIN) p.slot_scale = slot_scale;
    if (factors == POWERS_OF_TWO || factors == ONES) p.column_scale = column;
    char what[64];
    snprintf(what, sizeof what, "ids %s data %s", id_names[ids],
             data < FILL_COUNT ? fill_name((enum fill)data) : "bits");
    const bool in_place = p.mode == CLMOE_SCATTER_MASK && rng_below(&rng, 2);
    check_rows(&rng, &p, (enum forced_caps)(_i % CAPS_COUNT), in_place, y0, what);
    free(index), free(source), free(y0), free(slot_scale), free(column);
}
END_TEST

/* ---- named cases ---- */

/* A problem of a few fp32 numbers on all rows of the table; n is made long by `tail` elements that no slot
 * names, so that small problems also reach the rows for long ones. `y` gets the first n elements of each.
 * Returns false if the row refuses. */
struct tiny {
    int64_t rows, n, k;
    const int32_t *indices;
    const float *source, *slot_scale, *column_scale, *y0;
    enum clmoe_scatter_mode mode;
    enum clmoe_dtype dtype;
    float fill, scale;
};

static bool run_tiny(const struct tiny *t, int64_t tail, int row, float *y) {
    const int64_t n = t->n + tail, width = t->mode == CLMOE_SCATTER_MASK ? n : t->k;
    const int64_t given = t->mode == CLMOE_SCATTER_MASK ? t->n : t->k;
    struct rng rng = rng_for((uint64_t)n);
    void *const source = room(t->rows * width, 4), *const out = room(t->rows * n, 4);
    float *const column = room(n, sizeof *column);
    for (int64_t r = 0; r < t->rows; r++) {
        for (int64_t i = 0; i < given; i++)
            ref_store(t->dtype, source, r * width + i, t->source[r * given + i]);
        for (int64_t i = 0; t->y0 && i < t->n; i++)
            ref_store(t->dtype, out, r * n + i, t->y0[r * t->n + i]);
    }
    for (int64_t i = 0; t->column_scale && i < t->n; i++)
        column[i] = t->column_scale[i];
    const struct ref_scatter p = {t->rows,
                                  n,
                                  t->k,
                                  t->dtype,
                                  t->mode,
                                  t->fill,
                                  t->scale == 0 ? 1.0f : t->scale,
                                  t->indices,
                                  source,
                                  t->slot_scale,
                                  t->column_scale ? column : NULL};
    const bool ran = run_row(&rng, row, &p, CAPS_OWN, false, out);
    for (int64_t i = 0; ran && i < t->rows * t->n; i++)
        y[i] = ref_load(t->dtype, out, i / t->n * n + i % t->n);
    free(source), free(out), free(column);
    return ran;
}

static void expect_tiny(const char *what, const struct tiny *t, const float *want) {
    float y[64];
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("scatter", row)); row++) {
        for (int64_t tail = 0; tail <= 1100; tail += 1100) {
            case_begin("%s: %s, n = %lld + %lld", what, name, (long long)t->n, (long long)tail);
            if (!run_tiny(t, tail, row, y)) continue;
            for (int64_t i = 0; i < t->rows * t->n; i++)
                case_require(isnan(want[i]) ? isnan(y[i])
                                            : y[i] == want[i] && !signbit(y[i]) == !signbit(want[i]),
                             "y[%lld] = %.9g, expected %.9g", (long long)i, (double)y[i], (double)want[i]);
        }
    }
}

/* Multiplying by a mask of 0 and 1 would make NaN of what was dropped. */
START_TEST(dropped_inf_and_nan_leave_no_trace) {
    const float x[] = {INFINITY, 2, NAN, -INFINITY, 3, -NAN}, want[] = {0, 2, 0, 0, 3, 0};
    const int32_t ids[] = {4, 1};
    for (int d = 0; d < N_DTYPES; d++)
        expect_tiny("mask", &(struct tiny){1, 6, 2, ids, x, .mode = CLMOE_SCATTER_MASK, .dtype = dtypes[d]},
                    want);
}
END_TEST

START_TEST(selected_inf_and_nan_stay) {
    const float x[] = {INFINITY, 2, NAN, -INFINITY}, want[] = {INFINITY, 0, NAN, -INFINITY};
    const int32_t ids[] = {2, 0, 3};
    expect_tiny("mask", &(struct tiny){1, 4, 3, ids, x, .mode = CLMOE_SCATTER_MASK}, want);
    expect_tiny("mask", &(struct tiny){1, 4, 3, ids, x, .mode = CLMOE_SCATTER_MASK, .scale = 2}, want);
}
END_TEST

START_TEST(last_slot_wins) {
    const float values[] = {1, 2, 3, 4, 5, 6};
    const int32_t ids[] = {2, 0, 2, 5, 0, 2};
    const float want[] = {5, -1, 6, -1, -1};
    expect_tiny("set", &(struct tiny){1, 5, 6, ids, values, .fill = -1}, want);
    const float x[] = {10, 20, 30, 40, 50}, slots[] = {1, 2, 3, 4, 5, 6};
    const float masked[] = {50, -1, 180, -1, -1};
    expect_tiny("mask", &(struct tiny){1, 5, 6, ids, x, slots, .mode = CLMOE_SCATTER_MASK, .fill = -1},
                masked);
}
END_TEST

/* 1e8 + 1 - 1e8 is 0 in fp32 in this order, and 1 in others. */
START_TEST(add_takes_slots_in_order) {
    const float values[] = {1e8f, 7, 1, 9, -1e8f, 4}, y0[] = {0, 100, 200, -0.0f};
    const int32_t ids[] = {0, 1, 0, -1, 0, 1}, swapped[] = {0, 1, 1, 4, 0, 0};
    expect_tiny("add", &(struct tiny){1, 4, 6, ids, values, .y0 = y0, .mode = CLMOE_SCATTER_ADD},
                (const float[]){0, 111, 200, -0.0f});
    expect_tiny("add", &(struct tiny){1, 4, 6, swapped, values, .y0 = y0, .mode = CLMOE_SCATTER_ADD},
                (const float[]){4, 108, 200, -0.0f});
}
END_TEST

/* 2048 + 1 is 2048 in f16 (256 + 1 is 256 in bf16): rounding after each slot would lose both. */
START_TEST(add_rounds_once) {
    const float ones[] = {1, 1}, half[] = {2048}, brain[] = {256};
    const int32_t ids[] = {0, 0};
    struct tiny t = {1, 1, 2, ids, ones, .y0 = half, .mode = CLMOE_SCATTER_ADD, .dtype = CLMOE_F16};
    expect_tiny("f16", &t, (const float[]){2050});
    t.y0 = brain;
    t.dtype = CLMOE_BF16;
    expect_tiny("bf16", &t, (const float[]){258});
}
END_TEST

/* The product is rounded before it is added: fused, the sum would be the rounding error and not 0. */
START_TEST(add_does_not_fuse) {
    const volatile float s = 1.1f, v = 1.3f;
    const volatile float product = s * v;
    const float y0[] = {-product}, value[] = {v};
    const int32_t ids[] = {0};
    expect_tiny("add", &(struct tiny){1, 1, 1, ids, value, .y0 = y0, .mode = CLMOE_SCATTER_ADD, .scale = s},
                (const float[]){0});
}
END_TEST

START_TEST(fill_is_rounded) {
    const float value[] = {3};
    const int32_t ids[] = {1};
    struct tiny t = {1, 3, 1, ids, value, .fill = 70000.0f, .dtype = CLMOE_F16};
    expect_tiny("f16", &t, (const float[]){INFINITY, 3, INFINITY});
    t.fill = 1.0f + 0x1p-11f; /* a tie: to even */
    expect_tiny("f16", &t, (const float[]){1, 3, 1});
    t.fill = -INFINITY;
    expect_tiny("f16", &t, (const float[]){-INFINITY, 3, -INFINITY});
    t.fill = NAN;
    t.dtype = CLMOE_BF16;
    expect_tiny("bf16", &t, (const float[]){NAN, 3, NAN});
    t.fill = 1.0f + 0x1p-8f;
    expect_tiny("bf16", &t, (const float[]){1, 3, 1});
}
END_TEST

/* X-LoRA with four adapters, two kept: PEFT's numbers for logits [2,1,0,-1] and [0,0.5,3,1]. */
static const float xlora_softmax[] = {0.643914259f, 0.236882818f, 0.0871443177f, 0.0320586041f,
                                      0.039288125f, 0.064775168f, 0.789138608f,  0.106796200f};
static const int32_t xlora_ids[] = {0, 1, 2, 3};

START_TEST(xlora_keeps_the_selected) {
    const float *const s = xlora_softmax;
    const float want[] = {s[0], s[1], 0, 0, 0, 0, s[6], s[7]};
    expect_tiny("top_k_lora",
                &(struct tiny){2, 4, 2, xlora_ids, s, .mode = CLMOE_SCATTER_MASK, .dtype = CLMOE_F32}, want);
    ck_assert_double_eq_tol((double)want[0] + (double)want[1], 0.880797, 1e-6);
    ck_assert_double_eq_tol((double)want[6] + (double)want[7], 0.895935, 1e-6);
    const float kept[] = {s[0], s[1], s[6], s[7]};
    const float weighted[] = {2 * s[0], 2 * s[1], 0, 0, 0, 0, 2 * s[6], 2 * s[7]};
    expect_tiny("set, global_scaling_weight = 2", &(struct tiny){2, 4, 2, xlora_ids, kept, .scale = 2},
                weighted);
}
END_TEST

static void softmax(const float *v, int n, double *out) {
    double sum = 0, most = -INFINITY;
    for (int i = 0; i < n; i++)
        most = fmax(most, (double)v[i]);
    for (int i = 0; i < n; i++)
        sum += out[i] = exp((double)v[i] - most);
    for (int i = 0; i < n; i++)
        out[i] /= sum;
}

/* A selected value of 0 stays selected: with a mask by "is not zero" its weight would be 0 and not 0.33. */
START_TEST(xlora_selected_zero_stays) {
    const float z[] = {0.7f, 0, -0.2f, -1, 2, 1, 0, -1, 0, 0.5f, 3, 1};
    const int32_t ids[] = {0, 1, 0, 1, 2, 3};
    const double want[] = {0.668188, 0.331812, 0, 0, 0.731059, 0.268941, 0, 0, 0, 0, 0.880797, 0.119203};
    const struct tiny t = {3, 4, 2, ids, z, .mode = CLMOE_SCATTER_MASK, .fill = -INFINITY};
    float y[12];
    double got[12];
    for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
        for (int64_t tail = 0; tail <= 1100; tail += 1100) {
            case_begin("%s, tail %lld", clmoe_kernel_name("scatter", row), (long long)tail);
            if (!run_tiny(&t, tail, row, y)) continue;
            for (int i = 0; i < 12; i += 4)
                softmax(y + i, 4, got + i);
            for (int i = 0; i < 12; i++)
                case_require(fabs(got[i] - want[i]) < 1e-6, "[%d] = %.7f, expected %.7f", i, got[i], want[i]);
        }
    }
}
END_TEST

START_TEST(mask_is_idempotent) {
    struct rng rng = rng_for(7001);
    const int64_t rows = 2, n = 300, k = 20;
    int32_t *const ids = indices(&rng, SKIPS, rows, n, k);
    const char *name;
    for (int d = 0; d < N_DTYPES; d++) {
        void *const x = elements(&rng, RAW_BITS, dtypes[d], rows * n), *const once = room(rows * n, 4),
                    *const twice = room(rows * n, 4);
        struct ref_scatter p = {rows, n, k, dtypes[d], CLMOE_SCATTER_MASK, -0.0f, 1, ids};
        for (int row = 0; (name = clmoe_kernel_name("scatter", row)); row++) {
            case_begin("%s %s", name, clmoe_dtype_name(dtypes[d]));
            p.source = x;
            if (!run_row(&rng, row, &p, CAPS_OWN, false, once)) continue;
            p.source = once;
            run_row(&rng, row, &p, CAPS_OWN, true, twice);
            case_require(!memcmp(once, twice, (size_t)clmoe_dtype_bytes(dtypes[d], rows * n)),
                         "masking again changes bits");
        }
        free(x), free(once), free(twice);
    }
    free(ids);
}
END_TEST

/* Ids on both sides of every border between segments, the first of each named once more at the end. */
START_TEST(segment_borders) {
    const int32_t ids[] = {0,    1023, 1024, 1025, 2047, 2048, 2049, 3071, 3072, 4095,
                           4096, 4097, -1,   0,    1024, 2048, 3072, 4096, 5120, 4097};
    struct rng rng = rng_for(7006 + (uint64_t)_i);
    struct ref_scatter p = {1, 4097, 20, CLMOE_F32, (enum clmoe_scatter_mode)_i, -1.0f, 2.0f, ids};
    void *const source = elements(&rng, FILL_RANDOM, CLMOE_F32, p.n);
    void *const y0 = elements(&rng, FILL_RANDOM, CLMOE_F32, p.n);
    p.source = source;
    check_rows(&rng, &p, CAPS_OWN, false, p.mode == CLMOE_SCATTER_ADD ? y0 : NULL, "borders");
    free(source), free(y0);
}
END_TEST

/* More rows than a dimension of some grids holds (65535). */
START_TEST(many_rows) {
    struct rng rng = rng_for(7002);
    struct ref_scatter p = {.rows = 70001, .n = 70, .k = 17, .dtype = CLMOE_BF16, .fill = 2, .scale = 1};
    p.indices = indices(&rng, SKIPS, p.rows, p.n, p.k);
    p.source = elements(&rng, FILL_RANDOM, p.dtype, p.rows * p.k);
    check_rows(&rng, &p, CAPS_OWN, false, NULL, "many rows");
    free((void *)p.indices), free((void *)p.source);
}
END_TEST

/* ---- calls ---- */

/* Nothing to do still gives an event, and no slots need no buffers of slots. */
START_TEST(nothing_to_do) {
    struct rng rng = rng_for(7004);
    for (int mode = 0; mode < N_MODES; mode++) {
        for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
            case_begin("%s %s k = 0", clmoe_kernel_name("scatter", row), mode_names[mode]);
            struct clmoe_scatter_params params = {.plan.kernel = clmoe_kernel_name("scatter", row),
                                                  .max_rows = 3,
                                                  .n = 70,
                                                  .mode = (enum clmoe_scatter_mode)mode,
                                                  .fill = 5};
            clmoe_plan *plan;
            if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plan)))
                continue;
            float y0[210];
            for (int i = 0; i < 210; i++)
                y0[i] = 9;
            struct guarded y = guarded_floats(&rng, CLMOE_F32, 3, 70, y0);
            struct guarded x = guarded_floats(&rng, CLMOE_F32, 3, 70, y0);
            struct clmoe_scatter_args args = {.y = y.tensor};
            if (mode == CLMOE_SCATTER_MASK) args.x = x.tensor;
            cl_event event = NULL;
            case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, &event));
            case_require(event != NULL, "no event");
            clReleaseEvent(event);
            guarded_read_floats(&y, y0);
            for (int i = 0; i < 210; i++)
                case_require(y0[i] == (mode == CLMOE_SCATTER_ADD ? 9 : 5), "y[%d] = %g", i, (double)y0[i]);
            args.y = args.x = (struct clmoe_tensor){.ndim = 2, .shape = {0, 70}};
            if (mode != CLMOE_SCATTER_MASK) args.x = (struct clmoe_tensor){0};
            case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, &event));
            case_require(event != NULL, "no event for no rows");
            clReleaseEvent(event);
            guarded_free(&y), guarded_free(&x);
            clmoe_plan_destroy(&plan);
        }
    }
}
END_TEST

/* SET, then MASK in place, then ADD, each after the event of the one before, behind an event of the user. */
START_TEST(out_of_order_chain) {
    struct rng rng = rng_for(7005);
    const int32_t first[] = {3, 1, 200, 77}, second[] = {1, 200, -1, 5}, third[] = {1, 1, 77, 99};
    const float values[] = {10, 20, 30, 40};
    const int32_t *const ids[] = {first, second, third};
    const enum clmoe_scatter_mode modes[] = {CLMOE_SCATTER_SET, CLMOE_SCATTER_MASK, CLMOE_SCATTER_ADD};
    float got[300];
    for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
        case_begin("%s", clmoe_kernel_name("scatter", row));
        struct guarded v = guarded_floats(&rng, CLMOE_F32, 1, 4, values);
        struct guarded y = guarded_floats(&rng, CLMOE_F32, 1, 300, NULL);
        cl_event events[4] = {clCreateUserEvent(tester()->context, NULL)};
        clmoe_plan *plans[3];
        struct guarded index[3];
        for (int s = 0; s < 3; s++) {
            const struct clmoe_scatter_params params = {.plan.kernel = clmoe_kernel_name("scatter", row),
                                                        .max_rows = 1,
                                                        .n = 300,
                                                        .k = 4,
                                                        .mode = modes[s],
                                                        .fill = s == 1 ? -1.0f : 0.0f};
            case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plans[s]));
            index[s] = guarded_ints(&rng, CLMOE_I32, 1, 4, ids[s]);
            struct clmoe_scatter_args args = {.indices = index[s].tensor, .y = y.tensor};
            *(s == 1 ? &args.x : &args.values) = s == 1 ? y.tensor : v.tensor;
            case_ok(
                clmoe_scatter_enqueue(plans[s], tester()->ooo_queue, &args, 1, &events[s], &events[s + 1]));
        }
        clSetUserEventStatus(events[0], CL_COMPLETE);
        clWaitForEvents(1, &events[3]);
        guarded_read_floats(&y, got);
        for (int i = 0; i < 300; i++) {
            const float want = i == 1     ? 20 + 10 + 20
                               : i == 5   ? 0
                               : i == 77  ? -1 + 30
                               : i == 99  ? -1 + 40
                               : i == 200 ? 30
                                          : -1;
            case_require(got[i] == want, "y[%d] = %g, expected %g", i, (double)got[i], (double)want);
        }
        for (int s = 0; s < 3; s++)
            clmoe_plan_destroy(&plans[s]), guarded_free(&index[s]);
        for (int s = 0; s < 4; s++)
            clReleaseEvent(events[s]);
        guarded_free(&v), guarded_free(&y);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    tcase_add_test(cases, dropped_inf_and_nan_leave_no_trace);
    tcase_add_test(cases, selected_inf_and_nan_stay);
    tcase_add_test(cases, last_slot_wins);
    tcase_add_test(cases, add_takes_slots_in_order);
    tcase_add_test(cases, add_rounds_once);
    tcase_add_test(cases, add_does_not_fuse);
    tcase_add_test(cases, fill_is_rounded);
    tcase_add_test(cases, xlora_keeps_the_selected);
    tcase_add_test(cases, xlora_selected_zero_stays);
    tcase_add_test(cases, mask_is_idempotent);
    tcase_add_loop_test(cases, segment_borders, 0, N_MODES);
    tcase_add_test(cases, nothing_to_do);
    tcase_add_test(cases, out_of_order_chain);
    if (!tester()->small) tcase_add_test(cases, many_rows);
}

int main(void) {
    return harness_main("scatter", "scatter", add_tests);
}
