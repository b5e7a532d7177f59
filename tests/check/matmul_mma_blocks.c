/* SPDX-License-Identifier: MIT
 * matmul's row for many rows of x and coded weights on mma.sync, emulated where there are none: every format,
 * around where stages of K, tiles of each height and waves of columns end. Beside it, where there is one, the
 * row for such weights on Hopper. */
#include "matmul_case.h"
#include "ref/quant.h"

#include <string.h>

#define ROW "matmul_mma_blocks"
#define HOPPER_ROW "matmul_wgmma_blocks"

/* What decides which programs are compiled: kept few. Each format has its lowest tiles, each height of tiles some
 * format of each kind, and so have parts of K, which few work-groups are split into. */
static const struct {
    enum clmoe_dtype w, x, y;
    bool gated, few;
    int heights;                /* up to so many */
    struct clmoe_w_scale scale; /* of codes that have them apart */
} variants[] = {
    {CLMOE_Q8_0, CLMOE_BF16, CLMOE_F32, true, false, 3, {0}},
    {CLMOE_Q8_0, CLMOE_F16, CLMOE_F16, false, true, 1, {0}},
    {CLMOE_Q4_0, CLMOE_BF16, CLMOE_BF16, true, true, 2, {0}},
    {CLMOE_Q5_0, CLMOE_F16, CLMOE_F32, false, false, 1, {0}},
    {CLMOE_MXFP4, CLMOE_BF16, CLMOE_F32, true, false, 2, {0}},
    {CLMOE_MXFP4, CLMOE_F16, CLMOE_F16, false, true, 1, {0}},
    {CLMOE_Q4_K, CLMOE_F16, CLMOE_F32, true, false, 3, {0}},
    {CLMOE_Q5_K, CLMOE_BF16, CLMOE_BF16, false, true, 2, {0}},
    {CLMOE_Q6_K, CLMOE_BF16, CLMOE_BF16, true, false, 1, {0}},
    {CLMOE_I8, CLMOE_BF16, CLMOE_F32, true, false, 3, {CLMOE_F32, 1, 0, 0}},
    {CLMOE_I8, CLMOE_F16, CLMOE_F16, false, true, 1, {CLMOE_BF16, 1, 64, 0}},
    {CLMOE_F8_E4M3, CLMOE_BF16, CLMOE_BF16, true, true, 2, {CLMOE_F32, 128, 128, 0}},
    {CLMOE_F8_E4M3, CLMOE_F16, CLMOE_F32, false, false, 1, {CLMOE_F16, 1, 0, 0}},
    {CLMOE_F4_E2M1, CLMOE_BF16, CLMOE_F32, true, false, 2, {CLMOE_U8, 1, 32, 0}},
    {CLMOE_F4_E2M1, CLMOE_F16, CLMOE_BF16, false, true, 1, {CLMOE_U8, 1, 32, 0}},
};
enum {
    N_VARIANTS = sizeof variants / sizeof *variants,
    N_CASES = 16 * N_VARIANTS,
    N_SMALL = N_VARIANTS,
    N_FLAGS = 4,
    MOST_HEIGHTS = 3
};

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* Stages have 128 steps, and up to three are on their way. A block lies behind each row, so that rows of an odd
 * number of blocks begin where the kernel can load them. */
static int64_t pick_steps(struct rng *rng, enum clmoe_dtype dtype) {
    static const int64_t blocks[] = {1, 3, 5, 7, 9, 13, 17, 41}, supers[] = {1, 2, 3, 4, 9};
    static const int64_t steps[] = {2, 36, 64, 100, 130, 256, 260, 544, 1300};
    switch (dtype) {
    case CLMOE_Q4_K:
    case CLMOE_Q5_K:
    case CLMOE_Q6_K: return tester()->small ? 256 : 256 * PICK(rng, supers);
    case CLMOE_I8:
    case CLMOE_F8_E4M3:
    case CLMOE_F4_E2M1: return tester()->small ? 100 : PICK(rng, steps);
    default: return tester()->small ? 96 : 32 * PICK(rng, blocks);
    }
}

