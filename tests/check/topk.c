/* SPDX-License-Identifier: MIT
 * topk: every row of its table against a full sort, exactly, all outputs. */
#include "topk_case.h"

#include "ref/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes ---- */

static const int64_t sizes[] = {1,    2,    3,    7,    8,    9,    15,   16,   17,   31,   32,
                                33,   40,   60,   63,   64,   65,   127,  128,  129,  255,  256,
                                257,  511,  512,  513,  600,  1000, 1023, 1024, 1025, 1500, 2047,
                                2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 32000};
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_KS = 6 };

static int64_t k_of(int which, int64_t n) {
    const int64_t ks[N_KS] = {1, 8, n / 2, n, 2, 0};
    return ks[which] > n ? n : ks[which];
}

/* Large sizes are compiled for f32 only: a compilation costs more than the case. */
START_TEST(every_size) {
    const int64_t n = sizes[_i / N_KS];
    const unsigned mix = (unsigned)_i * 2654435761u >> 7;
    const struct clmoe_topk_params params = {
        .n = n,
        .k = k_of(_i % N_KS, n),
        .dtype = n > 1100 ? CLMOE_F32 : topk_dtypes[mix % 3],
        .smallest = mix / 3 % 2,
        .order = (enum clmoe_topk_order)(mix / 6 % 3),
        .nan = (enum clmoe_nan)(mix / 18 % 2),
        .outputs = TOPK_ALL_OUTPUTS,
        .dense_fill.f = mix / 36 % 2 ? -1e30f : 0.0f,
        .dense_scale = mix / 72 % 2 ? 0.37f : 0.0f,
        .max_rows = 40,
    };
    const int64_t rows = n <= 64 ? 37 : n <= 600 ? 9 : 3;
    const enum forced_caps caps =
        n > 1100 ? (enum forced_caps)(mix / 144 % 2 * CAPS_PLAIN) : mix / 144 % CAPS_COUNT;
    topk_run_fill((uint64_t)_i, params, rows, (int)(mix / 512 % FILLS), caps);
}
END_TEST

/* Every fill with every direction of order, at one size for each row of the table to be first. */
START_TEST(fills) {
    static const int64_t ns[][2] = {{61, 7}, {300, 200}, {1100, 50}, {2500, 2100}};
    const int fill = _i % FILLS, shape = _i / FILLS;
    struct clmoe_topk_params params = {.n = ns[shape][0], .k = ns[shape][1], .outputs = TOPK_ALL_OUTPUTS};
    for (int way = 0; way < 4; way++) {
        params.dtype = shape > 1 ? CLMOE_F32 : topk_dtypes[(way + fill) % 3];
        params.smallest = way & 1;
        params.nan = way & 2 ? CLMOE_NAN_LOWEST : CLMOE_NAN_GREATEST;
        params.order = (enum clmoe_topk_order)((way + shape) % 3);
        topk_run_fill((uint64_t)(5000 + 4 * _i + way), params, 3, fill, CAPS_OWN);
    }
}
END_TEST

/* The same sizes on devices with less of everything. */
START_TEST(small_devices) {
    static const int64_t ns[][2] = {{1, 1},    {40, 8},    {200, 90},    {500, 64},
                                    {513, 65}, {1025, 64}, {2700, 2600}, {3000, 3}};
    const int shape = _i % 8;
    const struct clmoe_topk_params params = {.n = ns[shape][0],
                                             .k = ns[shape][1],
                                             .outputs = TOPK_ALL_OUTPUTS,
                                             .order = (enum clmoe_topk_order)(_i % 3)};
    topk_run_fill((uint64_t)(6000 + _i), params, 5, _i % FILLS, (enum forced_caps)(1 + _i / 8));
}
END_TEST

/* Each path of each row once, for simulators: in lanes all or few candidates; in a work-group all or few; by
 * radix one tile, several tiles, a sort past local memory. */
