/* SPDX-License-Identifier: MIT
 * matmul: every row of its table against ref_matmul, over shapes, layouts and options that cover each other
 * in pairs. */
#include "matmul_case.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What decides which programs are compiled: kept few. */
static const struct {
    enum clmoe_dtype x, w, y, bias;
    bool gated;
    struct clmoe_activation act;
    enum clmoe_dtype scale;
    enum clmoe_w_order order;
    enum clmoe_zero zero;
} variants[] = {
    {CLMOE_F32, CLMOE_F32, CLMOE_F32, CLMOE_F32, true, {CLMOE_ACT_SILU}},
    {CLMOE_F32, CLMOE_F32, CLMOE_F32, CLMOE_F32, false, {CLMOE_ACT_NONE}},
    {CLMOE_F16,
     CLMOE_F16,
     CLMOE_F16,
     CLMOE_F16,
     true,
     {CLMOE_ACT_SILU, 1.702f, 0.7f, 0.8f, 1.0f, .act_max = 0.4f}},
    {CLMOE_BF16, CLMOE_BF16, CLMOE_BF16, CLMOE_BF16, false, {CLMOE_ACT_NONE, .gate_max = 0.5f}},
    {CLMOE_BF16, CLMOE_BF16, CLMOE_F32, CLMOE_BF16, true, {CLMOE_ACT_GELU_TANH}},
    {CLMOE_F32, CLMOE_Q8_0, CLMOE_F32, CLMOE_F32, true, {CLMOE_ACT_SILU}},
    {CLMOE_F16, CLMOE_Q8_0, CLMOE_BF16, CLMOE_F32, false, {CLMOE_ACT_GELU_ERF}},
    {CLMOE_F32, CLMOE_BF16, CLMOE_F16, CLMOE_F32, false, {CLMOE_ACT_RELU2}},
    {CLMOE_BF16, CLMOE_F32, CLMOE_F32, CLMOE_F16, true, {CLMOE_ACT_RELU, .up_max = 1.0f}},
    {CLMOE_BF16, CLMOE_BF16, CLMOE_F32, CLMOE_BF16, false, {CLMOE_ACT_SIGMOID, 1.5f}},
    {CLMOE_F32, CLMOE_F16, CLMOE_F32, CLMOE_F32, true, {CLMOE_ACT_SITU, .gate_tanh = 0.4f, .up_tanh = 2}},
    {CLMOE_F32, CLMOE_F8_E4M3, CLMOE_F32, CLMOE_F32, false, {CLMOE_ACT_NONE}, CLMOE_F32},
    {CLMOE_BF16, CLMOE_F4_E2M1, CLMOE_BF16, CLMOE_BF16, true, {CLMOE_ACT_SILU, 1.702f, 7, 7, 1}, CLMOE_U8},
    {CLMOE_F32, CLMOE_I8, CLMOE_F32, CLMOE_F32, false, {CLMOE_ACT_NONE}, CLMOE_U8},
    {CLMOE_F32,
     CLMOE_I32,
     CLMOE_F32,
     CLMOE_F32,
     true,
     {CLMOE_ACT_SILU},
     CLMOE_F16,
     CLMOE_W_AWQ,
     CLMOE_ZERO_GIVEN},
    {CLMOE_F16,
     CLMOE_I32,
     CLMOE_F16,
     CLMOE_F32,
     false,
     {CLMOE_ACT_NONE},
     CLMOE_F16,
     CLMOE_W_GPTQ,
     CLMOE_ZERO_PLUS_ONE},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, N_CASES = 352, N_SMALL = 20 };

/* Of the variants with blocks: taken in turns, so that each format runs on every row, in one of them. */
static const enum clmoe_dtype formats[2][4] = {{CLMOE_MXFP4, CLMOE_Q4_K, CLMOE_Q8_0, CLMOE_Q5_0},
                                               {CLMOE_Q4_0, CLMOE_Q6_K, CLMOE_Q8_0, CLMOE_Q5_K}};

/* Blocks of scales; 0: all rows, or all K. */
static const struct {
    int64_t rows, columns;
} scale_blocks[] = {{128, 128}, {1, 32}, {1, 0}, {0, 0}, {3, 16}, {50, INT64_C(1) << 40}};

