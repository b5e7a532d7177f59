/* SPDX-License-Identifier: MIT
 * route: the traps that routers of other systems fell into, the settings of known models, and what params and
 * args may not be. */
#include "route_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CELLS = 4096 };

/* ids and gamma of the last `run`. */
static int32_t ids[MAX_CELLS];
static float weights[MAX_CELLS];

static void run(struct clmoe_route_params p, int64_t tokens, const float *logits, const float *bias) {
    struct rng rng = rng_for((uint64_t)p.experts);
    p.max_tokens = tokens;
    case_require(tokens * p.topk <= MAX_CELLS, "MAX_CELLS");
    route_run_rows(&rng, p, CAPS_OWN, tokens, logits, bias, ids, weights);
}

static void expect_ids(const int32_t *want, int n) {
    for (int j = 0; j < n; j++)
        case_require(ids[j] == want[j], "ids[%d] = %d, expected %d", j, (int)ids[j], (int)want[j]);
}

/* Sigmoids of 30 and 40 are both 1 in fp32; logits order them. */
START_TEST(saturated_scores_are_ordered_by_logit) {
    const float logits[] = {20, 30, 40, 25, 90, 90, 80, -5};
    case_begin("saturated sigmoid");
    run((struct clmoe_route_params){.experts = 8, .topk = 6, .score = CLMOE_SCORE_SIGMOID}, 1, logits, NULL);
    expect_ids((const int32_t[]){4, 5, 6, 2, 1, 3}, 6);
    case_begin("saturated sigmoid, groups");
    run(
        (struct clmoe_route_params){
            .experts = 8, .topk = 2, .score = CLMOE_SCORE_SIGMOID, .n_group = 4, .topk_group = 1},
        1, logits, NULL);
    expect_ids((const int32_t[]){4, 5}, 2);
    case_begin("softmax that underflows");
    const float far[] = {-400, -300, 0, -200};
    run((struct clmoe_route_params){.experts = 4, .topk = 4}, 1, far, NULL);
    expect_ids((const int32_t[]){2, 3, 1, 0}, 4);
}
END_TEST

/* All keys negative: experts of dropped groups must not look better than those. */
START_TEST(dropped_groups_stay_below_negative_keys) {
    enum { E = 16, T = 9 };
    const bool top2 = _i & 1, bias_given = _i & 2;
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * E], bias[E];
    for (int i = 0; i < T * E; i++)
        logits[i] = rng_float(&rng) - 10;
    for (int e = 0; e < E; e++)
        bias[e] = -2 - (float)rng_below(&rng, 100) / 16;
    case_begin("negative keys, top2 %d bias %d", top2, bias_given);
    run((struct clmoe_route_params){.experts = E,
                                    .topk = 4,
                                    .score = bias_given ? CLMOE_SCORE_SIGMOID : CLMOE_SCORE_IDENTITY,
                                    .bias = bias_given,
                                    .n_group = 4,
                                    .topk_group = 1,
                                    .group_score = top2 ? CLMOE_GROUP_TOP2_SUM : CLMOE_GROUP_MAX},
        T, logits, bias);
    for (int c = 0; c < T * 4; c++)
        case_require(ids[c] / 4 == ids[c - c % 4] / 4, "ids[%d] = %d is of another group", c, (int)ids[c]);
}
END_TEST

/* The kept group has one good expert; the others are -inf or NaN and still come before dropped ones. */
START_TEST(kept_groups_win_with_their_worst) {
    const bool bias_given = _i & 1;
    const float lowest = _i & 2 ? NAN : -INFINITY;
    const float logits[] = {1, 1, 1, 1, lowest, 9, lowest, lowest};
    const float bias[] = {0, 0, 0, 0, _i & 2 ? NAN : -INFINITY, 4, -INFINITY, NAN};
    case_begin("kept group of lowest, bias %d nan %d", bias_given, (_i & 2) / 2);
    run((struct clmoe_route_params){.experts = 8,
                                    .topk = 4,
                                    .score = CLMOE_SCORE_SIGMOID,
                                    .bias = bias_given,
                                    .n_group = 2,
                                    .topk_group = 1},
        1, logits, bias);
    expect_ids((const int32_t[]){5, 4, 6, 7}, 4);
}
END_TEST

