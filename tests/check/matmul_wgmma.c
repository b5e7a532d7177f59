/* SPDX-License-Identifier: MIT
 * matmul's Hopper rows for weights of 16 bits and for fp8 and int8 against ref_matmul: as many pairs of an expert as
 * tiles have, and some more or fewer, with every option of the epilogue. Elsewhere that they are refused. */
#include "matmul_case.h"
#include "matmul_coded.h"
#include "ref/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides which programs are compiled. */
static const struct {
    enum clmoe_dtype dtype, w, bias;
    bool gated;
    struct clmoe_activation act;
    struct clmoe_w_scale scale;
} variants[] = {
    {CLMOE_BF16, CLMOE_BF16, CLMOE_F32, false, {CLMOE_ACT_NONE}, {0}},
    {CLMOE_BF16, CLMOE_BF16, CLMOE_BF16, true, {CLMOE_ACT_SILU}, {0}},
    {CLMOE_F16, CLMOE_F16, CLMOE_F16, true, {CLMOE_ACT_SILU, 1.702f, 0.7f, 0.8f, 1.0f, .act_max = 0.4f}, {0}},
    {CLMOE_F16, CLMOE_F16, CLMOE_F32, false, {CLMOE_ACT_RELU2}, {0}},
    {CLMOE_BF16, CLMOE_F8_E4M3, CLMOE_F32, false, {CLMOE_ACT_NONE}, {CLMOE_F32, 128, 128}},
    {CLMOE_BF16, CLMOE_F8_E4M3, CLMOE_BF16, true, {CLMOE_ACT_SILU}, {CLMOE_F32, 128, 128}},
    {CLMOE_F16, CLMOE_F8_E4M3, CLMOE_F16, true, {CLMOE_ACT_SILU, .up_max = 0.7f}, {CLMOE_F32, 1}},
    {CLMOE_F16, CLMOE_F8_E4M3, CLMOE_F32, false, {CLMOE_ACT_RELU2}, {CLMOE_F32, 40, 256}},
    {CLMOE_BF16, CLMOE_I8, CLMOE_F32, false, {CLMOE_ACT_NONE}, {CLMOE_F32, 1}},
    {CLMOE_BF16, CLMOE_I8, CLMOE_BF16, true, {CLMOE_ACT_SILU}, {CLMOE_F32, 64, 128}},
    {CLMOE_F16, CLMOE_I8, CLMOE_F16, true, {CLMOE_ACT_SILU, .up_max = 0.7f}, {CLMOE_F32}},
    {CLMOE_F16, CLMOE_I8, CLMOE_F32, false, {CLMOE_ACT_RELU2}, {CLMOE_F32, 1, 512}},
};
enum {
    N_VARIANTS = 4, /* of a kind of weights */
    N_KIND_CASES = 96,
    N_CASES = 3 * N_KIND_CASES,
    MAX_ROWS = 32,
    MOST_PRODUCTS = 20000000
};

