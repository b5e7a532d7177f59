/* SPDX-License-Identifier: MIT
 * matmul's rows for matrix instructions, with the instructions emulated where the device lacks them: against
 * ref_matmul, over shapes, layouts and options. */
#include "matmul_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides which programs are compiled: kept few, since each row compiles two tiles for each. */
static const struct {
    enum clmoe_dtype x, y, bias;
    bool gated;
    struct clmoe_activation act;
} variants[] = {
    {CLMOE_F16, CLMOE_F16, CLMOE_F16, true, {CLMOE_ACT_SILU, 1.702f, 0.7f, 0.8f, 1.0f, .act_max = 0.4f}},
    {CLMOE_BF16, CLMOE_F32, CLMOE_BF16, false, {CLMOE_ACT_NONE}},
};
enum {
    N_VARIANTS = sizeof variants / sizeof *variants,
    N_CASES = 120,
    N_ALIGNED = 60,
    N_SMALL = 6,
    MAX_ROWS = 32
};

static const int64_t token_counts[] = {1, 7, 31, 33, 65, 129};
static const int expert_counts[] = {1, 2, 8, 60};
static const int topks[] = {1, 2, 8};
static const int64_t widths[] = {1, 3, 8, 31, 32, 33, 64, 65, 127, 128, 160};

static int ran[MAX_ROWS];

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    const int v = i % N_VARIANTS;
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, expert_counts),
        .in = PICK(rng, widths),
        .out = PICK(rng, widths),
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].x,
        .y_dtype = variants[v].y,
        .bias_dtype = variants[v].bias,
        .w_order = i / N_VARIANTS % 2 ? CLMOE_W_EKN : CLMOE_W_ENK,
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + i / N_VARIANTS / 2 % 4) : CLMOE_GLU_NONE,
        .act = variants[v].act,
        .routing = CLMOE_ROUTING_SORTED,
        .x_rows = (enum clmoe_rows)rng_below(rng, 3),
        .y_rows = rng_below(rng, 2) ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .limit = (enum clmoe_limit)(rng_below(rng, 3) ? 0 : rng_below(rng, 3)),
        .bias = 1,
        .add = rng_below(rng, 4) == 0,
        .expert_scale = (int)rng_below(rng, 2),
    };
    *tokens = PICK(rng, token_counts);
    if (tester()->small) {
        *tokens = 1 + *tokens % 5;
        p.topk = 1 + p.topk % 2, p.experts = 1 + p.experts % 2;
        p.in = 1 + p.in % 37, p.out = 1 + p.out % 41;
    } else if (i % 7 == 5) { /* a large tile, and more than one */
        p.experts = p.topk = 1;
        p.out = 1 + p.out % 80;
        *tokens = 70 + i % 61;
    }
    while (*tokens * p.topk * p.in * p.out > 1000000)
        *tokens /= 2;
    if (p.experts == 1 && rng_below(rng, 2)) {
        p.topk = 1, p.routing = CLMOE_ROUTING_DENSE;
        p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    }
    p.max_tokens = *tokens + rng_below(rng, 2);
    return p;
}

/* For copies of 16 bytes: rows that begin at multiples of them (but for every ninth case), pieces of K up to
 * more than are on their way at a time, and as many pairs as tiles of either height have, and one more. */
static struct clmoe_matmul_params pick_aligned(struct rng *rng, int i, int64_t *tokens) {
    static const int64_t steps[] = {8, 16, 32, 40, 64, 72, 96, 128, 136, 264};
    static const int64_t columns[] = {1, 7, 8, 34, 64, 100, 128, 129, 260};
    static const int64_t pairs[] = {1, 31, 32, 33, 127, 128, 129, 260};
    const int most = tester()->small ? 3 : 10;
    struct clmoe_matmul_params p = pick_params(rng, i, tokens);
    if (p.limit == CLMOE_LIMIT_IN) p.limit = CLMOE_LIMIT_OUT;
    p.in = steps[rng_below(rng, most)];
    p.out = tester()->small ? 5 + i : PICK(rng, columns);
    if (p.w_order == CLMOE_W_EKN) p.out = (p.out + 7) / 8 * 8;
    if (i % 3 == 0) p.experts = 1 + (int)rng_below(rng, 2), p.topk = 1;
    if (i % 3 == 0) *tokens = tester()->small ? 7 : pairs[i / 3 % 8];
    while (*tokens * p.topk * p.in * p.out > 4000000)
        p.in = (p.in / 2 + 7) / 8 * 8;
    if (p.routing == CLMOE_ROUTING_DENSE) p.experts = p.topk = 1;
    p.max_tokens = *tokens + rng_below(rng, 2);
    return p;
}

