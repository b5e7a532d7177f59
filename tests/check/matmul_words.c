/* SPDX-License-Identifier: MIT
 * matmul's rows for words of 4-bit codes. Those on tensor cores: that on mma.sync, emulated where there are none: straight
 * from ids and in tiles of each height, around where stages, segments and groups of K, tiles and words of columns
 * end. That for Hopper, elsewhere that it is refused: as many pairs of an expert as tiles have, and some more or
 * fewer. And that for CPUs. */
#include "matmul_case.h"

#include <string.h>

#define ROW "matmul_words_mma"
#define HOPPER_ROW "matmul_wgmma_words"
#define CPU_ROW "matmul_cpu_words"

/* What decides which programs are compiled: kept few. Tiles of 8, 16 and 32 rows take more pairs for an expert
 * than 0, 8 and 16. */
static const struct variant {
    enum clmoe_w_order order;
    enum clmoe_dtype x, y;
    struct clmoe_w_scale scale;
    bool gated, sorted;
    int tokens;
} variants[] = {
    {CLMOE_W_AWQ, CLMOE_BF16, CLMOE_F32, {CLMOE_F16, 1, 128, CLMOE_ZERO_GIVEN}, false, false, 3},
    {CLMOE_W_GPTQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F16, 1, 128, CLMOE_ZERO_PLUS_ONE}, false, false, 3},
    {CLMOE_W_AWQ, CLMOE_F16, CLMOE_F16, {CLMOE_F32, 1, 32, CLMOE_ZERO_EIGHT}, true, true, 5},
    {CLMOE_W_GPTQ, CLMOE_F16, CLMOE_F32, {CLMOE_BF16, 1, 64, CLMOE_ZERO_GIVEN}, true, false, 2},
    {CLMOE_W_GPTQ, CLMOE_BF16, CLMOE_F32, {CLMOE_F32, 1, 32, CLMOE_ZERO_GIVEN}, true, true, 12},
    {CLMOE_W_AWQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F16, 1, 0, CLMOE_ZERO_GIVEN}, false, true, 40},
    {CLMOE_W_GPTQ, CLMOE_F16, CLMOE_F16, {CLMOE_F16, 1, 256, CLMOE_ZERO_EIGHT}, false, true, 33},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 16 * N_VARIANTS };

/* The same for the row on Hopper. */
static const struct variant many[] = {
    {CLMOE_W_AWQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F16, 1, 128, CLMOE_ZERO_GIVEN}, false, true, 0},
    {CLMOE_W_GPTQ, CLMOE_F16, CLMOE_F16, {CLMOE_F16, 1, 128, CLMOE_ZERO_PLUS_ONE}, true, true, 0},
    {CLMOE_W_AWQ, CLMOE_F16, CLMOE_F16, {CLMOE_F32, 1, 32, CLMOE_ZERO_EIGHT}, true, true, 0},
    {CLMOE_W_GPTQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_BF16, 1, 64, CLMOE_ZERO_GIVEN}, false, true, 0},
    {CLMOE_W_AWQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F16, 1, 256, CLMOE_ZERO_GIVEN}, true, true, 0},
    {CLMOE_W_GPTQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F32, 1, 32, CLMOE_ZERO_EIGHT}, true, true, 0},
};
enum { N_MANY = sizeof many / sizeof *many, N_MANY_CASES = 16 * N_MANY };

