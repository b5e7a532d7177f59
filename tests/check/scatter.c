/* SPDX-License-Identifier: MIT
 * scatter: every row of its table against ref_scatter, bit by bit. */
#include "ref/convert.h"
#include "scatter_case.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tile has 4096 cells, columns or rows rounded up to powers of two; work-groups have 64, 128 or 256
 * work-items; scatter_slots takes 256 slots, scatter_walk sums 65536 columns at a time. `inner`: of tensors
 * with three dimensions, every second case. */
static const struct {
    int64_t rows, n, k, inner;
} shapes[] = {
    {1, 1, 1, 1},       {3, 5, 2, 3},      {2, 1, 3, 1},       {2, 5, 9, 2},     {0, 16, 2, 0},
    {5, 64, 16, 5},     {2, 65, 17, 2},    {1, 100, 0, 1},     {3, 127, 64, 3},  {2, 4, 257, 1},
    {1, 1023, 5, 1},    {2, 1024, 40, 2},  {1, 2049, 63, 1},   {1, 4095, 2, 1},  {1, 4096, 300, 1},
    {2, 4097, 33, 2},   {1, 8193, 1, 1},   {1, 2500, 2600, 1}, {40, 7, 2, 8},    {2, 255, 65, 1},
    {3, 5000, 1024, 3}, {66, 33, 5, 33},   {160, 2, 3, 2},     {70, 1, 2, 35},   {68, 300, 20, 34},
    {1, 5000, 260, 1},  {64, 257, 70, 64}, {1, 70000, 70, 1},  {600, 16, 4, 40}, {2, 2048, 256, 2},
    {9, 9, 9, 3},
};
/* Those with arithmetic first. */
static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16, CLMOE_F64, CLMOE_I8,  CLMOE_U8,
                                          CLMOE_I16, CLMOE_U16, CLMOE_I32,  CLMOE_U32, CLMOE_I64, CLMOE_U64};

enum factors { PLAIN, POWERS_OF_TWO, SLOTS, ONES, N_FACTORS };
enum ids { DISTINCT, SKIPS, ONE, WILD, N_IDS };
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_MODES = 4, N_FLOATS = 3, N_DTYPES = 12 };
enum { N_ROUNDS = 12, N_CASES = N_SHAPES * N_ROUNDS, N_SMALL = 10, RAW_BITS = FILL_COUNT };

static const char *const id_names[] = {"distinct", "skips", "one", "wild"};

/* Elements of dtype; fill RAW_BITS, and any fill of an integer dtype, is any bits at all. */
static void *elements(struct rng *rng, int fill, enum clmoe_dtype dtype, int64_t n) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    const bool values = fill < FILL_COUNT && dtype <= CLMOE_BF16;
    unsigned char *const raw = scatter_room(n, (size_t)size);
    float *const v = scatter_room(n, sizeof *v);
    if (values) fill_floats(rng, (enum fill)fill, v, n);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t bits = (uint64_t)rng_u32(rng) << 32 | rng_u32(rng);
        if (values)
            ref_store(dtype, raw, i, v[i]);
        else
            memcpy(raw + i * size, &bits, (size_t)size);
    }
    free(v);
    return raw;
}

/* What is in range as 32 bits must not be so as 64. */
static int64_t wild_id(struct rng *rng, int64_t n) {
    const int64_t wild[] = {INT_MIN, INT_MAX,   -1,        -2,        n,
                            n + 1,   INT64_MIN, INT64_MAX, 1LL << 32, -(1LL << 32)};
    return rng_below(rng, 2) ? rng_below(rng, n) : wild[rng_below(rng, sizeof wild / sizeof *wild)];
}

static int64_t *indices(struct rng *rng, enum ids fill, int64_t rows, int64_t n, int64_t k) {
    static const enum routing_fill fills[] = {ROUTING_RANDOM, ROUTING_SKIPS, ROUTING_ONE_EXPERT};
    int32_t *const ids = scatter_room(rows * k, sizeof *ids);
    int64_t *const wide = scatter_room(rows * k, sizeof *wide);
    if (fill != WILD) fill_ids(rng, fills[fill], ids, rows, (int)k, (int)n);
    for (int64_t i = 0; i < rows * k; i++)
        wide[i] = fill == WILD ? wild_id(rng, n) : ids[i];
    free(ids);
    return wide;
}