/* fp32: 12 + 1e-8 - 12 = 0. The weight comes from the logit. */
START_TEST(weights_do_not_come_from_keys) {
    float logits[64], bias[64];
    for (int e = 0; e < 64; e++) {
        logits[e] = -18.4f - (float)(e % 7) / 8;
        bias[e] = e % 3 ? 1 : 12 + (float)e / 16;
    }
    case_begin("bias 12");
    run((struct clmoe_route_params){.experts = 64,
                                    .topk = 8,
                                    .score = CLMOE_SCORE_SIGMOID,
                                    .bias = 1,
                                    .renorm = _i ? CLMOE_RENORM_SUM : CLMOE_RENORM_NONE},
        1, logits, bias);
    for (int j = 0; j < 8; j++) {
        case_require(weights[j] > 1e-9f, "gamma[%d] = %g", j, (double)weights[j]);
        case_require(_i || weights[j] < 2e-8f, "gamma[%d] = %g", j, (double)weights[j]);
    }
}
END_TEST

/* Sigmoids that underflow: the sum is 0, and 0/0 must not be formed. */
START_TEST(a_sum_of_zeros_leaves_zeros) {
    float logits[60];
    for (int e = 0; e < 60; e++)
        logits[e] = e % 2 ? -1000.0f : -INFINITY;
    case_begin("sum of zeros, eps %d", _i);
    run((struct clmoe_route_params){.experts = 60,
                                    .topk = 6,
                                    .score = CLMOE_SCORE_SIGMOID,
                                    .renorm = CLMOE_RENORM_SUM,
                                    .renorm_eps = _i ? 1e-20f : 0},
        1, logits, NULL);
    for (int j = 0; j < 6; j++)
        case_require(weights[j] == 0, "gamma[%d] = %g", j, (double)weights[j]);
}
END_TEST

START_TEST(weights_that_cancel_stay) {
    const float logits[] = {2, -3, -2};
    case_begin("identity weights that add up to 0");
    run(
        (struct clmoe_route_params){
            .experts = 3, .topk = 2, .score = CLMOE_SCORE_IDENTITY, .renorm = CLMOE_RENORM_SUM},
        1, logits, NULL);
    expect_ids((const int32_t[]){0, 2}, 2);
    case_require(weights[0] == 2 && weights[1] == -2, "gamma %g %g", (double)weights[0], (double)weights[1]);
}
END_TEST

/* inf - inf is the lowest group score and the lowest key. */
START_TEST(sums_without_a_value_are_lowest) {
    const float logits[] = {INFINITY, -INFINITY, -5, -6}, bias[] = {-INFINITY, 0, 1, 1};
    struct clmoe_route_params p = {.experts = 4, .topk = 2, .score = CLMOE_SCORE_IDENTITY};
    case_begin("inf - inf in a key");
    p.bias = 1;
    run(p, 1, logits, bias);
    expect_ids((const int32_t[]){2, 3}, 2);
    case_begin("inf - inf in a group");
    p.bias = 0, p.n_group = 2, p.topk_group = 1, p.group_score = CLMOE_GROUP_TOP2_SUM;
    run(p, 1, logits, NULL);
    expect_ids((const int32_t[]){2, 3}, 2);
}
END_TEST

/* Rows of one value, for every score, below and above the size where selection changes its way. */
START_TEST(constant_logits_take_the_first) {
    static const float values[] = {0, 3.5f, -7, 3e38f, -3e38f, INFINITY, -INFINITY, NAN};
    enum { N = sizeof values / sizeof *values };
    const int experts = _i % 2 ? 100 : 60;
    float logits[N * 100], bias[100];
    for (int i = 0; i < N * experts; i++)
        logits[i] = values[i / experts];
    for (int e = 0; e < experts; e++)
        bias[e] = -1;
    case_begin("constant logits, score %d", _i / 2 % 3);
    const struct clmoe_route_params p = {
        .experts = experts, .topk = 20, .score = (enum clmoe_score)(_i / 2 % 3), .bias = _i % 2};
    run(p, N, logits, bias);
    for (int c = 0; c < N * 20; c++)
        case_require(ids[c] == c % 20, "token %d: ids[%d] = %d", c / 20, c % 20, (int)ids[c]);
    for (int c = 0; p.score == CLMOE_SCORE_SOFTMAX && c < N * 20; c++)
        case_require(fabsf(weights[c] * (float)experts - 1) < 1e-6f, "gamma[%d] = %g", c, (double)weights[c]);
}
END_TEST

