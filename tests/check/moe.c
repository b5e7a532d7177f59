/* SPDX-License-Identifier: MIT
 * moe: whole layers, as families of models have them, against the oracles of their stages. */
#include "layer_case.h"

#include "ref/quant.h"
#include "ref/convert.h"
#include "ref/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct family {
    const char *name;
    int experts, topk;
    struct clmoe_route_params route;
    enum clmoe_glu glu;
    enum clmoe_w_order order;
    struct clmoe_activation act;
    bool gamma_on_input, bias1, bias2, router_bias;
} families[] = {
    {"mixtral", 8, 2, {.renorm = CLMOE_RENORM_SUM}, CLMOE_GLU_APART, CLMOE_W_ENK, {CLMOE_ACT_SILU}},
    {"qwen3", 16, 4, {.renorm = CLMOE_RENORM_SUM}, CLMOE_GLU_GATE_UP, CLMOE_W_ENK, {CLMOE_ACT_SILU}},
    {"olmoe", 12, 3, {.score = CLMOE_SCORE_SOFTMAX}, CLMOE_GLU_UP_GATE, CLMOE_W_ENK, {CLMOE_ACT_SILU}},
    {"deepseek-v3",
     16,
     4,
     {.score = CLMOE_SCORE_SIGMOID,
      .bias = 1,
      .n_group = 4,
      .topk_group = 2,
      .group_score = CLMOE_GROUP_TOP2_SUM,
      .renorm = CLMOE_RENORM_SUM,
      .renorm_eps = 1e-20f,
      .scale = 2.5f},
     CLMOE_GLU_GATE_UP,
     CLMOE_W_ENK,
     {CLMOE_ACT_SILU}},
    {"gpt-oss",
     8,
     4,
     {.renorm = CLMOE_RENORM_SUM},
     CLMOE_GLU_INTERLEAVED,
     CLMOE_W_EKN,
     {CLMOE_ACT_SILU, 1.702f, 7, 7, 1},
     false,
     true,
     true,
     true},
    {"llama-4", 4, 1, {.score = CLMOE_SCORE_SIGMOID}, CLMOE_GLU_GATE_UP, CLMOE_W_EKN, {CLMOE_ACT_SILU}, true},
    {"nemotron",
     6,
     2,
     {.score = CLMOE_SCORE_SIGMOID, .renorm = CLMOE_RENORM_SUM},
     CLMOE_GLU_NONE,
     CLMOE_W_ENK,
     {CLMOE_ACT_RELU2}},
};
static const int64_t tokens[] = {1, 3, 0, 17, 70};
static const enum clmoe_dtype dtypes[][4] = {
    /* x, w1, mid, w2 */
    {CLMOE_F32, CLMOE_F32, CLMOE_F32, CLMOE_F32},  {CLMOE_BF16, CLMOE_BF16, CLMOE_BF16, CLMOE_BF16},
    {CLMOE_F16, CLMOE_F16, CLMOE_F32, CLMOE_F16},  {CLMOE_F32, CLMOE_F8_E4M3, CLMOE_F32, CLMOE_I8},
    {CLMOE_F32, CLMOE_F16, CLMOE_F32, CLMOE_Q8_0}, {CLMOE_F32, CLMOE_Q8_0, CLMOE_F32, CLMOE_BF16},
};
static const struct clmoe_w_scale scale_blocks = {CLMOE_F32, 48, 32};
enum { N_FAMILIES = sizeof families / sizeof *families, N_TOKENS = sizeof tokens / sizeof *tokens };
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes, N_CASES = N_FAMILIES * N_TOKENS * N_DTYPES };

#define HIDDEN 96
#define INTER 64

/* Everything of one case that lives on the device besides the weights. */
struct moe_case {
    struct clmoe_moe_params params;
    struct layer_sample layer;
    float *router, *router_bias, *select_bias, *logits, *gamma, *device_gamma;
    int32_t *ids;
    struct guarded d_router, d_router_bias, d_select_bias, d_logits, d_ids, d_gamma, residual, shared, y;
    struct clmoe_moe_args args;
};

static float *rounded(struct rng *rng, enum clmoe_dtype dtype, int64_t n, float factor) {
    float *const v = matmul_room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = ref_round(dtype, factor * rng_float(rng));
    return v;
}