static float *scales(struct rng *rng, enum factors factors, int64_t n) {
    float *const v = scatter_room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        if (factors == POWERS_OF_TWO) v[i] = ldexpf(rng_below(rng, 2) ? 1 : -1, (int)rng_below(rng, 7) - 3);
        if (factors == SLOTS) v[i] = rng_float(rng);
        if (factors == ONES) v[i] = rng_below(rng, 3) ? 1.0f : 0.7f;
    }
    return v;
}

static union clmoe_scalar some_fill(enum clmoe_dtype dtype, int number) {
    static const double floats[] = {0.0, -INFINITY, NAN, 1.5, 70000.0};
    static const int8_t ints[] = {0, -1, 127, -128, 55};
    if (dtype <= CLMOE_BF16 || dtype == CLMOE_F64) return (union clmoe_scalar){.f = floats[number % 5]};
    const bool is_signed =
        dtype == CLMOE_I8 || dtype == CLMOE_I16 || dtype == CLMOE_I32 || dtype == CLMOE_I64;
    return is_signed ? (union clmoe_scalar){.i = ints[number % 5]}
                     : (union clmoe_scalar){.u = (uint8_t)ints[number % 5]};
}

/* One problem of everything. Caps that change the size of work-groups compile everything again: with f32
 * only. */
START_TEST(against_reference) {
    struct rng rng = rng_for((uint64_t)_i);
    const int shape = _i % N_SHAPES, round = _i / N_SHAPES;
    const enum clmoe_scatter_mode mode = (enum clmoe_scatter_mode)(round % N_MODES);
    const bool folds = scatter_folds(mode);
    const int data = (int)rng_below(&rng, FILL_COUNT + 1), type = round / N_MODES + 3 * shape;
    const struct scatter_way way = {
        .caps = (enum forced_caps)((_i + round) % CAPS_COUNT),
        .inner = (shape + round) % 2 ? shapes[shape].inner : 0,
        .strided = rng_below(&rng, 2),
        .wide = rng_below(&rng, 2),
        .start = (enum scatter_start)rng_below(&rng, 3),
    };
    struct ref_scatter p = {
        .rows = shapes[shape].rows,
        .n = shapes[shape].n,
        .k = shapes[shape].k,
        .mode = mode,
        .dtype = way.caps == CAPS_GROUP_64 ? CLMOE_F32 : dtypes[type % (folds ? N_FLOATS : N_DTYPES)],
        .scale = 1.0f,
    };
    const enum factors factors =
        p.dtype <= CLMOE_BF16 ? (enum factors)((_i + round / N_MODES) % N_FACTORS) : PLAIN;
    if (factors == SLOTS) p.scale = -1.7f;
    if (factors == POWERS_OF_TWO) p.scale = 0.5f;
    if (!folds) p.fill = some_fill(p.dtype, _i);
    enum ids ids = (enum ids)(rng_below(&rng, N_IDS));
    if (ids == DISTINCT && p.k > p.n) ids = SKIPS;
    const int64_t cells = p.rows * p.n, slots = p.rows * p.k;
    int64_t *const index = indices(&rng, ids, p.rows, p.n, p.k);
    void *const source = elements(&rng, data, p.dtype, mode == CLMOE_SCATTER_MASK ? cells : slots);
    void *const y0 = folds ? elements(&rng, data, p.dtype, cells) : NULL;
    float *const slot_scale = scales(&rng, factors, slots), *const column = scales(&rng, factors, p.n);
    p.indices = index;
    p.source = folds && rng_below(&rng, 4) == 0 ? NULL : source;
    if (factors != PLAIN) p.slot_scale = slot_scale;
    if (factors == POWERS_OF_TWO || factors == ONES) p.column_scale = column;
    char what[64];
    snprintf(what, sizeof what, "ids %s data %s", id_names[ids],
             data < FILL_COUNT ? fill_name((enum fill)data) : "bits");
    scatter_check_rows(&rng, &p, &way, y0, what);
    free(index), free(source), free(y0), free(slot_scale), free(column);
}
END_TEST

