/* SPDX-License-Identifier: MIT
 * matmul's tiles: sizes on both sides of their edges, wide and narrow loads in every order of the weights,
 * and that a sum has the same bits in every tile. */
#include "matmul_case.h"
#include "ref/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides which programs are compiled; tests/check/matmul.c has them too. */
static const struct {
    enum clmoe_dtype x, w, y;
    bool gated;
} variants[] = {
    {CLMOE_F32, CLMOE_F32, CLMOE_F32, true},     {CLMOE_F32, CLMOE_F32, CLMOE_F32, false},
    {CLMOE_BF16, CLMOE_BF16, CLMOE_BF16, false}, {CLMOE_F16, CLMOE_F16, CLMOE_F16, true},
    {CLMOE_F32, CLMOE_Q8_0, CLMOE_F32, true},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 90, N_SMALL = 6, MAX_ROWS = 32 };

static const int64_t pair_counts[] = {31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 300};
static const int64_t widths[] = {1, 3, 4, 31, 32, 63, 64, 65, 127, 128, 129, 136};
static const int64_t depths[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 33, 64, 70};

static int ran[MAX_ROWS];

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

static bool is_tile(const char *name) {
    return strncmp(name, "matmul_tile", 11) == 0;
}

static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    const int v = i % N_VARIANTS;
    const bool blocks = variants[v].w == CLMOE_Q8_0;
    struct clmoe_matmul_params p = {
        .topk = 1,
        .experts = 1 + (int32_t)rng_below(rng, 3),
        .in = blocks ? 32 * (1 + rng_below(rng, 3)) : PICK(rng, depths),
        .out = PICK(rng, widths),
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = variants[v].x,
        .w_order = blocks ? CLMOE_W_ENK : (enum clmoe_w_order)(i / N_VARIANTS % 3),
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + i / N_VARIANTS % 4) : CLMOE_GLU_NONE,
        .act = {variants[v].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = CLMOE_ROUTING_SORTED,
        .gamma = CLMOE_GAMMA_OUTPUT,
        .limit = rng_below(rng, 3) ? CLMOE_LIMIT_NONE : CLMOE_LIMIT_IN, /* beyond it, weights are NaN */
        .bias = (int)rng_below(rng, 2),
    };
    *tokens = PICK(rng, pair_counts);
    if (tester()->small)
        *tokens = 1 + *tokens % 40, p.in = blocks ? 32 : 1 + p.in % 20, p.out = 1 + p.out % 9;
    p.max_tokens = *tokens + rng_below(rng, 2) * 300;
    return p;
}

/* The rows of the table that are tiles; their results are the same bits. */
static void run_tiles(struct rng *rng, struct matmul_sample *s) {
    const size_t bytes = (size_t)(s->pairs * s->params.out) * sizeof *s->got;
    float *const first = matmul_room(s->pairs * s->params.out, sizeof *first);
    bool known = false;
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (!is_tile(name) || !matmul_run_row(rng, s, CAPS_ONE_UNIT, row)) continue;
        ran[row]++;
        if (!known) memcpy(first, s->got, bytes);
        known = true;
        case_require(memcmp(first, s->got, bytes) == 0, "other bits than from a larger tile");
    }
    free(first);
}