static bool on_matrices(const char *name) {
    return strncmp(name, "matmul_mfma", 11) == 0 || strncmp(name, "matmul_wmma", 11) == 0 ||
           strncmp(name, "matmul_dpas", 11) == 0 || strcmp(name, "matmul_mma") == 0;
}

/* Takes fewer layouts than the others. */
static bool on_copies(const char *name) {
    return strcmp(name, "matmul_mma_async") == 0;
}

static bool on_either(const char *name) {
    return on_matrices(name) || on_copies(name);
}

static void run_rows(struct rng *rng, struct matmul_sample *s, enum forced_caps caps,
                     bool (*which)(const char *)) {
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++)
        if (which(name)) ran[row] += matmul_run_row(rng, s, caps, row);
}

static void run_case(struct rng *structure, int i, const struct clmoe_matmul_params *params, int64_t tokens,
                     bool (*which)(const char *)) {
    struct rng rng = rng_for((uint64_t)i + 20000);
    struct matmul_sample s = matmul_sample_pick(structure, &rng, params, tokens);
    s.aligned = which == on_copies ? i % 9 != 8 : i % 2;
    matmul_sample_solve(&s);
    run_rows(&rng, &s, i % 3 == 2 ? CAPS_EMULATED_SMALL : CAPS_EMULATED, which);
    matmul_sample_free(&s);
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 7};
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    run_case(&structure, _i, &params, tokens, on_matrices);
}
END_TEST

START_TEST(aligned) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 8};
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_aligned(&structure, _i, &tokens);
    run_case(&structure, _i, &params, tokens, on_copies);
}
END_TEST

static const struct clmoe_matmul_params plain = {
    .max_tokens = 40,
    .topk = 2,
    .experts = 2,
    .in = 40,
    .out = 50,
    .x_dtype = CLMOE_BF16,
    .w_dtype = CLMOE_BF16,
    .bias_dtype = CLMOE_BF16,
    .bias = 1,
    .routing = CLMOE_ROUTING_SORTED,
};

/* A NaN row of x and a NaN column of w reach their own row and column of y, and nothing else in their
 * tile. */
START_TEST(nan_stays_where_it_is) {
    struct rng rng = rng_for(21000);
    struct clmoe_matmul_params params = plain;
    if (tester()->small) params.out = 20;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 6, ROUTING_RANDOM, 1);
    for (int64_t k = 0; k < params.in; k++) {
        s.x[5 * params.in + k] = NAN;
        s.gate[(s.ids[3] * params.out + params.out - 1) * params.in + k] = NAN;
    }
    s.aligned = true;
    matmul_sample_solve(&s);
    run_rows(&rng, &s, CAPS_EMULATED, on_either);
    matmul_sample_free(&s);
}
END_TEST

START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(21001);
    struct clmoe_matmul_params params = plain;
    if (tester()->small) params.in = 8, params.out = 9;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 7, ROUTING_SKIPS, 2);
    s.aligned = true;
    matmul_sample_solve(&s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (!on_either(name)) continue;
        clmoe_plan *plan;
        s.params.plan.kernel = name;
        case_begin("out of order: %s %s", name, matmul_case_name(&s));
        case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED), &s.params, &plan));
        matmul_run_out_of_order(&rng, &s, plan);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* Another tile, one with more local memory than any chip has, and one whose work-items are too few to copy 8
 * rows at a time. All parameters have numbers: what a line leaves out comes from the device's shipped one. */