/* ---- named cases ---- */

/* A problem of a few fp32 numbers on all rows of the table; n is made long by `tail` elements that no slot
 * names, so that small problems also reach the rows for long ones. `y` gets the first n elements of each.
 * Returns false if the row refuses. */
struct tiny {
    int64_t rows, n, k;
    const int64_t *indices;
    const float *source, *slot_scale, *column_scale, *y0;
    enum clmoe_scatter_mode mode;
    enum clmoe_dtype dtype;
    float fill, scale;
};

static bool run_tiny(const struct tiny *t, int64_t tail, int row, float *y) {
    const int64_t n = t->n + tail, width = t->mode == CLMOE_SCATTER_MASK ? n : t->k;
    const int64_t given = t->mode == CLMOE_SCATTER_MASK ? t->n : t->k;
    struct rng rng = rng_for((uint64_t)n);
    void *const source = scatter_room(t->rows * width, 4), *const out = scatter_room(t->rows * n, 4);
    float *const column = scatter_room(n, sizeof *column);
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
                                  {.f = t->fill},
                                  t->scale == 0 ? 1.0f : t->scale,
                                  t->indices,
                                  source,
                                  t->slot_scale,
                                  t->column_scale ? column : NULL};
    const bool ran = scatter_run_row(&rng, row, &p, &(struct scatter_way){0}, out);
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
    const int64_t ids[] = {4, 1};
    for (int d = 0; d < N_FLOATS; d++)
        expect_tiny("mask", &(struct tiny){1, 6, 2, ids, x, .mode = CLMOE_SCATTER_MASK, .dtype = dtypes[d]},
                    want);
}
END_TEST

START_TEST(selected_inf_and_nan_stay) {
    const float x[] = {INFINITY, 2, NAN, -INFINITY}, want[] = {INFINITY, 0, NAN, -INFINITY};
    const int64_t ids[] = {2, 0, 3};
    expect_tiny("mask", &(struct tiny){1, 4, 3, ids, x, .mode = CLMOE_SCATTER_MASK}, want);
    expect_tiny("mask", &(struct tiny){1, 4, 3, ids, x, .mode = CLMOE_SCATTER_MASK, .scale = 2}, want);
}
END_TEST

START_TEST(last_slot_wins) {
    const float values[] = {1, 2, 3, 4, 5, 6};
    const int64_t ids[] = {2, 0, 2, 5, 0, 2};
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
    const int64_t ids[] = {0, 1, 0, -1, 0, 1}, swapped[] = {0, 1, 1, 4, 0, 0};
    expect_tiny("add", &(struct tiny){1, 4, 6, ids, values, .y0 = y0, .mode = CLMOE_SCATTER_ADD},
                (const float[]){0, 111, 200, -0.0f});
    expect_tiny("add", &(struct tiny){1, 4, 6, swapped, values, .y0 = y0, .mode = CLMOE_SCATTER_ADD},
                (const float[]){4, 108, 200, -0.0f});
}
END_TEST

/* 2048 + 1 is 2048 in f16 (256 + 1 is 256 in bf16): rounding after each slot would lose both. */
START_TEST(add_rounds_once) {
    const float ones[] = {1, 1}, half[] = {2048}, brain[] = {256};
    const int64_t ids[] = {0, 0};
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
    const int64_t ids[] = {0};
    expect_tiny("add", &(struct tiny){1, 1, 1, ids, value, .y0 = y0, .mode = CLMOE_SCATTER_ADD, .scale = s},
                (const float[]){0});
}
END_TEST