START_TEST(edges) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u}, rng = rng_for((uint64_t)_i);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    const enum routing_fill fill = (enum routing_fill)rng_below(&structure, ROUTING_COUNT);
    struct matmul_sample s = matmul_sample_make(&rng, &params, tokens, fill, 1);
    matmul_sample_solve(&s);
    s.aligned = _i % 4 != 3;
    run_tiles(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* Steps of K after the last one, in the same four that a wide load takes: NaN in w. */
START_TEST(nothing_beyond_the_limit) {
    struct rng rng = rng_for((uint64_t)_i + 40);
    const struct clmoe_matmul_params params = {
        .max_tokens = 130,
        .topk = 1,
        .experts = 1,
        .in = 24,
        .out = 36,
        .x_dtype = variants[_i % 4].x,
        .w_dtype = variants[_i % 4].w,
        .y_dtype = variants[_i % 4].y,
        .bias_dtype = variants[_i % 4].x,
        .glu = variants[_i % 4].gated ? CLMOE_GLU_GATE_UP : CLMOE_GLU_NONE,
        .act = {variants[_i % 4].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = CLMOE_ROUTING_SORTED,
        .limit = CLMOE_LIMIT_IN,
    };
    struct matmul_sample s = matmul_sample_make(&rng, &params, 70, ROUTING_ONE_EXPERT, 1);
    s.limits[0] = 17 + _i / 4;
    for (int64_t i = 0; i < params.out * params.in; i++) {
        s.gate[i] = i % params.in < s.limits[0] ? ref_round(params.w_dtype, rng_float(&rng)) : NAN;
        if (s.up) s.up[i] = s.gate[i];
    }
    matmul_sample_solve(&s);
    s.aligned = true;
    run_tiles(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* Rows that wide loads can take, of which the last ends with the buffer where the simulator looks on. */
START_TEST(nothing_behind_the_buffer) {
    enum { PLAIN = 4, ORDERS = 2 };
    const int v = _i % PLAIN;
    struct rng rng = rng_for((uint64_t)_i + 60);
    const struct clmoe_matmul_params params = {
        .max_tokens = 130,
        .topk = 1,
        .experts = 1,
        .in = 32,
        .out = 13,
        .x_dtype = variants[v].x,
        .w_dtype = variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = variants[v].x,
        .w_order = _i / PLAIN % ORDERS ? CLMOE_W_EKN : CLMOE_W_ENK,
        .glu = !variants[v].gated      ? CLMOE_GLU_NONE
               : _i / (PLAIN * ORDERS) ? CLMOE_GLU_APART
                                       : CLMOE_GLU_GATE_UP,
        .act = {variants[v].gated ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = CLMOE_ROUTING_SORTED,
    };
    struct matmul_sample s = matmul_sample_make(&rng, &params, 9, ROUTING_RANDOM, 1);
    matmul_sample_solve(&s);
    s.aligned = true;
    run_tiles(&rng, &s);
    matmul_sample_free(&s);
}
END_TEST

/* Which of its two kernels a call gets is a matter of its size: not of what it computes. */
START_TEST(calls_of_all_sizes) {
    struct clmoe_matmul_params params = {
        .max_tokens = 300,
        .topk = 1,
        .experts = 2,
        .in = 33,
        .out = 70,
        .routing = CLMOE_ROUTING_SORTED,
    };
    for (int64_t tokens = 1; tokens <= params.max_tokens; tokens += tokens / 2 + 1) {
        struct rng rng = rng_for((uint64_t)tokens);
        struct matmul_sample s = matmul_sample_make(&rng, &params, tokens, ROUTING_RANDOM, 1);
        matmul_sample_solve(&s);
        run_tiles(&rng, &s);
        matmul_sample_free(&s);
    }
}
END_TEST

/* Whatever parameters rows are tuned to: tiles still give the same bits, other rows the right sums. */
START_TEST(tuned) {
    static const char *const lines[] = {
        "matmul_tile_64x64 * TK=32 BUFFERS=1\n",
        "matmul_tile_64x64 * TK=8 WM=8 WN=8 RESIDENT=2\nmatmul_tile_32x32 f32.f32 TK=8\n",
        "matmul_tile_128x128 f32.f32.glu TK=8 WN=16\nmatmul_tile_32x32 f32.f32.glu WN=8 BUFFERS=1\n",
        "matmul_few_columns * LOCAL=64 PER_ITEM=2 WAYS=16\n",
        "matmul_few * LOCAL=256 PER_ITEM=1 WAYS=64 STEPS=2\nmatmul_cpu_dot_4x4 * TM=16 TK=256\n",
        "matmul_cpu_8x32 * TM=128 TK=64\n",
    };
    char text[256];
    struct rng rng = rng_for((uint64_t)_i + 50);
    const struct clmoe_matmul_params params = {
        .max_tokens = 130,
        .topk = 1,
        .experts = 1,
        .in = 75,
        .out = 70,
        .w_order = _i == 3   ? CLMOE_W_EKN
                   : _i == 5 ? CLMOE_W_PACKED
                             : CLMOE_W_ENK,
        .glu = _i == 2 ? CLMOE_GLU_APART : CLMOE_GLU_NONE,
        .act = {_i == 2 ? CLMOE_ACT_SILU : CLMOE_ACT_NONE},
        .routing = _i == 3 || _i == 4 ? CLMOE_ROUTING_IDS : CLMOE_ROUTING_SORTED,
    };
    struct matmul_sample s = matmul_sample_make(&rng, &params, 70, ROUTING_SKIPS, 1);
    matmul_sample_solve(&s);
    snprintf(text, sizeof text, "device * | * | *\n%s", lines[_i]);
    case_ok(clmoe_context_set_tuning(tester_context(CAPS_ONE_UNIT), text, 0));
    if (_i < 3) run_tiles(&rng, &s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++)
        if (strncmp(name, lines[_i], strlen(name)) == 0 || strncmp(name, "matmul_cpu", 10) == 0)
            matmul_run_row(&rng, &s, CAPS_ONE_UNIT, row);
    case_ok(clmoe_context_set_tuning(tester_context(CAPS_ONE_UNIT), NULL, 0));
    matmul_sample_free(&s);
}
END_TEST

START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(7);
    const struct clmoe_matmul_params params = {
        .max_tokens = 130, .topk = 1, .experts = 1, .in = 40, .out = 33, .routing = CLMOE_ROUTING_SORTED};
    struct matmul_sample s = matmul_sample_make(&rng, &params, 130, ROUTING_RANDOM, 1);
    matmul_sample_solve(&s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (!is_tile(name)) continue;
        clmoe_plan *plan;
        s.params.plan.kernel = name;
        case_begin("out of order: %s", name);
        if (!row_fits("matmul", row, clmoe_matmul_plan(tester_context(CAPS_ONE_UNIT), &s.params, &plan)))
            continue;
        matmul_run_out_of_order(&rng, &s, plan);
        ran[row]++;
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

START_TEST(every_row_ran) {
    struct clmoe_device_info info;
    case_ok(clmoe_context_device_info(tester_context(CAPS_OWN), &info));
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        if (!is_tile(name)) continue;
        printf("  %-28s ran %d times\n", name, ran[row]);
        const bool fits = info.caps.max_work_group >= 256 || strstr(name, "32x32");
        case_require(ran[row] > 0 || !fits || getenv("CLMOE_TEST_SLICE"), "%s never ran", name);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, edges, 0, tester()->small ? N_SMALL : N_CASES);
    if (!tester()->small) tcase_add_test(cases, calls_of_all_sizes);
    tcase_add_loop_test(cases, nothing_beyond_the_limit, 0, tester()->small ? 0 : 12);
    tcase_add_loop_test(cases, nothing_behind_the_buffer, 0, 16);
    tcase_add_loop_test(cases, tuned, tester()->small ? 3 : 0, 6);
    tcase_add_test(cases, out_of_order_queue);
    tcase_add_test(cases, every_row_ran);
}

int main(void) {
    return harness_main("matmul_tile", "", add_tests);
}
