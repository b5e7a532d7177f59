/* SPDX-License-Identifier: MIT
 * quant: codes with scales apart, against ref_scaled_pack and ref_scaled_unpack bit by bit, and the corners
 * of their definitions in quant.h. */
#include "quant_case.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const enum clmoe_dtype codes[] = {CLMOE_F8_E4M3, CLMOE_I8, CLMOE_F4_E2M1};
static const enum clmoe_dtype scale_dtypes[] = {CLMOE_F32, CLMOE_U8, CLMOE_F16, CLMOE_BF16};
static const enum clmoe_dtype plains[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};

/* Blocks that end with the rows and columns, and that do not; lanes in several rows, and rows longer than
 * them. Columns become even where they must. */
static const struct {
    int64_t rows, n, block_rows, block_columns;
} shapes[] = {{3, 64, 1, 32}, {5, 131, 2, 64}, {1, 2, 0, 0},     {200, 300, 128, 128}, {7, 37, 1, 0},
              {9, 48, 0, 16}, {0, 32, 1, 16},  {33, 18, 32, 16}, {4, 1026, 0, 0},      {2, 513, 1, 256}};

enum { N_CODES = 3, N_SCALES = 4, N_SHAPES = sizeof shapes / sizeof *shapes };
enum { RAW_BITS = FILL_COUNT, SPREAD, TIES, N_DATA };

struct sizes {
    struct quant_shape s;
    struct clmoe_w_scale scale;
    int64_t bands, groups;
};

static struct sizes sizes_of(enum clmoe_dtype plain, enum clmoe_dtype code, struct clmoe_w_scale scale,
                             int64_t rows, int64_t n) {
    const int64_t height = scale.rows ? scale.rows
                           : rows     ? rows
                                      : 1,
                  width = scale.columns ? scale.columns : n;
    return (struct sizes){.s = {plain, code, rows, n},
                          .scale = scale,
                          .bands = (rows + height - 1) / height,
                          .groups = (n + width - 1) / width};
}

/* One call of one row. What is packed to, or the other way round. False: the row refuses. */
static bool run_row(struct rng *rng, int row, enum clmoe_quant_mode mode, const struct sizes *c,
                    enum forced_caps caps, void *x, void *q, void *scale) {
    const struct quant_shape *const s = &c->s;
    const struct clmoe_quant_params params = {.plan.kernel = clmoe_kernel_name("quant", row),
                                              .mode = mode,
                                              .max_rows = s->rows + rng_below(rng, 2),
                                              .n = s->n,
                                              .plain = s->plain,
                                              .block = s->block,
                                              .scale = c->scale};
    clmoe_plan *plan;
    if (!row_fits("quant", row, clmoe_quant_plan(tester_context(caps), &params, &plan))) return false;
    const bool pack = mode == CLMOE_QUANT_PACK;
    struct guarded gx = guarded_raw(rng, s->plain, s->rows, s->n, pack ? x : NULL);
    struct guarded gq = guarded_raw(rng, s->block, s->rows, s->n, pack ? NULL : q);
    struct guarded gs = guarded_raw(rng, c->scale.dtype, c->bands, c->groups, pack ? NULL : scale);
    const struct clmoe_quant_args args = {.x = gx.tensor, .q = gq.tensor, .scale = gs.tensor};
    case_ok(clmoe_quant_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(&gx, pack ? NULL : x);
    guarded_read(&gq, pack ? q : NULL);
    guarded_read(&gs, pack ? scale : NULL);
    guarded_free(&gx), guarded_free(&gq), guarded_free(&gs);
    clmoe_plan_destroy(&plan);
    return true;
}

static void describe(int row, const char *what, const struct sizes *c, enum forced_caps caps) {
    const struct quant_shape *const s = &c->s;
    case_begin("%s %s %s %s rows=%lld n=%lld scale={%s, %lld, %lld} caps %s", clmoe_kernel_name("quant", row),
               what, clmoe_dtype_name(s->plain), clmoe_dtype_name(s->block), (long long)s->rows,
               (long long)s->n, clmoe_dtype_name(c->scale.dtype), (long long)c->scale.rows,
               (long long)c->scale.columns, caps_name(caps));
}

/* Packs `raw` on all rows of the table, to what the reference makes of it. */
static void check_pack(struct rng *rng, const char *what, const struct sizes *c, enum forced_caps caps,
                       void *raw) {
    const int64_t count = c->s.rows * c->s.n, bytes = clmoe_dtype_bytes(c->s.block, count);
    const int64_t scale_bytes = clmoe_dtype_bytes(c->scale.dtype, c->bands * c->groups);
    float *const x = quant_room(count, sizeof *x);
    unsigned char *const want = quant_room(bytes, 1), *const got = quant_room(bytes, 1);
    unsigned char *const want_scale = quant_room(scale_bytes, 1), *const got_scale =
                                                                      quant_room(scale_bytes, 1);
    for (int64_t i = 0; i < count; i++)
        x[i] = ref_load(c->s.plain, raw, i);
    ref_scaled_pack(c->s.block, &c->scale, x, c->s.rows, c->s.n, want, want_scale);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        describe(row, what, c, caps);
        if (!run_row(rng, row, CLMOE_QUANT_PACK, c, caps, raw, got, got_scale)) continue;
        quant_compare_bytes("scales", got_scale, want_scale, scale_bytes);
        quant_compare_bytes("codes", got, want, bytes);
    }
    free(x), free(want), free(got), free(want_scale), free(got_scale);
}