/* 1e30 * 1e30 is infinite in fp32 in this order, and 1e20 in others. */
START_TEST(multiply_takes_slots_in_order) {
    const float values[] = {1e30f, 7, 1e30f, 9, 1e-10f, 1e-30f}, y0[] = {1, 3, 200, -0.0f};
    const int64_t ids[] = {0, 1, 0, -1, 0, 0}, swapped[] = {0, 1, 4, 1, 0, 0};
    expect_tiny("multiply", &(struct tiny){1, 4, 6, ids, values, .y0 = y0, .mode = CLMOE_SCATTER_MULTIPLY},
                (const float[]){INFINITY, 21, 200, -0.0f});
    const float want = (1e30f * 1e-10f) * 1e-30f;
    expect_tiny("multiply",
                &(struct tiny){1, 4, 6, swapped, values, .y0 = y0, .mode = CLMOE_SCATTER_MULTIPLY},
                (const float[]){want, 189, 200, -0.0f});
}
END_TEST

/* 40000 * 4 is infinite in f16; 129 * 1.5 = 193.5 would be 194 in bf16, a fraction of which is not 129. */
START_TEST(multiply_rounds_once) {
    const float half[] = {4, 0.25f}, brain[] = {1.5f, 2.0f / 3.0f}, y_half[] = {40000}, y_brain[] = {129};
    const int64_t ids[] = {0, 0};
    struct tiny t = {1, 1, 2, ids, half, .y0 = y_half, .mode = CLMOE_SCATTER_MULTIPLY, .dtype = CLMOE_F16};
    expect_tiny("f16", &t, (const float[]){40000});
    t.source = brain;
    t.y0 = y_brain;
    t.dtype = CLMOE_BF16;
    expect_tiny("bf16", &t, (const float[]){129});
}
END_TEST

START_TEST(fill_is_rounded) {
    const float value[] = {3};
    const int64_t ids[] = {1};
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
static const int64_t xlora_ids[] = {0, 1, 2, 3};

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
    const int64_t ids[] = {0, 1, 0, 1, 2, 3};
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
    int64_t *const ids = indices(&rng, SKIPS, rows, n, k);
    const char *name;
    for (int d = 0; d < N_FLOATS; d++) {
        void *const x = elements(&rng, RAW_BITS, dtypes[d], rows * n),
                    *const once = scatter_room(rows * n, 4), *const twice = scatter_room(rows * n, 4);
        struct ref_scatter p = {rows, n, k, dtypes[d], CLMOE_SCATTER_MASK, {.f = -0.0}, 1, ids};
        for (int row = 0; (name = clmoe_kernel_name("scatter", row)); row++) {
            case_begin("%s %s", name, clmoe_dtype_name(dtypes[d]));
            p.source = x;
            if (!scatter_run_row(&rng, row, &p, &(struct scatter_way){0}, once)) continue;
            p.source = once;
            scatter_run_row(&rng, row, &p, &(struct scatter_way){.start = START_SAME}, twice);
            case_require(!memcmp(once, twice, (size_t)clmoe_dtype_bytes(dtypes[d], rows * n)),
                         "masking again changes bits");
        }
        free(x), free(once), free(twice);
    }
    free(ids);
}
END_TEST

/* ---- sizes ---- */

/* A problem with random data, and a fill that is not all zeros, in every row of the table. */
static void check_random(struct rng *rng, struct ref_scatter p, const struct scatter_way *way,
                         const int64_t *ids, const char *what) {
    const bool folds = scatter_folds(p.mode);
    const int64_t cells = p.rows * p.n;
    int64_t *const drawn = ids ? NULL : indices(rng, SKIPS, p.rows, p.n, p.k);
    void *const source =
        elements(rng, FILL_RANDOM, p.dtype, p.mode == CLMOE_SCATTER_MASK ? cells : p.rows * p.k);
    void *const y0 = folds ? elements(rng, FILL_RANDOM, p.dtype, cells) : NULL;
    p.indices = ids ? ids : drawn;
    p.source = source;
    p.scale = p.scale == 0 ? 1.0f : p.scale;
    if (!folds) p.fill = some_fill(p.dtype, 3 + (int)rng_below(rng, 2));
    scatter_check_rows(rng, &p, way, y0, what);
    free(drawn), free(source), free(y0);
}