START_TEST(signed_zeros_tie) {
    const float logits[] = {-0.0f, 0.0f, -1e-40f, 0.0f, -0.0f, 1e-40f, -0.0f, 0.0f};
    case_begin("signed zeros");
    run((struct clmoe_route_params){.experts = 8, .topk = 8, .score = CLMOE_SCORE_IDENTITY}, 1, logits, NULL);
    expect_ids((const int32_t[]){5, 0, 1, 3, 4, 6, 7, 2}, 8);
    case_require(signbit(weights[1]) && !signbit(weights[2]), "a zero changed its sign");
}
END_TEST

START_TEST(infinities_share_the_softmax) {
    const float logits[] = {5, INFINITY, NAN, INFINITY, -INFINITY, 3e38f};
    case_begin("two infinities");
    run((struct clmoe_route_params){.experts = 6, .topk = 4}, 1, logits, NULL);
    expect_ids((const int32_t[]){1, 3, 5, 0}, 4);
    case_require(weights[0] == 0.5f && weights[1] == 0.5f && weights[2] == 0 && weights[3] == 0,
                 "gamma %g %g %g", (double)weights[0], (double)weights[1], (double)weights[2]);
}
END_TEST

/* Logits and shifts that fp32 holds exactly. */
START_TEST(shifts_change_no_softmax) {
    enum { E = 72, K = 8 };
    struct rng rng = rng_for((uint64_t)_i);
    float logits[E], shifted[E], before[K];
    int32_t chosen[K];
    for (int e = 0; e < E; e++) {
        logits[e] = (float)rng_below(&rng, 400) / 32 - 6;
        shifted[e] = logits[e] + (_i ? 100.0f : -35.5f);
    }
    const struct clmoe_route_params p = {.experts = E, .topk = K};
    case_begin("before the shift");
    run(p, 1, logits, NULL);
    memcpy(chosen, ids, sizeof chosen), memcpy(before, weights, sizeof before);
    case_begin("after the shift");
    run(p, 1, shifted, NULL);
    expect_ids(chosen, K);
    for (int j = 0; j < K; j++)
        case_require(weights[j] == before[j], "gamma[%d] %g, was %g", j, (double)weights[j],
                     (double)before[j]);
}
END_TEST

START_TEST(permuted_experts_permute_ids) {
    enum { E = 130, K = 9 };
    struct rng rng = rng_for(1);
    float logits[E], moved[E];
    int32_t place[E], chosen[K];
    for (int e = 0; e < E; e++) {
        logits[e] = rng_float(&rng) + (float)e / 1024;
        place[e] = (e * 37 + 11) % E;
    }
    for (int e = 0; e < E; e++)
        moved[place[e]] = logits[e];
    const struct clmoe_route_params p = {.experts = E, .topk = K, .score = CLMOE_SCORE_SIGMOID};
    case_begin("in order");
    run(p, 1, logits, NULL);
    for (int j = 0; j < K; j++)
        chosen[j] = place[ids[j]];
    case_begin("permuted");
    run(p, 1, moved, NULL);
    expect_ids(chosen, K);
}
END_TEST

/* ---- the batch ---- */

static const struct clmoe_route_params batch_params[] = {
    {.max_tokens = 40, .experts = 20, .topk = 3, .renorm = CLMOE_RENORM_SUM},
    {.max_tokens = 40,
     .experts = 256,
     .topk = 8,
     .score = CLMOE_SCORE_SIGMOID,
     .bias = 1,
     .n_group = 8,
     .topk_group = 4,
     .group_score = CLMOE_GROUP_TOP2_SUM,
     .renorm = CLMOE_RENORM_SUM},
    {.max_tokens = 40,
     .experts = 64,
     .topk = 8,
     .n_group = 8,
     .group_score = CLMOE_GROUP_EACH,
     .temperature = 2,
     .logit_cap = 30,
     .renorm = CLMOE_RENORM_CLAMP,
     .renorm_eps = 0.1f},
    {.max_tokens = 40, .experts = 16, .topk = 2, .score = CLMOE_SCORE_SPARSEMIXER},
};
enum { N_BATCH_PARAMS = sizeof batch_params / sizeof *batch_params };

/* Each token alone, in calls chained by events on the out-of-order queue, then all in one call: the same
 * bits, whatever the other tokens hold. */