static void check_unpack(struct rng *rng, const struct sizes *c, enum forced_caps caps, void *q,
                         void *scale) {
    const int64_t count = c->s.rows * c->s.n;
    float *const want = quant_room(count, sizeof *want);
    void *const got = quant_room(count, (size_t)clmoe_dtype_bytes(c->s.plain, 1));
    ref_scaled_unpack(c->s.block, &c->scale, q, scale, c->s.rows, c->s.n, want);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        describe(row, "unpack", c, caps);
        if (run_row(rng, row, CLMOE_QUANT_UNPACK, c, caps, got, q, scale))
            quant_compare_plain(c->s.plain, got, want, count);
    }
    free(want), free(got);
}

/* ---- random data ---- */

/* What a code of the format means, in quarters of a power of two at least. */
static float meaning(enum clmoe_dtype dtype, int code) {
    float v[2];
    const unsigned char byte = (unsigned char)code;
    ref_unpack(dtype, &byte, ref_block_length(dtype), v);
    return v[0];
}

/* Numbers between two codes, and the next to them, for a scale that is a power of two. */
static void fill_ties(struct rng *rng, enum clmoe_dtype dtype, float *x, int64_t n) {
    const int last = dtype == CLMOE_F4_E2M1 ? 7 : dtype == CLMOE_I8 ? 127 : 126;
    const int exponent = (int)rng_below(rng, 40) - 20;
    for (int64_t i = 0; i < n; i++) {
        const int code = (int)rng_below(rng, last);
        float v = (meaning(dtype, code) + meaning(dtype, code + 1)) / 2;
        for (int64_t nudge = rng_below(rng, 3); nudge > 0; nudge--)
            v = nextafterf(v, rng_below(rng, 2) ? INFINITY : 0);
        if (i % 16 == 0) v = meaning(dtype, last);
        x[i] = ldexpf(rng_below(rng, 2) ? v : -v, exponent);
    }
}

/* Numbers of about one size, which may be any: of every row a little another one. */
static void fill_spread(struct rng *rng, int64_t rows, int64_t n, float *x) {
    const int exponent = (int)rng_below(rng, 274) - 148;
    for (int64_t i = 0; i < rows * n; i++)
        x[i] = ldexpf(rng_float(rng), exponent + (int)(i / n % 3) - (int)rng_below(rng, 14));
}