/* The same for the row for CPUs, first a row of x alone. */
static const struct variant on_cpus[] = {
    {CLMOE_W_AWQ, CLMOE_F32, CLMOE_F32, {CLMOE_U8, 1, 16, CLMOE_ZERO_GIVEN}, false, false, 5},
    {CLMOE_W_GPTQ, CLMOE_BF16, CLMOE_BF16, {CLMOE_F16, 1, 128, CLMOE_ZERO_PLUS_ONE}, true, false, 3},
    {CLMOE_W_AWQ, CLMOE_BF16, CLMOE_F32, {CLMOE_F16, 1, 0, CLMOE_ZERO_GIVEN}, true, true, 12},
    {CLMOE_W_GPTQ, CLMOE_F32, CLMOE_F16, {CLMOE_F32, 1, 64, CLMOE_ZERO_EIGHT}, false, true, 40},
};
enum { N_ON_CPUS = sizeof on_cpus / sizeof *on_cpus, N_CPU_CASES = 16 * N_ON_CPUS };

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* Segments of the eight waves have 1024 steps together. */
static struct clmoe_matmul_params pick_params(struct rng *rng, const struct variant *v, int turn) {
    static const int64_t steps[] = {8, 24, 32, 40, 96, 128, 136, 264, 520, 1024, 1160},
                         columns[] = {8, 16, 32, 40, 56, 64, 72, 136};
    struct clmoe_matmul_params p = {
        .max_tokens = v->tokens + turn % 2,
        .topk = 1 + turn % 3,
        .experts = 1 + (int)rng_below(rng, 3),
        .in = PICK(rng, steps),
        .out = PICK(rng, columns),
        .x_dtype = v->x,
        .w_dtype = CLMOE_I32,
        .y_dtype = v->y,
        .bias_dtype = CLMOE_F32,
        .w_scale = v->scale,
        .w_order = v->order,
        .glu = !v->gated       ? CLMOE_GLU_NONE
               : turn % 3 == 2 ? CLMOE_GLU_APART
                               : (enum clmoe_glu)(1 + turn % 3),
        .act = {v->gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .x_rows = (enum clmoe_rows)(turn % (v->sorted ? 3 : 2)),
        .y_rows = v->sorted && turn % 4 == 3 ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .routing = v->sorted ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .limit = (enum clmoe_limit)(rng_below(rng, 3) ? 0 : rng_below(rng, 3)),
        .bias = turn % 2,
        .expert_scale = turn % 5 == 4,
    };
    if (v->order == CLMOE_W_AWQ && v->tokens && turn % 4 == 1) p.in -= 1 + rng_below(rng, 7);
    if (v->sorted && turn % 8 == 7) {
        p.routing = CLMOE_ROUTING_DENSE;
        p.experts = p.topk = 1, p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    }
    if (tester()->small) p.in = p.in < 40 ? p.in : 40, p.out = p.out < 16 ? p.out : 16;
    return p;
}

/* All that the row on Hopper takes; every eighth time more tokens than a call has. */
static struct clmoe_matmul_params pick_many(struct rng *rng, const struct variant *v, int turn,
                                            int64_t *tokens) {
    enum { MOST_PRODUCTS = 20000000 };
    static const int64_t counts[] = {1, 31, 32, 33, 64, 65, 97, 129, 160, 161, 200, 330, 512};
    struct clmoe_matmul_params p = pick_params(rng, v, turn);
    p.limit = CLMOE_LIMIT_NONE;
    p.y_rows = rng_below(rng, 2) && p.routing == CLMOE_ROUTING_SORTED ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR;
    *tokens = PICK(rng, counts);
    while (*tokens * p.topk * p.in * p.out > MOST_PRODUCTS)
        *tokens /= 2;
    p.max_tokens = *tokens + (turn % 8 == 4) * 500;
    return p;
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 29}, rng = rng_for((uint64_t)_i + 60000);
    const struct variant *const v = &variants[_i % N_VARIANTS];
    const int turn = _i / N_VARIANTS;
    const struct clmoe_matmul_params params = pick_params(&structure, v, turn);
    struct matmul_sample s =
        matmul_sample_make(&rng, &params, v->tokens, (enum routing_fill)(turn % ROUTING_COUNT),
                           params.experts > 1 && turn % 3 == 0 ? 2 : 1);
    s.aligned = turn % 4 != 2;
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

START_TEST(many_rows) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 31}, rng = rng_for((uint64_t)_i + 62000);
    const int turn = _i / N_MANY;
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_many(&structure, &many[_i % N_MANY], turn, &tokens);
    struct matmul_sample s =
        matmul_sample_make(&rng, &params, tokens, (enum routing_fill)(turn % ROUTING_COUNT),
                           params.experts > 1 && turn % 3 == 0 ? 2 : 1);
    s.aligned = turn % 8 != 6; /* else another kernel of the row runs */
    matmul_sample_solve(&s);
    matmul_run_row(&rng, &s, CAPS_OWN, matmul_row_of(HOPPER_ROW));
    matmul_sample_free(&s);
}
END_TEST

/* Both ways to multiply: a row of x alone, and some. */
START_TEST(cpu_row) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 37}, rng = rng_for((uint64_t)_i + 63000);
    const struct variant *const v = &on_cpus[_i % N_ON_CPUS];
    const int turn = _i / N_ON_CPUS;
    struct clmoe_matmul_params params = pick_params(&structure, v, turn);
    params.limit = (enum clmoe_limit)(turn % 3);
    struct matmul_sample s =
        matmul_sample_make(&rng, &params, v->tokens, (enum routing_fill)(turn % ROUTING_COUNT),
                           params.experts > 1 && turn % 3 == 0 ? 2 : 1);
    s.aligned = turn % 4 != 2;
    matmul_sample_solve(&s);
    matmul_run_row(&rng, &s, CAPS_OWN, matmul_row_of(CPU_ROW));
    matmul_sample_free(&s);
}
END_TEST