static const int64_t token_counts[] = {1, 7, 33, 65, 129};
static const int expert_counts[] = {1, 8, 60};
static const int topks[] = {1, 2, 8};
static const int64_t widths[] = {1, 3, 31, 32, 64, 65, 127, 160};

#define PICK(rng, array) (array)[rng_below(rng, sizeof(array) / sizeof *(array))]

/* Weights of 4 bits are symmetric every third time. */
static void pick_scales(int i, struct clmoe_matmul_params *p) {
    const int v = i % N_VARIANTS, turn = i / N_VARIANTS;
    const int which = turn % (int)(sizeof scale_blocks / sizeof *scale_blocks);
    p->w_scale =
        (struct clmoe_w_scale){variants[v].scale, scale_blocks[which].rows, scale_blocks[which].columns,
                               turn % 3 ? variants[v].zero : CLMOE_ZERO_EIGHT};
    if (!variants[v].order) return;
    p->w_order = variants[v].order;
    p->w_scale.rows = 1;
    if (p->glu == CLMOE_GLU_INTERLEAVED) p->glu = CLMOE_GLU_APART;
    p->out = (p->out + 7) / 8 * 8;
    if (p->w_order == CLMOE_W_GPTQ) p->in = (p->in + 7) / 8 * 8;
}

/* The structure of case `i`: the same for every seed of the data. */
static struct clmoe_matmul_params pick_params(struct rng *rng, int i, int64_t *tokens) {
    const int v = i % N_VARIANTS;
    const bool blocks = variants[v].w == CLMOE_Q8_0, scaled = ref_is_scaled(variants[v].w);
    struct clmoe_matmul_params p = {
        .topk = PICK(rng, topks),
        .experts = PICK(rng, expert_counts),
        .in = PICK(rng, widths),
        .out = PICK(rng, widths),
        .x_dtype = variants[v].x,
        .w_dtype = blocks ? formats[v % 2][(i / N_VARIANTS + i / N_VARIANTS / 4) % 4] : variants[v].w,
        .y_dtype = variants[v].y,
        .bias_dtype = variants[v].bias,
        .w_order = blocks || scaled ? CLMOE_W_ENK : (enum clmoe_w_order)(i / N_VARIANTS % 3),
        .glu = variants[v].gated ? (enum clmoe_glu)(1 + i / N_VARIANTS % 4) : CLMOE_GLU_NONE,
        .act = variants[v].act,
        .routing = rng_below(rng, 4) ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
        .gamma = (enum clmoe_gamma)rng_below(rng, 3),
        .bias = variants[v].bias != CLMOE_F32 || rng_below(rng, 2),
        .expert_scale = (int)rng_below(rng, 2),
    };
    p.add = rng_below(rng, 4) == 0;
    p.limit = (enum clmoe_limit)(rng_below(rng, 3) ? 0 : rng_below(rng, 3));
    *tokens = PICK(rng, token_counts);
    const int length = ref_block_length(p.w_dtype);
    if (blocks) p.in = length * (1 + rng_below(rng, length > 32 ? 2 : 5));
    if (i % 12 == 5)
        p.in = blocks ? (1024 / length + 1) * length : 1061; /* more than a piece of any kernel */
    p.x_rows = (enum clmoe_rows)rng_below(rng, p.routing == CLMOE_ROUTING_SORTED ? 3 : 2);
    if (p.routing == CLMOE_ROUTING_SORTED && rng_below(rng, 2)) p.y_rows = CLMOE_ROWS_SORTED;
    if (tester()->small) {
        *tokens = 1 + *tokens % 5;
        p.topk = 1 + p.topk % 2, p.experts = 1 + p.experts % 4;
        p.in = !blocks       ? 1 + p.in % 37
               : length > 32 ? length
                             : 3 * length,
        p.out = 1 + p.out % (length > 32 ? 9 : 41);
    }
    if (!blocks) p.in = (p.in + length - 1) / length * length;
    if (scaled) pick_scales(i, &p);
    while (*tokens * p.topk * p.in * p.out > 6000000)
        *tokens /= 2;
    p.max_tokens = *tokens + rng_below(rng, 2) * (tester()->small ? 400 : 1);
    return p;
}

