/* SPDX-License-Identifier: MIT
 * quant: every row of its table against ref_pack and ref_unpack, bit by bit; what is special in the formats
 * other than q8_0 is in quant_formats.c. */
#include "quant_case.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows and their blocks. Work-groups of 64 or 128 take 64 or 128 blocks, or an eighth or a quarter of that.
 */
static const struct {
    int64_t rows, blocks;
} shapes[] = {{1, 1},  {3, 2},   {2, 3},   {31, 1}, {0, 2},   {8, 1}, {3, 11},
              {33, 1}, {1, 128}, {1, 129}, {5, 32}, {127, 1}, {1, 63}};
static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};

/* The other formats, each with the plain types it is checked with: kept few, as each is a program of its own.
 */
static const struct {
    enum clmoe_dtype block, plain;
} others[] = {{CLMOE_Q4_0, CLMOE_F32},  {CLMOE_Q5_0, CLMOE_F32}, {CLMOE_MXFP4, CLMOE_F32},
              {CLMOE_Q4_K, CLMOE_F32},  {CLMOE_Q5_K, CLMOE_F32}, {CLMOE_Q6_K, CLMOE_F32},
              {CLMOE_MXFP4, CLMOE_F16}, {CLMOE_Q6_K, CLMOE_BF16}};

/* What blocks hold, beside the fills of the harness. */
enum { RAW_BITS = FILL_COUNT, SPREAD, HALVES, NEAR_HALVES, QUARTERS, EDGES, N_DATA };
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_DTYPES = 3, N_SMALL = 8 };
enum { N_OTHERS = sizeof others / sizeof *others };
enum { N_PACK = N_SHAPES * N_DTYPES * N_DATA, N_UNPACK = N_SHAPES * N_DTYPES };

static const char *data_name(int data) {
    static const char *const names[] = {"bits", "spread", "halves", "near halves", "quarters", "edges"};
    return data < FILL_COUNT ? fill_name((enum fill)data) : names[data - FILL_COUNT];
}

/* Blocks of all sizes of scale; HALVES: q8_0's q at k + 0.5 exactly; NEAR_HALVES: beside it by an ulp or two,
 * for scales of any mantissa, so that a scale or a reciprocal that is off by an ulp shows; QUARTERS: the
 * bounds between numbers of few bits; EDGES: where the sum that q4_0 and q5_0 cut off rounds to a whole
 * number. */
static void fill_block(struct rng *rng, int data, float *x) {
    const int exponent = (int)rng_below(rng, data == SPREAD ? 250 : 30) - (data == SPREAD ? 140 : 15);
    const float mantissa =
        data == HALVES || data == QUARTERS ? 1.0f : 1.0f + ldexpf((float)rng_below(rng, 1 << 23), -23);
    const float scale = ldexpf(mantissa, exponent);
    for (int i = 0; i < 32; i++) {
        float v = scale * ((float)rng_below(rng, 255) - 127.0f);
        if (data == QUARTERS) v = scale * (float)(rng_below(rng, 65) - 32);
        if (data == HALVES || data == NEAR_HALVES) v = scale * ((float)rng_below(rng, 254) - 126.5f);
        if (data == NEAR_HALVES)
            for (int64_t nudge = rng_below(rng, 4); nudge > 0; nudge--)
                v = nextafterf(v, rng_below(rng, 2) ? INFINITY : -INFINITY);
        x[i] = v;
    }
    if (data != QUARTERS) x[rng_below(rng, 32)] = rng_below(rng, 2) ? 127.0f * scale : -127.0f * scale;
}

static void fill_edges(struct rng *rng, float *x) {
    const float half = rng_below(rng, 2) ? 8 : 16;
    const float scale = 1.0f + ldexpf((float)rng_below(rng, 1 << 23), -23);
    for (int i = 0; i < 32; i++) {
        const float code = (float)rng_below(rng, 2 * (int64_t)half);
        x[i] = scale * (code - half - 0.5f - half * 0x1p-24f * (float)(1 << rng_below(rng, 2)));
        for (int64_t nudge = rng_below(rng, 3); nudge > 0; nudge--)
            x[i] = nextafterf(x[i], rng_below(rng, 2) ? INFINITY : -INFINITY);
        if (x[i] < -half * scale) x[i] = 0;
    }
    x[rng_below(rng, 32)] = -half * scale;
}

