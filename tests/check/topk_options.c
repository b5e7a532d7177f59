/* SPDX-License-Identifier: MIT
 * topk: dtypes, ties, windows, padding, layouts, each on every row of the table, all outputs at once. */
#include "topk_case.h"

#include <stdlib.h>
#include <string.h>

/* One for each way a row of the table may take: in lanes, filtered or sorted in a work-group, by radix with a
 * sort past local memory. Few different sizes, since a compilation costs more than a case. */
static const struct {
    int64_t rows, n, k;
} shapes[] = {{6, 45, 7}, {4, 300, 90}, {4, 1300, 30}, {2, 2600, 2100}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* Everything that has no compilations of its own, drawn. */
static struct clmoe_topk_params drawn(struct rng *rng, int shape, enum clmoe_dtype dtype) {
    struct clmoe_topk_params p = {
        .max_rows = shapes[shape].rows,
        .n = shapes[shape].n,
        .k = shapes[shape].k,
        .dtype = dtype,
        .smallest = (int)rng_below(rng, 2),
        .order = (enum clmoe_topk_order)rng_below(rng, 3),
        .nan = (enum clmoe_nan)rng_below(rng, 3),
        .ties = (enum clmoe_ties)rng_below(rng, 2),
        .index_dtype = rng_below(rng, 2)   ? CLMOE_I64
                       : rng_below(rng, 2) ? CLMOE_I32
                                           : (enum clmoe_dtype)0,
        .outputs = TOPK_ALL_OUTPUTS,
        .dense_fill = topk_scalar(dtype, (double)rng_below(rng, 100)),
        .pad_value = topk_scalar(dtype, (double)(100 + rng_below(rng, 20))),
    };
    if (dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16)
        p.dense_scale = rng_below(rng, 2) ? -0.75f : 0.0f;
    return p;
}

START_TEST(dtypes) {
    const enum clmoe_dtype dtype = topk_dtypes[_i / FILLS];
    struct rng rng = rng_for((uint64_t)(10000 + _i));
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct clmoe_topk_params p = drawn(&rng, shape, dtype);
        if (shape != _i % N_SHAPES && shape != 2) continue;
        topk_run_fill((uint64_t)(10500 + 4 * _i + shape), p, shapes[shape].rows, _i % FILLS, CAPS_OWN);
    }
}
END_TEST