START_TEST(against_reference) {
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u}, rng = rng_for((uint64_t)_i);
    int64_t tokens;
    const struct clmoe_matmul_params params = pick_params(&structure, _i, &tokens);
    enum forced_caps caps = (enum forced_caps)rng_below(&structure, CAPS_COUNT);
    /* Small work-groups are other programs: once for each algorithm is enough. */
    if (ref_is_coded(params.w_dtype) && caps == CAPS_GROUP_64) caps = CAPS_OWN;
    /* So little work is not what large tiles are for, unless the device is small. More programs again. */
    if (caps == CAPS_OWN && _i % N_VARIANTS % 3 == 0) caps = CAPS_ONE_UNIT;
    struct matmul_sample s = matmul_sample_pick(&structure, &rng, &params, tokens);
    matmul_sample_solve(&s);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++)
        matmul_run_row(&rng, &s, caps, row);
    matmul_sample_free(&s);
}
END_TEST

/* The header's formula, element by element, whatever the layout and the split into buffers. */
START_TEST(packing) {
    static const enum clmoe_dtype dtypes[] = {CLMOE_F32,  CLMOE_F16,  CLMOE_BF16,
                                              CLMOE_Q8_0, CLMOE_Q4_0, CLMOE_MXFP4};
    const enum clmoe_dtype dtype = dtypes[_i % 6];
    const bool blocks = ref_is_coded(dtype);
    struct rng structure = {(uint64_t)_i * 0x9e3779b97f4a7c15u + 1}, rng = rng_for((uint64_t)_i);
    struct clmoe_matmul_params params = {
        .topk = 1,
        .experts = 1 + (int32_t)rng_below(&structure, 9),
        .in = blocks ? 32 * (1 + rng_below(&structure, 4)) : PICK(&structure, widths),
        .out = PICK(&structure, widths),
        .w_dtype = dtype,
        .w_order = _i / 6 % 2 && !blocks ? CLMOE_W_EKN : CLMOE_W_ENK,
        .glu = (enum clmoe_glu)(_i / 12 % 5),
    };
    struct matmul_sample s =
        matmul_sample_make(&rng, &params, 0, ROUTING_RANDOM, params.experts > 1 ? 1 + _i % 2 : 1);
    for (int64_t i = 0; !blocks && i < params.experts * params.out * params.in; i++) {
        s.gate[i] = ref_round(params.w_dtype, rng_float(&rng));
        if (s.up) s.up[i] = ref_round(params.w_dtype, rng_float(&rng));
    }
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("matmul_pack", row)); row++) {
        const enum forced_caps caps = (enum forced_caps)(_i % CAPS_COUNT);
        case_begin("%s caps %s %s", params.plan.kernel, caps_name(caps), matmul_case_name(&s));
        clmoe_plan *plan;
        if (!row_fits("matmul_pack", row, clmoe_matmul_pack_plan(tester_context(caps), &params, &plan)))
            continue;
        matmul_check_packing(&rng, &s, plan);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* The up rows get the smallest scales there are, and x is large enough that results are no denormals. */
static void tiny_scales(struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    const int64_t n = p->experts * p->out * p->in, size = ref_block_bytes(p->w_dtype);
    for (int64_t b = 0; b < n / 32; b++)
        if (s->raw_up[b * size] != 255) s->raw_up[b * size] = (unsigned char)(b % 3);
    ref_unpack(p->w_dtype, s->raw_up, n, s->up);
    for (int64_t i = 0; i < s->pairs * p->in; i++)
        s->x[i] = ldexpf(s->x[i], 40);
}

/* Packed blocks: a lone row, fewer rows than the kernel for CPUs takes at once, more; pieces of K and tiles
 * that end within them. One format on every row of the table; the others, which differ in how an element is
 * loaded, on those for CPUs, which load 16, and on the reference. */
START_TEST(packed_blocks) {
    static const struct {
        enum clmoe_dtype w, x;
        enum clmoe_glu glu;
    } of[] = {{CLMOE_Q8_0, CLMOE_F32, CLMOE_GLU_APART},
              {CLMOE_Q4_0, CLMOE_F32, CLMOE_GLU_NONE},
              {CLMOE_MXFP4, CLMOE_BF16, CLMOE_GLU_INTERLEAVED}};
    static const int64_t tokens[] = {1, 5, 40, 200}, depths[] = {352, 160};
    struct rng rng = rng_for((uint64_t)_i + 9500);
    const bool small = tester()->small;
    const int64_t t = small ? 1 + _i / 3 : tokens[_i / 3];
    const struct clmoe_matmul_params params = {
        .max_tokens = t,
        .topk = 2,
        .experts = 3,
        .in = small ? 32 : depths[_i % 2],
        .out = small ? 18 : 49 + _i,
        .x_dtype = of[_i % 3].x,
        .w_dtype = of[_i % 3].w,
        .y_dtype = of[_i % 3].x,
        .bias_dtype = CLMOE_F32,
        .w_order = CLMOE_W_PACKED,
        .glu = of[_i % 3].glu,
        .act = {CLMOE_ACT_SILU},
        .routing = _i % 4 == 3 ? CLMOE_ROUTING_IDS : CLMOE_ROUTING_SORTED,
        .limit = (enum clmoe_limit)(_i / 3 % 3),
    };
    struct matmul_sample s = matmul_sample_make(&rng, &params, t, ROUTING_RANDOM, 1 + _i % 2);
    if (params.w_dtype == CLMOE_MXFP4 && _i % 2) tiny_scales(&s);
    matmul_sample_solve(&s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++)
        if (_i % 3 == 0 || strstr(name, "_cpu") || strstr(name, "_ref"))
            matmul_run_row(&rng, &s, CAPS_OWN, row);
    matmul_sample_free(&s);
}
END_TEST

/* One expert that every row belongs to, without ids: on every row of the table, packed and not. */
START_TEST(dense) {
    static const int64_t tokens[] = {1, 4, 7, 65, 130};
    struct rng rng = rng_for((uint64_t)_i + 9000);
    const struct clmoe_matmul_params params = {
        .max_tokens = tokens[_i % 5],
        .topk = 1,
        .experts = 1,
        .in = 70,
        .out = 37,
        .w_order = _i / 5 ? CLMOE_W_PACKED : CLMOE_W_ENK,
        .routing = CLMOE_ROUTING_DENSE,
        .bias = _i % 2,
    };
    struct matmul_sample s = matmul_sample_make(&rng, &params, tokens[_i % 5], ROUTING_ONE_EXPERT, 1);
    matmul_sample_solve(&s);
    int ran = 0;
    for (int row = 0; clmoe_kernel_name("matmul", row); row++)
        ran += matmul_run_row(&rng, &s, CAPS_OWN, row);
    ck_assert_int_ge(ran, 1);
    matmul_sample_free(&s);
}
END_TEST

/* Where each position is a slot: one expert has more rows than a slot takes. In parts, positions before a
 * part's first one are not its own, also if they are a multiple of a slot's rows before it. */
START_TEST(rows_of_one_in_positions) {
    struct rng rng = rng_for((uint64_t)_i + 9600);
    const struct clmoe_matmul_params params = {
        .max_tokens = 100,
        .topk = 1,
        .experts = 200,
        .in = 32,
        .out = 32,
        .w_order = CLMOE_W_PACKED,
        .routing = CLMOE_ROUTING_SORTED,
    };
    struct matmul_sample s;
    for (;;) {
        s = matmul_sample_make(&rng, &params, 100, ROUTING_ONE_EXPERT, _i ? MATMUL_PARTS : 1);
        if (s.ids[0] < MATMUL_PARTS - 1) break; /* not in the last part, which has many experts */
        matmul_sample_free(&s);
    }
    matmul_sample_solve(&s);
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++)
        if (strstr(name, "_cpu")) matmul_run_row(&rng, &s, CAPS_OWN, row);
    matmul_sample_free(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    if (!tester()->small) tcase_add_loop_test(cases, rows_of_one_in_positions, 0, 2);
    tcase_add_loop_test(cases, dense, 0, 10);
    tcase_add_loop_test(cases, packed_blocks, 0, tester()->small ? 3 : 12);
    tcase_add_loop_test(cases, packing, 0, tester()->small ? 10 : 60);
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SMALL : N_CASES);
}

int main(void) {
    return harness_main("matmul", "matmul matmul_pack", add_tests);
}
