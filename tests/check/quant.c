/* SPDX-License-Identifier: MIT
 * quant: every row of its table against ref_q8_0_pack and ref_load, bit by bit. */
#include "harness.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Work-groups of 64 or 128 take 64 or 128 blocks, or an eighth or a quarter of that. */
static const struct {
    int64_t rows, n;
} shapes[] = {{1, 32},  {3, 64},   {2, 96},   {31, 32},  {0, 64},   {8, 32},     {3, 352},
              {33, 32}, {1, 4096}, {1, 4128}, {5, 1024}, {127, 32}, {1, 63 * 32}};
static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};

/* What blocks hold, beside the fills of the harness. */
enum { RAW_BITS = FILL_COUNT, SPREAD, HALVES, NEAR_HALVES, N_DATA };
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_DTYPES = 3, N_SMALL = 8 };
enum { N_PACK = N_SHAPES * N_DTYPES * N_DATA, N_UNPACK = N_SHAPES * N_DTYPES };

static void *room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

static const char *data_name(int data) {
    static const char *const names[] = {"bits", "spread", "halves", "near halves"};
    return data < FILL_COUNT ? fill_name((enum fill)data) : names[data - FILL_COUNT];
}

/* Blocks of all sizes of scale; HALVES: q at k + 0.5 exactly; NEAR_HALVES: beside it by an ulp or two, for
 * scales of any mantissa, so that a scale or a reciprocal that is off by an ulp shows. */
static void fill_block(struct rng *rng, int data, float *x) {
    const int exponent = (int)rng_below(rng, data == SPREAD ? 250 : 30) - (data == SPREAD ? 140 : 15);
    const float mantissa = data == HALVES ? 1.0f : 1.0f + ldexpf((float)rng_below(rng, 1 << 23), -23);
    const float scale = ldexpf(mantissa, exponent);
    for (int i = 0; i < 32; i++) {
        float v = scale * ((float)rng_below(rng, 255) - 127.0f);
        if (data != SPREAD) v = scale * ((float)rng_below(rng, 254) - 126.5f);
        if (data == NEAR_HALVES)
            for (int64_t nudge = rng_below(rng, 4); nudge > 0; nudge--)
                v = nextafterf(v, rng_below(rng, 2) ? INFINITY : -INFINITY);
        x[i] = v;
    }
    x[rng_below(rng, 32)] = rng_below(rng, 2) ? 127.0f * scale : -127.0f * scale;
}

/* Elements of dtype as they lie in memory. */
static void *elements(struct rng *rng, int data, enum clmoe_dtype dtype, int64_t n) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    unsigned char *const raw = room(n, (size_t)size);
    float *const v = room(n, sizeof *v);
    if (data < FILL_COUNT) fill_floats(rng, (enum fill)data, v, n);
    for (int64_t b = 0; data > RAW_BITS && b < n; b += 32)
        fill_block(rng, data, v + b);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = rng_u32(rng);
        if (data == RAW_BITS)
            memcpy(raw + i * size, &bits, (size_t)size);
        else
            ref_store(dtype, raw, i, v[i]);
    }
    free(v);
    return raw;
}

/* Any bits as scale, any q. */
static unsigned char *random_blocks(struct rng *rng, int64_t n) {
    unsigned char *const q = room(n / 32, 34);
    for (int64_t i = 0; i < n / 32 * 34; i++)
        q[i] = (unsigned char)rng_below(rng, 256);
    return q;
}