static struct clmoe_moe_params params_of(const struct family *f, const enum clmoe_dtype *dtype,
                                         int64_t max_tokens, int i) {
    struct clmoe_moe_params p = {
        .max_tokens = max_tokens,
        .experts = f->experts,
        .topk = f->topk,
        .hidden = HIDDEN,
        .inter = INTER,
        .x_dtype = dtype[0],
        .w_dtype = dtype[1],
        .mixed = dtype[1] != dtype[3],
        .w2_dtype = dtype[1] != dtype[3] ? dtype[3] : CLMOE_F32,
        .mid_dtype = dtype[2],
        .bias_dtype = CLMOE_F32,
        .source = (enum clmoe_moe_source)(i % 3),
        .route = f->route,
        .w_scale = ref_is_scaled(dtype[1]) ? scale_blocks : (struct clmoe_w_scale){0},
        .w_order = ref_is_coded(dtype[1]) || ref_is_coded(dtype[3]) ? CLMOE_W_ENK : f->order,
        .glu = f->glu,
        .act = f->act,
        .gamma_on_input = f->gamma_on_input,
        .bias1 = f->bias1,
        .bias2 = f->bias2,
        .router_bias = f->router_bias && i % 3 == CLMOE_MOE_ROUTER,
        .residual = i % 2,
        .shared = i % 5 == 0,
        .out_scale = i % 4 ? 0.0f : 0.5f,
    };
    /* Of the families that have gate and up rows apart, in turn with fp8 and int8: 4 bits in groups, for
     * both. */
    if (ref_is_scaled(dtype[1]) && f->glu == CLMOE_GLU_APART && i % 2) {
        p.w_dtype = CLMOE_I32, p.mixed = 0, p.w2_dtype = CLMOE_F32;
        p.w_order = CLMOE_W_AWQ;
        p.w_scale = (struct clmoe_w_scale){CLMOE_F16, 1, 32, CLMOE_ZERO_GIVEN};
    }
    return p;
}

/* Logits in fp32 from the exact ones: what the oracle of route takes. */
static void solve_logits(struct moe_case *c, int64_t t_count) {
    const struct clmoe_moe_params *const p = &c->params;
    if (p->source == CLMOE_MOE_LOGITS) return;
    for (int64_t t = 0; t < t_count; t++)
        for (int e = 0; e < p->experts; e++) {
            double sum = p->router_bias ? (double)c->router_bias[e] : 0;
            for (int h = 0; h < HIDDEN; h++)
                sum += (double)c->layer.first.x[t * HIDDEN + h] * (double)c->router[e * HIDDEN + h];
            c->logits[t * p->experts + e] = (float)sum;
        }
}

static void add_operands(struct rng *rng, struct moe_case *c, int64_t t) {
    const struct clmoe_moe_params *const p = &c->params;
    const int e = p->experts;
    c->d_router = guarded_floats(rng, p->x_dtype, e, HIDDEN, c->router);
    c->d_router_bias = guarded_floats(rng, CLMOE_F32, 1, e, c->router_bias);
    c->d_select_bias = guarded_floats(rng, CLMOE_F32, 1, e, c->select_bias);
    c->d_logits = guarded_floats(rng, p->x_dtype, t, e, c->logits);
    c->d_ids = guarded_ints(rng, CLMOE_I32, t, p->topk, p->source == CLMOE_MOE_IDS ? c->ids : NULL);
    c->d_gamma = guarded_floats(rng, CLMOE_F32, t, p->topk, p->source == CLMOE_MOE_IDS ? c->gamma : NULL);
    c->y = guarded_floats(rng, p->x_dtype, t, HIDDEN, NULL);
    struct layer_sample *const l = &c->layer;
    c->args = (struct clmoe_moe_args){
        .x = l->d1.x.tensor, .w1 = l->d1.w_views, .w2 = l->d2.w_views, .n_w = l->d1.parts, .y = c->y.tensor};
    if (p->glu == CLMOE_GLU_APART && p->w_order != CLMOE_W_PACKED) c->args.w1_up = l->d1.w_up_views;
    c->args.w1_scale = l->d1.args.w_scale;
    c->args.w1_scale_up = l->d1.args.w_scale_up;
    c->args.w2_scale = l->d2.args.w_scale;
    c->args.w1_zero = l->d1.args.w_zero;
    c->args.w1_zero_up = l->d1.args.w_zero_up;
    c->args.w2_zero = l->d2.args.w_zero;
    if (p->bias1) c->args.bias1 = l->d1.bias.tensor;
    if (p->bias1 && p->glu == CLMOE_GLU_APART) c->args.bias1_up = l->d1.bias_up.tensor;
    if (p->bias2) c->args.bias2 = l->d2.bias.tensor;
    if (p->source == CLMOE_MOE_ROUTER) c->args.router = c->d_router.tensor;
    if (p->router_bias) c->args.router_bias = as_1d(&c->d_router_bias);
    if (p->source == CLMOE_MOE_LOGITS) c->args.logits = c->d_logits.tensor;
    if (p->source != CLMOE_MOE_IDS && p->route.bias) c->args.select_bias = as_1d(&c->d_select_bias);
    const bool given = p->source == CLMOE_MOE_IDS;
    *(given ? &c->args.ids : &c->args.out_ids) = c->d_ids.tensor;
    *(given ? &c->args.gamma : &c->args.out_gamma) = c->d_gamma.tensor;
    c->residual = guarded_floats(rng, p->x_dtype, t, HIDDEN, l->residual);
    c->shared = guarded_floats(rng, p->x_dtype, t, HIDDEN, l->shared);
    if (p->residual) c->args.residual = c->residual.tensor;
    if (p->shared) c->args.shared = c->shared.tensor;
}

