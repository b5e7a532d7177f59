/* SPDX-License-Identifier: MIT
 * matmul's row for many rows of x and coded weights on mma.sync, emulated where there are none: every format,
 * around where stages of K, tiles of each height and waves of columns end. */
#include "matmul_case.h"

#define ROW "matmul_mma_blocks"

/* What decides which programs are compiled: kept few. */
static const struct {
    enum clmoe_dtype w, x, y;
    bool gated;
    bool super; /* blocks of 256 */
} variants[] = {
    {CLMOE_Q8_0, CLMOE_BF16, CLMOE_F32, true, false},  {CLMOE_Q8_0, CLMOE_F16, CLMOE_F16, false, false},
    {CLMOE_Q4_0, CLMOE_BF16, CLMOE_BF16, true, false}, {CLMOE_Q5_0, CLMOE_F16, CLMOE_F32, false, false},
    {CLMOE_MXFP4, CLMOE_BF16, CLMOE_F32, true, false}, {CLMOE_Q4_K, CLMOE_F16, CLMOE_F32, true, true},
    {CLMOE_Q5_K, CLMOE_BF16, CLMOE_BF16, false, true}, {CLMOE_Q6_K, CLMOE_BF16, CLMOE_BF16, true, true},
    {CLMOE_MXFP4, CLMOE_F16, CLMOE_F16, false, false},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 16 * N_VARIANTS, N_SMALL = N_VARIANTS };

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    /* Stages have 128 steps, and up to three are on their way. */
    static const int64_t blocks[] = {1, 2, 3, 4, 5, 8, 9, 12, 17}, supers[] = {1, 2, 3, 4};
    static const int64_t columns[] = {1, 7, 8, 9, 31, 63, 64, 65, 127, 128, 129, 200};
    static const int64_t pairs[] = {1, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 130};
    static const int experts[] = {1, 2, 5}, topks[] = {1, 2, 3};
    const int v = i % N_VARIANTS, turn = i / N_VARIANTS;
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, experts),
        .in = variants[v].super ? 256 * PICK(rng, supers) : 32 * PICK(rng, blocks),
        .out = PICK(rng, columns),
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = CLMOE_F32,
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + turn % 4) : CLMOE_GLU_NONE,
        .act = {variants[v].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = CLMOE_ROUTING_SORTED,
        .x_rows = (enum clmoe_rows)rng_below(rng, 3),
        .y_rows = rng_below(rng, 2) ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .limit = rng_below(rng, 3) ? CLMOE_LIMIT_NONE : CLMOE_LIMIT_OUT,
        .bias = turn % 2,
        .add = rng_below(rng, 4) == 0,
        .expert_scale = (int)rng_below(rng, 2),
    };
    *tokens = PICK(rng, pairs);
    if (tester()->small) {
        p.in = variants[v].super ? 256 : 96, p.out = 1 + p.out % 9, p.topk = 1, p.experts = 2;
        *tokens = 1 + *tokens % 3;
    }
    while (*tokens * p.topk * p.in * p.out > 4000000)
        *tokens /= 2;
    if (p.experts == 1 && rng_below(rng, 2)) {
        p.topk = 1, p.routing = CLMOE_ROUTING_DENSE;
        p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    }
    p.max_tokens = *tokens + rng_below(rng, 2) * 40;
    return p;
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 17}, rng = rng_for((uint64_t)_i + 46000);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i / N_VARIANTS % 4 < 3;
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

START_TEST(ran_at_all) {
    row_require_ran("matmul", matmul_row_of(ROW));
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("matmul_mma_blocks", "", add_tests);
}
