/* SPDX-License-Identifier: MIT
 * matmul's row for few rows of coded weights on tensor cores, emulated where there are none: every format,
 * around where segments and panels of K, tiles and rounds of waves end. And matmul_few's own large teams. */
#include "matmul_case.h"
#include "ref/quant.h"

#define ROW "matmul_few_mma"

/* What decides which programs are compiled: kept few. */
static const struct {
    enum clmoe_dtype w, x, y;
    bool gated;
    struct clmoe_w_scale scale;
    bool super; /* blocks of 256 */
} variants[] = {
    {CLMOE_MXFP4, CLMOE_BF16, CLMOE_F32, false, {0}, false},
    {CLMOE_Q8_0, CLMOE_BF16, CLMOE_F32, false, {0}, false},
    {CLMOE_Q4_0, CLMOE_BF16, CLMOE_F32, true, {0}, false},
    {CLMOE_Q5_0, CLMOE_F16, CLMOE_BF16, false, {0}, false},
    {CLMOE_Q4_K, CLMOE_F16, CLMOE_F32, true, {0}, true},
    {CLMOE_Q5_K, CLMOE_BF16, CLMOE_BF16, false, {0}, true},
    {CLMOE_Q6_K, CLMOE_BF16, CLMOE_BF16, false, {0}, true},
    {CLMOE_I8, CLMOE_F16, CLMOE_F16, false, {CLMOE_F32, 1, 0}, false},
    {CLMOE_F8_E4M3, CLMOE_BF16, CLMOE_BF16, true, {CLMOE_F32, 128, 128}, false},
    {CLMOE_F4_E2M1, CLMOE_BF16, CLMOE_BF16, false, {CLMOE_U8, 1, 32}, false},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 24 * N_VARIANTS, N_SMALL = N_VARIANTS };

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    /* Steps of a segment are 256, those of a round of all waves 1024, and up to 4096 are one program. */
    static const int64_t blocks[] = {1, 2, 7, 8, 9, 24, 33, 65, 127}, supers[] = {1, 2, 4, 5, 9, 16};
    static const int64_t columns[] = {1, 7, 8, 9, 15, 16, 17, 33};
    static const int experts[] = {1, 3, 8}, topks[] = {1, 2, 5};
    const int v = i % N_VARIANTS, turn = i / N_VARIANTS;
    const bool apart = variants[v].scale.dtype || variants[v].scale.rows;
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, experts),
        .in = variants[v].super ? 256 * PICK(rng, supers) : 32 * PICK(rng, blocks),
        .out = PICK(rng, columns),
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = CLMOE_F32,
        .w_scale = variants[v].scale,
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + turn % 4) : CLMOE_GLU_NONE,
        .act = {variants[v].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = rng_below(rng, 2) ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .limit = (enum clmoe_limit)(rng_below(rng, 3) ? 0 : rng_below(rng, 3)),
        .bias = turn % 2,
    };
    if (apart && turn % 2) p.in -= 2 * (1 + rng_below(rng, 15)); /* rows that end within words */
    if (tester()->small)
        p.in = variants[v].super ? 256 : 96, p.out = 1 + p.out % 9, p.topk = 1, p.experts = 2;
    *tokens = 1 + rng_below(rng, tester()->small ? 2 : 4);
    p.max_tokens = *tokens + rng_below(rng, 2);
    return p;
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 13}, rng = rng_for((uint64_t)_i + 40000);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i / N_VARIANTS % 4 < 2;
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

static const struct clmoe_matmul_params plain = {
    .max_tokens = 3,
    .topk = 2,
    .experts = 3,
    .in = 1312,
    .out = 70,
    .x_dtype = CLMOE_BF16,
    .w_dtype = CLMOE_MXFP4,
};

/* Each number of work-items, of stages and of rows of a work-item: rounds that end early for some waves. */
START_TEST(shapes) {
    static const char *const parameters[] = {"LOCAL=64 STAGES=4 PAIRS=1", "LOCAL=64 STAGES=2 PAIRS=2",
                                             "LOCAL=256 STAGES=2 PAIRS=1"};
    struct rng rng = rng_for((uint64_t)_i + 41000);
    struct matmul_sample s = matmul_sample_make(&rng, &plain, 3, ROUTING_RANDOM, 1);
    matmul_run_tuned(&rng, &s, ROW, parameters[_i]);
}
END_TEST

/* Teams of matmul_few that share blocks by words, of each size, which no device takes by itself: a whole round
 * and some of a second one. */
