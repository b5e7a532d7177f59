/* SPDX-License-Identifier: MIT
 * route: the options beside score, bias and groups, alone and together, on every row that takes them. */
#include "route_case.h"
#include "ref/convert.h"

#include <math.h>
#include <stdlib.h>

#define TWO_SUMS .n_group = 8, .topk_group = 4, .group_score = CLMOE_GROUP_TOP2_SUM
#define PADDING .valid_tokens = 1, .token_mask = 1
#define PLACING .expert_scale = 1, .expert_map = 1, .shared_slots = 2, .shared_gamma = 0.25f

static const struct {
    const char *name;
    struct clmoe_route_params params;
    int steps; /* logits are multiples of 1/16 in -8 .. 8, whose scores in fp32 order like the exact ones */
} settings[] = {
    {"cap, temperature", {.temperature = 2, .logit_cap = 30, .renorm = CLMOE_RENORM_SUM, .shared_slots = 1}},
    {"sqrt-softplus",
     {.score = CLMOE_SCORE_SQRT_SOFTPLUS, .bias = 1, .renorm = CLMOE_RENORM_SUM, .scale = 1.5f}},
    {"all of groups, places and padding",
     {.score = CLMOE_SCORE_SIGMOID, .bias = 1, TWO_SUMS, .renorm = CLMOE_RENORM_SUM, PLACING, PADDING}},
    {"each group", {.n_group = 4, .group_score = CLMOE_GROUP_EACH, .expert_scale = 1}},
    {"each group, biased",
     {.score = CLMOE_SCORE_SIGMOID, .bias = 1, .n_group = 2, .group_score = CLMOE_GROUP_EACH}},
    {"zero experts", {.bias = 1, .zero_experts = 1, .scale = 6}},
    {"zero experts, places", {.zero_experts = 1, .renorm = CLMOE_RENORM_SUM, PLACING, PADDING}},
    {"given", {.select = CLMOE_SELECT_GIVEN, .score = CLMOE_SCORE_SQRT_SOFTPLUS, .renorm = CLMOE_RENORM_SUM}},
    {"given, all of places", {.select = CLMOE_SELECT_GIVEN, .zero_experts = 1, PLACING, PADDING}},
    {"sparsemixer", {.score = CLMOE_SCORE_SPARSEMIXER, .mixer_eps = 0.1f}},
    {"clamp", {.bias = 1, .renorm = CLMOE_RENORM_CLAMP, .renorm_eps = 0.5f}},
    {"scalings", {.score = CLMOE_SCORE_IDENTITY, .temperature = 0.5f, .scale = -2, .token_mask = 1}},
    {"padding", {.logits_dtype = CLMOE_BF16, .renorm = CLMOE_RENORM_SUM, PADDING}},
    {"capacity", {.capacity = 3, .pass_dropped = 1, .renorm = CLMOE_RENORM_SUM}},
    {"capacity by slot, kept",
     {.capacity = 2,
      .capacity_order = CLMOE_CAPACITY_SLOT,
      .renorm = CLMOE_RENORM_CLAMP,
      .renorm_eps = 1e-7f,
      .renorm_kept = 1,
      .logits_dtype = CLMOE_F16}},
    {"capacity by the best",
     {.score = CLMOE_SCORE_IDENTITY, .capacity = 2, .capacity_order = CLMOE_CAPACITY_SLOT_BEST, PADDING}},
    {"capacity by score, all of places",
     {.score = CLMOE_SCORE_SIGMOID,
      .capacity = 1,
      .capacity_order = CLMOE_CAPACITY_SCORE,
      .capacity_tokens = 16,
      .zero_experts = 1,
      .pass_dropped = 1,
      PLACING,
      PADDING},
     1},
    {"capacity of given",
     {.select = CLMOE_SELECT_GIVEN, .capacity = 4, .capacity_tokens = 33, .zero_experts = 1}},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

/* Zero experts, where a setting has them, are the last quarter. */
static const struct { int width, k, tokens; } shapes[] = {{16, 4, 70}, {64, 8, 40}, {256, 8, 9}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_CASES = N_SETTINGS * N_SHAPES * FILL_COUNT };

struct inputs {
    float *logits, *bias, *expert_scale;
    int32_t *given, *expert_map;
    uint8_t *token_mask;
};

static void fill_inputs(struct rng *rng, const struct clmoe_route_params *p, enum fill fill, bool steps,
                        int64_t tokens, struct inputs *in) {
    const int width = ref_route_width(p), mapped = p->experts + p->shared_slots;
    *in = (struct inputs){
        .logits = route_room(tokens * width, 4),
        .bias = route_room(width, 4),
        .expert_scale = route_room(p->experts, 4),
        .given = route_room(tokens * p->topk, 4),
        .expert_map = route_room(mapped, 4),
        .token_mask = route_room(tokens, 1),
    };
    fill_floats(rng, fill, in->logits, tokens * width);
    fill_floats(rng, fill == FILL_TIES ? fill : FILL_RANDOM, in->bias, width);
    fill_floats(rng, FILL_RANDOM, in->expert_scale, p->experts);
    for (int64_t i = 0; i < tokens * width; i++) {
        float l = in->logits[i];
        if (fill == FILL_RANDOM) l *= 3;
        if (steps && isfinite(l)) l = fminf(fmaxf(roundf(l * 16) / 16, -8), 8);
        in->logits[i] = ref_round(p->logits_dtype, l);
    }
    for (int64_t i = 0; i < tokens * p->topk; i++)
        in->given[i] = (int32_t)rng_below(rng, width + 2) - 1; /* repeats, -1 and E + Z */
    for (int e = 0; e < mapped; e++)
        in->expert_map[e] = e % 3 == 1 ? -(int32_t)rng_below(rng, 9) - 1 : (e * 7 + 5000) % 6000;
    for (int64_t t = 0; t < tokens; t++)
        in->token_mask[t] = rng_below(rng, 4) ? (uint8_t)(1 + rng_below(rng, 255)) : 0;
}

static void free_inputs(struct inputs *in) {
    free(in->logits), free(in->bias), free(in->expert_scale);
    free(in->given), free(in->expert_map), free(in->token_mask);
}

START_TEST(against_reference) {
    const int s = _i % N_SETTINGS, shape = _i / N_SETTINGS % N_SHAPES;
    const enum fill fill = (enum fill)(_i / N_SETTINGS / N_SHAPES);
    const int64_t tokens = tester()->small ? 5 : shapes[shape].tokens;
    struct clmoe_route_params p = settings[s].params;
    struct rng rng = rng_for((uint64_t)_i);
    struct inputs in;
    p.max_tokens = tokens + 1;
    p.zero_experts *= shapes[shape].width / 4;
    p.experts = shapes[shape].width - p.zero_experts;
    p.topk = shapes[shape].k;
    if (p.capacity && shape == 2) p.capacity = 1; /* few tokens on many experts */
    fill_inputs(&rng, &p, fill, settings[s].steps, tokens, &in);
    const struct ref_route_call call = {
        .tokens = tokens,
        .logits = in.logits,
        .bias = p.bias ? in.bias : NULL,
        .expert_scale = p.expert_scale ? in.expert_scale : NULL,
        .given = p.select == CLMOE_SELECT_GIVEN ? in.given : NULL,
        .expert_map = p.expert_map ? in.expert_map : NULL,
        .token_mask = p.token_mask ? in.token_mask : NULL,
        .valid_tokens = fill == FILL_TIES ? INT32_MAX : (int32_t)rng_below(&rng, tokens + 3) - 1,
        .capacity = p.capacity && fill == FILL_TIES ? p.capacity + 1 : 0,
    };
    int32_t *const ids = route_room(tokens * (p.topk + p.shared_slots), 4);
    float *const gamma = route_room(tokens * (p.topk + p.shared_slots), 4);
    case_begin("%s, fill %s", settings[s].name, fill_name(fill));
    route_run_call(&rng, p, s % 4 ? CAPS_OWN : CAPS_GROUP_64, &call, ids, gamma, NULL);
    free(ids), free(gamma);
    free_inputs(&in);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SETTINGS : N_CASES);
}

int main(void) {
    return harness_main("route_options", "route", add_tests);
}