/* Elements of dtype as they lie in memory. */
static void *elements(struct rng *rng, int data, enum clmoe_dtype dtype, int64_t n) {
    const int64_t size = clmoe_dtype_bytes(dtype, 1);
    unsigned char *const raw = quant_room(n, (size_t)size);
    float *const v = quant_room(n, sizeof *v);
    if (data < FILL_COUNT) fill_floats(rng, (enum fill)data, v, n);
    for (int64_t b = 0; data > RAW_BITS && b < n; b += 32)
        data == EDGES ? fill_edges(rng, v + b) : fill_block(rng, data, v + b);
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

/* Any bits. */
static unsigned char *random_blocks(struct rng *rng, enum clmoe_dtype block, int64_t n) {
    const int64_t bytes = clmoe_dtype_bytes(block, n);
    unsigned char *const q = quant_room(bytes, 1);
    for (int64_t i = 0; i < bytes; i++)
        q[i] = (unsigned char)rng_below(rng, 256);
    return q;
}

static struct quant_shape shape_of(enum clmoe_dtype plain, enum clmoe_dtype block, int i) {
    return (struct quant_shape){plain, block, shapes[i % N_SHAPES].rows,
                                shapes[i % N_SHAPES].blocks * ref_block_length(block)};
}

static void pack_case(struct rng *rng, const struct quant_shape *s, int data, enum forced_caps caps) {
    void *const raw = elements(rng, data, s->plain, s->rows * s->n);
    quant_check_pack(rng, data_name(data), s, caps, raw);
    free(raw);
}

static void unpack_case(struct rng *rng, const struct quant_shape *s, enum forced_caps caps) {
    unsigned char *const q = random_blocks(rng, s->block, s->rows * s->n);
    float *const want = quant_room(s->rows * s->n, sizeof *want);
    ref_unpack(s->block, q, s->rows * s->n, want);
    quant_check_unpack(rng, "unpack", s, caps, q, want);
    free(q), free(want);
}

START_TEST(packs_as_reference) {
    struct rng rng = rng_for((uint64_t)_i);
    const struct quant_shape s = shape_of(dtypes[_i / N_SHAPES / N_DATA], CLMOE_Q8_0, _i);
    pack_case(&rng, &s, _i / N_SHAPES % N_DATA, (enum forced_caps)(_i % CAPS_COUNT));
}
END_TEST

START_TEST(unpacks_as_reference) {
    struct rng rng = rng_for(5000 + (uint64_t)_i);
    const struct quant_shape s = shape_of(dtypes[_i / N_SHAPES], CLMOE_Q8_0, _i);
    unpack_case(&rng, &s, (enum forced_caps)(_i % CAPS_COUNT));
}
END_TEST

/* Each of the other formats, packed from each kind of data in some shape, and unpacked in each shape. */
START_TEST(other_packs) {
    struct rng rng = rng_for(6000 + (uint64_t)_i);
    const int which = _i % N_OTHERS, data = _i / N_OTHERS;
    const struct quant_shape s = shape_of(others[which].plain, others[which].block, _i / 2 + data);
    pack_case(&rng, &s, data, CAPS_OWN);
}
END_TEST

START_TEST(other_unpacks) {
    struct rng rng = rng_for(7000 + (uint64_t)_i);
    const int which = _i % N_OTHERS;
    const struct quant_shape s = shape_of(others[which].plain, others[which].block, _i / N_OTHERS);
    unpack_case(&rng, &s, CAPS_OWN);
    unpack_case(&rng, &s, CAPS_PLAIN);
}
END_TEST

/* ---- named cases: one block, all rows of the table, both sets of features ---- */

static void expect_block(const char *what, const float *x, uint16_t d, const signed char *q) {
    unsigned char want[34];
    memcpy(want, &d, 2);
    memcpy(want + 2, q, 32);
    quant_expect_block(what, CLMOE_Q8_0, x, want);
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
    const struct quant_shape s = {CLMOE_F32, CLMOE_Q8_0, ROWS, N};
    float *const x = elements(&rng, FILL_RANDOM, CLMOE_F32, ROWS * N), back[ROWS * N];
    unsigned char q[ROWS * N / 32 * 34];
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        const enum forced_caps caps = (enum forced_caps)_i;
        quant_describe(row, "round trip", &s, caps);
        if (!quant_run_row(&rng, row, CLMOE_QUANT_PACK, &s, caps, x, q)) continue;
        quant_run_row(&rng, row, CLMOE_QUANT_UNPACK, &s, caps, q, back);
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
    const struct quant_shape s = {CLMOE_F32, CLMOE_Q8_0, 70001, 32};
    pack_case(&rng, &s, NEAR_HALVES, CAPS_OWN);
    pack_case(&rng, &s, NEAR_HALVES, CAPS_PLAIN);
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
            const struct quant_shape s = {CLMOE_F32, CLMOE_Q8_0, 3, 32};
            quant_describe(row, "chain", &s, (enum forced_caps)caps);
            clmoe_context *const ctx = tester_context((enum forced_caps)caps);
            if (!row_fits("quant", row, clmoe_quant_plan(ctx, &params, &plans[0]))) continue;
            params.mode = CLMOE_QUANT_UNPACK;
            case_ok(clmoe_quant_plan(ctx, &params, &plans[1]));
            struct guarded x = guarded_floats(&rng, CLMOE_F32, 3, 32, values);
            struct guarded q = guarded_raw(&rng, CLMOE_Q8_0, 3, 32, NULL);
            struct guarded y = guarded_floats(&rng, CLMOE_F32, 3, 32, NULL);
            cl_event events[3] = {clCreateUserEvent(tester()->context, NULL)};
            const struct clmoe_quant_args in = {.x = x.tensor, .q = q.tensor};
            const struct clmoe_quant_args out = {.x = y.tensor, .q = q.tensor};
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

START_TEST(bad_params) {
    struct clmoe_quant_params p = good;
#define REFUSED(field, value) (p = good, p.field = (value), quant_plan_refused(#field " = " #value, &p))
    REFUSED(max_rows, -1);
    REFUSED(n, 0);
    REFUSED(n, -32);
    REFUSED(n, 63);
    REFUSED(plain, CLMOE_I32);
    REFUSED(plain, CLMOE_Q8_0);
    REFUSED(plain, (enum clmoe_dtype)99);
    REFUSED(block, CLMOE_F32);
    REFUSED(block, CLMOE_U8);
    REFUSED(block, CLMOE_Q4_K);
    REFUSED(mode, (enum clmoe_quant_mode)2);
    REFUSED(plan.kernel, "quant_fast");
#undef REFUSED
    quant_plan_refused("params is NULL", NULL);
}
END_TEST

START_TEST(bad_args) {
    struct rng rng = rng_for(9012);
    struct guarded x = guarded_floats(&rng, CLMOE_F32, 4, 64, NULL);
    struct guarded q = guarded_raw(&rng, CLMOE_Q8_0, 4, 64, NULL);
    for (int mode = 0; mode < 2; mode++) {
        clmoe_plan *plan = quant_plan_for(&good, (enum clmoe_quant_mode)mode);
        const struct clmoe_quant_args fine = {.x = x.tensor, .q = q.tensor};
        struct clmoe_quant_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), quant_args_refused(#field " = " #value, plan, &a))
        REFUSED(x, (struct clmoe_tensor){0});
        REFUSED(q, (struct clmoe_tensor){0});
        REFUSED(scale, x.tensor);
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

START_TEST(ran_at_all) {
    quant_require_ran("quant_lanes quant_block");
}
END_TEST

static void add_tests(TCase *cases) {
    const bool small = tester()->small;
    tcase_add_loop_test(cases, packs_as_reference, 0, small ? N_SMALL : N_PACK);
    tcase_add_loop_test(cases, unpacks_as_reference, 0, small ? N_SMALL : N_UNPACK);
    tcase_add_loop_test(cases, other_packs, 0, small ? N_OTHERS : N_OTHERS * N_DATA);
    tcase_add_loop_test(cases, other_unpacks, 0, small ? N_OTHERS : N_OTHERS * N_SHAPES);
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
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("quant", "", add_tests);
}