START_TEST(teams) {
    static const struct {
        const char *parameters;
        enum clmoe_dtype w;
        int64_t in;
    } of[] = {{"LOCAL=64 PER_ITEM=2 WAYS=16 STEPS=1", CLMOE_Q4_0, 352},
              {"LOCAL=64 PER_ITEM=1 WAYS=32 STEPS=2", CLMOE_MXFP4, 1120},
              {"LOCAL=64 PER_ITEM=1 WAYS=64 STEPS=1", CLMOE_Q4_K, 1280},
              {"LOCAL=128 PER_ITEM=1 WAYS=128 STEPS=1", CLMOE_Q6_K, 2304}};
    struct rng rng = rng_for((uint64_t)_i + 42500);
    struct clmoe_matmul_params params = plain;
    params.w_dtype = of[_i].w, params.in = of[_i].in, params.out = 7;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 3, ROUTING_RANDOM, 1);
    s.aligned = _i % 2;
    matmul_run_tuned(&rng, &s, "matmul_few", of[_i].parameters);
}
END_TEST

/* Every scale but the last ones, whose weights are infinite, with every code; sums have one term that is
 * not 0. */
START_TEST(each_scale_is_exact) {
    enum { SCALES = 252, CODES = 16, BLOCK = 32, BLOCK_BYTES = 17, TOKENS = 4 };
    struct clmoe_matmul_params params = plain;
    params.experts = params.topk = 1, params.max_tokens = TOKENS;
    params.in = BLOCK, params.out = SCALES;
    struct rng rng = rng_for(42000);
    struct matmul_sample s = matmul_sample_make(&rng, &params, TOKENS, ROUTING_ONE_EXPERT, 1);
    for (int first = 0; first < BLOCK; first += TOKENS) {
        for (int n = 0; n < SCALES; n++) {
            s.raw_gate[n * BLOCK_BYTES] = (unsigned char)n;
            for (int j = 0; j < CODES; j++)
                s.raw_gate[n * BLOCK_BYTES + 1 + j] = (unsigned char)((j + n) % CODES << 4 | (j + 3) % CODES);
        }
        ref_unpack(CLMOE_MXFP4, s.raw_gate, SCALES * BLOCK, s.gate);
        for (int i = 0; i < TOKENS * BLOCK; i++)
            s.x[i] = i % BLOCK == first + i / BLOCK;
        matmul_sample_solve(&s);
        s.params.plan.kernel = ROW;
        case_begin("scales, steps from %d on", first);
        clmoe_plan *plan;
        case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED), &s.params, &plan));
        struct matmul_operands d;
        matmul_upload(&rng, &s, &d);
        case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
        guarded_read_floats(&d.y, s.got);
        for (int i = 0; i < TOKENS * SCALES; i++)
            case_require(s.got[i] == (float)s.want[i], "scale %d: %g, expected %g", i % SCALES,
                         (double)s.got[i], s.want[i]);
        matmul_operands_free(&d);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* What is multiplied is x times a power of two, which has to fit whatever x there is. */
START_TEST(x_of_any_size) {
    static const struct {
        enum clmoe_dtype w;
        struct clmoe_w_scale scale;
    } of[] = {{CLMOE_MXFP4, {0}}, {CLMOE_Q8_0, {0}}, {CLMOE_F8_E4M3, {CLMOE_F32, 128, 128}}};
    static const float sizes[] = {0x1p-100f, 0x1p-20f, 1.0f, 2.0f, 0x1p20f, 0x1p100f};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    struct clmoe_matmul_params params = plain;
    params.w_dtype = of[_i].w, params.w_scale = of[_i].scale;
    params.max_tokens = SIZES, params.out = 9;
    struct rng rng = rng_for((uint64_t)_i + 45000);
    struct matmul_sample s = matmul_sample_make(&rng, &params, SIZES, ROUTING_RANDOM, 1);
    for (int64_t i = 0; i < SIZES * params.in; i++)
        s.x[i] *= sizes[i / params.in];
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

/* More steps than x has room for in local memory. */
START_TEST(panels) {
    struct clmoe_matmul_params params = plain;
    params.max_tokens = 2, params.in = 70 * 256, params.out = 9;
    struct rng rng = rng_for(44000);
    struct matmul_sample s = matmul_sample_make(&rng, &params, 2, ROUTING_RANDOM, 1);
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(43000);
    struct matmul_sample s = matmul_sample_make(&rng, &plain, 2, ROUTING_SKIPS, 2);
    matmul_sample_solve(&s);
    s.params.plan.kernel = ROW;
    case_begin("out of order: %s", matmul_case_name(&s));
    clmoe_plan *plan;
    case_ok(clmoe_matmul_plan(tester_context(CAPS_EMULATED), &s.params, &plan));
    matmul_run_out_of_order(&rng, &s, plan);
    clmoe_plan_destroy(&plan);
    matmul_sample_free(&s);
}
END_TEST

START_TEST(ran_at_all) {
    row_require_ran("matmul", matmul_row_of(ROW));
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    if (!tester()->small) {
        tcase_add_loop_test(cases, shapes, 0, 3);
        tcase_add_loop_test(cases, teams, 0, 4);
        tcase_add_loop_test(cases, x_of_any_size, 0, 3);
        tcase_add_test(cases, panels);
        tcase_add_test(cases, each_scale_is_exact);
        tcase_add_test(cases, out_of_order_queue);
    }
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("matmul_few", "", add_tests);
}