/* On the heap: args point into it. */
static struct moe_case *make_case(struct rng *rng, const struct clmoe_moe_params *params, int64_t t,
                                  int parts) {
    struct moe_case *const c = matmul_room(1, sizeof *c);
    c->params = *params;
    const struct layer_spec spec = {
        .first = {.max_tokens = t,
                  .topk = params->topk,
                  .experts = params->experts,
                  .in = HIDDEN,
                  .out = INTER,
                  .x_dtype = params->x_dtype,
                  .w_dtype = params->w_dtype,
                  .y_dtype = params->mid_dtype,
                  .bias_dtype = params->bias_dtype,
                  .w_scale = params->w_scale,
                  .w_order = params->w_order,
                  .glu = params->glu,
                  .act = params->act,
                  .x_rows = CLMOE_ROWS_TOKEN,
                  .bias = params->bias1},
        .tokens = t,
        .out = HIDDEN,
        .bias2 = params->bias2,
        .residual = params->residual,
        .shared = params->shared,
        .out_scale = params->out_scale == 0 ? 1 : (double)params->out_scale,
        .gamma = params->gamma_on_input ? CLMOE_GAMMA_INPUT : CLMOE_GAMMA_OUTPUT,
        .parts = parts,
        .mixed = params->mixed,
        .w2_dtype = params->w2_dtype,
    };
    const int e = params->experts;
    c->layer = layer_sample_make(rng, &spec);
    c->router = rounded(rng, params->x_dtype, e * HIDDEN, 0.2f);
    c->router_bias = rounded(rng, CLMOE_F32, e, 1.0f);
    c->select_bias = rounded(rng, CLMOE_F32, e, 0.1f);
    c->logits = rounded(rng, params->x_dtype, t * e, 2.0f);
    c->ids = matmul_room(t * params->topk, sizeof *c->ids);
    c->gamma = rounded(rng, CLMOE_F32, t * params->topk, 1.0f);
    c->device_gamma = matmul_room(t * params->topk, sizeof *c->device_gamma);
    fill_ids(rng, ROUTING_SKIPS, c->ids, t, params->topk, e);
    solve_logits(c, t);
    add_operands(rng, c, t);
    return c;
}