/* Equal elements by index descending: with all of them equal that is n - 1, n - 2, .. */
START_TEST(ties_take_the_highest_index) {
    const int shape = _i % N_SHAPES, order = _i / N_SHAPES % 2;
    const struct clmoe_topk_params p = {.max_rows = 2,
                                        .n = shapes[shape].n,
                                        .k = shapes[shape].k,
                                        .ties = CLMOE_TIES_HIGHEST,
                                        .order = (enum clmoe_topk_order)order,
                                        .smallest = _i / N_SHAPES / 2,
                                        .outputs = TOPK_ALL_OUTPUTS};
    struct rng rng = rng_for((uint64_t)(11000 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &p, 2, FILL_CONSTANT);
    for (int64_t j = 0; j < p.k; j++)
        ck_assert_int_eq(s.indices[j], order == CLMOE_ORDER_INDEX ? p.n - p.k + j : p.n - 1 - j);
    topk_run_rows(&rng, &s, CAPS_OWN, "all equal");
    topk_sample_free(&s);
    topk_run_fill((uint64_t)(11100 + _i), p, 2, FILL_TIES, CAPS_OWN);
}
END_TEST

/* Every subset of the arrays, which hold numbers past either end, too. */
START_TEST(windows) {
    static const int fills[] = {FILL_TIES, FILL_BITS, FILL_NEG_INF};
    static const enum clmoe_dtype dtypes_of[] = {CLMOE_F32, CLMOE_U32, CLMOE_F32};
    const int arrays = 1 + _i % 7, shape = _i / 7 % N_SHAPES, which = _i / 7 / N_SHAPES;
    struct rng rng = rng_for((uint64_t)(12000 + _i));
    struct clmoe_topk_params p = drawn(&rng, shape, dtypes_of[which]);
    p.row_begin = arrays & 1, p.row_length = arrays >> 1 & 1, p.row_k = arrays >> 2;
    const int64_t rows = 3 * shapes[shape].rows;
    p.max_rows = rows;
    topk_run_fill((uint64_t)(12500 + _i), p, rows, fills[which], _i % 5 ? CAPS_OWN : CAPS_GROUP_64);
}
END_TEST

/* Windows of 0, 1 and a few elements, k of 0, in rows next to whole ones; zeros of an unsigned type, whose
 * key is that of no element at all. */
START_TEST(small_windows) {
    enum { ROWS = 12 };
    const int shape = _i % N_SHAPES;
    const int64_t n = shapes[shape].n, k = shapes[shape].k;
    struct clmoe_topk_params p = {.max_rows = ROWS,
                                  .n = n,
                                  .k = k,
                                  .dtype = _i / N_SHAPES % 2 ? CLMOE_U32 : CLMOE_F32,
                                  .ties = (enum clmoe_ties)(_i / N_SHAPES / 2 % 2),
                                  .smallest = _i / N_SHAPES / 4,
                                  .row_begin = 1,
                                  .row_length = 1,
                                  .row_k = 1,
                                  .outputs = TOPK_ALL_OUTPUTS};
    p.pad_value = topk_scalar(p.dtype, 77);
    const int64_t window[ROWS][3] = {
        {0, n, k}, {0, 0, k}, {n - 1, 1, k}, {n, 5, k},    {5, 3, k},   {5, 3, 2},
        {1, n, k}, {0, n, 0}, {2, n - 3, 1}, {-4, -1, -1}, {7, 20, 20}, {INT32_MIN, INT32_MAX, INT32_MAX}};
    int32_t *const arrays[3] = {topk_room(ROWS, 4), topk_room(ROWS, 4), topk_room(ROWS, 4)};
    for (int r = 0; r < ROWS; r++)
        for (int a = 0; a < 3; a++)
            arrays[a][r] = (int32_t)window[r][a];
    char *const raw = topk_room(ROWS * n, 4); /* zeros, or for smallest all ones of u32 */
    if (p.smallest && p.dtype == CLMOE_U32) memset(raw, 0xff, (size_t)(ROWS * n) * 4);
    struct rng rng = rng_for((uint64_t)(13000 + _i));
    struct topk_sample s = topk_sample_with(&p, ROWS, raw, arrays[0], arrays[1], arrays[2]);
    ck_assert_int_eq(s.indices[k], -1);
    ck_assert_int_eq(s.cut[7], -1);
    topk_run_rows(&rng, &s, CAPS_OWN, "small windows");
    topk_sample_free(&s);
}
END_TEST

/* Windows of one length each, so that no row has an element, or each has the same few. */
START_TEST(all_windows_alike) {
    const int shape = _i % N_SHAPES;
    const int64_t rows = shapes[shape].rows, n = shapes[shape].n;
    struct clmoe_topk_params p = {
        .max_rows = rows, .n = n, .k = shapes[shape].k, .row_length = 1, .outputs = TOPK_ALL_OUTPUTS};
    p.pad_value.f = -1;
    p.order = (enum clmoe_topk_order)(_i / N_SHAPES % 3);
    struct rng rng = rng_for((uint64_t)(13500 + _i));
    struct topk_sample s = topk_sample_filled(&rng, &p, rows, FILL_RANDOM);
    int32_t *const lengths = topk_room(rows, 4);
    char *const raw = topk_room(rows * n, 4);
    memcpy(raw, s.x, (size_t)(rows * n) * 4);
    for (int64_t r = 0; r < rows; r++)
        lengths[r] = _i / N_SHAPES / 3 ? 6 : 0;
    struct topk_sample alike = topk_sample_with(&p, rows, raw, NULL, lengths, NULL);
    topk_run_rows(&rng, &alike, CAPS_OWN, "windows alike");
    topk_sample_free(&s), topk_sample_free(&alike);
}
END_TEST

/* k > n: the slots past n. */
START_TEST(padding) {
    static const int64_t sizes[][2] = {{1, 2}, {5, 90}, {45, 46}, {300, 700}, {1300, 1301}, {2600, 6000}};
    struct rng rng = rng_for((uint64_t)(14000 + _i));
    struct clmoe_topk_params p = drawn(&rng, 0, topk_dtypes[_i % 12 ? 0 : 5]);
    p.n = sizes[_i % 6][0], p.k = sizes[_i % 6][1];
    p.pad = 1;
    p.row_length = _i / 6 % 2;
    p.row_k = _i / 12;
    p.max_rows = 3;
    topk_run_fill((uint64_t)(14500 + _i), p, 3, FILL_TIES, CAPS_OWN);
}
END_TEST

/* Any axis, any strides, x of one row for all. */
START_TEST(layouts) {
    const int shape = _i % N_SHAPES, layout = _i / N_SHAPES % 6;
    struct rng rng = rng_for((uint64_t)(15000 + _i));
    struct clmoe_topk_params p = drawn(&rng, shape, _i / N_SHAPES / 6 % 2 ? CLMOE_F16 : CLMOE_F32);
    const int64_t rows = 12;
    p.max_rows = rows;
    p.row_begin = (int)rng_below(&rng, 2);
    p.row_length = (int)rng_below(&rng, 2);
    struct topk_sample s = topk_sample_filled(&rng, &p, rows, FILL_TIES);
    s.inner = (int64_t[]){0, 3, 4, 12, 1, 0}[layout];
    s.strided = layout != 1 && layout != 3;
    if (layout == 5) { /* made again: all rows of x are the first */
        char *const raw = topk_room(rows * p.n, 8);
        for (int64_t r = 0; r < rows; r++)
            memcpy(raw + r * p.n * s.bytes, s.x, (size_t)(p.n * s.bytes));
        topk_sample_free(&s);
        p.row_begin = p.row_length = 0;
        s = topk_sample_of(&p, rows, raw);
        s.broadcast = s.strided = true;
    }
    topk_run_rows(&rng, &s, CAPS_OWN, "layout");
    topk_sample_free(&s);
}
END_TEST

/* NaN of both signs and several payloads, signed zeros and infinities, in each mode and direction. */
START_TEST(nan_modes) {
    const int shape = _i % N_SHAPES, mode = _i / N_SHAPES % 3, smallest = _i / N_SHAPES / 3 % 2;
    const enum clmoe_dtype dtype = topk_dtypes[_i / N_SHAPES / 6];
    struct rng rng = rng_for((uint64_t)(16000 + _i));
    struct clmoe_topk_params p = drawn(&rng, shape, dtype);
    p.nan = (enum clmoe_nan)mode;
    p.smallest = smallest;
    topk_run_fill((uint64_t)(16500 + _i), p, 2, FILL_NAN_INF, CAPS_OWN);
    topk_run_fill((uint64_t)(17000 + _i), p, 2, FILL_ALL_NAN, CAPS_OWN);
    topk_run_fill((uint64_t)(17500 + _i), p, 2, FILL_BITS, CAPS_OWN);
}
END_TEST

/* All options at once, small enough for a simulator. */
START_TEST(everything) {
    static const int64_t sizes[][3] = {{3, 17, 5}, {2, 90, 20}, {1, 600, 9}};
    const enum clmoe_dtype dtype = topk_dtypes[(_i * 5 + 3) % TOPK_DTYPES];
    struct rng rng = rng_for((uint64_t)(18000 + _i));
    struct clmoe_topk_params p = drawn(&rng, 0, dtype);
    p.max_rows = sizes[_i % 3][0], p.n = sizes[_i % 3][1], p.k = sizes[_i % 3][2];
    p.row_begin = p.row_length = p.row_k = 1;
    p.ties = (enum clmoe_ties)((_i + 1) % 2);
    p.order = (enum clmoe_topk_order)(_i / 2 % 3);
    struct topk_sample s = topk_sample_filled(&rng, &p, p.max_rows, FILL_TIES);
    s.inner = p.max_rows;
    s.strided = true;
    topk_run_rows(&rng, &s, CAPS_GROUP_64, "everything");
    topk_sample_free(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, everything, 0, tester()->small ? 3 : 12);
    if (tester()->small) return;
    tcase_add_loop_test(cases, dtypes, 0, TOPK_DTYPES * FILLS);
    tcase_add_loop_test(cases, ties_take_the_highest_index, 0, 4 * N_SHAPES);
    tcase_add_loop_test(cases, windows, 0, 3 * 7 * N_SHAPES);
    tcase_add_loop_test(cases, small_windows, 0, 8 * N_SHAPES);
    tcase_add_loop_test(cases, all_windows_alike, 0, 6 * N_SHAPES);
    tcase_add_loop_test(cases, padding, 0, 24);
    tcase_add_loop_test(cases, layouts, 0, 12 * N_SHAPES);
    tcase_add_loop_test(cases, nan_modes, 0, 6 * N_SHAPES * 4);
}

int main(void) {
    return harness_main("topk_options", "", add_tests);
}