/* One call of one row of the table. `to` gets the result. False: the row refuses. */
static bool run_row(struct rng *rng, int row, enum clmoe_quant_mode mode, enum clmoe_dtype dtype,
                    int64_t rows, int64_t n, enum forced_caps caps, const void *from, void *to) {
    const struct clmoe_quant_params params = {.plan.kernel = clmoe_kernel_name("quant", row),
                                              .mode = mode,
                                              .max_rows = rows + rng_below(rng, 2),
                                              .n = n,
                                              .plain = dtype,
                                              .block = CLMOE_Q8_0};
    clmoe_plan *plan;
    if (!row_fits("quant", row, clmoe_quant_plan(tester_context(caps), &params, &plan))) return false;
    const bool pack = mode == CLMOE_QUANT_PACK;
    struct guarded x = guarded_raw(rng, dtype, rows, n, pack ? from : NULL);
    struct guarded q = guarded_raw(rng, CLMOE_Q8_0, rows, n, pack ? NULL : from);
    const struct clmoe_quant_args args = {.x = x.tensor, .q = q.tensor};
    case_ok(clmoe_quant_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(pack ? &q : &x, to);
    guarded_read(pack ? &x : &q, NULL);
    guarded_free(&x), guarded_free(&q);
    clmoe_plan_destroy(&plan);
    return true;
}

static void describe(int row, const char *what, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                     enum forced_caps caps) {
    case_begin("%s %s %s rows=%lld n=%lld caps %s", clmoe_kernel_name("quant", row), what,
               clmoe_dtype_name(dtype), (long long)rows, (long long)n, caps_name(caps));
}

static void compare_blocks(const unsigned char *got, const unsigned char *want, int64_t n) {
    for (int64_t i = 0; i < n / 32 * 34; i++)
        case_require(got[i] == want[i], "block %lld, byte %lld: %02x, expected %02x (scale %02x%02x)",
                     (long long)(i / 34), (long long)(i % 34), got[i], want[i], want[i / 34 * 34 + 1],
                     want[i / 34 * 34]);
}

/* Packs on all rows of the table and compares with the reference. */
static void check_pack(struct rng *rng, const char *what, enum clmoe_dtype dtype, int64_t rows, int64_t n,
                       enum forced_caps caps, const void *raw) {
    const int64_t count = rows * n;
    float *const x = room(count, sizeof *x);
    unsigned char *const want = room(count / 32, 34), *const got = room(count / 32, 34);
    for (int64_t i = 0; i < count; i++)
        x[i] = ref_load(dtype, raw, i);
    ref_q8_0_pack(x, count, want);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        describe(row, what, dtype, rows, n, caps);
        if (run_row(rng, row, CLMOE_QUANT_PACK, dtype, rows, n, caps, raw, got))
            compare_blocks(got, want, count);
    }
    free(x), free(want), free(got);
}

START_TEST(packs_as_reference) {
    struct rng rng = rng_for((uint64_t)_i);
    const int64_t rows = shapes[_i % N_SHAPES].rows, n = shapes[_i % N_SHAPES].n;
    const int data = _i / N_SHAPES % N_DATA;
    const enum clmoe_dtype dtype = dtypes[_i / N_SHAPES / N_DATA];
    void *const raw = elements(&rng, data, dtype, rows * n);
    check_pack(&rng, data_name(data), dtype, rows, n, (enum forced_caps)(_i % CAPS_COUNT), raw);
    free(raw);
}
END_TEST

START_TEST(unpacks_as_reference) {
    struct rng rng = rng_for(5000 + (uint64_t)_i);
    const int64_t rows = shapes[_i % N_SHAPES].rows, n = shapes[_i % N_SHAPES].n;
    const enum clmoe_dtype dtype = dtypes[_i / N_SHAPES];
    const enum forced_caps caps = (enum forced_caps)(_i % CAPS_COUNT);
    const size_t size = (size_t)clmoe_dtype_bytes(dtype, 1);
    unsigned char *const q = random_blocks(&rng, rows * n);
    char *const got = room(rows * n, size), *const want = room(rows * n, size);
    for (int64_t i = 0; i < rows * n; i++)
        ref_store(dtype, want, i, ref_load(CLMOE_Q8_0, q, i));
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        describe(row, "unpack", dtype, rows, n, caps);
        if (!run_row(&rng, row, CLMOE_QUANT_UNPACK, dtype, rows, n, caps, q, got)) continue;
        for (int64_t i = 0; i < rows * n; i++) {
            const float g = ref_load(dtype, got, i), w = ref_load(dtype, want, i);
            case_require((isnan(g) && isnan(w)) ||
                             !memcmp(got + size * (size_t)i, want + size * (size_t)i, size),
                         "x[%lld] = %.9g, expected %.9g", (long long)i, (double)g, (double)w);
        }
    }
    free(q), free(got), free(want);
}
END_TEST