/* On a simulator each mode has one of the dtypes with arithmetic: they differ in the size of a cell alone. */
static bool float_is_due(int dtype, int mode) {
    return !tester()->small || dtype == mode % N_FLOATS;
}

/* Ids on both sides of every border between tiles, the first of each named once more at the end. */
START_TEST(tile_borders) {
    const int64_t ids[] = {0,    2047, 2048, 2049, 4095, 4096, 4097, 6143, 6144, 8191,
                           8192, 8193, -1,   0,    2048, 4096, 6144, 8192, 9216, 8193};
    struct rng rng = rng_for(7006 + (uint64_t)_i);
    for (int d = 0; d < N_FLOATS; d++) {
        if (!float_is_due(d, _i)) continue;
        check_random(&rng,
                     (struct ref_scatter){.rows = 1,
                                          .n = 8193,
                                          .k = 20,
                                          .dtype = dtypes[d],
                                          .mode = (enum clmoe_scatter_mode)_i,
                                          .scale = 2},
                     &(struct scatter_way){0}, ids, "borders");
    }
    /* Fewer rows than a tile has, by more than the guards of a buffer hold: the simulator sees a read of
     * them. */
    check_random(&rng,
                 (struct ref_scatter){.rows = 33, .n = 20, .k = 30, .mode = (enum clmoe_scatter_mode)_i},
                 &(struct scatter_way){0}, NULL, "rows past the end");
}
END_TEST

/* Rows that begin at every place of a block of 16 bytes, and end there. */
START_TEST(unaligned_rows) {
    struct rng rng = rng_for(7007);
    for (int64_t n = 4091; n < 4108; n++)
        check_random(&rng,
                     (struct ref_scatter){.rows = 17,
                                          .n = n,
                                          .k = 9,
                                          .dtype = _i ? CLMOE_U8 : CLMOE_F16,
                                          .mode = n % 2 ? CLMOE_SCATTER_SET : CLMOE_SCATTER_MASK},
                     &(struct scatter_way){.start = (enum scatter_start)(n / 2 % 3)}, NULL, "unaligned");
}
END_TEST

/* What tiles of many lines move in blocks: short rows, and transposed rows. */
START_TEST(aligned_lines) {
    static const enum clmoe_dtype sizes[] = {CLMOE_F32, CLMOE_F16, CLMOE_U8, CLMOE_I64};
    static const struct ref_scatter problems[] = {{.rows = 70, .n = 100, .k = 9},
                                                  {.rows = 130, .n = 48, .k = 70},
                                                  {.rows = 6, .n = 1024, .k = 5},
                                                  {.rows = 64, .n = 300, .k = 3}};
    struct rng rng = rng_for(7020 + (uint64_t)_i);
    for (size_t i = 0; i < 2 * sizeof problems / sizeof *problems; i++) {
        struct ref_scatter p = problems[i / 2];
        p.mode = (enum clmoe_scatter_mode)_i;
        for (int d = 0; d < (scatter_folds(p.mode) ? 2 : 4); d++) {
            p.dtype = sizes[d];
            const struct scatter_way way = {
                .aligned = true, .inner = i % 2 ? p.rows / 2 : 0, .start = START_X, .wide = d % 2};
            check_random(&rng, p, &way, NULL, "lines");
        }
    }
}
END_TEST

/* Lists of 1, 2, 40 and 100 slots, through which links_finish goes in different ways. */
START_TEST(long_lists) {
    enum { K = 3000 };
    struct rng rng = rng_for(7008 + (uint64_t)_i);
    int64_t *const ids = scatter_room(K, sizeof *ids);
    for (int64_t j = 0; j < K; j++)
        ids[j] = j % 75 == 3 ? 1 : j % 30 == 4 ? 2 : j == 2000 ? 3 : j % 1000 == 5 ? 4 : -1;
    for (int d = 0; d < N_FLOATS; d++) {
        if (!float_is_due(d, _i)) continue;
        check_random(&rng,
                     (struct ref_scatter){
                         .rows = 1, .n = 50, .k = K, .dtype = dtypes[d], .mode = (enum clmoe_scatter_mode)_i},
                     &(struct scatter_way){0}, ids, "lists");
    }
    free(ids);
}
END_TEST