START_TEST(tokens_do_not_see_each_other) {
    enum { T = 21 };
    struct clmoe_route_params p = batch_params[_i];
    const int n = tester()->small ? 3 : T;
    struct rng rng = rng_for((uint64_t)_i);
    float logits[T * 256], bias[256], alone[T * 8], together[T * 8];
    int32_t ids_alone[T * 8], ids_together[T * 8];
    fill_floats(&rng, FILL_NAN_INF, logits, n * p.experts);
    fill_floats(&rng, FILL_RANDOM, bias, p.experts);
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        case_begin("%s E=%d", p.plan.kernel, p.experts);
        clmoe_plan *plan;
        if (!row_fits("route", row, clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan))) continue;
        struct guarded l = guarded_floats(&rng, CLMOE_F32, n, p.experts, logits);
        struct guarded b = guarded_floats(&rng, CLMOE_F32, 1, p.experts, bias);
        struct guarded i[2] = {guarded_ints(&rng, CLMOE_I32, n, p.topk, NULL),
                               guarded_ints(&rng, CLMOE_I32, n, p.topk, NULL)};
        struct guarded g[2] = {guarded_floats(&rng, CLMOE_F32, n, p.topk, NULL),
                               guarded_floats(&rng, CLMOE_F32, n, p.topk, NULL)};
        cl_event done[T + 1];
        for (int c = 0; c <= n; c++) { /* call n: all */
            struct clmoe_route_args a = {
                .logits = l.tensor, .ids = i[c == n].tensor, .gamma = g[c == n].tensor};
            struct clmoe_tensor *const views[] = {&a.logits, &a.ids, &a.gamma};
            for (int v = 0; c < n && v < 3; v++) {
                views[v]->shape[0] = 1;
                views[v]->offset += (uint64_t)(c * views[v]->stride[0] * 4);
            }
            if (p.bias) a.bias = as_1d(&b);
            case_ok(
                clmoe_route_enqueue(plan, tester()->ooo_queue, &a, c > 0, c ? &done[c - 1] : NULL, &done[c]));
        }
        case_require(clWaitForEvents(1, &done[n]) == CL_SUCCESS, "clWaitForEvents");
        for (int c = 0; c <= n; c++)
            clReleaseEvent(done[c]);
        guarded_read(&i[0], ids_alone), guarded_read(&i[1], ids_together);
        guarded_read(&g[0], alone), guarded_read(&g[1], together);
        const size_t cells = (size_t)(n * p.topk);
        case_require(memcmp(ids_alone, ids_together, cells * 4) == 0, "ids differ");
        case_require(memcmp(alone, together, cells * 4) == 0, "gamma differs");
        const struct ref_route_call call = {.tokens = n, .logits = logits, .bias = p.bias ? bias : NULL};
        route_judge(&p, &call, ids_together, together, NULL);
        guarded_free(&l), guarded_free(&b);
        guarded_free(&i[0]), guarded_free(&i[1]), guarded_free(&g[0]), guarded_free(&g[1]);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

/* ---- known models ---- */

#define SIGMOID_BIAS .score = CLMOE_SCORE_SIGMOID, .bias = 1, .renorm = CLMOE_RENORM_SUM, .renorm_eps = 1e-20f
static const struct {
    const char *name;
    struct clmoe_route_params params;
} models[] = {
    {"Mixtral", {.experts = 8, .topk = 2, .renorm = CLMOE_RENORM_SUM}},
    {"OLMoE", {.experts = 64, .topk = 8}},
    {"Qwen3-MoE", {.experts = 128, .topk = 8, .renorm = CLMOE_RENORM_SUM}},
    {"DeepSeek-V2", {.experts = 160, .topk = 6, .n_group = 8, .topk_group = 3, .scale = 16}},
    {"Kimi-K2", {.experts = 384, .topk = 8, .n_group = 1, .topk_group = 1, SIGMOID_BIAS, .scale = 2.827f}},
    {"DeepSeek-V3",
     {.experts = 256,
      .topk = 8,
      .n_group = 8,
      .topk_group = 4,
      .group_score = CLMOE_GROUP_TOP2_SUM,
      SIGMOID_BIAS,
      .scale = 2.5f}},
};
enum { N_MODELS = sizeof models / sizeof *models };