static void *elements(struct rng *rng, int data, const struct quant_shape *s) {
    const int64_t count = s->rows * s->n, size = clmoe_dtype_bytes(s->plain, 1);
    unsigned char *const raw = quant_room(count, (size_t)size);
    float *const v = quant_room(count, sizeof *v);
    if (data < FILL_COUNT) fill_floats(rng, (enum fill)data, v, count);
    if (data == SPREAD) fill_spread(rng, s->rows, s->n, v);
    if (data == TIES) fill_ties(rng, s->block, v, count);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = rng_u32(rng);
        if (data == RAW_BITS)
            memcpy(raw + i * size, &bits, (size_t)size);
        else
            ref_store(s->plain, raw, i, v[i]);
    }
    free(v);
    return raw;
}

static int shape_at(int i) {
    return i / (N_CODES * N_SCALES);
}

/* Format and scales by turns, then the shape. The plain type: every pair of two of the three is met, not every three. */
static struct sizes sizes_at(int i) {
    const enum clmoe_dtype code = codes[i % N_CODES], scale = scale_dtypes[i / N_CODES % N_SCALES];
    const int shape = shape_at(i), length = ref_block_length(code);
    const struct clmoe_w_scale of = {scale, shapes[shape].block_rows, shapes[shape].block_columns, 0};
    return sizes_of(plains[(i + i / N_CODES % N_SCALES) % 3], code, of, shapes[shape].rows,
                    (shapes[shape].n + length - 1) / length * length);
}

START_TEST(packs_as_reference) {
    static const char *const names[] = {"bits", "spread", "ties"};
    struct rng rng = rng_for(10000 + (uint64_t)_i);
    const struct sizes c = sizes_at(_i);
    for (int data = 0; data < N_DATA + 4; data++) {
        const int kind = data < N_DATA ? data : SPREAD; /* of which there are many */
        void *const raw = elements(&rng, kind, &c.s);
        check_pack(&rng, kind < FILL_COUNT ? fill_name((enum fill)kind) : names[kind - FILL_COUNT], &c,
                   shape_at(_i) % 2 ? CAPS_OWN : CAPS_GROUP_64, raw);
        free(raw);
    }
}
END_TEST

START_TEST(unpacks_as_reference) {
    struct rng rng = rng_for(11000 + (uint64_t)_i);
    const struct sizes c = sizes_at(_i);
    const int64_t bytes = clmoe_dtype_bytes(c.s.block, c.s.rows * c.s.n), scales = c.bands * c.groups;
    unsigned char *const q = quant_room(bytes, 1);
    unsigned char *const scale = quant_room(scales, 4);
    for (int64_t i = 0; i < bytes; i++)
        q[i] = (unsigned char)rng_below(&rng, 256);
    for (int64_t i = 0; i < clmoe_dtype_bytes(c.scale.dtype, scales); i++)
        scale[i] = (unsigned char)rng_below(&rng, 256);
    check_unpack(&rng, &c, shape_at(_i) % 2 ? CAPS_PLAIN : CAPS_OWN, q, scale);
    free(q), free(scale);
}
END_TEST

/* ---- corners: a row of 16, one block ---- */

static void expect(const char *what, enum clmoe_dtype code, enum clmoe_dtype scale, const float *x,
                   uint32_t want_scale, const char *want, int64_t n_want) {
    struct rng rng = rng_for(12000);
    const struct sizes c = sizes_of(CLMOE_F32, code, (struct clmoe_w_scale){scale, 1, 0, 0}, 1, 16);
    unsigned char q[16], all[16] = {0};
    float copy[16];
    memcpy(all, want, (size_t)n_want);
    memcpy(copy, x, sizeof copy);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        uint32_t got_scale = 0;
        describe(row, what, &c, CAPS_OWN);
        if (!run_row(&rng, row, CLMOE_QUANT_PACK, &c, CAPS_OWN, copy, q, &got_scale)) continue;
        case_require(got_scale == want_scale, "the scale is %x, expected %x", got_scale, want_scale);
        quant_compare_bytes("codes", q, all, clmoe_dtype_bytes(code, 16));
    }
    check_pack(&rng, what, &c, CAPS_OWN, copy);
}