/* ---- named cases: one block, all rows of the table, both sets of features ---- */

static void expect_block(const char *what, const float *x, uint16_t d, const signed char *q) {
    struct rng rng = rng_for(9001);
    unsigned char got[34], want[34];
    memcpy(want, &d, 2);
    memcpy(want + 2, q, 32);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        for (int caps = 0; caps < CAPS_COUNT; caps++) {
            describe(row, what, CLMOE_F32, 1, 32, (enum forced_caps)caps);
            if (run_row(&rng, row, CLMOE_QUANT_PACK, CLMOE_F32, 1, 32, (enum forced_caps)caps, x, got))
                compare_blocks(got, want, 32);
        }
    }
}

START_TEST(halves_round_away_from_zero) {
    const float x[32] = {127,   0.5f,   -0.5f,   1.5f,        -1.5f,       2.5f,
                         -2.5f, 125.5f, -126.5f, 0.49999997f, -0.49999997f};
    const signed char q[32] = {127, 1, -1, 2, -2, 3, -3, 126, -127, 0, 0};
    expect_block("halves", x, 0x3c00, q);
}
END_TEST

START_TEST(zeros_give_zeros) {
    float x[32] = {0};
    const signed char q[32] = {0};
    expect_block("+0", x, 0, q);
    for (int i = 0; i < 32; i++)
        x[i] = -0.0f;
    expect_block("-0", x, 0, q);
}
END_TEST

START_TEST(damaged_blocks_show) {
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    const signed char q[32] = {0};
    for (int kind = 0; kind < 4; kind++) {
        for (int at = 0; at < 32; at += 31) {
            float x[32];
            for (int i = 0; i < 32; i++)
                x[i] = (float)i;
            x[at] = bad[kind];
            expect_block("NaN or infinity", x, 0x7e00, q);
        }
    }
}
END_TEST

START_TEST(scale_beyond_f16) {
    float x[32] = {127.0f * 65504.0f, -127.0f * 65504.0f / 2};
    signed char q[32] = {127, -64};
    expect_block("largest f16", x, 0x7bff, q);
    x[0] = nextafterf(127.0f * 65520.0f, 0); /* D rounds to the largest f16 */
    q[1] = -63;                              /* 63.48 */
    expect_block("just below infinity", x, 0x7bff, q);
    x[0] = 127.0f * 65520.0f;
    expect_block("infinity", x, 0x7c00, q);
    x[0] = FLT_MAX;
    x[1] = -FLT_MAX / 4;
    x[2] = FLT_MAX / 127;
    expect_block("FLT_MAX", x, 0x7c00, (const signed char[32]){127, -32, 1});
}
END_TEST

START_TEST(scale_below_f16) {
    const float f16_least = 0x1p-24f;
    expect_block("least f16", (const float[32]){127 * f16_least, f16_least}, 1,
                 (const signed char[32]){127, 1});
    /* A tie between 0 and the least f16 goes to 0; q stay as the formula says. */
    expect_block("half of it", (const float[32]){127 * f16_least / 2, f16_least}, 0,
                 (const signed char[32]){127, 2});
    expect_block("more than half", (const float[32]){127 * nextafterf(f16_least / 2, 1)}, 1,
                 (const signed char[32]){127});
    expect_block("2^-125", (const float[32]){127 * 0x1p-125f, -0x1p-125f, FLT_MIN}, 0,
                 (const signed char[32]){127, -1, 1});
    expect_block("below 2^-125", (const float[32]){nextafterf(127 * 0x1p-125f, 0), -0x1p-125f}, 0,
                 (const signed char[32]){0});
    expect_block("denormals", (const float[32]){FLT_MIN, 1e-40f, -1e-40f}, 0, (const signed char[32]){0});
}
END_TEST