START_TEST(known_models) {
    enum { T = 16 };
    struct clmoe_route_params p = models[_i].params;
    p.logits_dtype = _i ? CLMOE_F32 : CLMOE_BF16;
    struct rng rng = rng_for((uint64_t)_i);
    float *const logits = route_room(T * p.experts, 4), *const bias = route_room(p.experts, 4);
    for (int i = 0; i < T * p.experts; i++)
        logits[i] = (float)(rng_below(&rng, 255) - 127) / 32; /* exact in bf16 */
    for (int e = 0; e < p.experts; e++)
        bias[e] = rng_float(&rng) / 8;
    case_begin("%s", models[_i].name);
    run(p, T, logits, bias);
    for (int t = 0; p.renorm && t < T; t++) {
        float sum = 0;
        for (int j = 0; j < p.topk; j++)
            sum += weights[t * p.topk + j];
        const float scale = p.scale != 0 ? p.scale : 1;
        case_require(fabsf(sum - scale) < 2e-6f * scale, "token %d: gamma adds up to %g", t, (double)sum);
    }
    free(logits), free(bias);
}
END_TEST

/* ---- what is refused ---- */

static const struct clmoe_route_params good = {.max_tokens = 4, .experts = 8, .topk = 2};

static void plan_refused(const char *what, const struct clmoe_route_params *params) {
    clmoe_plan *plan = (clmoe_plan *)&good;
    case_begin("%s", what);
    const enum clmoe_status status = clmoe_route_plan(tester_context(CAPS_OWN), params, &plan);
    case_require(status == CLMOE_E_INVALID, "%s", clmoe_status_name(status));
    case_require(!plan && *tester_log(), "the plan is not NULL, or nothing was logged");
}

START_TEST(bad_params) {
    struct clmoe_route_params p = good;
#define REFUSED(field, value) (p = good, p.field = (value), plan_refused(#field " = " #value, &p))
    REFUSED(max_tokens, -1);
    REFUSED(experts, 0);
    REFUSED(experts, 4097);
    REFUSED(topk, -1);
    REFUSED(topk, 9);
    REFUSED(logits_dtype, CLMOE_I32);
    REFUSED(logits_dtype, (enum clmoe_dtype)99);
    REFUSED(score, (enum clmoe_score)5);
    REFUSED(score, (enum clmoe_score) - 1);
    REFUSED(group_score, (enum clmoe_group_score)3);
    REFUSED(renorm, (enum clmoe_renorm)3);
    REFUSED(renorm_eps, -1e-9f);
    REFUSED(renorm_eps, INFINITY);
    REFUSED(renorm_eps, NAN);
    REFUSED(scale, NAN);
    REFUSED(scale, -INFINITY);
    REFUSED(n_group, -1);
    REFUSED(n_group, 3);
    REFUSED(n_group, 2); /* topk_group = 0 */
    REFUSED(plan.kernel, "route_fast");
#undef REFUSED
    p = (struct clmoe_route_params){.experts = 100, .topk = 65};
    plan_refused("topk = 65", &p);
    p = (struct clmoe_route_params){.experts = 8, .topk = 3, .n_group = 4, .topk_group = 1};
    plan_refused("a group of 2 for topk = 3", &p);
    p.topk_group = 5;
    plan_refused("topk_group > n_group", &p);
    p = (struct clmoe_route_params){.experts = 260, .topk = 1, .n_group = 65, .topk_group = 1};
    plan_refused("n_group = 65", &p);
    plan_refused("params is NULL", NULL);
}
END_TEST

struct buffers {
    struct guarded logits, bias, ids, gamma;
    struct clmoe_route_args args;
};

static struct buffers make_buffers(struct rng *rng, const struct clmoe_route_params *p, int64_t tokens) {
    struct buffers b = {
        .logits = guarded_floats(rng, CLMOE_F32, tokens, p->experts, NULL),
        .bias = guarded_floats(rng, CLMOE_F32, 1, p->experts, NULL),
        .ids = guarded_ints(rng, CLMOE_I32, tokens, p->topk, NULL),
        .gamma = guarded_floats(rng, CLMOE_F32, tokens, p->topk, NULL),
    };
    b.args = (struct clmoe_route_args){
        .logits = b.logits.tensor, .bias = as_1d(&b.bias), .ids = b.ids.tensor, .gamma = b.gamma.tensor};
    return b;
}

static void free_buffers(struct buffers *b) {
    guarded_free(&b->logits), guarded_free(&b->bias), guarded_free(&b->ids), guarded_free(&b->gamma);
}

static void untouched(const struct guarded *g) {
    struct guarded none = *g;
    none.tensor.shape[0] = 0; /* no byte may have changed */
    guarded_read(&none, NULL);
}