START_TEST(ties_between_codes) {
    const float f8[16] = {-448, 17, 19, 0x1p-10f, 3 * 0x1p-10f, -0x1p-11f, 0x1.e2p8f, 400, 0x1.fp-7f};
    expect("f8", CLMOE_F8_E4M3, CLMOE_U8, f8, 127, "\xfe\x58\x5a\x00\x02\x80\x7e\x7c\x08", 9);
    const float i8[16] = {127, 0.5f, -0.5f, 1.5f, -126.5f, 0.49999997f, 126.49999f};
    expect("i8", CLMOE_I8, CLMOE_F32, i8, 0x3f800000, "\x7f\x01\xff\x02\x81\x00\x7e", 7);
    const float e2m1[16] = {6, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, -0.25f, -0.75f, -5, -6};
    expect("e2m1", CLMOE_F4_E2M1, CLMOE_BF16, e2m1, 0x3f80, "\x07\x21\x43\x65\x90\xfe", 6);
}
END_TEST

START_TEST(zeros) {
    const float x[2][16] = {{0}, {-0.0f, -0.0f, 0, -0.0f}};
    for (int sign = 0; sign < 2; sign++)
        for (int code = 0; code < N_CODES; code++)
            for (int scale = 0; scale < N_SCALES; scale++) {
                /* E8M0 has no zero: -0 of f8 is one of its codes */
                const bool signs = sign && codes[code] == CLMOE_F8_E4M3 && scale_dtypes[scale] == CLMOE_U8;
                expect("zeros", codes[code], scale_dtypes[scale], x[sign], 0, "\x80\x80\x00\x80",
                       signs ? 4 : 0);
            }
}
END_TEST

/* One number spoils its block, and no other one. */
START_TEST(damage_shows) {
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    static const uint32_t nans[N_SCALES] = {0x7fc00000, 255, 0x7e00, 0x7fc0};
    struct rng rng = rng_for(12100 + (uint64_t)_i);
    float x[16] = {1, 2, 3, 4}, wide[3 * 64], back[3 * 64];
    for (int code = 0; code < N_CODES; code++) {
        x[_i % 2 ? 15 : 1] = bad[_i];
        expect("damage", codes[code], scale_dtypes[_i], x, nans[_i], "", 0);
        const struct clmoe_w_scale scale = {scale_dtypes[_i], 2, 32, 0};
        const struct sizes c = sizes_of(CLMOE_F32, codes[code], scale, 3, 64);
        for (int i = 0; i < 3 * 64; i++)
            wide[i] = (float)(i % 5);
        wide[64 + 40] = bad[_i];
        unsigned char q[3 * 64], scales[4 * 4];
        for (int row = 0; clmoe_kernel_name("quant", row); row++) {
            describe(row, "damage", &c, CAPS_OWN);
            if (!run_row(&rng, row, CLMOE_QUANT_PACK, &c, CAPS_OWN, wide, q, scales)) continue;
            run_row(&rng, row, CLMOE_QUANT_UNPACK, &c, CAPS_OWN, back, q, scales);
            for (int i = 0; i < 3 * 64; i++)
                case_require(isnan(back[i]) == (i < 128 && i % 64 >= 32), "x[%d] = %g", i, (double)back[i]);
        }
    }
}
END_TEST