static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int heights, int64_t *tokens) {
    static const int64_t columns[] = {1, 7, 8, 9, 31, 63, 64, 65, 127, 128, 129, 200};
    static const int64_t pairs[] = {1, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 130};
    static const int topks[] = {1, 2, 3};
    const int v = i % N_VARIANTS, turn = i / N_VARIANTS;
    /* The kernel for rows that are not aligned is compiled for these. */
    struct rng flags = {(uint64_t)(v * N_FLAGS + turn % N_FLAGS) * 0x9e3779b97f4a7c15u + 5};
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = variants[v].few ? 1 + (int)rng_below(rng, 2) : 5,
        .in = pick_steps(rng, variants[v].w),
        .out = PICK(rng, columns),
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = CLMOE_F32,
        .w_scale = variants[v].scale,
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + turn % 4) : CLMOE_GLU_NONE,
        .act = {variants[v].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = CLMOE_ROUTING_SORTED,
        .x_rows = (enum clmoe_rows)rng_below(&flags, 3),
        .y_rows = rng_below(&flags, 2) ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .gamma = (enum clmoe_gamma)rng_below(&flags, 3),
        .limit = rng_below(&flags, 3) ? CLMOE_LIMIT_NONE : CLMOE_LIMIT_OUT,
        .bias = turn % 2,
        .add = rng_below(&flags, 4) == 0,
        .expert_scale = (int)rng_below(&flags, 2),
    };
    *tokens = PICK(rng, pairs);
    if (variants[v].few) p.out = 1 + p.out % (variants[v].gated ? 64 : 128);
    if (tester()->small) {
        p.out = 1 + p.out % 9, p.topk = 1, p.experts = 2;
        *tokens = 1 + *tokens % 3;
    }
    while (*tokens * p.topk * p.in * p.out > 4000000)
        *tokens /= 2;
    if (p.experts == 1 && turn % 2) {
        p.topk = 1, p.routing = CLMOE_ROUTING_DENSE;
        p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    }
    p.max_tokens = *tokens + rng_below(rng, 2) * 40;
    /* A call takes the lowest tiles that hold one and a half times the pairs of an average expert. */
    const int64_t most = (INT64_C(16) << heights) * p.experts / 3 / p.topk;
    if (heights < MOST_HEIGHTS && p.max_tokens > most) p.max_tokens = most;
    if (*tokens > p.max_tokens) *tokens = p.max_tokens;
    return p;
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 17}, rng = rng_for((uint64_t)_i + 46000);
    const int heights = variants[_i % N_VARIANTS].heights;
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, heights, &tokens);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i / N_VARIANTS % 4 < 3 || heights == 1; /* others are for tiles of another row */
    matmul_run_emulated(&rng, &s, ROW);
}
END_TEST

START_TEST(ran_at_all) {
    row_require_ran("matmul", matmul_row_of(ROW));
}
END_TEST

/* ---- on Hopper ---- */

/* Without what the row for Hopper has not, and with as many pairs as its plans ask for. */
static void for_hopper(struct clmoe_matmul_params *p) {
    const int64_t least = (ref_block_length(p->w_dtype) > 32 ? 43 : 22) * p->experts;
    p->y_dtype = p->x_dtype;
    p->add = 0;
    p->limit = CLMOE_LIMIT_NONE;
    if (p->max_tokens < least) p->max_tokens = least;
}

static void run_on_hopper(struct rng *rng, struct matmul_sample *s) {
    matmul_sample_solve(s);
    matmul_run_row(rng, s, CAPS_OWN, matmul_row_of(HOPPER_ROW));
    matmul_sample_free(s);
}

START_TEST(hopper_against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 17}, rng = rng_for((uint64_t)_i + 46000);
    int64_t tokens;
    struct clmoe_matmul_params params = pick_params(&structure, _i, MOST_HEIGHTS, &tokens);
    for_hopper(&params);
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    s.aligned = _i / N_VARIANTS % 4 < 3;
    run_on_hopper(&rng, &s);
}
END_TEST