/* More rows than share the workspace, then a row that is longer than it. */
START_TEST(slabs) {
    struct rng rng = rng_for(7009 + (uint64_t)_i);
    const enum clmoe_scatter_mode mode = (enum clmoe_scatter_mode)_i;
    const enum clmoe_dtype dtype = scatter_folds(mode) ? CLMOE_BF16 : CLMOE_U8;
    check_random(&rng, (struct ref_scatter){.rows = 70, .n = 100000, .k = 3, .dtype = dtype, .mode = mode},
                 &(struct scatter_way){.start = START_SAME}, NULL, "slabs");
    int64_t ids[] = {0, 4194303, 4194304, 4194294, 4194293, 4999999, 5000000, 4999999, 0, 7};
    check_random(&rng, (struct ref_scatter){.rows = 1, .n = 5000000, .k = 10, .dtype = dtype, .mode = mode},
                 &(struct scatter_way){0}, ids, "windows");
}
END_TEST

/* More rows than a dimension of some grids holds (65535). */
START_TEST(many_rows) {
    struct rng rng = rng_for(7002 + (uint64_t)_i);
    check_random(
        &rng,
        (struct ref_scatter){
            .rows = 70001, .n = 70, .k = 17, .dtype = CLMOE_BF16, .mode = (enum clmoe_scatter_mode)_i},
        &(struct scatter_way){0}, NULL, "many rows");
    check_random(
        &rng,
        (struct ref_scatter){
            .rows = 300000, .n = 4, .k = 2, .dtype = CLMOE_BF16, .mode = (enum clmoe_scatter_mode)_i},
        &(struct scatter_way){.inner = 3}, NULL, "many short rows");
}
END_TEST

/* ---- calls ---- */

/* In every row of the table: a plan of `params` and one call that changes y0 [rows, n] in place; MASK with x
 * = y, the stride of whose rows becomes `x_stride` if that is not 0. */
static void call_rows(struct clmoe_scatter_params params, const struct guarded *list, int64_t x_stride,
                      const float *y0, const float *want, const char *what) {
    struct rng rng = rng_for(7013);
    const int64_t rows = params.max_rows, n = params.n;
    params.plan.external_workspace = 1;
    float *const got = scatter_room(rows * n, sizeof *got);
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("scatter", row)); row++) {
        case_begin("%s %s", params.plan.kernel, what);
        clmoe_plan *plan;
        if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plan))) continue;
        struct guarded y = guarded_floats(&rng, CLMOE_F32, rows, n, y0);
        struct clmoe_scatter_args args = {.indices = list->tensor, .y = y.tensor};
        args.indices.shape[0] = rows;
        args.indices.stride[0] = 0;
        if (params.mode == CLMOE_SCATTER_MASK) args.x = y.tensor;
        if (x_stride) args.x.stride[0] = x_stride;
        const cl_mem workspace = scatter_rubbish(plan);
        case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
        guarded_read_floats(&y, got);
        for (int64_t i = 0; i < rows * n; i++)
            case_require(got[i] == want[i], "y[%lld] = %g, expected %g", (long long)i, (double)got[i],
                         (double)want[i]);
        guarded_free(&y);
        if (workspace) clReleaseMemObject(workspace);
        clmoe_plan_destroy(&plan);
    }
    free(got);
}