START_TEST(cpu_shapes) {
    static const char *const parameters[] = {"TM=16 TK=512", "TM=128 TK=64"};
    struct rng structure = {78}, rng = rng_for((uint64_t)_i + 64000);
    struct clmoe_matmul_params params = pick_params(&structure, &on_cpus[3 * _i], 0);
    if (!tester()->small) params.in = 1200;
    struct matmul_sample s = matmul_sample_make(&rng, &params, params.max_tokens, ROUTING_RANDOM, 1);
    matmul_run_tuned(&rng, &s, CPU_ROW, parameters[_i]);
}
END_TEST

START_TEST(cpu_row_ran) {
    row_require_ran("matmul", matmul_row_of(CPU_ROW));
}
END_TEST

/* Fewer and more waves and stages than usual; the last ones where work-groups and their memory may be so large. */
START_TEST(shapes) {
    static const char *const parameters[] = {"LOCAL=64 STAGES=6", "LOCAL=128 STAGES=2", "LOCAL=512 STAGES=3"};
    const struct variant *const v = &variants[_i % 2 ? 2 : 0];
    struct rng structure = {77}, rng = rng_for((uint64_t)_i + 61000);
    struct clmoe_matmul_params params = pick_params(&structure, v, 0);
    params.in = 1200;
    struct matmul_sample s = matmul_sample_make(&rng, &params, v->tokens, ROUTING_RANDOM, 1);
    matmul_run_tuned(&rng, &s, ROW, parameters[_i]);
}
END_TEST

/* It is the row that is taken, where it can be; and says why where not. */
START_TEST(fits) {
    struct rng structure = {5};
    struct clmoe_matmul_params params = pick_params(&structure, &variants[0], 0);
    clmoe_plan *plan;
    case_begin("%s", ROW);
    case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED_GPU), &params, &plan));
    case_require(strstr(clmoe_plan_describe(plan), ROW), "\"%s\"", clmoe_plan_describe(plan));
    clmoe_plan_destroy(&plan);
    params.in = 64, params.w_scale.columns = 16;
    case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED_GPU), &params, &plan));
    case_require(strstr(clmoe_plan_describe(plan), ROW ": groups have 16 columns < 32"), "\"%s\"",
                 clmoe_plan_describe(plan));
    clmoe_plan_destroy(&plan);
}
END_TEST

START_TEST(ran_at_all) {
    row_require_ran("matmul", matmul_row_of(ROW));
}
END_TEST

START_TEST(many_rows_ran) {
    row_require_ran("matmul", matmul_row_of(HOPPER_ROW));
}
END_TEST

static void refused(const char *row, enum forced_caps caps, const char *reason) {
    struct rng structure = {6};
    int64_t tokens;
    struct clmoe_matmul_params params = pick_many(&structure, &many[0], 0, &tokens);
    params.plan.kernel = row;
    clmoe_plan *plan;
    case_begin("%s", row);
    case_require(clmoe_matmul_plan(tester_context(caps), &params, &plan) == CLMOE_E_UNSUPPORTED,
                 "not refused");
    case_require(strstr(tester_log(), reason), "refused for another reason");
}

START_TEST(not_for_this_device) {
    refused(HOPPER_ROW, CAPS_OWN, "the device lacks nv_wgmma");
}
END_TEST

START_TEST(for_cpus_only) {
    refused(CPU_ROW, CAPS_PLAIN, "the device lacks cpu");
}
END_TEST

static void add_tests(TCase *cases) {
    struct clmoe_device_info info, own;
    case_ok(clmoe_context_device_info(tester_context(CAPS_EMULATED), &info));
    case_ok(clmoe_context_device_info(tester_context(CAPS_OWN), &own));
    const bool large = info.caps.max_work_group >= 512 && info.caps.local_mem >= 128 << 10;
    const int n_shapes = tester()->small ? 0 : large ? 3 : 2;
    if (own.features & CLMOE_FEATURE_NV_WGMMA) {
        tcase_add_loop_test(cases, many_rows, 0, N_MANY_CASES);
        tcase_add_test(cases, many_rows_ran);
    } else {
        tcase_add_test(cases, not_for_this_device);
    }
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_VARIANTS : N_CASES);
    tcase_add_loop_test(cases, shapes, 0, n_shapes);
    if (own.features & CLMOE_FEATURE_CPU) {
        tcase_add_loop_test(cases, cpu_row, 0, tester()->small ? N_ON_CPUS : N_CPU_CASES);
        tcase_add_loop_test(cases, cpu_shapes, 0, 2);
        tcase_add_test(cases, cpu_row_ran);
    }
    tcase_add_test(cases, for_cpus_only);
    tcase_add_test(cases, fits);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("matmul_words", "", add_tests);
}
