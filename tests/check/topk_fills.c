/* SPDX-License-Identifier: MIT
 * topk: inputs that are hard for radix selection, for sampling and for kernels with a sentinel, on every row
 * of the table. */
#include "topk_case.h"
#include "topk_pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct topk_sample sample_of(struct rng *rng, struct pattern pattern, struct clmoe_topk_params params,
                                    int64_t rows) {
    params.max_rows = rows;
    char *const x = topk_room(rows * params.n, (size_t)pattern_bytes(params.dtype));
    pattern_fill(rng, pattern, &params, rows, 1, x);
    return topk_sample_of(&params, rows, x);
}

static void run(uint64_t number, struct pattern pattern, struct clmoe_topk_params params, int64_t rows) {
    struct rng rng = rng_for(number);
    struct topk_sample s = sample_of(&rng, pattern, params, rows);
    char what[64];
    snprintf(what, sizeof what, "%s:%lld", pattern_name(pattern.kind), (long long)pattern.arg);
    topk_run_rows(&rng, &s, CAPS_OWN, what);
    topk_sample_free(&s);
}

/* On a simulator two rows at the most: each takes a work-group or several. */
static int64_t rows_here(int64_t rows) {
    return tester()->small && rows > 2 ? 2 : rows;
}

/* ---- hard inputs ---- */

static const struct pattern hard[] = {
    {PATTERN_CONSTANT, 0},    {PATTERN_ONE_BETTER, 0},  {PATTERN_ONE_WORSE, 0},     {PATTERN_ASCENDING, 0},
    {PATTERN_FALLING, 0},     {PATTERN_CLUSTERED, 0},   {PATTERN_PERIODIC, 2},      {PATTERN_PERIODIC, 32},
    {PATTERN_PERIODIC, 64},   {PATTERN_PERIODIC, 256},  {PATTERN_PERIODIC, 1024},   {PATTERN_BEST_FIRST, 0},
    {PATTERN_BEST_LAST, 0},   {PATTERN_BEST_MIDDLE, 0}, {PATTERN_ORGAN_PIPE, 0},    {PATTERN_VALLEY, 0},
    {PATTERN_TWO_VALUES, -1}, {PATTERN_TWO_VALUES, 0},  {PATTERN_TWO_VALUES, 1},    {PATTERN_AND, 4},
    {PATTERN_10LSB, 0},       {PATTERN_MOD, 64},        {PATTERN_RAMP, 0x3805ed27}, {PATTERN_NANS, 300},
    {PATTERN_NANS, 3},        {PATTERN_BITS, 0},        {PATTERN_INFS, 900},        {PATTERN_STRIPED, 128},
    {PATTERN_STRIPED, 256},   {PATTERN_STRIPED, 512},
};
enum { N_HARD = sizeof hard / sizeof *hard };

/* rows, n, k: one for each way of selecting, k on either side of where a list or a sample is given up, and
 * one that fills a list of candidates to its last place. */