/* The examples of the header: allowed tokens, then what the tokens so far cost; one list for both rows. */
START_TEST(samplers) {
    struct rng rng = rng_for(7010);
    const float inf = INFINITY, logits[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const int32_t allowed[] = {4, 0, -1}, so_far[] = {1, 1, 3, -1};
    struct guarded list = guarded_ints(&rng, CLMOE_I32, 1, 3, allowed);
    struct guarded tokens = guarded_ints(&rng, CLMOE_I32, 1, 4, so_far);
    struct clmoe_scatter_params params = {
        .max_rows = 2, .n = 5, .k = 3, .mode = CLMOE_SCATTER_MASK, .fill = {.f = -INFINITY}};
    call_rows(params, &list, 0, logits, (const float[]){1, -inf, -inf, -inf, 5, 6, -inf, -inf, -inf, 10},
              "allowed tokens");
    params = (struct clmoe_scatter_params){
        .max_rows = 2, .n = 5, .k = 4, .mode = CLMOE_SCATTER_ADD, .no_values = 1, .scale = -0.5f};
    call_rows(params, &tokens, 0, logits, (const float[]){1, 1, 3, 3.5f, 5, 6, 6, 8, 8.5f, 10}, "add");
    params.mode = CLMOE_SCATTER_MULTIPLY;
    params.scale = 0.5f;
    call_rows(params, &tokens, 0, logits, (const float[]){1, 0.5f, 3, 2, 5, 6, 1.75f, 8, 4.5f, 10},
              "multiply");
    guarded_free(&list), guarded_free(&tokens);
}
END_TEST

/* The stride of a single row may be any number, another one for x than for y: it is in place all the same. */
START_TEST(in_place_of_one_row) {
    struct rng rng = rng_for(7011);
    const int32_t ids[] = {3, 1};
    struct guarded list = guarded_ints(&rng, CLMOE_I32, 1, 2, ids);
    call_rows((struct clmoe_scatter_params){.max_rows = 1, .n = 5, .k = 2, .mode = CLMOE_SCATTER_MASK}, &list,
              77, (const float[]){1, 2, 3, 4, 5}, (const float[]){0, 2, 0, 4, 0}, "mask");
    guarded_free(&list);
}
END_TEST

/* Nothing to do still gives an event, and no slots need no buffers of slots. */
START_TEST(nothing_to_do) {
    struct rng rng = rng_for(7004);
    for (int mode = 0; mode < N_MODES; mode++) {
        for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
            case_begin("%s %s k = 0", clmoe_kernel_name("scatter", row),
                       scatter_mode_name((enum clmoe_scatter_mode)mode));
            const bool folds = scatter_folds((enum clmoe_scatter_mode)mode);
            struct clmoe_scatter_params params = {.plan = {clmoe_kernel_name("scatter", row), 1},
                                                  .max_rows = 3,
                                                  .n = 70,
                                                  .mode = (enum clmoe_scatter_mode)mode,
                                                  .fill = {.f = folds ? 0 : 5}};
            clmoe_plan *plan;
            if (!row_fits("scatter", row, clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plan)))
                continue;
            const cl_mem workspace = scatter_rubbish(plan);
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
                case_require(y0[i] == (folds ? 9 : 5), "y[%d] = %g", i, (double)y0[i]);
            args.y = args.x = (struct clmoe_tensor){.ndim = 2, .shape = {0, 70}};
            if (mode != CLMOE_SCATTER_MASK) args.x = (struct clmoe_tensor){0};
            case_ok(clmoe_scatter_enqueue(plan, tester()->queue, &args, 0, NULL, &event));
            case_require(event != NULL, "no event for no rows");
            clReleaseEvent(event);
            guarded_free(&y), guarded_free(&x);
            if (workspace) clReleaseMemObject(workspace);
            clmoe_plan_destroy(&plan);
        }
    }
}
END_TEST

/* SET, MASK in place, ADD, MULTIPLY from x to another buffer, each after the event of the one before, behind
 * an event of the user: 300 elements in `y`, the last result in `z`. */
