/* SPDX-License-Identifier: MIT
 * moe: few tokens, where the second product makes the sums over the slots of a token itself. The same layer
 * with its weights in two buffers goes by way of combine, and must give the same bits. */
#include "moe_case.h"

#include <stdlib.h>
#include <string.h>

static const struct setting {
    const char *name;
    int64_t tokens;
    int topk;
    enum clmoe_dtype x, mid;
    enum forced_caps caps;
    struct clmoe_moe_params p; /* sizes and dtypes come from above */
} settings[] = {
    {"teams without a slot", 2, 5, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.shared = 1, .sum_scale = 0.5f}},
    {"one slot", 3, 1, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.bias2 = 1}},
    {"as many slots as teams", 1, 8, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.residual = 1}},
    {"slots in turns", 2, 37, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.out_scale = 3, .bias2 = 1}},
    {"rows of another type", 3, 4, CLMOE_BF16, CLMOE_F32, CAPS_PLAIN, {.residual = 1, .shared = 1}},
    {"rounded rows", 2, 3, CLMOE_F16, CLMOE_BF16, CAPS_PLAIN, {.gamma_on_input = 1}},
    {"shared experts come first", 2, 5, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.shared_experts = {.inter = 9}}},
    {"by matrices, a slot for each wave", 1, 4, CLMOE_BF16, CLMOE_BF16, CAPS_EMULATED_GPU, {.residual = 1}},
    {"by matrices, slots in turns",
     3,
     7,
     CLMOE_BF16,
     CLMOE_BF16,
     CAPS_EMULATED_GPU,
     {.shared = 1, .bias2 = 1}},
    {"by matrices, one slot", 2, 1, CLMOE_F16, CLMOE_F16, CAPS_EMULATED_GPU, {.out_scale = 3}},
    {"in a latent space", 3, 2, CLMOE_F32, CLMOE_F32, CAPS_PLAIN, {.latent = 21, .residual = 1}},
    {"zero experts: by way of combine",
     2,
     5,
     CLMOE_F32,
     CLMOE_F32,
     CAPS_PLAIN,
     {.identity = 1, .out_scale = 2}},
    {"adapters",
     2,
     5,
     CLMOE_F32,
     CLMOE_F32,
     CAPS_PLAIN,
     {.adapters = {.count = 2, .rank = 3, .glu = CLMOE_GLU_GATE_UP}}},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings, N_SMALL = 3 };

/* The experts of one tensor in two. */
static void split(const struct clmoe_tensor *whole, struct clmoe_tensor parts[2]) {
    const int64_t first = whole->shape[0] / 2;
    parts[0] = parts[1] = *whole;
    parts[0].shape[0] = first;
    parts[1].shape[0] -= first;
    const int64_t stride = whole->stride[0] ? whole->stride[0] : whole->shape[1] * whole->shape[2];
    parts[1].offset += (uint64_t)clmoe_dtype_bytes(whole->dtype, first * stride);
}

START_TEST(sums_of_slots) {
    const struct setting *const is = &settings[_i % N_SETTINGS];
    struct rng rng = rng_for((uint64_t)_i + 700);
    struct clmoe_moe_params p = is->p;
    p.experts = 40;
    p.max_tokens = 40 / is->topk;
    p.topk = is->topk;
    p.hidden = 45;
    p.inter = _i / N_SETTINGS ? 300 : 28;
    p.x_dtype = p.w_dtype = p.dense_dtype = p.adapters.dtype = is->x;
    p.mid_dtype = is->mid;
    p.source = CLMOE_MOE_IDS;
    /* Codes are what the row on matrices is for, and rows of them are whole blocks. */
    if (is->caps == CAPS_EMULATED_GPU)
        p.w_dtype = CLMOE_MXFP4, p.hidden = 64, p.inter = _i / N_SETTINGS ? 320 : 32;
    p.glu = CLMOE_GLU_GATE_UP;
    p.act.kind = CLMOE_ACT_SILU;
    if (p.max_tokens > is->tokens) p.max_tokens = is->tokens;
    case_begin("%s: T=%lld k=%d, inner size %lld", is->name, (long long)p.max_tokens, p.topk,
               (long long)p.inter);
    struct moe_sample *const s = moe_sample_make(&rng, &p, p.max_tokens, ROUTING_SKIPS);
    moe_run(s, tester_context(is->caps), _i % 2 ? tester()->ooo_queue : tester()->queue);
    moe_compare(s, is->x == CLMOE_F32 ? 5e-6 : 1e-2);
    const size_t bytes = (size_t)(p.max_tokens * p.hidden) * sizeof *s->got;
    float *const sums = malloc(bytes);
    memcpy(sums, s->got, bytes);
    struct clmoe_tensor w1[2], w2[2];
    split(&s->w1, w1);
    split(&s->w2, w2);
    s->args.w1 = w1;
    s->args.w2 = w2;
    s->args.n_w = 2;
    moe_run(s, tester_context(is->caps), tester()->queue);
    case_require(memcmp(sums, s->got, bytes) == 0, "the sums of the product are not those of combine");
    free(sums);
    moe_sample_free(s);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, sums_of_slots, 0, tester()->small ? N_SMALL : 2 * N_SETTINGS);
}

int main(void) {
    return harness_main("moe_few", "", add_tests);
}