static void free_case(struct moe_case *c) {
    struct guarded *const all[] = {&c->d_router, &c->d_router_bias, &c->d_select_bias,
                                   &c->d_logits, &c->d_ids,         &c->d_gamma,
                                   &c->residual, &c->shared,        &c->y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        guarded_free(all[i]);
    free(c->router), free(c->router_bias), free(c->select_bias), free(c->logits), free(c->ids),
        free(c->gamma);
    free(c->device_gamma);
    layer_sample_free(&c->layer);
    free(c);
}

/* The device's choice must be the oracle's where no other choice is near: margin 1e-4 between the keys that
 * decide. */
static void check_routing(struct moe_case *c, int64_t t_count) {
    const struct clmoe_moe_params *const p = &c->params;
    struct clmoe_route_params route = p->route;
    route.experts = p->experts;
    route.topk = p->topk;
    struct ref_expert *const x = matmul_room(p->experts, sizeof *x);
    double gamma[64], condition;
    guarded_read(&c->d_ids, c->ids);
    guarded_read(&c->d_gamma, c->device_gamma);
    for (int64_t t = 0; t < t_count; t++) {
        int32_t want[64], *const got = c->ids + t * p->topk;
        ref_route_experts(&route, c->logits + t * p->experts, route.bias ? c->select_bias : NULL, x);
        ref_route_select(&route, x, want);
        for (int j = 0; j < p->topk; j++) {
            const bool close =
                fabs(x[got[j]].key - x[want[j]].key) < 1e-4 ||
                (p->route.n_group > 1 && fabs(x[got[j]].group_score - x[want[j]].group_score) < 1e-4);
            case_require(got[j] >= 0 && got[j] < p->experts && (got[j] == want[j] || close),
                         "token %lld slot %d: expert %d, expected %d", (long long)t, j, (int)got[j],
                         (int)want[j]);
        }
        ref_route_weights(&route, x, got, gamma, &condition);
        for (int j = 0; j < p->topk; j++)
            case_require(fabs((double)c->device_gamma[t * p->topk + j] - gamma[j]) <=
                             1e-4 * fabs(gamma[j]) + 1e-6,
                         "token %lld slot %d: gamma %g, expected %g", (long long)t, j,
                         (double)c->device_gamma[t * p->topk + j], gamma[j]);
    }
    free(x);
}

static void run_case(struct moe_case *c, clmoe_context *ctx, int64_t t, cl_command_queue queue) {
    clmoe_plan *plan;
    case_ok(clmoe_moe_plan(ctx, &c->params, &plan));
    cl_event event = NULL;
    case_ok(clmoe_moe_enqueue(plan, queue, &c->args, 0, NULL, &event));
    ck_assert_int_eq(clWaitForEvents(1, &event), CL_SUCCESS);
    clReleaseEvent(event);
    if (c->params.source != CLMOE_MOE_IDS) check_routing(c, t);
    layer_sample_solve(&c->layer, c->ids, c->params.source == CLMOE_MOE_IDS ? c->gamma : c->device_gamma);
    layer_compare(&c->layer, &c->y);
    clmoe_plan_destroy(&plan);
}

START_TEST(families_against_reference) {
    const struct family *const f = &families[_i % N_FAMILIES];
    const int64_t t = tokens[_i / N_FAMILIES % N_TOKENS];
    const enum clmoe_dtype *const dtype = dtypes[_i / N_FAMILIES / N_TOKENS];
    const enum forced_caps caps = (enum forced_caps)(_i % CAPS_COUNT);
    struct rng rng = rng_for((uint64_t)_i + 1000);
    const int parts = _i % 3 == 0 ? 1 : _i % 3 == 1 ? 2 : f->experts;
    const struct clmoe_moe_params params = params_of(f, dtype, t + _i % 2 * 40, _i);
    case_begin("%s T=%lld %s/%s/%s/%s source %d parts %d caps %s", f->name, (long long)t,
               clmoe_dtype_name(dtype[0]), clmoe_dtype_name(dtype[1]), clmoe_dtype_name(dtype[2]),
               clmoe_dtype_name(dtype[3]), (int)params.source, parts, caps_name(caps));
    struct moe_case *const c = make_case(&rng, &params, t, parts);
    run_case(c, tester_context(caps), t, _i % 2 ? tester()->ooo_queue : tester()->queue);
    free_case(c);
}
END_TEST

/* Each row of matmul by name, so that the layer is right whichever the device prefers. Rows that want packed
 * weights refuse and are met in packed_weights. */
START_TEST(every_matmul_row) {
    int ran = 0;
    const char *name;
    for (int row = 0; (name = clmoe_kernel_name("matmul", row)); row++) {
        struct rng rng = rng_for((uint64_t)row + 2000);
        struct clmoe_moe_params params = params_of(&families[1], dtypes[0], 33, 3);
        params.plan.kernel = name;
        case_begin("every matmul row: %s", name);
        clmoe_plan *plan;
        const enum clmoe_status status = clmoe_moe_plan(tester_context(CAPS_OWN), &params, &plan);
        if (status == CLMOE_E_UNSUPPORTED) continue;
        case_ok(status);
        clmoe_plan_destroy(&plan);
        struct moe_case *const c = make_case(&rng, &params, 33, 1);
        run_case(c, tester_context(CAPS_OWN), 33, tester()->queue);
        free_case(c);
        ran++;
    }
    ck_assert_int_ge(ran, 2);
}
END_TEST

/* Packed weights, as CPU devices want them: with and without a gate, few tokens and many. */
START_TEST(packed_weights) {
    static const int which[] = {0, 6};
    struct rng rng = rng_for((uint64_t)_i + 2500);
    const int64_t t = _i % 2 ? 40 : 3;
    const enum clmoe_dtype *const dtype = dtypes[_i / 4];
    struct clmoe_moe_params params = params_of(&families[which[_i / 2 % 2]], dtype, t, _i + 3);
    params.w_order = CLMOE_W_PACKED;
    case_begin("packed weights: %s T=%lld %s", families[which[_i / 2 % 2]].name, (long long)t,
               clmoe_dtype_name(dtype[1]));
    struct moe_case *const c = make_case(&rng, &params, t, 1 + _i % 2);
    run_case(c, tester_context(CAPS_OWN), t, tester()->queue);
    free_case(c);
}
END_TEST

/* y(2 gamma) = 2 y(gamma), bit for bit: gamma is applied once, neither never nor twice. */
START_TEST(gamma_exactly_once) {
    struct rng rng = rng_for(3000);
    const int64_t t = _i ? 40 : 2; /* both paths */
    case_begin("gamma exactly once, T=%lld", (long long)t);
    struct clmoe_moe_params params = params_of(&families[1], dtypes[0], t, 2);
    params.residual = params.shared = 0;
    struct moe_case *const c = make_case(&rng, &params, t, 1);
    const int64_t cells = t * HIDDEN;
    float *const once = matmul_room(cells, sizeof *once), *const twice = matmul_room(cells, sizeof *twice);
    clmoe_plan *plan;
    case_ok(clmoe_moe_plan(tester_context(CAPS_OWN), &params, &plan));
    case_ok(clmoe_moe_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
    guarded_read_floats(&c->y, once);
    for (int64_t i = 0; i < t * params.topk; i++)
        c->gamma[i] *= 2;
    struct guarded doubled = guarded_floats(&rng, CLMOE_F32, t, params.topk, c->gamma);
    c->args.gamma = doubled.tensor;
    case_ok(clmoe_moe_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
    guarded_read_floats(&c->y, twice);
    for (int64_t i = 0; i < cells; i++)
        case_require(twice[i] == 2 * once[i], "y[%lld]: %g, then %g", (long long)i, (double)once[i],
                     (double)twice[i]);
    clmoe_plan_destroy(&plan);
    guarded_free(&doubled);
    free(once), free(twice);
    free_case(c);
}
END_TEST

/* The residual stream in place: y is residual. */
START_TEST(in_place_residual) {
    struct rng rng = rng_for(4000);
    case_begin("y is residual");
    struct clmoe_moe_params params = params_of(&families[0], dtypes[0], 9, 3);
    struct moe_case *const c = make_case(&rng, &params, 9, 1);
    ck_assert(params.residual);
    guarded_free(&c->y);
    c->y = guarded_floats(&rng, params.x_dtype, 9, HIDDEN, c->layer.residual);
    c->args.y = c->args.residual = c->y.tensor;
    run_case(c, tester_context(CAPS_OWN), 9, tester()->queue);
    free_case(c);
}
END_TEST

/* A layer takes any smaller number of tokens, and a repeated run gives the same bits. */
START_TEST(one_plan_many_sizes) {
    struct rng rng = rng_for(5000);
    case_begin("one plan, many sizes");
    const struct clmoe_moe_params params = params_of(&families[3], dtypes[1], 64, 1);
    clmoe_plan *plan;
    case_ok(clmoe_moe_plan(tester_context(CAPS_OWN), &params, &plan));
    for (int64_t t = 0; t <= 64; t = 2 * t + 1) {
        struct moe_case *const c = make_case(&rng, &params, t, 1);
        float *const before = matmul_room(t * HIDDEN, sizeof *before);
        case_ok(clmoe_moe_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
        guarded_read_floats(&c->y, before);
        check_routing(c, t);
        layer_sample_solve(&c->layer, c->ids, c->device_gamma);
        case_ok(clmoe_moe_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
        layer_compare(&c->layer, &c->y);
        case_require(memcmp(before, c->layer.got, (size_t)(t * HIDDEN) * sizeof *before) == 0,
                     "T=%lld: two runs differ", (long long)t);
        free(before);
        free_case(c);
    }
    clmoe_plan_destroy(&plan);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, families_against_reference, 0, tester()->small ? N_FAMILIES : N_CASES);
    tcase_add_test(cases, in_place_residual);
    tcase_add_loop_test(cases, gamma_exactly_once, 0, 2);
    if (tester()->small) return;
    tcase_add_test(cases, every_matmul_row);
    tcase_add_loop_test(cases, packed_weights, 0, 12);
    tcase_add_test(cases, one_plan_many_sizes);
}

int main(void) {
    return harness_main("moe", "", add_tests);
}
