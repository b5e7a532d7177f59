/* SPDX-License-Identifier: MIT
 * matmul's Hopper row for weights of 16 bits against ref_matmul: as many pairs of an expert as tiles have, and
 * some more or fewer, with every option of the epilogue. Elsewhere that it is refused. */
#include "matmul_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides which programs are compiled. */
static const struct {
    enum clmoe_dtype dtype, bias;
    bool gated;
    struct clmoe_activation act;
} variants[] = {
    {CLMOE_BF16, CLMOE_F32, false, {CLMOE_ACT_NONE}},
    {CLMOE_BF16, CLMOE_BF16, true, {CLMOE_ACT_SILU}},
    {CLMOE_F16, CLMOE_F16, true, {CLMOE_ACT_SILU, 1.702f, 0.7f, 0.8f, 1.0f, .act_max = 0.4f}},
    {CLMOE_F16, CLMOE_F32, false, {CLMOE_ACT_RELU2}},
};
enum {
    N_VARIANTS = sizeof variants / sizeof *variants,
    N_CASES = 96,
    MAX_ROWS = 32,
    MOST_PRODUCTS = 20000000
};

#define NAME "matmul_wgmma"
static int ran;

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* The structure of case `i`: the same for every seed of the data. */
static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    static const int64_t tokens_of_one[] = {1,   31,  32,  33,  64,  65,  96,  97,
                                            128, 129, 145, 160, 161, 177, 353, 700};
    static const int64_t token_counts[] = {1, 8, 33, 65, 129, 300, 512};
    static const int expert_counts[] = {1, 2, 3, 8, 60}, topks[] = {1, 2, 8};
    static const int64_t steps[] = {8, 40, 64, 72, 128, 136, 200, 264, 520},
                         columns[] = {8, 64, 72, 120, 128, 136, 256, 264};
    const int v = i % N_VARIANTS, turn = i / N_VARIANTS;
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, expert_counts),
        .in = PICK(rng, steps),
        .out = PICK(rng, columns),
        .x_dtype = variants[v].dtype,
        .w_dtype = variants[v].dtype,
        .y_dtype = variants[v].dtype,
        .bias_dtype = variants[v].bias,
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + turn % 4) : CLMOE_GLU_NONE,
        .act = variants[v].act,
        .routing = CLMOE_ROUTING_SORTED,
        .x_rows = (enum clmoe_rows)rng_below(rng, 3),
        .y_rows = rng_below(rng, 2) ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .bias = (int)rng_below(rng, 2),
        .expert_scale = (int)rng_below(rng, 2),
    };
    *tokens = PICK(rng, token_counts);
    if (turn % 2) { /* one tile, or some */
        p.experts = 1 + (int)rng_below(rng, 2), p.topk = 1;
        *tokens = tokens_of_one[(turn / 2 + v) % 16];
    }
    if (turn % 6 == 3) {
        p.experts = p.topk = 1, p.routing = CLMOE_ROUTING_DENSE;
        p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    }
    while (*tokens * p.topk * p.in * p.out > MOST_PRODUCTS)
        p.in = (p.in / 2 + 7) / 8 * 8;
    p.max_tokens = *tokens + rng_below(rng, 2) * 500; /* kernels for more pairs are there, too */
    return p;
}

/* Its index in the table, which has it. */
static int the_row(void) {
    int row = 0;
    while (strcmp(clmoe_kernel_name("matmul", row), NAME) != 0)
        row++;
    return row;
}

static void run_row(struct rng *rng, struct matmul_sample *s) {
    ran += matmul_run_row(rng, s, CAPS_OWN, the_row());
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 9}, rng = rng_for((uint64_t)_i);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    const int part_counts[] = {1, 1, params.experts > 1 ? 2 : 1, params.experts};
    const bool dense = params.routing == CLMOE_ROUTING_DENSE;
    const int parts = dense ? 1 : PICK(&structure, part_counts);
    const enum routing_fill fill =
        dense ? ROUTING_ONE_EXPERT : (enum routing_fill)rng_below(&structure, ROUTING_COUNT);
    struct matmul_sample s = matmul_sample_make(&rng, &params, tokens, fill, parts);
    s.aligned = _i % 11 != 10; /* else another kernel of the row runs */
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