static const int64_t shapes[][3] = {{9, 100, 8},     {2, 2048, 128},  {3, 1000, 31},    {3, 1000, 700},
                                    {2, 4000, 64},   {2, 9000, 1000}, {1, 40000, 50},   {2, 33333, 257},
                                    {1, 70001, 600}, {1, 131072, 1},  {1, 100003, 5000}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(hard_inputs) {
    const int which = _i % N_HARD, shape = _i / N_HARD;
    const struct clmoe_topk_params params = {
        .n = shapes[shape][1],
        .k = shapes[shape][2],
        .smallest = (which + shape) % 2,
        .order = (enum clmoe_topk_order)((which / 2 + shape) % 3),
        .nan = (enum clmoe_nan)((which + shape) / 2 % 3),
        .ties = (which / 3 + shape) % 4 == 3 ? CLMOE_TIES_HIGHEST : CLMOE_TIES_LOWEST,
        .outputs = (which + shape) % 5 == 0 ? TOPK_ALL_OUTPUTS : 0,
    };
    run((uint64_t)_i, hard[which], params, rows_here(shapes[shape][0]));
}
END_TEST

/* The same for every dtype, where a row is short. */
START_TEST(hard_inputs_by_dtype) {
    const int which = _i % N_HARD;
    const struct clmoe_topk_params params = {
        .n = 250,
        .k = 20,
        .dtype = topk_dtypes[_i / N_HARD],
        .smallest = which % 2,
        .order = (enum clmoe_topk_order)(which % 3),
        .nan = (enum clmoe_nan)(which / 2 % 3),
        .outputs = TOPK_ALL_OUTPUTS,
    };
    run((uint64_t)(10000 + _i), hard[which], params, 3);
}
END_TEST

/* And where it is long, with the dtypes that have other keys or another number of digits. */
START_TEST(hard_inputs_long) {
    static const enum clmoe_dtype kinds[] = {CLMOE_F16, CLMOE_U8, CLMOE_F64};
    const int which = _i % N_HARD;
    const struct clmoe_topk_params params = {
        .n = 20011, .k = which % 2 ? 40 : 1100, .dtype = kinds[_i / N_HARD], .smallest = which % 2};
    run((uint64_t)(20000 + _i), hard[which], params, 2);
}
END_TEST

/* ---- sentinels ---- */

static const enum pattern_kind sentinels[] = {PATTERN_ALL_MIN, PATTERN_ALL_FINITE, PATTERN_ALL_MAX,
                                              PATTERN_MIN_BUT_ONE, PATTERN_ALL_NAN};
enum { N_SENTINELS = sizeof sentinels / sizeof *sentinels };

/* Every index is in range and comes once, whatever a row holds: checked without the oracle. */
static void ids_are_ids(const int32_t *ids, int64_t rows, int64_t n, int64_t k) {
    char *const seen = topk_room(n, 1);
    for (int64_t r = 0; r < rows; r++) {
        memset(seen, 0, (size_t)n);
        for (int64_t j = 0; j < k; j++) {
            const int32_t i = ids[r * k + j];
            case_require(i >= 0 && i < n, "indices[%lld,%lld] = %d", (long long)r, (long long)j, (int)i);
            case_require(!seen[i], "indices[%lld,%lld] = %d comes twice", (long long)r, (long long)j, (int)i);
            seen[i] = 1;
        }
    }
    free(seen);
}

static void run_ids(uint64_t number, enum pattern_kind kind, struct clmoe_topk_params params, int64_t rows) {
    struct rng rng = rng_for(number);
    struct topk_sample s = sample_of(&rng, (struct pattern){kind, 0}, params, rows);
    int32_t *const ids = topk_room(rows * params.k, sizeof *ids);
    s.params.plan.external_workspace = 1;
    for (int row = 0; (s.params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s %s rows=%lld n=%lld k=%lld %s%s order %d nan %d", s.params.plan.kernel,
                   pattern_name(kind), (long long)rows, (long long)params.n, (long long)params.k,
                   clmoe_dtype_name(params.dtype), params.smallest ? " smallest" : "", (int)params.order,
                   (int)params.nan);
        if (!topk_affordable(s.params.plan.kernel, &s)) continue;
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &s.params, &plan))) continue;
        const cl_mem workspace = topk_workspace(plan);
        struct topk_operands o = topk_operands_new(&rng, &s);
        case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
        guarded_read(&o.indices, ids);
        ids_are_ids(ids, rows, params.n, params.k);
        topk_compare(&s, &o);
        topk_operands_free(&o);
        if (workspace) clReleaseMemObject(workspace);
        clmoe_plan_destroy(&plan);
    }
    free(ids);
    topk_sample_free(&s);
}

/* n is no power of two, nor a multiple of a group. */
START_TEST(sentinel_rows) {
    static const int64_t ns[][2] = {{5, 5}, {37, 9}, {300, 299}, {1100, 64}, {5000, 1300}, {33001, 70}};
    enum { N = sizeof ns / sizeof *ns };
    const int shape = _i / N_SENTINELS % N, way = _i / N_SENTINELS / N;
    const struct clmoe_topk_params params = {.n = ns[shape][0],
                                             .k = ns[shape][1],
                                             .smallest = way & 1,
                                             .nan = way & 2 ? CLMOE_NAN_LOWEST : CLMOE_NAN_GREATEST,
                                             .order = (enum clmoe_topk_order)((_i + way) % 3)};
    run_ids((uint64_t)(30000 + _i), sentinels[_i % N_SENTINELS], params, 3);
}
END_TEST