static const struct {
    int64_t rows, n, k;
    enum forced_caps caps;
    enum clmoe_topk_order order;
    int fill;
} simulated_cases[] = {
    {5, 9, 2, CAPS_OWN, CLMOE_ORDER_SORTED, FILL_TIES},
    {3, 40, 5, CAPS_OWN, CLMOE_ORDER_INDEX, FILL_NAN_INF},
    {3, 33, 20, CAPS_GROUP_64, CLMOE_ORDER_INDEX, FILL_TIES},
    {1, 300, 3, CAPS_GROUP_64, CLMOE_ORDER_SORTED, FILL_TIES},
    {1, 1100, 9, CAPS_GROUP_64, CLMOE_ORDER_INDEX, FILL_TIES},
    {1, 2100, 2060, CAPS_GROUP_64, CLMOE_ORDER_SORTED, FILL_RANDOM},
};
enum { N_SIMULATED = sizeof simulated_cases / sizeof *simulated_cases };

START_TEST(simulated) {
    const struct clmoe_topk_params params = {.n = simulated_cases[_i].n,
                                             .k = simulated_cases[_i].k,
                                             .order = simulated_cases[_i].order,
                                             .outputs = TOPK_ALL_OUTPUTS};
    topk_run_fill((uint64_t)(6500 + _i), params, simulated_cases[_i].rows, simulated_cases[_i].fill,
                  simulated_cases[_i].caps);
}
END_TEST

/* ---- exhaustive ---- */

/* All rows of n elements from an alphabet: every pattern of ties and special values. For n = 5 and 6 half of
 * the alphabet, either one. */
static const struct {
    enum clmoe_dtype dtype;
    uint32_t letters[8];
} alphabets[] = {
    {CLMOE_F32,
     {0x7fc00001u, 0xff800001u, 0u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7f800002u, 0xbf800000u}},
    {CLMOE_F16, {0x7e01, 0xfc01, 0, 0x8000, 0x7c00, 0xfc00, 0x7c02, 0xbc00}},
    {CLMOE_BF16, {0x7fc1, 0xff81, 0, 0x8000, 0x7f80, 0xff80, 0x7f82, 0xbf80}},
    {CLMOE_I8, {0, 1, 0x7f, 0x80, 0xff, 2, 0x81, 0x7e}},
    {CLMOE_U8, {0, 1, 0x7f, 0x80, 0xff, 0, 0xfe, 0x81}},
};
enum { N_ALPHABETS = sizeof alphabets / sizeof *alphabets, N_MODES = 12, MOST_EXHAUSTIVE = 6 };

static char *all_rows(int alphabet, int half, int n, int letters, int64_t rows) {
    const enum clmoe_dtype dtype = alphabets[alphabet].dtype;
    char *const raw = topk_room(rows * n, 4);
    for (int64_t r = 0; r < rows; r++) {
        int64_t digits = r;
        for (int i = 0; i < n; i++, digits /= letters) {
            const uint32_t letter =
                alphabets[alphabet].letters[(digits % letters * (letters == 8 ? 1 : 2) + half) % 8];
            memcpy(raw + (r * n + i) * clmoe_dtype_bytes(dtype, 1), &letter,
                   (size_t)clmoe_dtype_bytes(dtype, 1));
        }
    }
    return raw;
}

START_TEST(exhaustive) {
    const int mode = _i % N_MODES, n = 1 + _i / N_MODES % MOST_EXHAUSTIVE,
              alphabet = _i / N_MODES / MOST_EXHAUSTIVE, letters = n <= 4 ? 8 : 4;
    int64_t rows = 1;
    for (int i = 0; i < n; i++)
        rows *= letters;
    struct rng rng = rng_for((uint64_t)(7000 + _i));
    /* All k for the short ones, then some: a step of 3, or one only, from another k in each mode. */
    for (int k = n < 4 ? 0 : 1 + mode % n; k <= n; k += n < 4 ? 1 : n == 4 ? 3 : n) {
        const struct clmoe_topk_params params = {
            .max_rows = rows,
            .n = n,
            .k = k,
            .dtype = alphabets[alphabet].dtype,
            .smallest = mode & 1,
            .ties = mode & 2 ? CLMOE_TIES_HIGHEST : CLMOE_TIES_LOWEST,
            .nan = (enum clmoe_nan)(mode / 4),
            .order = (enum clmoe_topk_order)((k + n) % 3 ? CLMOE_ORDER_SORTED : CLMOE_ORDER_INDEX),
            .outputs = TOPK_ALL_OUTPUTS,
        };
        struct topk_sample s = topk_sample_of(&params, rows, all_rows(alphabet, k & 1, n, letters, rows));
        topk_run_rows(&rng, &s, CAPS_OWN, "exhaustive");
        topk_sample_free(&s);
    }
}
END_TEST