START_TEST(bad_args) {
    struct rng rng = rng_for(1);
    struct clmoe_route_params p = good;
    p.bias = 1;
    clmoe_plan *plan;
    case_begin("good args");
    case_ok(clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan));
    struct buffers b = make_buffers(&rng, &p, 4);
    struct clmoe_route_args a;
    cl_event event;
#define REFUSED(field, value)                                                                                \
    do {                                                                                                     \
        a = b.args, a.field = (value), event = (cl_event)&a;                                                 \
        case_begin("args." #field " = " #value);                                                             \
        const enum clmoe_status status = clmoe_route_enqueue(plan, tester()->queue, &a, 0, NULL, &event);    \
        case_require(status == CLMOE_E_INVALID && !event && *tester_log(), "%s", clmoe_status_name(status)); \
    } while (0)
    REFUSED(logits, (struct clmoe_tensor){0});
    REFUSED(logits.shape[0], 5);
    REFUSED(logits.shape[0], -1);
    REFUSED(logits.shape[1], 7);
    REFUSED(logits.dtype, CLMOE_F16);
    REFUSED(logits.stride[1], 2);
    REFUSED(bias, (struct clmoe_tensor){0});
    REFUSED(bias.shape[0], 7);
    REFUSED(bias.dtype, CLMOE_BF16);
    REFUSED(ids.dtype, CLMOE_U32);
    REFUSED(ids.shape[1], 3);
    REFUSED(ids.mem, NULL);
    REFUSED(ids.offset, b.args.ids.offset + 2);
    REFUSED(gamma.dtype, CLMOE_F16);
    REFUSED(gamma.shape[0], 3);
    REFUSED(gamma.offset, (uint64_t)1 << 40);
    REFUSED(gamma.stride[0], 1); /* rows of an output overlap */
    REFUSED(gamma.mem, b.args.logits.mem);
#undef REFUSED
    untouched(&b.ids), untouched(&b.gamma);
    free_buffers(&b);
    clmoe_plan_destroy(&plan);
}
END_TEST

/* k = 0, no tokens: success, an event, no byte written. */
START_TEST(nothing_to_do) {
    struct rng rng = rng_for(1);
    struct clmoe_route_params p = good;
    p.topk = _i ? 2 : 0;
    const int64_t tokens = _i ? 0 : 3;
    for (int row = 0; (p.plan.kernel = clmoe_kernel_name("route", row)); row++) {
        case_begin("%s k=%d T=%lld", p.plan.kernel, p.topk, (long long)tokens);
        clmoe_plan *plan;
        if (!row_fits("route", row, clmoe_route_plan(tester_context(CAPS_OWN), &p, &plan))) continue;
        struct buffers b = make_buffers(&rng, &p, tokens);
        b.args.bias = (struct clmoe_tensor){0};
        cl_event event = NULL;
        case_ok(clmoe_route_enqueue(plan, tester()->queue, &b.args, 0, NULL, &event));
        case_require(event && clWaitForEvents(1, &event) == CL_SUCCESS, "no event");
        clReleaseEvent(event);
        guarded_read(&b.ids, NULL), guarded_read(&b.gamma, NULL);
        free_buffers(&b);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_test(cases, saturated_scores_are_ordered_by_logit);
    tcase_add_loop_test(cases, dropped_groups_stay_below_negative_keys, 0, 4);
    tcase_add_loop_test(cases, kept_groups_win_with_their_worst, 0, 4);
    tcase_add_loop_test(cases, weights_do_not_come_from_keys, 0, 2);
    tcase_add_loop_test(cases, a_sum_of_zeros_leaves_zeros, 0, 2);
    tcase_add_test(cases, weights_that_cancel_stay);
    tcase_add_test(cases, sums_without_a_value_are_lowest);
    tcase_add_loop_test(cases, constant_logits_take_the_first, 0, tester()->small ? 2 : 6);
    tcase_add_test(cases, signed_zeros_tie);
    tcase_add_test(cases, infinities_share_the_softmax);
    tcase_add_loop_test(cases, shifts_change_no_softmax, 0, 2);
    tcase_add_test(cases, permuted_experts_permute_ids);
    tcase_add_loop_test(cases, tokens_do_not_see_each_other, 0, N_BATCH_PARAMS);
    tcase_add_loop_test(cases, known_models, 0, tester()->small ? 1 : N_MODELS);
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    tcase_add_loop_test(cases, nothing_to_do, 0, 2);
}

int main(void) {
    return harness_main("route_rules", "route", add_tests);
}
