/* SPDX-License-Identifier: MIT
 * route: every row of its table against ref_route. */
#include "route_case.h"
#include "ref/convert.h"

#include <stdlib.h>

static const struct {
    int experts, k, n_group, topk_group, tokens;
} shapes[] = {
    {1, 1, 1, 1, 3},     {2, 1, 2, 1, 70},   {3, 2, 0, 0, 5},     {8, 2, 4, 2, 65},    {8, 8, 2, 2, 9},
    {60, 6, 4, 2, 17},   {64, 8, 8, 4, 9},   {64, 64, 2, 2, 2},   {128, 8, 16, 4, 5},  {128, 1, 64, 2, 7},
    {160, 6, 8, 3, 5},   {256, 8, 8, 4, 5},  {288, 7, 8, 2, 3},   {384, 8, 4, 1, 3},   {512, 10, 2, 1, 3},
    {512, 22, 64, 4, 3}, {576, 16, 8, 4, 3}, {1000, 64, 4, 1, 2}, {4096, 8, 64, 2, 2}, {4096, 64, 16, 1, 1},
};

static const struct {
    enum clmoe_score score;
    int bias, groups;
    enum clmoe_group_score group_score;
    enum clmoe_dtype dtype;
    enum clmoe_renorm renorm;
    float eps, scale;
} settings[] = {
    {CLMOE_SCORE_SOFTMAX, 0, 0, CLMOE_GROUP_MAX, CLMOE_F32, CLMOE_RENORM_SUM, 0, 0},
    {CLMOE_SCORE_SIGMOID, 1, 1, CLMOE_GROUP_TOP2_SUM, CLMOE_F32, CLMOE_RENORM_SUM, 1e-20f, 2.5f},
    {CLMOE_SCORE_SOFTMAX, 0, 1, CLMOE_GROUP_MAX, CLMOE_BF16, CLMOE_RENORM_NONE, 0, 16},
    {CLMOE_SCORE_SIGMOID, 1, 0, CLMOE_GROUP_MAX, CLMOE_F16, CLMOE_RENORM_SUM, 1e-6f, 0},
    {CLMOE_SCORE_IDENTITY, 0, 0, CLMOE_GROUP_MAX, CLMOE_F32, CLMOE_RENORM_NONE, 0, -1},
    {CLMOE_SCORE_SOFTMAX, 1, 0, CLMOE_GROUP_MAX, CLMOE_BF16, CLMOE_RENORM_NONE, 0, 6},
    {CLMOE_SCORE_IDENTITY, 1, 1, CLMOE_GROUP_MAX, CLMOE_F32, CLMOE_RENORM_NONE, 0, 0},
    {CLMOE_SCORE_SOFTMAX, 1, 1, CLMOE_GROUP_TOP2_SUM, CLMOE_F32, CLMOE_RENORM_SUM, 0, 1},
    {CLMOE_SCORE_SIGMOID, 0, 1, CLMOE_GROUP_TOP2_SUM, CLMOE_F16, CLMOE_RENORM_SUM, 1e-20f, 0},
    {CLMOE_SCORE_SIGMOID, 0, 0, CLMOE_GROUP_MAX, CLMOE_BF16, CLMOE_RENORM_NONE, 0, 0},
};

/* Each shape meets five of the ten settings: all of them would be more programs to compile than cases. */
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_SETTINGS = sizeof settings / sizeof *settings };
enum { TRIED = 5, N_CASES = N_SHAPES * TRIED * FILL_COUNT, SMALL_SHAPES = 6 };

START_TEST(against_reference) {
    const int n_shapes = tester()->small ? SMALL_SHAPES : N_SHAPES;
    const int shape = _i % n_shapes, tried = _i / n_shapes % TRIED;
    const enum fill fill = (enum fill)(_i / n_shapes / TRIED);
    const int experts = shapes[shape].experts;
    int class = 0; /* shapes of one size class share programs */
    while (1 << class < experts)
        class ++;
    const int s = (class * 3 + tried) % N_SETTINGS;
    const bool groups = settings[s].groups && shapes[shape].n_group > 1;
    const struct clmoe_route_params p = {
        .max_tokens = shapes[shape].tokens + tried,
        .experts = experts,
        .topk = shapes[shape].k,
        .logits_dtype = settings[s].dtype,
        .score = settings[s].score,
        .bias = settings[s].bias,
        .n_group = groups ? shapes[shape].n_group : (int)fill % 2,
        .topk_group = groups ? shapes[shape].topk_group : 0,
        .group_score = settings[s].group_score,
        .renorm = settings[s].renorm,
        .renorm_eps = settings[s].eps,
        .scale = settings[s].scale,
    };
    const enum forced_caps caps = tried == 0   ? CAPS_GROUP_64
                                  : tried == 1 ? CAPS_LOCAL_16K
                                  : tried == 2 ? CAPS_PLAIN
                                               : CAPS_OWN;
    const int64_t tokens = tester()->small ? 3 : shapes[shape].tokens, n = tokens * experts;
    struct rng rng = rng_for((uint64_t)_i);
    float *const logits = route_room(n, sizeof *logits), *const bias = route_room(experts, sizeof *bias);
    float *const gamma = route_room(tokens * p.topk, sizeof *gamma);
    int32_t *const ids = route_room(tokens * p.topk, sizeof *ids);
    fill_floats(&rng, fill, logits, n);
    fill_floats(&rng, fill == FILL_EXTREMES ? FILL_RANDOM : fill, bias, experts);
    for (int64_t i = 0; i < n; i++)
        logits[i] = ref_round(p.logits_dtype, tried % 2 && fill == FILL_RANDOM ? 8 * logits[i] : logits[i]);
    case_begin("setting %d fill %s", s, fill_name(fill));
    route_run_rows(&rng, p, caps, tokens, logits, bias, ids, gamma);
    free(logits), free(bias), free(gamma), free(ids);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0,
                        tester()->small ? SMALL_SHAPES * TRIED * FILL_COUNT : N_CASES);
}

int main(void) {
    return harness_main("route", "route", add_tests);
}
