/* SPDX-License-Identifier: MIT
 * moe: what families have beyond experts and a router, each by its name: latent sizes, shared experts and
 * their gate, clamps, scales, unreduced rows, adapters. */
#include "moe_case.h"

#define SILU                                                                                                 \
    { CLMOE_ACT_SILU }

static const struct setting {
    const char *name;
    bool router;               /* else ids and gamma are given, with pairs to skip */
    struct clmoe_moe_params p; /* sizes and dtypes come later */
} settings[] = {
    {"nemotron-3-super: latent, relu2 without gate, shared experts on the full size",
     true,
     {.latent = 24,
      .act = {CLMOE_ACT_RELU2},
      .shared_experts = {.inter = 37},
      .route = {.score = CLMOE_SCORE_SIGMOID, .renorm = CLMOE_RENORM_SUM, .scale = 5}}},
    {"kimi-k3: latent, situ, residual",
     false,
     {.latent = 33,
      .glu = CLMOE_GLU_GATE_UP,
      .act = {CLMOE_ACT_SITU, .gate_tanh = 1.5f, .up_tanh = 2},
      .shared_experts = {.inter = 20, .glu = CLMOE_GLU_APART},
      .residual = 1,
      .out_scale = 1.5f}},
    {"qwen2-moe: shared experts behind a sigmoid gate",
     true,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = SILU,
      .shared_experts = {.inter = 41, .glu = CLMOE_GLU_APART, .gate = 1}}},
    {"deepseek-v4: clamps before the activation, shared experts too",
     false,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = {CLMOE_ACT_SILU, .gate_max = 0.7f, .up_max = 0.6f},
      .shared_experts = {.inter = 33, .glu = CLMOE_GLU_GATE_UP}}},
    {"step-3.5: clamps after the activation, others for shared experts",
     false,
     {.glu = CLMOE_GLU_INTERLEAVED,
      .act = {CLMOE_ACT_SILU, .act_max = 0.4f, .up_max = 0.6f},
      .shared_experts = {.inter = 16, .glu = CLMOE_GLU_INTERLEAVED, .act = {CLMOE_ACT_SILU, .act_max = 0.2f}},
      .residual = 1}},
    {"grok-2: gelu, a dense part beside the experts, both scaled",
     false,
     {.glu = CLMOE_GLU_APART,
      .act = {CLMOE_ACT_GELU_TANH},
      .shared = 1,
      .residual = 1,
      .sum_scale = 0.7071f}},
    {"cohere2: routed and shared experts scaled together and apart",
     false,
     {.glu = CLMOE_GLU_UP_GATE,
      .act = SILU,
      .shared_experts = {.inter = 9, .glu = CLMOE_GLU_UP_GATE},
      .out_scale = 3,
      .sum_scale = 0.5f}},
    {"llama-4: the weight is on the input of routed experts, not on that of shared ones",
     true,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = SILU,
      .shared_experts = {.inter = 30, .glu = CLMOE_GLU_APART},
      .gamma_on_input = 1,
      .route = {.score = CLMOE_SCORE_SIGMOID}}},
    {"unreduced rows", false, {.glu = CLMOE_GLU_GATE_UP, .act = SILU, .bias2 = 1, .unreduced = 1}},
    {"longcat: zero experts that return x",
     false,
     {.glu = CLMOE_GLU_GATE_UP, .act = SILU, .identity = 1, .out_scale = 2, .residual = 1}},
    {"shared experts as slots behind the routed ones",
     true,
     {.glu = CLMOE_GLU_GATE_UP, .act = SILU, .route = {.shared_slots = 2, .shared_gamma = 0.5f}}},
    {"gemma-4: a scale for each expert",
     true,
     {.glu = CLMOE_GLU_GATE_UP, .act = SILU, .route = {.renorm = CLMOE_RENORM_SUM, .expert_scale = 1}}},
    {"deepseek-v4: ids from a table of tokens, weighed by the router",
     true,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = SILU,
      .route = {.score = CLMOE_SCORE_SQRT_SOFTPLUS, .select = CLMOE_SELECT_GIVEN, .scale = 1.5f}}},
    {"expert parallelism: experts that are elsewhere, padding rows",
     true,
     {.glu = CLMOE_GLU_GATE_UP, .act = SILU, .route = {.expert_map = 1, .valid_tokens = 1, .token_mask = 1}}},
    {"adapters: one A for gate and up",
     false,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = SILU,
      .adapters = {.count = 3, .rank = 5, .glu = CLMOE_GLU_GATE_UP, .scale = 1}}},
    {"adapters: gate and up apart, on interleaved weights with biases",
     false,
     {.glu = CLMOE_GLU_INTERLEAVED,
      .act = {CLMOE_ACT_SILU, 1.702f, 7, 7, 1},
      .bias1 = 1,
      .bias2 = 1,
      .adapters = {.count = 2, .rank = 4, .glu = CLMOE_GLU_APART, .scale = 1}}},
    {"adapters: interleaved rows of B, weight on the input",
     false,
     {.glu = CLMOE_GLU_APART,
      .act = SILU,
      .gamma_on_input = 1,
      .adapters = {.count = 2, .rank = 7, .glu = CLMOE_GLU_INTERLEAVED, .scale = 1}}},
    {"adapters: up rows of B first, unreduced",
     false,
     {.glu = CLMOE_GLU_GATE_UP,
      .act = SILU,
      .unreduced = 1,
      .adapters = {.count = 1, .rank = 1, .glu = CLMOE_GLU_UP_GATE}}},
    {"adapters: no gate, in a latent space, beside shared experts",
     true,
     {.latent = 40,
      .act = {CLMOE_ACT_RELU2},
      .shared_experts = {.inter = 17},
      .adapters = {.count = 4, .rank = 3, .scale = 1}}},
};
/* Few tokens and many: both ways through a layer. */
static const int64_t tokens[] = {2, 30, 0};
enum { N_SETTINGS = sizeof settings / sizeof *settings, N_TOKENS = sizeof tokens / sizeof *tokens };