static const struct clmoe_matmul_params plain = {
    .max_tokens = 500,
    .topk = 2,
    .experts = 3,
    .in = 72,
    .out = 136,
    .x_dtype = CLMOE_BF16,
    .w_dtype = CLMOE_BF16,
    .y_dtype = CLMOE_BF16,
    .routing = CLMOE_ROUTING_SORTED,
};

/* A NaN row of x and a NaN column of w reach their own row and column of y, and nothing else. */
START_TEST(nan_stays_where_it_is) {
    static const int64_t tokens[] = {6, 40, 200};
    struct rng rng = rng_for(1000 + (uint64_t)_i);
    struct matmul_sample s = matmul_sample_make(&rng, &plain, tokens[_i], ROUTING_RANDOM, 1);
    for (int64_t k = 0; k < plain.in; k++) {
        s.x[5 * plain.in + k] = NAN;
        s.gate[(s.ids[3] * plain.out + plain.out - 1) * plain.in + k] = NAN;
    }
    s.aligned = true;
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* One plan, calls of all sizes: each takes tiles of its own height. The counters of tiles are used again. */
START_TEST(calls_of_all_sizes) {
    struct clmoe_matmul_params params = plain;
    params.plan.kernel = NAME;
    clmoe_plan *plan;
    case_begin("calls of all sizes");
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan));
    for (int64_t tokens = 1; tokens <= params.max_tokens; tokens += tokens / 2 + 1) {
        struct rng rng = rng_for((uint64_t)tokens + 2000);
        struct matmul_sample s = matmul_sample_make(&rng, &params, tokens, ROUTING_SKIPS, 2);
        s.aligned = true;
        matmul_sample_solve(&s);
        for (int again = 0; again < 2; again++) {
            struct matmul_operands d;
            matmul_upload(&rng, &s, &d); /* y poisoned anew */
            case_begin("%s", matmul_case_name(&s));
            case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
            matmul_compare(&s, &d);
            matmul_operands_free(&d);
        }
        matmul_sample_free(&s);
    }
    clmoe_plan_destroy(&plan);
}
END_TEST

START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(3000);
    struct matmul_sample s = matmul_sample_make(&rng, &plain, 170, ROUTING_SKIPS, 2);
    clmoe_plan *plan;
    s.aligned = true;
    s.params.plan.kernel = NAME;
    matmul_sample_solve(&s);
    case_begin("out of order: %s", matmul_case_name(&s));
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &s.params, &plan));
    matmul_run_out_of_order(&rng, &s, plan);
    clmoe_plan_destroy(&plan);
    matmul_sample_free(&s);
}
END_TEST

START_TEST(it_ran) {
    printf("  %-28s ran %d times\n", NAME, ran);
    case_require(ran > 0 || getenv("CLMOE_TEST_SLICE"), "it never ran");
}
END_TEST

START_TEST(not_for_this_device) {
    struct clmoe_matmul_params params = plain;
    params.plan.kernel = NAME;
    clmoe_plan *plan;
    printf("  %-28s not for this device\n", NAME);
    case_require(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan) == CLMOE_E_UNSUPPORTED,
                 "not refused");
    case_require(strstr(tester_log(), "the device lacks nv_wgmma"), "refused for another reason");
}
END_TEST

static void add_tests(TCase *cases) {
    struct clmoe_device_info info;
    case_ok(clmoe_context_device_info(tester_context(CAPS_OWN), &info));
    if (!(info.features & CLMOE_FEATURE_NV_WGMMA)) {
        tcase_add_test(cases, not_for_this_device);
        return;
    }
    tcase_add_loop_test(cases, against_reference, 0, N_CASES);
    tcase_add_loop_test(cases, nan_stays_where_it_is, 0, 3);
    tcase_add_test(cases, calls_of_all_sizes);
    tcase_add_test(cases, out_of_order_queue);
    tcase_add_test(cases, it_ran);
}

int main(void) {
    return harness_main("matmul_wgmma", "", add_tests);
}