/* The worst error is half a step, and what rounding the scale to f16 adds. */
START_TEST(round_trip) {
    struct rng rng = rng_for(9002 + (uint64_t)_i);
    enum { ROWS = 3, N = 160 };
    float *const x = elements(&rng, FILL_RANDOM, CLMOE_F32, ROWS * N), back[ROWS * N];
    unsigned char q[ROWS * N / 32 * 34];
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        const enum forced_caps caps = (enum forced_caps)_i;
        describe(row, "round trip", CLMOE_F32, ROWS, N, caps);
        if (!run_row(&rng, row, CLMOE_QUANT_PACK, CLMOE_F32, ROWS, N, caps, x, q)) continue;
        run_row(&rng, row, CLMOE_QUANT_UNPACK, CLMOE_F32, ROWS, N, caps, q, back);
        for (int i = 0; i < ROWS * N; i++) {
            const double scale = (double)ref_q8_0_scale(x + i / 32 * 32);
            const double bound = scale * (0.5 + 127 * 0x1p-11 + 1e-5);
            case_require(fabs((double)back[i] - (double)x[i]) <= bound,
                         "x[%d] = %g came back as %g (scale %g)", i, (double)x[i], (double)back[i], scale);
        }
    }
    free(x);
}
END_TEST

START_TEST(many_rows) {
    struct rng rng = rng_for(9010);
    void *const raw = elements(&rng, NEAR_HALVES, CLMOE_F32, 70001 * 32);
    check_pack(&rng, "many rows", CLMOE_F32, 70001, 32, CAPS_OWN, raw);
    check_pack(&rng, "many rows", CLMOE_F32, 70001, 32, CAPS_PLAIN, raw);
    free(raw);
}
END_TEST

/* Pack, then unpack after its event, behind an event of the user. */
START_TEST(out_of_order_chain) {
    struct rng rng = rng_for(9011);
    float values[96], got[96];
    for (int i = 0; i < 96; i++)
        values[i] = (float)(i % 32 * 8 - 121) * 0.25f; /* multiples of a quarter, up to 127 / 4 */
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        for (int caps = 0; caps < CAPS_COUNT; caps++) {
            clmoe_plan *plans[2];
            struct clmoe_quant_params params = {
                .plan.kernel = clmoe_kernel_name("quant", row), .max_rows = 3, .n = 32, .block = CLMOE_Q8_0};
            describe(row, "chain", CLMOE_F32, 3, 32, (enum forced_caps)caps);
            clmoe_context *const ctx = tester_context((enum forced_caps)caps);
            if (!row_fits("quant", row, clmoe_quant_plan(ctx, &params, &plans[0]))) continue;
            params.mode = CLMOE_QUANT_UNPACK;
            case_ok(clmoe_quant_plan(ctx, &params, &plans[1]));
            struct guarded x = guarded_floats(&rng, CLMOE_F32, 3, 32, values);
            struct guarded q = guarded_raw(&rng, CLMOE_Q8_0, 3, 32, NULL);
            struct guarded y = guarded_floats(&rng, CLMOE_F32, 3, 32, NULL);
            cl_event events[3] = {clCreateUserEvent(tester()->context, NULL)};
            const struct clmoe_quant_args in = {x.tensor, q.tensor}, out = {y.tensor, q.tensor};
            case_ok(clmoe_quant_enqueue(plans[0], tester()->ooo_queue, &in, 1, &events[0], &events[1]));
            case_ok(clmoe_quant_enqueue(plans[1], tester()->ooo_queue, &out, 1, &events[1], &events[2]));
            clSetUserEventStatus(events[0], CL_COMPLETE);
            clWaitForEvents(1, &events[2]);
            guarded_read_floats(&y, got);
            for (int i = 0; i < 96; i++)
                case_require(got[i] == values[i], "y[%d] = %g, expected %g", i, (double)got[i],
                             (double)values[i]);
            for (int e = 0; e < 3; e++)
                clReleaseEvent(events[e]);
            guarded_free(&x), guarded_free(&q), guarded_free(&y);
            clmoe_plan_destroy(&plans[0]), clmoe_plan_destroy(&plans[1]);
        }
    }
}
END_TEST