/* fp32 first; then what checkpoints are made of, for every third setting: programs take long to compile. */
START_TEST(setting_against_reference) {
    const bool half = _i >= N_SETTINGS * N_TOKENS;
    const int which = half ? (_i - N_SETTINGS * N_TOKENS) * 3 : _i % N_SETTINGS;
    const int64_t t = half ? 30 : tokens[_i / N_SETTINGS];
    struct rng rng = rng_for((uint64_t)_i);
    struct clmoe_moe_params p = settings[which].p;
    p.max_tokens = t ? t : 30;
    p.experts = 6;
    p.topk = which % 2 ? 2 : 3;
    p.hidden = 48;
    p.inter = 28;
    if (p.route.expert_map) p.local_experts = 4;
    if (half) p.x_dtype = p.w_dtype = p.dense_dtype = p.adapters.dtype = p.bias_dtype = CLMOE_BF16;
    p.source = settings[which].router ? CLMOE_MOE_ROUTER : CLMOE_MOE_IDS;
    case_begin("%s, T=%lld %s", settings[which].name, (long long)t, clmoe_dtype_name(p.x_dtype));
    struct moe_sample *const s = moe_sample_make(&rng, &p, t, ROUTING_SKIPS);
    moe_run(s, tester_context(which % 4 ? CAPS_OWN : CAPS_PLAIN), tester()->ooo_queue);
    moe_compare(s, half ? 1e-2 : 5e-6);
    for (int64_t i = 0; i < t * p.topk; i++) {
        const bool padding =
            (p.route.valid_tokens && i / p.topk >= s->valid) || (p.route.token_mask && !s->mask[i / p.topk]);
        case_require(!padding || s->ids[i] == -1, "ids[%lld] = %d, but its token is padding", (long long)i,
                     (int)s->ids[i]);
    }
    moe_sample_free(s);
}
END_TEST

/* Each row of the table that numbers virtual experts, by name. */
START_TEST(every_adapter_row) {
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("adapter", row)); row++) {
        struct rng rng = rng_for((uint64_t)row + 500);
        struct clmoe_moe_params p = {
            .plan = {.kernel = name},
            .max_tokens = 5,
            .experts = 6,
            .topk = 2,
            .hidden = 48,
            .inter = 28,
            .source = CLMOE_MOE_IDS,
            .glu = CLMOE_GLU_GATE_UP,
            .act = SILU,
            .adapters = {.count = 3, .rank = 5, .glu = CLMOE_GLU_GATE_UP, .scale = 1},
        };
        clmoe_plan *plan;
        case_begin("every adapter row: %s", name);
        if (!row_fits("adapter", row, clmoe_moe_plan(tester_context(CAPS_OWN), &p, &plan))) continue;
        clmoe_plan_destroy(&plan);
        struct moe_sample *const s = moe_sample_make(&rng, &p, 5, ROUTING_SKIPS);
        moe_run(s, tester_context(CAPS_OWN), tester()->queue);
        moe_compare(s, 5e-6);
        moe_sample_free(s);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    const int all = N_SETTINGS * N_TOKENS + N_SETTINGS / 3;
    tcase_add_loop_test(cases, setting_against_reference, 0, tester()->small ? N_SETTINGS : all);
    tcase_add_test(cases, every_adapter_row);
}

int main(void) {
    return harness_main("moe_options", "adapter", add_tests);
}