static const char *const names[] = {"matmul_wgmma", "matmul_wgmma_bytes"};
static int ran[2];

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* The structure of case `i`: the same for every seed of the data. */
static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    static const int64_t tokens_of_one[] = {1,   31,  32,  33,  64,  65,  96,  97,
                                            128, 129, 145, 160, 161, 177, 353, 700};
    static const int64_t token_counts[] = {1, 8, 33, 65, 129, 300, 512};
    static const int expert_counts[] = {1, 2, 3, 8, 60}, topks[] = {1, 2, 8};
    static const int64_t steps[] = {8, 40, 64, 72, 128, 136, 200, 264, 520},
                         columns[] = {8, 64, 72, 120, 128, 136, 256, 264};
    const int v = i / N_KIND_CASES * N_VARIANTS + i % N_VARIANTS, turn = i % N_KIND_CASES / N_VARIANTS;
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, expert_counts),
        .in = PICK(rng, steps),
        .out = PICK(rng, columns),
        .x_dtype = variants[v].dtype,
        .w_dtype = variants[v].w,
        .w_scale = variants[v].scale,
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
    if (v >= N_VARIANTS && !p.glu) p.out += rng_below(rng, 8); /* rows of y may begin anywhere */
    *tokens = PICK(rng, token_counts);
    if (turn % 2) { /* one tile, or some */
        p.experts = 1 + (int)rng_below(rng, 2), p.topk = 1;
        *tokens = tokens_of_one[(turn / 2 + i) % 16];
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

/* The row for weights of this kind. */
static int which(enum clmoe_dtype w) {
    return w == CLMOE_F8_E4M3 || w == CLMOE_I8;
}

static void run_row(struct rng *rng, struct matmul_sample *s) {
    const int i = which(s->params.w_dtype);
    ran[i] += matmul_run_row(rng, s, CAPS_OWN, matmul_row_of(names[i]));
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 9}, rng = rng_for((uint64_t)_i);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i % 11 != 10; /* else another kernel of the row runs */
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

#define PLAIN                                                                                                \
    .max_tokens = 500, .topk = 2, .experts = 3, .in = 200, .out = 136, .x_dtype = CLMOE_BF16,                \
    .y_dtype = CLMOE_BF16, .routing = CLMOE_ROUTING_SORTED
static const struct clmoe_matmul_params plain[] = {
    {PLAIN, .w_dtype = CLMOE_BF16},
    {PLAIN, .w_dtype = CLMOE_F8_E4M3, .w_scale = {CLMOE_F32, 128, 128}},
    {PLAIN, .w_dtype = CLMOE_I8, .w_scale = {CLMOE_F32, 1}},
};

/* A NaN row of x and a NaN column of w reach their own row and column of y, and nothing else. */
START_TEST(nan_stays_where_it_is) {
    static const int64_t tokens[] = {6, 40, 200};
    const struct clmoe_matmul_params *const p = &plain[_i / 3];
    struct rng rng = rng_for(1000 + (uint64_t)_i);
    struct matmul_sample s = matmul_sample_make(&rng, p, tokens[_i % 3], ROUTING_RANDOM, 1);
    for (int64_t k = 0; k < p->in; k++) {
        const int64_t w = (s.ids[3] * p->out + p->out - 1) * p->in + k;
        s.x[5 * p->in + k] = NAN;
        s.gate[w] = NAN;
        if (s.raw_gate) matmul_spoil_block(&s, w);
    }
    s.aligned = true;
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* Each code of fp8 and int8 at each step of K, once times 1. NaN is in rows of its own: 0 times it is NaN. */
START_TEST(each_code_is_exact) {
    enum { CODES = 256 };
    static const enum clmoe_dtype dtypes[] = {CLMOE_BF16, CLMOE_F16};
    struct clmoe_matmul_params params = plain[1 + _i / 2];
    const bool fp8 = params.w_dtype == CLMOE_F8_E4M3;
    params.topk = params.experts = 1;
    params.in = params.out = CODES;
    params.x_dtype = params.y_dtype = dtypes[_i % 2];
    struct rng rng = rng_for(4000);
    struct matmul_sample s = matmul_sample_make(&rng, &params, CODES, ROUTING_ONE_EXPERT, 1);
    for (int i = 0; i < CODES * CODES; i++) {
        const int n = i / CODES, k = i % CODES, code = (n + k) % CODES;
        const bool nan = fp8 && code % 128 == 127, own_row = n % 128 == 127 && k == 3;
        s.raw_gate[i] = (unsigned char)(!nan ? code : own_row ? n : 0);
        s.x[i] = n == k;
    }
    ref_unpack(params.w_dtype, s.raw_gate, CODES * CODES, s.gate);
    for (int i = 0; i < (fp8 ? 4 : CODES); i++)
        s.scales[i] = 1;
    s.aligned = true;
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    for (int i = 0; i < CODES * CODES; i++)
        case_require(s.got[i] == (float)s.want[i] || isnan(s.want[i]), "element %d: %g, expected %g", i,
                     (double)s.got[i], s.want[i]);
    matmul_sample_free(&s);
}
END_TEST

/* Blocks without weight, of a weight beside which others are nothing, and one that is NaN. */
START_TEST(scales_of_all_sizes) {
    static const float scales[] = {0, 1e-30f, 1e-3f, 1, 1e3f, 0x1p60f, 0, 0x1p-60f, 0.5f, NAN};
    struct clmoe_matmul_params params = plain[1];
    params.in = 520;
    params.x_dtype = params.y_dtype = _i / 2 ? CLMOE_F16 : CLMOE_BF16;
    struct rng rng = rng_for(5000 + (uint64_t)_i);
    struct matmul_sample s = matmul_sample_make(&rng, &params, _i % 2 ? 300 : 20, ROUTING_RANDOM, 1);
    const int64_t steps = (params.in + 127) / 128, rows = (params.out + 127) / 128;
    for (int64_t i = 0; i < params.experts * rows * steps; i++)
        s.scales[i] = i % steps == 0 ? 1 : scales[rng_below(&rng, sizeof scales / sizeof *scales)];
    ref_unpack(CLMOE_F8_E4M3, s.raw_gate, params.experts * params.out * params.in, s.gate);
    for (int64_t i = 0; i < params.experts * params.out * params.in; i++) {
        const int64_t k = i % params.in, n = i / params.in % params.out, e = i / params.in / params.out;
        s.gate[i] *= s.scales[(e * rows + n / 128) * steps + k / 128];
    }
    s.aligned = true;
    matmul_sample_solve(&s);
    run_row(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* One plan, calls of all sizes: each takes tiles of its own height. The counters of tiles are used again. */
START_TEST(calls_of_all_sizes) {
    struct clmoe_matmul_params params = plain[_i];
    params.plan.kernel = names[_i];
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
    struct matmul_sample s = matmul_sample_make(&rng, &plain[_i], 170, ROUTING_SKIPS, 2);
    clmoe_plan *plan;
    s.aligned = true;
    s.params.plan.kernel = names[_i];
    matmul_sample_solve(&s);
    case_begin("out of order: %s", matmul_case_name(&s));
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &s.params, &plan));
    matmul_run_out_of_order(&rng, &s, plan);
    clmoe_plan_destroy(&plan);
    matmul_sample_free(&s);
}
END_TEST

START_TEST(it_ran) {
    printf("  %-28s ran %d times\n", names[_i], ran[_i]);
    case_require(ran[_i] > 0 || getenv("CLMOE_TEST_SLICE"), "it never ran");
}
END_TEST

START_TEST(not_for_this_device) {
    struct clmoe_matmul_params params = plain[_i];
    params.plan.kernel = names[_i];
    clmoe_plan *plan;
    printf("  %-28s not for this device\n", names[_i]);
    case_require(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan) == CLMOE_E_UNSUPPORTED,
                 "not refused");
    case_require(strstr(tester_log(), "the device lacks nv_wgmma"), "refused for another reason");
}
END_TEST

static void add_tests(TCase *cases) {
    struct clmoe_device_info info;
    case_ok(clmoe_context_device_info(tester_context(CAPS_OWN), &info));
    if (!(info.features & CLMOE_FEATURE_NV_WGMMA)) {
        tcase_add_loop_test(cases, not_for_this_device, 0, 2);
        return;
    }
    tcase_add_loop_test(cases, against_reference, 0, N_CASES);
    tcase_add_loop_test(cases, nan_stays_where_it_is, 0, 6);
    tcase_add_loop_test(cases, each_code_is_exact, 0, 4);
    tcase_add_loop_test(cases, scales_of_all_sizes, 0, 4);
    tcase_add_loop_test(cases, calls_of_all_sizes, 0, 2);
    tcase_add_loop_test(cases, out_of_order_queue, 0, 2);
    tcase_add_loop_test(cases, it_ran, 0, 2);
}

int main(void) {
    return harness_main("matmul_wgmma", "", add_tests);
}