START_TEST(ends_of_scales) {
    float x[16] = {448.0f * 65520.0f, 1, -2};
    expect("f8 beyond f16", CLMOE_F8_E4M3, CLMOE_F16, x, 0x7c00, "", 0);
    x[0] = nextafterf(x[0], 0), x[1] = -x[0]; /* 448 * 65504 and a little */
    expect("f8 at the largest f16", CLMOE_F8_E4M3, CLMOE_F16, x, 0x7bff, "\x7e\xfe\x80", 3);
    x[0] = 448 * 1.25f * 0x1p-24f, x[1] = -x[0], x[2] = 0;
    expect("f8 at the least f16", CLMOE_F8_E4M3, CLMOE_F16, x, 1, "\x7e\xfe", 2);
    x[0] = 127 * 1.25f * 0x1p-24f, x[1] = -x[0];
    expect("i8 at the least f16", CLMOE_I8, CLMOE_F16, x, 1, "\x7f\x81", 2);
    x[0] = 6 * 0.5f * 0x1p-24f, x[1] = 0; /* a tie, to 0 */
    expect("e2m1 below f16", CLMOE_F4_E2M1, CLMOE_F16, x, 0, "", 0);
    x[0] = 448 * 0x1p-100f, x[1] = -FLT_MIN, x[2] = 0x1p-140f;
    expect("f8 at 2^-100", CLMOE_F8_E4M3, CLMOE_F32, x, 0x0d800000, "\x7e\x80", 2);
    x[0] = nextafterf(x[0], 0);
    expect("f8 below 2^-100", CLMOE_F8_E4M3, CLMOE_F32, x, 0, "", 0);
    x[0] = FLT_MAX, x[1] = -FLT_MAX / 127, x[2] = 0;
    expect("i8 at FLT_MAX", CLMOE_I8, CLMOE_U8, x, 248, "\x7f\xff", 2);
    x[0] = 0x1p-127f, x[1] = -0x1p-130f, x[2] = 0x1p-138f;
    expect("f8 of denormals", CLMOE_F8_E4M3, CLMOE_U8, x, 0, "\x38\xa0", 2);
    x[0] = 0x1p-126f, x[1] = 0x1p-129f, x[2] = -0x1.8p-129f;
    expect("e2m1 of denormals", CLMOE_F4_E2M1, CLMOE_U8, x, 0, "\x04\x09", 2);
}
END_TEST

/* e2m1 with E8M0 is MXFP4 with another place for the scales and another order. */
START_TEST(e2m1_is_mxfp4) {
    struct rng rng = rng_for(12200);
    const struct clmoe_w_scale scale = {CLMOE_U8, 1, 32, 0};
    float x[32];
    unsigned char block[17], q[16], e;
    for (int i = 0; i < 100; i++) {
        fill_spread(&rng, 1, 32, x);
        ref_pack(CLMOE_MXFP4, x, 32, block);
        ref_scaled_pack(CLMOE_F4_E2M1, &scale, x, 1, 32, q, &e);
        case_begin("block %d", i);
        case_require(e == block[0], "scale %d, %d in MXFP4", e, block[0]);
        for (int k = 0; k < 32; k++) {
            const int own = q[k / 2] >> k % 2 * 4 & 15, mx = block[1 + k % 16] >> k / 16 * 4 & 15;
            case_require(own == mx, "element %d is %d, %d in MXFP4", k, own, mx);
        }
    }
}
END_TEST

/* The worst error as a part of the largest magnitude: a wrong definition that both share would show here. */
START_TEST(round_trips) {
    static const double bounds[N_CODES][2] = {{0.0358, 0.124}, {0.00394, 0.0079}, {0.1667, 0.25}};
    struct rng rng = rng_for(12300 + (uint64_t)_i);
    const struct clmoe_w_scale scale = {scale_dtypes[_i % 2], 2, 64, 0};
    const struct sizes c = sizes_of(CLMOE_F32, codes[_i / 2], scale, 5, 130);
    float x[5 * 130], back[5 * 130], top[9] = {0};
    unsigned char q[5 * 130], scales[9 * 4];
    fill_floats(&rng, FILL_RANDOM, x, 5 * 130);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        describe(row, "round trip", &c, CAPS_OWN);
        if (!run_row(&rng, row, CLMOE_QUANT_PACK, &c, CAPS_OWN, x, q, scales)) continue;
        run_row(&rng, row, CLMOE_QUANT_UNPACK, &c, CAPS_OWN, back, q, scales);
        for (int i = 0; i < 5 * 130; i++)
            top[i / 260 * 3 + i % 130 / 64] = fmaxf(top[i / 260 * 3 + i % 130 / 64], fabsf(x[i]));
        for (int i = 0; i < 5 * 130; i++)
            case_require(fabs((double)x[i] - (double)back[i]) <=
                             bounds[_i / 2][_i % 2] * (double)top[i / 260 * 3 + i % 130 / 64],
                         "x[%d] = %g came back as %g", i, (double)x[i], (double)back[i]);
    }
}
END_TEST

