/* SPDX-License-Identifier: MIT
 * quant: 4 bits in words of AWQ and GPTQ, against ref_words_pack and ref_words_unpack bit by bit, and the
 * corners of their definition in quant.h. */
#include "quant_case.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COUNT = 64 * 512, N_KINDS = 6, ZEROS_WORDS = MAX_COUNT / 8 };

static const struct {
    int64_t rows, n, columns;
} shapes[] = {{16, 40, 16}, {8, 8, 0}, {64, 512, 128}, {24, 136, 64}, {0, 32, 32}, {1032, 24, 0}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* What a call has, contiguous. */
struct words {
    enum clmoe_dtype plain;
    enum clmoe_w_order order;
    struct clmoe_w_scale scale;
    int64_t rows, n, groups;
    float x[MAX_COUNT]; /* raw, of `plain` */
    uint32_t q[MAX_COUNT / 8], zeros[ZEROS_WORDS];
    float scales[MAX_COUNT / 8]; /* raw, of scale.dtype */
};

/* Order and kind of zeros by turns, then the shape. */
static struct words *words_at(int i) {
    static const enum clmoe_dtype plains[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16};
    struct words *const w = quant_room(1, sizeof *w);
    const int shape = i / N_KINDS;
    w->plain = plains[(i + shape) % 3];
    w->order = i % 2 ? CLMOE_W_AWQ : CLMOE_W_GPTQ;
    w->scale = (struct clmoe_w_scale){plains[(i / 2 + shape) % 3], 1, shapes[shape].columns,
                                      (enum clmoe_zero)(i / 2 % 3)};
    w->rows = shapes[shape].rows, w->n = shapes[shape].n;
    const int64_t width = w->scale.columns ? w->scale.columns : w->n;
    w->groups = (w->n + width - 1) / width;
    return w;
}

static bool run_row(struct rng *rng, int row, enum clmoe_quant_mode mode, struct words *w) {
    case_begin("%s mode=%d order=%d zero=%d %s rows=%lld n=%lld columns=%lld scales %s",
               clmoe_kernel_name("quant", row), (int)mode, (int)w->order, (int)w->scale.zero,
               clmoe_dtype_name(w->plain), (long long)w->rows, (long long)w->n, (long long)w->scale.columns,
               clmoe_dtype_name(w->scale.dtype));
    const struct clmoe_quant_params params = {.plan.kernel = clmoe_kernel_name("quant", row),
                                              .mode = mode,
                                              .max_rows = w->rows,
                                              .n = w->n,
                                              .plain = w->plain,
                                              .block = CLMOE_I32,
                                              .order = w->order,
                                              .scale = w->scale};
    clmoe_plan *plan;
    if (!row_fits("quant", row, clmoe_quant_plan(tester_context(CAPS_OWN), &params, &plan))) return false;
    const bool pack = mode == CLMOE_QUANT_PACK, awq = w->order == CLMOE_W_AWQ;
    const bool given = w->scale.zero != CLMOE_ZERO_EIGHT;
    struct guarded x = guarded_raw(rng, w->plain, w->rows, w->n, pack ? w->x : NULL);
    struct guarded q =
        guarded_raw(rng, CLMOE_I32, awq ? w->n : w->n / 8, awq ? w->rows / 8 : w->rows, pack ? NULL : w->q);
    struct guarded s = guarded_raw(rng, w->scale.dtype, w->groups, w->rows, pack ? NULL : w->scales);
    struct guarded z = guarded_raw(rng, CLMOE_I32, w->groups, w->rows / 8, pack ? NULL : w->zeros);
    struct clmoe_quant_args args = {.x = x.tensor, .q = q.tensor, .scale = s.tensor};
    if (given) args.zero = z.tensor;
    case_ok(clmoe_quant_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    guarded_read(&x, pack ? NULL : w->x);
    guarded_read(&q, pack ? w->q : NULL);
    guarded_read(&s, pack ? w->scales : NULL);
    guarded_read(&z, pack && given ? w->zeros : NULL);
    guarded_free(&x), guarded_free(&q), guarded_free(&s), guarded_free(&z);
    clmoe_plan_destroy(&plan);
    return true;
}

/* Packs w->x on all rows of the table, to what the reference makes of it. */
static void check_pack(struct rng *rng, struct words *w) {
    const int64_t count = w->rows * w->n, scale_count = w->groups * w->rows;
    struct words *const want = quant_room(1, sizeof *want);
    for (int64_t i = 0; i < count; i++)
        want->x[i] = ref_load(w->plain, w->x, i);
    ref_words_pack(w->order, &w->scale, want->x, w->rows, w->n, want->q, want->scales, want->zeros);
    for (int row = 0; clmoe_kernel_name("quant", row); row++) {
        if (!run_row(rng, row, CLMOE_QUANT_PACK, w)) continue;
        quant_compare_bytes("scales", w->scales, want->scales,
                            clmoe_dtype_bytes(w->scale.dtype, scale_count));
        if (w->scale.zero != CLMOE_ZERO_EIGHT)
            quant_compare_bytes("zeros", w->zeros, want->zeros, scale_count / 2);
        quant_compare_bytes("codes", w->q, want->q, count / 2);
    }
    free(want);
}

/* Numbers of about one size, mostly of one sign; of steps and halves of them if `exact`. */
static void fill_sized(struct rng *rng, bool exact, float *x, int64_t n) {
    const int exponent = (int)rng_below(rng, 274) - 148;
    const float middle = (float)(rng_below(rng, 41) - 20) / 2;
    for (int64_t i = 0; i < n; i++) {
        const float v = exact ? (float)rng_below(rng, 31) / 2 : rng_float(rng) * 3;
        x[i] = ldexpf(v + middle - 7.5f, exact ? 3 : exponent);
    }
}

START_TEST(packs_as_reference) {
    struct rng rng = rng_for(13000 + (uint64_t)_i);
    struct words *const w = words_at(_i);
    float *const v = quant_room(MAX_COUNT, sizeof *v);
    for (int data = 0; data < FILL_COUNT + 8; data++) {
        if (data < FILL_COUNT)
            fill_floats(&rng, (enum fill)data, v, w->rows * w->n);
        else
            fill_sized(&rng, data % 2, v, w->rows * w->n);
        for (int64_t i = 0; i < w->rows * w->n; i++)
            ref_store(w->plain, w->x, i, v[i]);
        check_pack(&rng, w);
    }
    free(w), free(v);
}
END_TEST

START_TEST(unpacks_as_reference) {
    struct rng rng = rng_for(13100 + (uint64_t)_i);
    struct words *const w = words_at(_i);
    float *const want = quant_room(MAX_COUNT, sizeof *want);
    for (int i = 0; i < MAX_COUNT / 8; i++) {
        const uint32_t scale = rng_u32(&rng);
        w->q[i] = rng_u32(&rng), w->zeros[i] = rng_u32(&rng);
        memcpy(&w->scales[i], &scale, sizeof scale);
    }
    ref_words_unpack(w->order, &w->scale, w->q, w->scales, w->zeros, w->rows, w->n, want);
    for (int row = 0; clmoe_kernel_name("quant", row); row++)
        if (run_row(&rng, row, CLMOE_QUANT_UNPACK, w))
            quant_compare_plain(w->plain, w->x, want, w->rows * w->n);
    free(w), free(want);
}
END_TEST

/* ---- corners: rows of 8 numbers in f32; the first has the case, and is word 0 of GPTQ ---- */

static void expect(const char *what, enum clmoe_zero zero, const float *x, uint32_t scale, uint32_t codes,
                   int stored) {
    struct rng rng = rng_for(13200);
    struct words *const w = words_at(0);
    uint32_t got;
    w->plain = w->scale.dtype = CLMOE_F32;
    w->scale.columns = 0, w->scale.zero = zero;
    w->rows = w->n = 8, w->groups = 1;
    memcpy(w->x, x, 8 * sizeof *x);
    check_pack(&rng, w);
    case_begin("%s", what);
    memcpy(&got, w->scales, sizeof got);
    case_require(got == scale, "the scale is %08x, expected %08x", got, scale);
    case_require(w->q[0] == codes, "the codes are %08x, expected %08x", w->q[0], codes);
    case_require((int)(w->zeros[0] & 15) == stored, "the zero is %d", (int)(w->zeros[0] & 15));
    free(w);
}

START_TEST(corners) {
    const float steps[8] = {-3, 12, 0, 0.5f, -0.5f, 1.49f, 11.5f, -2.5f};
    expect("given", CLMOE_ZERO_GIVEN, steps, 0x3f800000, 0x0f4243f0, 3);
    expect("plus one", CLMOE_ZERO_PLUS_ONE, steps, 0x3f800000, 0x0f4243f0, 2);
    const float positive[8] = {15, 14, 0, 1};
    expect("positive", CLMOE_ZERO_GIVEN, positive, 0x3f800000, 0x000010ef, 0);
    expect("positive, plus one", CLMOE_ZERO_PLUS_ONE, positive, 0x3f800000, 0x111121ff, 0);
    const float negative[8] = {-15, -14, 0, -1};
    expect("negative, plus one", CLMOE_ZERO_PLUS_ONE, negative, 0x3f800000, 0xffffef10, 14);
    const float even[8] = {7.5f, -7.5f, 0, 1, -1, 6.5f, -6.5f};
    expect("eight", CLMOE_ZERO_EIGHT, even, 0x3f800000, 0x81f7980f, 0);
    const float none[8] = {0, -0.0f};
    expect("zeros", CLMOE_ZERO_GIVEN, none, 0, 0, 0);
    expect("zeros, eight", CLMOE_ZERO_EIGHT, none, 0, 0x88888888, 0);
    expect("zeros, plus one", CLMOE_ZERO_PLUS_ONE, none, 0, 0x11111111, 0);
    const float beyond[8] = {FLT_MAX, -FLT_MAX};
    expect("a sum beyond fp32", CLMOE_ZERO_GIVEN, beyond, 0x7fc00000, 0, 0);
    const float damaged[8] = {1, -2, 3, -INFINITY};
    expect("infinity", CLMOE_ZERO_PLUS_ONE, damaged, 0x7fc00000, 0x11111111, 0);
    const float nan[8] = {1, -2, 3, NAN};
    expect("NaN", CLMOE_ZERO_EIGHT, nan, 0x7fc00000, 0x88888888, 0);
}
END_TEST

/* ---- rules ---- */

static const struct clmoe_quant_params good = {.max_rows = 16,
                                               .n = 64,
                                               .block = CLMOE_I32,
                                               .order = CLMOE_W_GPTQ,
                                               .scale = {CLMOE_F16, 1, 32, CLMOE_ZERO_GIVEN}};

START_TEST(bad_params) {
    struct clmoe_quant_params p;
#define REFUSED(change) (p = good, change, quant_plan_refused(#change, &p))
    REFUSED(p.order = CLMOE_W_ENK);
    REFUSED(p.order = CLMOE_W_PACKED);
    REFUSED(p.order = (enum clmoe_w_order)9);
    REFUSED(p.block = CLMOE_I8);
    REFUSED(p.n = 0);
    REFUSED(p.n = 60);
    REFUSED(p.scale.rows = 0);
    REFUSED(p.scale.rows = 8);
    REFUSED(p.scale.columns = 8);
    REFUSED(p.scale.dtype = CLMOE_U8);
    REFUSED(p.scale.zero = (enum clmoe_zero)3);
#undef REFUSED
}
END_TEST

START_TEST(bad_args) {
    struct rng rng = rng_for(13300);
    struct guarded x = guarded_floats(&rng, CLMOE_F32, 16, 64, NULL);
    struct guarded q = guarded_raw(&rng, CLMOE_I32, 8, 16, NULL);
    struct guarded s = guarded_floats(&rng, CLMOE_F16, 2, 16, NULL);
    struct guarded z = guarded_raw(&rng, CLMOE_I32, 2, 2, NULL);
    struct clmoe_quant_params eight = good;
    eight.scale.zero = CLMOE_ZERO_EIGHT;
    for (int mode = 0; mode < 2; mode++) {
        clmoe_plan *plan = quant_plan_for(&good, (enum clmoe_quant_mode)mode);
        const struct clmoe_quant_args fine = {x.tensor, q.tensor, s.tensor, z.tensor};
        struct clmoe_quant_args a;
#define REFUSED(field, value) (a = fine, a.field = (value), quant_args_refused(#field " = " #value, plan, &a))
        REFUSED(x.shape[0], 12);
        REFUSED(q.shape[0], 64);
        REFUSED(q.dtype, CLMOE_U32);
        REFUSED(scale.shape[0], 16);
        REFUSED(scale, (struct clmoe_tensor){0});
        REFUSED(zero, (struct clmoe_tensor){0});
        REFUSED(zero.shape[1], 16);
        REFUSED(zero.dtype, CLMOE_U8);
        a = fine, a.zero.mem = x.mem, a.zero.offset = x.tensor.offset;
        if (mode == CLMOE_QUANT_PACK) quant_args_refused("zero overlaps x", plan, &a);
        clmoe_plan_destroy(&plan);
        plan = quant_plan_for(&eight, (enum clmoe_quant_mode)mode);
        REFUSED(zero, z.tensor);
#undef REFUSED
        clmoe_plan_destroy(&plan);
    }
    guarded_free(&x), guarded_free(&q), guarded_free(&s), guarded_free(&z);
}
END_TEST

START_TEST(ran_at_all) {
    quant_require_ran("quant_words");
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = tester()->small ? N_KINDS : N_KINDS * N_SHAPES;
    tcase_add_loop_test(cases, packs_as_reference, 0, n);
    tcase_add_loop_test(cases, unpacks_as_reference, 0, n);
    tcase_add_test(cases, corners);
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("quant_words", "", add_tests);
}