/* ---- outputs ---- */

START_TEST(subset_of_outputs) {
    static const int64_t ns[][2] = {{45, 6}, {1200, 30}};
    struct clmoe_topk_params params = {.outputs = (uint32_t)_i * 37 % 128, .dense_fill.f = 2.5};
    params.n = ns[_i % 2][0], params.k = ns[_i % 2][1];
    params.order = (enum clmoe_topk_order)(_i % 3);
    topk_run_fill((uint64_t)(8000 + _i), params, 4, FILL_TIES, CAPS_OWN);
}
END_TEST

/* ---- named traps ---- */

/* Candidates that lose against everything real still win against padding, at sizes that leave some. */
START_TEST(padding_never_leaks) {
    static const int64_t ns[] = {5, 33, 100, 257, 700, 1025, 1537, 2049, 3000};
    static const int worst[] = {FILL_NEG_INF, FILL_ALL_NAN, FILL_NEG_MAX};
    const int64_t n = ns[_i / 3];
    struct clmoe_topk_params params = {.n = n, .k = n, .nan = CLMOE_NAN_LOWEST, .outputs = TOPK_ALL_OUTPUTS};
    for (int64_t k = n; k > 0; k = k == n && n > 3 ? n - 3 : 0) {
        params.k = k;
        topk_run_fill((uint64_t)(9000 + _i), params, 3, worst[_i % 3], CAPS_OWN);
    }
}
END_TEST