static const struct {
    enum clmoe_dtype dtype;
    int scale; /* bytes of a block before its scale of 16 bits */
} formats[] = {{CLMOE_Q4_0, 0}, {CLMOE_Q5_0, 0}, {CLMOE_Q8_0, 0},
               {CLMOE_Q4_K, 0}, {CLMOE_Q5_K, 0}, {CLMOE_Q6_K, 208}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* Tiles of each width, some of them of one expert. */
START_TEST(hopper_tiles_of_all_widths) {
    static const int64_t tokens[] = {20, 32, 33, 64, 65, 96, 97, 128, 129, 200, 330};
    const int t = _i / N_FORMATS;
    const enum clmoe_dtype x = t % 2 ? CLMOE_F16 : CLMOE_BF16, w = formats[_i % N_FORMATS].dtype;
    const struct clmoe_matmul_params params = {.max_tokens = 330,
                                               .topk = 1,
                                               .experts = 2,
                                               .in = ref_block_length(w) > 32 ? 768 : 416,
                                               .out = 136,
                                               .x_dtype = x,
                                               .w_dtype = w,
                                               .y_dtype = x,
                                               .routing = CLMOE_ROUTING_SORTED};
    struct rng rng = rng_for(47000 + (uint64_t)_i);
    struct matmul_sample s = matmul_sample_make(&rng, &params, tokens[t], ROUTING_ONE_EXPERT, 1);
    run_on_hopper(&rng, &s);
}
END_TEST

/* Blocks without weight, with denormal scales and with some beside which others are nothing. */
START_TEST(hopper_scales_of_all_sizes) {
    static const uint16_t scales[] = {0x0000, 0x0001, 0x83ff, 0x0400, 0x3c00, 0xbc00, 0x7bff};
    const struct clmoe_matmul_params params = {.max_tokens = 150,
                                               .topk = 2,
                                               .experts = 3,
                                               .in = ref_block_length(formats[_i].dtype) > 32 ? 512 : 288,
                                               .out = 72,
                                               .x_dtype = CLMOE_BF16,
                                               .w_dtype = formats[_i].dtype,
                                               .y_dtype = CLMOE_BF16,
                                               .routing = CLMOE_ROUTING_SORTED};
    struct rng rng = rng_for(48000 + (uint64_t)_i);
    struct matmul_sample s = matmul_sample_make(&rng, &params, 150, ROUTING_RANDOM, 1);
    const int64_t weights = params.experts * params.out * params.in;
    const int length = ref_block_length(params.w_dtype), bytes = ref_block_bytes(params.w_dtype);
    for (int64_t i = 0; i < weights / length; i++)
        memcpy(s.raw_gate + i * bytes + formats[_i].scale, &PICK(&rng, scales), sizeof *scales);
    ref_unpack(params.w_dtype, s.raw_gate, weights, s.gate);
    run_on_hopper(&rng, &s);
}
END_TEST

START_TEST(hopper_ran_at_all) {
    row_require_ran("matmul", matmul_row_of(HOPPER_ROW));
}
END_TEST

static void add_hopper_tests(TCase *cases) {
    struct clmoe_device_info info;
    case_ok(clmoe_context_device_info(tester_context(CAPS_OWN), &info));
    if (!(info.features & CLMOE_FEATURE_NV_WGMMA)) return;
    tcase_add_loop_test(cases, hopper_against_reference, 0, N_CASES);
    tcase_add_loop_test(cases, hopper_tiles_of_all_widths, 0, 11 * N_FORMATS);
    tcase_add_loop_test(cases, hopper_scales_of_all_sizes, 0, N_FORMATS);
    tcase_add_test(cases, hopper_ran_at_all);
}

static void add_tests(TCase *cases) {
    add_hopper_tests(cases);
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
    tcase_add_test(cases, ran_at_all);
}

int main(void) {
    return harness_main("matmul_mma_blocks", "", add_tests);
}