/* ---- rules ---- */

static const struct clmoe_quant_params good = {.max_rows = 4, .n = 64, .block = CLMOE_Q8_0};

static void plan_refused(const char *what, const struct clmoe_quant_params *params) {
    clmoe_plan *plan = (clmoe_plan *)&good;
    case_begin("%s", what);
    const enum clmoe_status status = clmoe_quant_plan(tester_context(CAPS_OWN), params, &plan);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!plan && *tester_log(), "the plan is not NULL, or nothing was logged");
}

START_TEST(bad_params) {
    struct clmoe_quant_params p = good;
#define REFUSED(field, value) (p = good, p.field = (value), plan_refused(#field " = " #value, &p))
    REFUSED(max_rows, -1);
    REFUSED(n, 0);
    REFUSED(n, -32);
    REFUSED(n, 63);
    REFUSED(plain, CLMOE_I32);
    REFUSED(plain, CLMOE_Q8_0);
    REFUSED(plain, (enum clmoe_dtype)99);
    REFUSED(block, CLMOE_F32);
    REFUSED(block, CLMOE_U8);
    REFUSED(mode, (enum clmoe_quant_mode)2);
    REFUSED(plan.kernel, "quant_fast");
#undef REFUSED
    plan_refused("params is NULL", NULL);
}
END_TEST

static void args_refused(const char *what, clmoe_plan *plan, const struct clmoe_quant_args *args) {
    case_begin("%s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_quant_enqueue(plan, tester()->queue, args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!event && *tester_log(), "the event is not NULL, or nothing was logged");
}

START_TEST(bad_args) {
    struct rng rng = rng_for(9012);
    struct guarded x = guarded_floats(&rng, CLMOE_F32, 4, 64, NULL);
    struct guarded q = guarded_raw(&rng, CLMOE_Q8_0, 4, 64, NULL);
    for (int mode = 0; mode < 2; mode++) {
        struct clmoe_quant_params params = good;
        params.mode = (enum clmoe_quant_mode)mode;
        clmoe_plan *plan;
        case_begin("plan");
        case_ok(clmoe_quant_plan(tester_context(CAPS_OWN), &params, &plan));
        const struct clmoe_quant_args fine = {x.tensor, q.tensor};
        struct clmoe_quant_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), args_refused(#field " = " #value, plan, &a))
        REFUSED(x, (struct clmoe_tensor){0});
        REFUSED(q, (struct clmoe_tensor){0});
        REFUSED(x.dtype, CLMOE_F16);
        REFUSED(q.dtype, CLMOE_U8);
        REFUSED(x.shape[0], 5);
        REFUSED(x.shape[1], 32);
        REFUSED(q.shape[0], 3);
        REFUSED(q.shape[1], 96);
        REFUSED(q.stride[0], 80);
        REFUSED(q.offset, q.tensor.offset + 1);
        REFUSED(q.offset, (uint64_t)1 << 40);
        REFUSED(q.mem, x.mem);
        REFUSED(x.stride[1], 2);
        REFUSED(x.offset, 2);
#undef REFUSED
        clmoe_plan_destroy(&plan);
    }
    guarded_free(&x), guarded_free(&q);
}
END_TEST

static void add_tests(TCase *cases) {
    const bool small = tester()->small;
    tcase_add_loop_test(cases, packs_as_reference, 0, small ? N_SMALL : N_PACK);
    tcase_add_loop_test(cases, unpacks_as_reference, 0, small ? N_SMALL : N_UNPACK);
    tcase_add_test(cases, halves_round_away_from_zero);
    tcase_add_test(cases, zeros_give_zeros);
    tcase_add_test(cases, damaged_blocks_show);
    tcase_add_test(cases, scale_beyond_f16);
    tcase_add_test(cases, scale_below_f16);
    tcase_add_loop_test(cases, round_trip, 0, CAPS_COUNT);
    tcase_add_test(cases, out_of_order_chain);
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    if (!small) tcase_add_test(cases, many_rows);
}

int main(void) {
    return harness_main("quant", "quant", add_tests);
}