START_TEST(sentinel_dtypes) {
    static const int64_t ns[][2] = {{45, 44}, {700, 9}};
    const struct clmoe_topk_params params = {.n = ns[_i / N_SENTINELS % 2][0],
                                             .k = ns[_i / N_SENTINELS % 2][1],
                                             .dtype = topk_dtypes[_i / N_SENTINELS / 4],
                                             .smallest = _i / N_SENTINELS / 2 % 2};
    run_ids((uint64_t)(40000 + _i), sentinels[_i % N_SENTINELS], params, rows_here(3));
}
END_TEST

/* ---- the same bits again ---- */

/* Many calls of one plan on one workspace give the bytes of the first: nothing depends on what ran before,
 * nor on the order in which work-groups come. */
START_TEST(repeats) {
    static const int64_t ns[][2] = {{300, 20}, {9000, 1000}, {60000, 64}, {60000, 3000}};
    const struct pattern pattern = {_i % 2 ? PATTERN_CLUSTERED : PATTERN_MOD, 64};
    const int64_t n = ns[_i / 2][0], k = ns[_i / 2][1], rows = 2;
    struct rng rng = rng_for((uint64_t)(50000 + _i));
    struct topk_sample s = sample_of(&rng, pattern, (struct clmoe_topk_params){.n = n, .k = k}, rows);
    int32_t *const first = topk_room(rows * k, sizeof *first), *const again =
                                                                   topk_room(rows * k, sizeof *again);
    s.params.order = CLMOE_ORDER_SORTED;
    for (int row = 0; (s.params.plan.kernel = clmoe_kernel_name("topk", row)); row++) {
        case_begin("%s repeats n=%lld k=%lld", s.params.plan.kernel, (long long)n, (long long)k);
        if (!topk_affordable(s.params.plan.kernel, &s)) continue;
        clmoe_plan *plan;
        if (!row_fits("topk", row, clmoe_topk_plan(tester_context(CAPS_OWN), &s.params, &plan))) continue;
        struct topk_operands o = topk_operands_new(&rng, &s);
        for (int call = 0; call < (tester()->small ? 2 : 100); call++) {
            case_ok(clmoe_topk_enqueue(plan, tester()->queue, &o.args, 0, NULL, NULL));
            guarded_read(&o.indices, call ? again : first);
            case_require(call == 0 || memcmp(first, again, (size_t)(rows * k) * sizeof *first) == 0,
                         "call %d has other indices than the first", call);
        }
        topk_compare(&s, &o);
        topk_operands_free(&o);
        clmoe_plan_destroy(&plan);
    }
    free(first), free(again);
    topk_sample_free(&s);
}
END_TEST

static void add_tests(TCase *cases) {

    if (tester()->small) {
        tcase_add_loop_test(cases, hard_inputs, 4, 7);
        tcase_add_loop_test(cases, sentinel_dtypes, 0, N_SENTINELS);
        return;
    }
    tcase_add_loop_test(cases, hard_inputs, 0, N_HARD * N_SHAPES);
    tcase_add_loop_test(cases, hard_inputs_by_dtype, 0, N_HARD * TOPK_DTYPES);
    tcase_add_loop_test(cases, hard_inputs_long, 0, N_HARD * 3);
    tcase_add_loop_test(cases, sentinel_rows, 0, N_SENTINELS * 6 * 4);
    tcase_add_loop_test(cases, sentinel_dtypes, 0, N_SENTINELS * 4 * TOPK_DTYPES);
    tcase_add_loop_test(cases, repeats, 0, 8);
}

int main(void) {
    return harness_main("topk_fills", "", add_tests);
}
