/* SPDX-License-Identifier: MIT
 * offload: layers with experts in host memory give the bits that they give with all of them on the device,
 * whatever the budget, format and routing, and count what they move. */
#include "offload_case.h"

#define EXPERTS 6

/* Arrays of every kind. Formats only decide what is copied: reference kernels are enough for most of them. */
static const struct layer {
    const char *name;
    struct clmoe_moe_params params;
} layers[] = {
    {"f32", {.glu = CLMOE_GLU_GATE_UP, .bias1 = 1, .bias2 = 1, .source = CLMOE_MOE_IDS}},
    {"f32, routed",
     {.glu = CLMOE_GLU_APART, .bias1 = 1, .residual = 1, .route = {.renorm = CLMOE_RENORM_SUM}}},
    {"bf16, on the input",
     {.x_dtype = CLMOE_BF16,
      .w_dtype = CLMOE_BF16,
      .bias_dtype = CLMOE_BF16,
      .glu = CLMOE_GLU_UP_GATE,
      .bias1 = 1,
      .gamma_on_input = 1,
      .source = CLMOE_MOE_IDS,
      .plan.kernel = "matmul_ref"}},
    {"q8_0 and f16",
     {.w_dtype = CLMOE_Q8_0,
      .mixed = 1,
      .w2_dtype = CLMOE_F16,
      .source = CLMOE_MOE_IDS,
      .unreduced = 1,
      .plan.kernel = "matmul_ref"}},
    {"mxfp4 as gpt-oss has it",
     {.w_dtype = CLMOE_F4_E2M1,
      .w_scale = {CLMOE_U8, 1, 32},
      .glu = CLMOE_GLU_INTERLEAVED,
      .bias1 = 1,
      .bias2 = 1,
      .bias_dtype = CLMOE_BF16,
      .source = CLMOE_MOE_IDS,
      .plan.kernel = "matmul_ref"}},
    {"fp8 in blocks, apart",
     {.w_dtype = CLMOE_F8_E4M3,
      .w_scale = {CLMOE_F32, 48, 32},
      .glu = CLMOE_GLU_APART,
      .bias1 = 1,
      .source = CLMOE_MOE_IDS,
      .plan.kernel = "matmul_ref"}},
    {"AWQ, apart",
     {.w_dtype = CLMOE_I32,
      .w_order = CLMOE_W_AWQ,
      .w_scale = {CLMOE_F16, 1, 32, CLMOE_ZERO_GIVEN},
      .glu = CLMOE_GLU_APART,
      .source = CLMOE_MOE_IDS,
      .plan.kernel = "matmul_ref"}},
    {"latent, with shared experts",
     {.w_order = CLMOE_W_EKN, .latent = 32, .shared_experts = {.inter = 16}, .plan.kernel = "matmul_ref"}},
    {"packed", {.w_order = CLMOE_W_PACKED, .glu = CLMOE_GLU_GATE_UP, .source = CLMOE_MOE_IDS}},
};
/* Of experts, and bytes more. */
static const struct {
    int experts, bytes;
} budgets[] = {{1, 0}, {2, 0}, {2, 17}, {3, 0}, {EXPERTS - 1, 0}, {EXPERTS, 0}, {3 * EXPERTS, 0}};
static const int64_t tokens[] = {1, 3, 21};
enum { N_LAYERS = sizeof layers / sizeof *layers, N_BUDGETS = sizeof budgets / sizeof *budgets };
enum { N_TOKENS = sizeof tokens / sizeof *tokens };

static struct clmoe_moe_params params_of(const struct layer *l) {
    struct clmoe_moe_params p = l->params;
    p.max_tokens = 24;
    p.experts = EXPERTS;
    p.topk = 2;
    p.hidden = 64;
    p.inter = 32;
    p.act.kind = CLMOE_ACT_SILU;
    return p;
}

static struct clmoe_offload_stats stats_of(const clmoe_offload *offload) {
    struct clmoe_offload_stats s;
    case_ok(clmoe_offload_stats(offload, &s));
    return s;
}

/* Two calls, each with all experts on the device first, on both kinds of queue. */
static void same_bits(struct offload_case *c, clmoe_plan *resident, clmoe_plan *plan, clmoe_offload *offload,
                      uint64_t *wanted) {
    for (int call = 0; call < 2; call++) {
        cl_event event = NULL;
        offload_case_solve(c, resident);
        const struct clmoe_moe_args args = offload_case_args(c, offload);
        case_ok(clmoe_moe_enqueue(plan, call ? tester()->ooo_queue : tester()->queue, &args, 0, NULL,
                                  call ? &event : NULL));
        if (event) {
            ck_assert_int_eq(clWaitForEvents(1, &event), CL_SUCCESS);
            clReleaseEvent(event);
        }
        offload_case_compare(c);
        *wanted += (uint64_t)offload_case_wanted(c);
    }
}