START_TEST(out_of_order_chain) {
    enum { STEPS = 4 };
    struct rng rng = rng_for(7005);
    const int32_t ids[STEPS][4] = {{3, 1, 200, 77}, {1, 200, -1, 5}, {1, 1, 77, 99}, {77, 1, 300, 2}};
    const float values[] = {10, 20, 30, 40};
    float got[300];
    for (int row = 0; clmoe_kernel_name("scatter", row); row++) {
        case_begin("%s", clmoe_kernel_name("scatter", row));
        struct guarded v = guarded_floats(&rng, CLMOE_F32, 1, 4, values);
        struct guarded y = guarded_floats(&rng, CLMOE_F32, 1, 300, NULL);
        struct guarded z = guarded_floats(&rng, CLMOE_F32, 1, 300, NULL);
        cl_event events[STEPS + 1] = {clCreateUserEvent(tester()->context, NULL)};
        clmoe_plan *plans[STEPS] = {NULL};
        cl_mem workspaces[STEPS];
        struct guarded index[STEPS];
        int ran = 0;
        for (int s = 0; s < STEPS; s++) {
            index[s] = guarded_ints(&rng, CLMOE_I32, 1, 4, ids[s]);
            struct clmoe_scatter_params params = {.plan = {clmoe_kernel_name("scatter", row), 1},
                                                  .max_rows = 1,
                                                  .n = 300,
                                                  .k = 4,
                                                  .mode = (enum clmoe_scatter_mode)s,
                                                  .from_x = s == CLMOE_SCATTER_MULTIPLY};
            if (s == CLMOE_SCATTER_MASK) params.fill.f = -1;
            enum clmoe_status status = clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plans[s]);
            params.plan.kernel = NULL; /* a row for other modes only: the best one */
            if (row_fits("scatter", row, status))
                ran++;
            else
                case_ok(clmoe_scatter_plan(tester_context(CAPS_OWN), &params, &plans[s]));
            workspaces[s] = scatter_rubbish(plans[s]);
            struct clmoe_scatter_args args = {.indices = index[s].tensor, .y = y.tensor};
            *(s == CLMOE_SCATTER_MASK ? &args.x : &args.values) =
                s == CLMOE_SCATTER_MASK ? y.tensor : v.tensor;
            if (s == CLMOE_SCATTER_MULTIPLY) args.x = y.tensor, args.y = z.tensor;
            case_ok(
                clmoe_scatter_enqueue(plans[s], tester()->ooo_queue, &args, 1, &events[s], &events[s + 1]));
        }
        clSetUserEventStatus(events[0], CL_COMPLETE);
        clWaitForEvents(1, &events[STEPS]);
        guarded_read_floats(&z, got);
        for (int i = 0; ran && i < 300; i++) {
            const float want = i == 1     ? (20 + 10 + 20) * 20
                               : i == 2   ? -1 * 40
                               : i == 5   ? 0
                               : i == 77  ? (-1 + 30) * 10
                               : i == 99  ? -1 + 40
                               : i == 200 ? 30
                                          : -1;
            case_require(got[i] == want, "z[%d] = %g, expected %g", i, (double)got[i], (double)want);
        }
        for (int s = 0; s < STEPS; s++) {
            clmoe_plan_destroy(&plans[s]), guarded_free(&index[s]);
            if (workspaces[s]) clReleaseMemObject(workspaces[s]);
        }
        for (int s = 0; s <= STEPS; s++)
            clReleaseEvent(events[s]);
        guarded_free(&v), guarded_free(&y), guarded_free(&z);
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
    tcase_add_test(cases, multiply_takes_slots_in_order);
    tcase_add_test(cases, multiply_rounds_once);
    tcase_add_test(cases, fill_is_rounded);
    tcase_add_test(cases, xlora_keeps_the_selected);
    tcase_add_test(cases, xlora_selected_zero_stays);
    tcase_add_test(cases, mask_is_idempotent);
    tcase_add_test(cases, samplers);
    tcase_add_test(cases, in_place_of_one_row);
    tcase_add_test(cases, nothing_to_do);
    tcase_add_test(cases, out_of_order_chain);
    tcase_add_loop_test(cases, long_lists, CLMOE_SCATTER_ADD, N_MODES);
    tcase_add_loop_test(cases, tile_borders, 0, N_MODES);
    if (tester()->small) return;
    tcase_add_loop_test(cases, aligned_lines, 0, N_MODES);
    tcase_add_loop_test(cases, unaligned_rows, 0, 2);
    tcase_add_loop_test(cases, slabs, 0, N_MODES);
    tcase_add_loop_test(cases, many_rows, 0, N_MODES);
}

int main(void) {
    return harness_main("scatter", "scatter", add_tests);
}