START_TEST(tuned) {
    static const struct {
        const char *text;
        bool legal;
    } lines[] = {
        {"matmul_mma_async * WAVES_M=2 WAVES_N=2 FRAGMENTS_M=2 FRAGMENTS_N=8 TK=64 STAGES=2", true},
        {"matmul_mma_async bf16.bf16 WAVES_M=4 WAVES_N=4 FRAGMENTS_M=4 FRAGMENTS_N=8 TK=64 STAGES=4", false},
        {"matmul_mma_async bf16.bf16 WAVES_M=1 WAVES_N=1 FRAGMENTS_M=4 FRAGMENTS_N=8 TK=64 STAGES=2", false},
    };
    struct rng rng = rng_for(21002);
    struct clmoe_matmul_params params = plain;
    params.max_tokens = 70, params.topk = params.experts = 1;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 70, ROUTING_RANDOM, 1);
    s.aligned = true;
    matmul_sample_solve(&s);
    char text[160];
    snprintf(text, sizeof text, "device * | * | *\n%s\n", lines[_i].text);
    case_begin("%s", lines[_i].text);
    case_ok(clmoe_context_set_tuning(tester_context(CAPS_EMULATED), text, 0));
    clmoe_plan *plan;
    params.plan.kernel = "matmul_mma_async";
    case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED), &params, &plan));
    case_require((strstr(clmoe_plan_describe(plan), "[WAVES_M=") != NULL) == lines[_i].legal, "\"%s\"",
                 clmoe_plan_describe(plan));
    clmoe_plan_destroy(&plan);
    run_rows(&rng, &s, CAPS_EMULATED, on_copies);
    case_ok(clmoe_context_set_tuning(tester_context(CAPS_EMULATED), NULL, 0));
    matmul_sample_free(&s);
}
END_TEST

static char refusals[1024];
static void keep_refusals(void *priv, enum clmoe_log_level level, const char *message) {
    (void)priv, (void)level;
    snprintf(refusals, sizeof refusals, "%s", message);
}

/* What rows cannot do they say, with the numbers. */
START_TEST(reasons) {
    static const struct {
        struct clmoe_caps caps;
        const char *why; /* of all rows */
        bool (*which)(const char *);
    } cases[] = {
        {{.emulate = CLMOE_FEATURES_MATRIX}, "needs sorted routing", on_either},
        {{.emulate = CLMOE_FEATURES_MATRIX}, "needs x and w both f16 or both bf16", on_either},
        {{.emulate = CLMOE_FEATURES_MATRIX}, "needs weights that are not packed", on_either},
        {{.emulate = CLMOE_FEATURES_MATRIX, .max_work_group = 16},
         "bytes of local memory, the device has 16 and",
         on_either},
        {{.emulate = CLMOE_FEATURES_MATRIX, .local_mem = 8000}, "and 8000", on_either},
        {{.features_off = CLMOE_FEATURES_MATRIX}, "the device lacks", on_either},
        {{.emulate = CLMOE_FEATURES_MATRIX}, "50 columns of w are no multiple of 8", on_copies},
        {{.emulate = CLMOE_FEATURES_MATRIX}, "has no limits of K", on_copies},
        {{.emulate = CLMOE_FEATURES_MATRIX}, "44 columns of x are no multiple of 8", on_copies},
    };
    struct clmoe_context_params setup = {
        .log = keep_refusals, .log_level = CLMOE_LOG_ERROR, .caps = cases[_i].caps};
    struct clmoe_matmul_params params = plain;
    if (_i == 0) params.routing = CLMOE_ROUTING_IDS;
    if (_i == 1) params.x_dtype = CLMOE_F16;
    if (_i == 2) params.w_order = CLMOE_W_PACKED;
    if (_i == 6) params.w_order = CLMOE_W_EKN;
    if (_i == 7) params.limit = CLMOE_LIMIT_IN;
    if (_i == 8) params.in = 44;
    clmoe_context *ctx;
    case_ok(clmoe_context_create(tester()->context, tester()->device, &setup, &ctx));
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("matmul", row)); row++) {
        if (!cases[_i].which(params.plan.kernel)) continue;
        clmoe_plan *plan;
        case_begin("%s", params.plan.kernel);
        case_require(clmoe_matmul_plan(ctx, &params, &plan) == CLMOE_E_UNSUPPORTED,
                     "the row takes what it cannot");
        case_require(strstr(refusals, cases[_i].why), "\"%s\" is not in \"%s\"", cases[_i].why, refusals);
    }
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(every_row_ran) {
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (!on_either(name)) continue;
        printf("  %-28s ran %d times\n", name, ran[row]);
        case_require(ran[row] > 0 || getenv("CLMOE_TEST_SLICE"), "%s never ran", name);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    tcase_add_loop_test(cases, aligned, 0, tester()->small ? N_SMALL : N_ALIGNED);
    tcase_add_test(cases, nan_stays_where_it_is);
    tcase_add_test(cases, out_of_order_queue);
    if (!tester()->small) tcase_add_loop_test(cases, tuned, 0, 3);
    tcase_add_loop_test(cases, reasons, 0, 9);
    tcase_add_test(cases, every_row_ran);
}

int main(void) {
    return harness_main("matmul_matrix", "", add_tests);
}