START_TEST(bits_of_the_resident_layer) {
    const struct layer *const l = &layers[_i % N_LAYERS];
    const int budget = _i / N_LAYERS % N_BUDGETS;
    const enum forced_caps caps = _i % 2 && _i % N_LAYERS < 2 ? CAPS_PLAIN : CAPS_OWN;
    const struct clmoe_moe_params params = params_of(l);
    struct rng rng = rng_for((uint64_t)_i + 100);
    clmoe_context *const ctx = tester_context(caps);
    clmoe_plan *resident = NULL, *plan = NULL;
    clmoe_offload *offload = NULL;
    for (int n = 0; n < (tester()->small ? 2 : N_TOKENS); n++) {
        struct offload_case *const c = offload_case_make(&rng, &params, tokens[n]);
        uint64_t wanted = 0;
        if (!plan) resident = offload_case_plan(c, ctx, false), plan = offload_case_plan(c, ctx, true);
        offload = offload_case_create(
            c, plan, (uint64_t)budgets[budget].experts * c->expert_bytes + (uint64_t)budgets[budget].bytes);
        const int kinds = params.source == CLMOE_MOE_IDS ? OFFLOAD_ROUTINGS : 3;
        for (int kind = 0; kind < kinds; kind++) {
            case_begin("%s, T=%d, %d experts, routing %d, caps %s", l->name, (int)tokens[n],
                       budgets[budget].experts, kind, caps_name(caps));
            offload_case_route(&rng, c, (enum offload_routing)kind);
            offload_case_shuffle(&rng, c);
            same_bits(c, resident, plan, offload, &wanted);
        }
        const struct clmoe_offload_stats s = stats_of(offload);
        const int slots = budgets[budget].experts < EXPERTS ? budgets[budget].experts : EXPERTS;
        ck_assert_int_eq(s.slots, slots);
        ck_assert_uint_eq(s.expert_bytes, c->expert_bytes);
        ck_assert_uint_eq(s.calls, (uint64_t)(2 * kinds));
        if (params.source == CLMOE_MOE_IDS) ck_assert_uint_eq(s.hits + s.misses, wanted);
        ck_assert_uint_eq(s.bytes, s.misses * s.expert_bytes);
        if (slots == EXPERTS) ck_assert_uint_le(s.misses, EXPERTS);
        clmoe_offload_destroy(&offload);
        offload_case_free(c);
    }
    clmoe_plan_destroy(&resident);
    clmoe_plan_destroy(&plan);
}
END_TEST

START_TEST(every_row) {
    struct clmoe_moe_params params = params_of(&layers[0]);
    struct rng rng = rng_for(1);
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("offload", row)); row++) {
        struct clmoe_moe_params offloaded = params;
        clmoe_plan *resident, *plan;
        case_begin("every row: %s", params.plan.kernel);
        offloaded.offload = 1;
        params.plan.kernel = NULL;
        struct offload_case *const c = offload_case_make(&rng, &params, 21);
        if (row_fits("offload", row, clmoe_moe_plan(tester_context(CAPS_OWN), &offloaded, &plan))) {
            case_ok(clmoe_moe_plan(tester_context(CAPS_OWN), &params, &resident));
            clmoe_offload *offload = offload_case_create(c, plan, 2 * c->expert_bytes);
            uint64_t wanted = 0;
            offload_case_route(&rng, c, OFFLOAD_SKIPS);
            same_bits(c, resident, plan, offload, &wanted);
            clmoe_offload_destroy(&offload);
            clmoe_plan_destroy(&resident);
            clmoe_plan_destroy(&plan);
        }
        offload_case_free(c);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, every_row);
    if (tester()->small) /* two slots, and reference kernels, which a simulator runs fastest */
        tcase_add_loop_test(cases, bits_of_the_resident_layer, N_LAYERS + 3, N_LAYERS + 6);
    else
        tcase_add_loop_test(cases, bits_of_the_resident_layer, 0, N_LAYERS * N_BUDGETS);
}

int main(void) {
    return harness_main("offload", "offload", add_tests);
}