/* Equal elements come by index ascending, whichever end is wanted. */
START_TEST(ties_take_the_lowest_index) {
    static const int64_t ns[][2] = {{8, 3}, {100, 40}, {600, 20}, {1500, 700}, {5000, 300}};
    struct clmoe_topk_params params = {.n = ns[_i / 2][0], .k = ns[_i / 2][1], .smallest = _i % 2};
    params.max_rows = 2;
    struct rng rng = rng_for((uint64_t)(9100 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 2, FILL_CONSTANT);
    for (int64_t j = 0; j < 2 * params.k; j++)
        ck_assert_int_eq(s.indices[j], j % params.k); /* the oracle, too */
    topk_run_rows(&rng, &s, CAPS_OWN, "all equal");
    topk_sample_free(&s);
}
END_TEST

/* Rows of NaN, as padding tokens have: a router that picks one id twice corrupts what follows it. */
START_TEST(nan_rows_have_distinct_ids) {
    const struct clmoe_topk_params params = {.max_rows = 130,
                                             .n = _i / 2 ? 256 : 60,
                                             .k = 8,
                                             .outputs = CLMOE_TOPK_INDICES,
                                             .nan = (enum clmoe_nan)(_i % 2)};
    struct rng rng = rng_for((uint64_t)(9200 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 130, FILL_ALL_NAN);
    for (int64_t j = 0; j < 130 * 8; j++)
        ck_assert_int_eq(s.indices[j], j % 8);
    topk_run_rows(&rng, &s, CAPS_OWN, "NaN rows");
    topk_sample_free(&s);
}
END_TEST

/* Infinities and NaN in dropped places would survive a multiplication by a mask. */
START_TEST(dense_is_a_select) {
    static const int64_t ns[] = {50, 700, 5000};
    const int64_t n = ns[_i / 2 % 3];
    struct clmoe_topk_params params = {.max_rows = 2, .n = n, .k = 3, .outputs = CLMOE_TOPK_DENSE};
    params.dtype = n > 1100 ? CLMOE_F32 : topk_dtypes[_i % 3];
    params.nan = CLMOE_NAN_LOWEST;
    params.smallest = _i % 2;
    params.dense_scale = _i < 6 ? 0.0f : 2.0f;
    struct rng rng = rng_for((uint64_t)(9300 + _i));
    char *const raw = topk_room(2 * n, 4);
    for (int64_t i = 0; i < 2 * n; i++)
        ref_store(params.dtype, raw, i, i % 7 == 3 ? NAN : params.smallest ? INFINITY : -INFINITY);
    /* Three numbers a row, and for the smallest NaN would be first: put it out of the way. */
    for (int64_t i = 0; i < 2 * n; i++) {
        if (params.smallest && i % 7 == 3) ref_store(params.dtype, raw, i, INFINITY);
        if (i % n == 1 || i % n == n / 2 || i % n == n - 1)
            ref_store(params.dtype, raw, i, (float)(i % n) + 1);
    }
    struct topk_sample s = topk_sample_of(&params, 2, raw);
    for (int64_t i = 0; i < 2 * n; i++) {
        const float v = ref_load(params.dtype, s.dense, i);
        const bool number = i % n == 1 || i % n == n / 2 || i % n == n - 1;
        ck_assert(number ? v > 0 : v == 0 && !signbit(v));
    }
    topk_run_rows(&rng, &s, CAPS_OWN, "inf and NaN dropped");
    topk_sample_free(&s);
}
END_TEST

START_TEST(mask_has_k_ones) {
    static const int64_t ns[][2] = {{9, 4}, {300, 299}, {900, 0}, {1027, 200}, {4500, 16}};
    const struct clmoe_topk_params params = {
        .n = ns[_i][0], .k = ns[_i][1], .outputs = CLMOE_TOPK_MASK, .max_rows = 3};
    struct rng rng = rng_for((uint64_t)(9400 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &params, 3, FILL_TIES);
    for (int64_t r = 0; r < 3; r++) {
        int64_t ones = 0;
        for (int64_t i = 0; i < params.n; i++)
            ones += s.mask[r * params.n + i];
        ck_assert_int_eq(ones, params.k);
    }
    topk_run_rows(&rng, &s, CAPS_OWN, "ones");
    topk_sample_free(&s);
}
END_TEST

/* More rows than fit into one slab of the workspace. */
START_TEST(many_rows) {
    const struct clmoe_topk_params params = {.n = 8, .k = 2, .outputs = _i ? TOPK_ALL_OUTPUTS : 0};
    topk_run_fill((uint64_t)(9500 + _i), params, 20000, _i ? FILL_BITS : FILL_TIES, CAPS_OWN);
}
END_TEST

START_TEST(long_rows) {
    static const int64_t shapes[][3] = {
        {1, 300000, 1000}, {1, 300000, 5000}, {3, 70000, 10}, {60, 6000, 5500}};
    const struct clmoe_topk_params params = {
        .n = shapes[_i / 2][1],
        .k = shapes[_i / 2][2],
        .order = _i % 2 ? CLMOE_ORDER_INDEX : CLMOE_ORDER_SORTED,
        .outputs = _i % 2 ? TOPK_ALL_OUTPUTS : 0,
    };
    topk_run_fill((uint64_t)(9600 + _i), params, shapes[_i / 2][0], _i / 2 % 2 ? FILL_TIES : FILL_RANDOM,
                  CAPS_OWN);
}
END_TEST

static void add_tests(TCase *cases) {
    if (tester()->small) {
        tcase_add_loop_test(cases, simulated, 0, N_SIMULATED);
        tcase_add_loop_test(cases, exhaustive, 0, 2);
        return;
    }
    tcase_add_loop_test(cases, every_size, 0, N_SIZES * N_KS);
    tcase_add_loop_test(cases, fills, 0, 4 * FILLS);
    tcase_add_loop_test(cases, small_devices, 0, 24);
    tcase_add_loop_test(cases, simulated, 0, N_SIMULATED);
    tcase_add_loop_test(cases, exhaustive, 0, N_ALPHABETS * MOST_EXHAUSTIVE * N_MODES);
    tcase_add_loop_test(cases, subset_of_outputs, 0, 96);
    tcase_add_loop_test(cases, padding_never_leaks, 0, 27);
    tcase_add_loop_test(cases, ties_take_the_lowest_index, 0, 10);
    tcase_add_loop_test(cases, nan_rows_have_distinct_ids, 0, 4);
    tcase_add_loop_test(cases, dense_is_a_select, 0, 12);
    tcase_add_loop_test(cases, mask_has_k_ones, 0, 5);
    tcase_add_loop_test(cases, many_rows, 0, 2);
    tcase_add_loop_test(cases, long_rows, 0, 8);
}

int main(void) {
    return harness_main("topk", "topk", add_tests);
}