/* ---- rules ---- */

static const struct clmoe_quant_params good = {
    .max_rows = 4, .n = 64, .block = CLMOE_F8_E4M3, .scale = {CLMOE_F32, 2, 32, 0}};

START_TEST(bad_params) {
    struct clmoe_quant_params p;
#define REFUSED(change) (p = good, change, quant_plan_refused(#change, &p))
    REFUSED(p.scale.dtype = CLMOE_I32);
    REFUSED(p.scale.dtype = CLMOE_F8_E4M3);
    REFUSED(p.scale.rows = -1);
    REFUSED(p.scale.columns = -32);
    REFUSED(p.scale.columns = 8);
    REFUSED(p.scale.columns = 48);
    REFUSED(p.scale.zero = CLMOE_ZERO_GIVEN);
    REFUSED((p.block = CLMOE_F4_E2M1, p.n = 63));
    REFUSED(p.block = CLMOE_I32);
    REFUSED(p.order = CLMOE_W_AWQ);
    REFUSED(p.block = CLMOE_Q8_0);
    REFUSED((p.block = CLMOE_MXFP4, p.scale.dtype = CLMOE_U8, p.scale.rows = p.scale.columns = 0));
#undef REFUSED
}
END_TEST

START_TEST(bad_args) {
    struct rng rng = rng_for(12400);
    struct guarded x = guarded_floats(&rng, CLMOE_F32, 4, 64, NULL);
    struct guarded q = guarded_raw(&rng, CLMOE_F8_E4M3, 4, 64, NULL);
    struct guarded s = guarded_floats(&rng, CLMOE_F32, 2, 2, NULL);
    for (int mode = 0; mode < 2; mode++) {
        clmoe_plan *plan = quant_plan_for(&good, (enum clmoe_quant_mode)mode);
        const struct clmoe_quant_args fine = {x.tensor, q.tensor, s.tensor};
        struct clmoe_quant_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), quant_args_refused(#field " = " #value, plan, &a))
        REFUSED(scale, (struct clmoe_tensor){0});
        REFUSED(scale.dtype, CLMOE_F16);
        REFUSED(scale.ndim, 1);
        REFUSED(scale.shape[0], 4);
        REFUSED(scale.shape[1], 64);
        REFUSED(scale.stride[1], 2);
        REFUSED(scale.offset, 2);
        REFUSED(scale.offset, (uint64_t)1 << 40);
        REFUSED(q.dtype, CLMOE_U8);
        if (mode == CLMOE_QUANT_PACK) REFUSED(scale.mem, q.mem);
        REFUSED(x.mem, s.mem);
#undef REFUSED
        clmoe_plan_destroy(&plan);
    }
    guarded_free(&x), guarded_free(&q), guarded_free(&s);
}
END_TEST

START_TEST(ran_at_all) {
    quant_require_ran("quant_scaled");
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = tester()->small ? N_CODES * N_SCALES : N_CODES * N_SCALES * N_SHAPES;
    tcase_add_loop_test(cases, packs_as_reference, 0, n);
    tcase_add_loop_test(cases, unpacks_as_reference, 0, n);
    tcase_add_test(cases, ties_between_codes);
    tcase_add_test(cases, zeros);
    tcase_add_loop_test(cases, damage_shows, 0, N_SCALES);
    tcase_add_test(cases, ends_of_scales);
    tcase_add_test(cases, e2m1_is_mxfp4);
    tcase_add_loop_test(cases, round_trips, 0, 2 * N_CODES);
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("quant_scaled", "", add_tests);
}
