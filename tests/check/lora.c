/* SPDX-License-Identifier: MIT
 * lora: adapters given by id, and X-LoRA's mixtures. */
#include "layer_case.h"

#include "data/xlora_goldens.h"
#include "ref/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int adapters, topk;
    int64_t rank, in, out, tokens;
} shapes[] = {
    {2, 1, 8, 32, 48, 5},   {4, 2, 5, 33, 17, 30}, {7, 7, 16, 64, 31, 3},
    {16, 2, 1, 96, 64, 70}, {1, 1, 4, 8, 8, 0},
};
static const enum clmoe_dtype dtypes[] = {CLMOE_F32, CLMOE_BF16, CLMOE_F16};
enum {
    N_SHAPES = sizeof shapes / sizeof *shapes,
    N_DTYPES = 3,
    N_OPTIONS = 8,
    N_IDS = N_SHAPES * N_DTYPES * N_OPTIONS
};

struct lora_case {
    struct clmoe_lora_params params;
    struct layer_sample layer;
    int64_t tokens;
    struct guarded base, y;
    struct clmoe_lora_args args;
};

/* On the heap: args point into it. */
static struct lora_case *make_case(struct rng *rng, const struct clmoe_lora_params *p, int64_t tokens) {
    struct lora_case *const c = matmul_room(1, sizeof *c);
    c->params = *p;
    c->tokens = tokens;
    const struct layer_spec spec = {
        .first = {.max_tokens = tokens,
                  .topk = p->topk,
                  .experts = p->adapters,
                  .in = p->in,
                  .out = p->rank,
                  .x_dtype = p->x_dtype,
                  .w_dtype = p->w_dtype,
                  .y_dtype = CLMOE_F32,
                  .x_rows = CLMOE_ROWS_TOKEN},
        .tokens = tokens,
        .out = p->out,
        .expert_scale = p->adapter_scale,
        .residual = p->base,
        .gamma = CLMOE_GAMMA_OUTPUT,
        .out_scale = p->scale == 0 ? 1 : (double)p->scale,
        .parts = 1,
    };
    c->layer = layer_sample_make(rng, &spec);
    c->base = guarded_floats(rng, p->x_dtype, tokens, p->out, c->layer.residual);
    c->y = guarded_floats(rng, p->x_dtype, tokens, p->out, NULL);
    c->args = (struct clmoe_lora_args){.x = c->layer.d1.x.tensor,
                                       .a = c->layer.d1.w_views[0],
                                       .b = c->layer.d2.w_views[0],
                                       .y = c->y.tensor};
    if (p->adapter_scale) c->args.adapter_scale = c->layer.d2.args.expert_scale;
    if (p->base) c->args.base = c->base.tensor;
    return c;
}

static void free_case(struct lora_case *c) {
    guarded_free(&c->base);
    guarded_free(&c->y);
    layer_sample_free(&c->layer);
    free(c);
}

/* Runs the plan and compares with the routing that the oracle is given. */
static void run_case(struct lora_case *c, enum forced_caps caps, const int32_t *ids, const float *weights) {
    clmoe_plan *plan;
    case_ok(clmoe_lora_plan(tester_context(caps), &c->params, &plan));
    case_ok(clmoe_lora_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
    layer_sample_solve(&c->layer, ids, weights);
    layer_compare(&c->layer, &c->y);
    clmoe_plan_destroy(&plan);
}

START_TEST(adapters_by_id) {
    const int shape = _i % N_SHAPES, dtype = _i / N_SHAPES % N_DTYPES, option = _i / N_SHAPES / N_DTYPES;
    const int64_t tokens = shapes[shape].tokens;
    const enum forced_caps caps = (enum forced_caps)(_i % CAPS_COUNT);
    struct rng rng = rng_for((uint64_t)_i);
    const struct clmoe_lora_params params = {
        .max_tokens = tokens + _i % 3,
        .adapters = shapes[shape].adapters,
        .topk = shapes[shape].topk,
        .rank = shapes[shape].rank,
        .in = shapes[shape].in,
        .out = shapes[shape].out,
        .x_dtype = dtypes[dtype],
        .w_dtype = dtypes[dtype],
        .weights = option & 1,
        .adapter_scale = option >> 1 & 1,
        .base = option >> 2,
        .scale = _i % 4 ? 0.0f : 2.0f,
    };
    case_begin("ids: L=%d k=%d r=%lld %lldx%lld T=%lld %s option %d caps %s", params.adapters, params.topk,
               (long long)params.rank, (long long)params.out, (long long)params.in, (long long)tokens,
               clmoe_dtype_name(params.x_dtype), option, caps_name(caps));
    const int64_t pairs = tokens * params.topk;
    int32_t *const ids = matmul_room(pairs, sizeof *ids);
    float *const weights = matmul_room(pairs, sizeof *weights);
    fill_ids(&rng, ROUTING_SKIPS, ids, tokens, params.topk, params.adapters);
    fill_floats(&rng, FILL_RANDOM, weights, pairs);
    struct lora_case *const c = make_case(&rng, &params, tokens);
    struct guarded d_ids = guarded_ints(&rng, CLMOE_I32, tokens, params.topk, ids);
    struct guarded d_weights = guarded_floats(&rng, CLMOE_F32, tokens, params.topk, weights);
    c->args.ids = d_ids.tensor;
    if (params.weights) c->args.weights = d_weights.tensor;
    run_case(c, caps, ids, params.weights ? weights : NULL);
    guarded_free(&d_ids);
    guarded_free(&d_weights);
    free_case(c);
    free(ids), free(weights);
}
END_TEST

/* ---- X-LoRA ---- */

/* The published vectors: 4 adapters, the 2 best; scalings of the two tokens, and what has to come out of each
 * setting. A mask by multiplication, a softmax over the batch or a temperature applied twice would give other
 * numbers. */
static const float golden_z[2][4] = {{2, 1, 0, -1}, {0, 0.5f, 3, 1}};
static const struct golden {
    const char *name;
    enum clmoe_score score;
    enum clmoe_renorm renorm;
    float temperature;
    double kept[2][2]; /* best first */
    int kept_softmax;
} goldens[] = {
    {"softmax", CLMOE_SCORE_SOFTMAX, CLMOE_RENORM_NONE, 1, {{0.643914, 0.236883}, {0.789137, 0.106798}}, 0},
    {"softmax, temperature 0.5",
     CLMOE_SCORE_SOFTMAX,
     CLMOE_RENORM_NONE,
     0.5f,
     {{0.864955, 0.117059}, {0.973205, 0.017825}},
     0},
    {"softmax over the kept",
     CLMOE_SCORE_SOFTMAX,
     CLMOE_RENORM_SUM,
     1,
     {{0.731059, 0.268941}, {0.880797, 0.119203}},
     0},
    {"raw", CLMOE_SCORE_IDENTITY, CLMOE_RENORM_NONE, 1, {{2, 1}, {3, 1}}, 0},
    /* The temperature is that of the softmax over all adapters. */
    {"raw, temperature 0.5", CLMOE_SCORE_IDENTITY, CLMOE_RENORM_NONE, 0.5f, {{2, 1}, {3, 1}}, 0},
    {"softmax over the kept only, temperature 0.5",
     CLMOE_SCORE_IDENTITY,
     CLMOE_RENORM_NONE,
     0.5f,
     {{0.731059, 0.268941}, {0.880797, 0.119203}},
     1},
};
enum { N_GOLDENS = sizeof goldens / sizeof *goldens };

static struct clmoe_lora_params xlora_params(const struct golden *g, int topk) {
    return (struct clmoe_lora_params){
        .max_tokens = 2,
        .adapters = 4,
        .topk = topk,
        .rank = 3,
        .in = 20,
        .out = 10,
        .source = CLMOE_LORA_SCALINGS,
        .route = {.score = g->score, .renorm = g->renorm, .temperature = g->temperature},
        .kept_softmax = g->kept_softmax,
        .adapter_scale = 1,
        .base = 1,
    };
}

START_TEST(xlora_settings) {
    const struct golden *const g = &goldens[_i];
    struct rng rng = rng_for(100);
    case_begin("X-LoRA: %s", g->name);
    const struct clmoe_lora_params params = xlora_params(g, 2);
    float z[8], weights[4];
    const int32_t ids[4] = {0, 1, 2, 3};
    for (int i = 0; i < 8; i++)
        z[i] = golden_z[i / 4][i % 4];
    for (int i = 0; i < 4; i++)
        weights[i] = (float)g->kept[i / 2][i % 2];
    struct lora_case *const c = make_case(&rng, &params, 2);
    struct guarded d_z = guarded_floats(&rng, CLMOE_F32, 2, 4, z);
    c->args.scalings = d_z.tensor;
    run_case(c, CAPS_OWN, ids, weights);
    guarded_free(&d_z);
    free_case(c);
}
END_TEST

/* Softmax over what was kept: each slot has its own value's weight, though the scores of sparsemixer need not
 * descend. */
static const struct {
    const char *name;
    struct clmoe_route_params route;
    float z[2][4];
    double kept[2][2];
} kept_settings[] = {
    {"values",
     {.score = CLMOE_SCORE_IDENTITY},
     {{2, 1, 0, -1}, {0, 0.5f, 3, 1}},
     {{0.731059, 0.268941}, {0.880797, 0.119203}}},
    {"sparsemixer", /* scores 0.33667, 0.5025 */
     {.score = CLMOE_SCORE_SPARSEMIXER},
     {{2, 1.99f, 1.98f, -1}, {-1, 1.98f, 2, 1.99f}},
     {{0.458636, 0.541364}, {0.458636, 0.541364}}},
};
enum { N_KEPT = sizeof kept_settings / sizeof *kept_settings };

START_TEST(softmax_of_the_kept) {
    struct rng rng = rng_for(101);
    case_begin("kept softmax: %s", kept_settings[_i].name);
    struct clmoe_lora_params params = xlora_params(&goldens[0], 2);
    params.route = kept_settings[_i].route;
    params.kept_softmax = 1;
    const int32_t ids[4] = {0, 1, 2, 3};
    float weights[4];
    for (int i = 0; i < 4; i++)
        weights[i] = (float)kept_settings[_i].kept[i / 2][i % 2];
    struct lora_case *const c = make_case(&rng, &params, 2);
    struct guarded d_z = guarded_floats(&rng, CLMOE_F32, 2, 4, kept_settings[_i].z[0]);
    c->args.scalings = d_z.tensor;
    run_case(c, CAPS_OWN, ids, weights);
    guarded_free(&d_z);
    free_case(c);
}
END_TEST

/* ---- PEFT's own layer ---- */

/* What the layer of PEFT gets, on the device: A and B padded to the largest rank, NaN where the padding is,
 * and the scalings of all layers in one array. */
struct peft_layer {
    struct guarded x, a, b, scale, ranks, scalings, base, w, y;
};

static struct guarded padded(struct rng *rng, const float *values, int64_t rows, int64_t columns) {
    float *const v = matmul_room(XLORA_ADAPTERS * rows * columns, sizeof *v);
    for (int64_t i = 0; i < XLORA_ADAPTERS * rows * columns; i++)
        v[i] = values[i] == 1000.0f ? NAN : values[i];
    const int64_t shape[] = {XLORA_ADAPTERS, rows, columns};
    struct guarded g = guarded_bytes(rng, CLMOE_F32, 3, shape, v);
    free(v);
    return g;
}

static struct peft_layer upload_peft(struct rng *rng) {
    return (struct peft_layer){
        .x = guarded_floats(rng, CLMOE_F32, XLORA_TOKENS, XLORA_IN, xlora_x),
        .a = padded(rng, xlora_a, XLORA_RANK, XLORA_IN),
        .b = padded(rng, xlora_b, XLORA_OUT, XLORA_RANK),
        .scale = guarded_floats(rng, CLMOE_F32, 1, XLORA_ADAPTERS, xlora_scale),
        .ranks = guarded_ints(rng, CLMOE_I32, 1, XLORA_ADAPTERS, xlora_ranks),
        .scalings =
            guarded_floats(rng, CLMOE_F32, XLORA_TOKENS, XLORA_LAYERS * XLORA_ADAPTERS, xlora_scalings),
        .base = guarded_floats(rng, CLMOE_F32, XLORA_TOKENS, XLORA_OUT, xlora_base),
        .w = guarded_floats(rng, CLMOE_F32, XLORA_OUT, XLORA_IN, xlora_w),
        .y = guarded_floats(rng, CLMOE_F32, XLORA_TOKENS, XLORA_OUT, NULL),
    };
}

static void free_peft(struct peft_layer *p) {
    guarded_free(&p->x), guarded_free(&p->a), guarded_free(&p->b), guarded_free(&p->scale);
    guarded_free(&p->ranks), guarded_free(&p->scalings), guarded_free(&p->base), guarded_free(&p->w);
    guarded_free(&p->y);
}

/* Rows first .. first + n - 1 of a matrix, of its columns from `column` on. */
static struct clmoe_tensor window(const struct guarded *g, int64_t first, int64_t n, int64_t column,
                                  int64_t columns) {
    struct clmoe_tensor t = g->tensor;
    t.offset += (uint64_t)(first * t.stride[0] + column) * sizeof(float);
    t.shape[0] = n;
    t.shape[1] = columns;
    return t;
}

/* In calls of `step` tokens: the whole batch, and a token at a time, which goes another way. The frozen layer
 * is a part of the plan, or its output is given. */
static void run_peft(const struct peft_layer *p, const struct xlora_golden *g,
                     const struct clmoe_lora_params *params, int64_t step) {
    clmoe_plan *plan;
    case_ok(clmoe_lora_plan(tester_context(CAPS_OWN), params, &plan));
    float got[XLORA_TOKENS * XLORA_OUT];
    const int layer = g->layer < 0 ? 0 : g->layer;
    for (int64_t t = 0; t < XLORA_TOKENS; t += step) {
        struct clmoe_lora_args args = {
            .x = window(&p->x, t, step, 0, XLORA_IN),
            .a = p->a.tensor,
            .b = p->b.tensor,
            .adapter_scale = as_1d(&p->scale),
            .ranks = as_1d(&p->ranks),
            .scalings = window(&p->scalings, t, step, layer * XLORA_ADAPTERS, XLORA_ADAPTERS),
            .y = window(&p->y, t, step, 0, XLORA_OUT),
        };
        if (params->base) args.base = window(&p->base, t, step, 0, XLORA_OUT);
        if (params->w) args.w = p->w.tensor;
        case_ok(clmoe_lora_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    }
    clmoe_plan_destroy(&plan);
    guarded_read_floats(&p->y, got);
    for (int i = 0; i < XLORA_TOKENS * XLORA_OUT; i++)
        case_require(fabsf(got[i] - g->y[i]) <= 1e-5f * (fabsf(g->y[i]) + 10), "y[%d] = %g, PEFT has %g", i,
                     (double)got[i], (double)g->y[i]);
}

enum { N_PEFT = sizeof xlora_goldens / sizeof *xlora_goldens };

START_TEST(xlora_as_peft_does_it) {
    const struct xlora_golden *const g = &xlora_goldens[_i];
    struct rng rng = rng_for((uint64_t)_i + 400);
    struct clmoe_lora_params params = {
        .max_tokens = XLORA_TOKENS,
        .adapters = XLORA_ADAPTERS,
        .topk = g->topk,
        .rank = XLORA_RANK,
        .in = XLORA_IN,
        .out = XLORA_OUT,
        .source = CLMOE_LORA_SCALINGS,
        .route = {.score = g->softmax ? CLMOE_SCORE_SOFTMAX : CLMOE_SCORE_IDENTITY,
                  .scale = g->weight,
                  .temperature = g->temperature},
        .kept_softmax = g->kept_softmax,
        .adapter_scale = 1,
        .ranks = 1,
        .base = 1,
    };
    case_begin("PEFT: %s", g->name);
    struct peft_layer p = upload_peft(&rng);
    run_peft(&p, g, &params, XLORA_TOKENS);
    run_peft(&p, g, &params, 1);
    params.w = 1;
    params.base = 0;
    run_peft(&p, g, &params, XLORA_TOKENS);
    free_peft(&p);
}
END_TEST

/* The scalings of a token are its own business: with other neighbours it gets the same bits. (A softmax over
 * the whole batch was PEFT's bug.) */
START_TEST(a_token_among_others) {
    struct rng rng = rng_for(500);
    case_begin("X-LoRA: a token among others");
    struct clmoe_lora_params params = xlora_params(&goldens[2], 2);
    params.route.renorm = CLMOE_RENORM_NONE;
    params.route.score = CLMOE_SCORE_SOFTMAX;
    params.kept_softmax = 1;
    params.max_tokens = 9;
    struct lora_case *const c = make_case(&rng, &params, 9);
    float first[90], second[90], z[36];
    clmoe_plan *plan;
    case_ok(clmoe_lora_plan(tester_context(CAPS_OWN), &params, &plan));
    for (int run = 0; run < 2; run++) {
        for (int i = run ? 8 : 0; i < 36; i++) /* the two first tokens keep theirs */
            z[i] = rng_float(&rng);
        struct guarded d_z = guarded_floats(&rng, CLMOE_F32, 9, 4, z);
        c->args.scalings = d_z.tensor;
        case_ok(clmoe_lora_enqueue(plan, tester()->queue, &c->args, 0, NULL, NULL));
        guarded_read_floats(&c->y, run ? second : first);
        guarded_free(&d_z);
    }
    const size_t kept = (size_t)(2 * params.out) * sizeof *first;
    case_require(memcmp(first, second, kept) == 0, "tokens 0 and 1 depend on the others (%zu bytes)", kept);
    case_require(memcmp(first, second, sizeof first) != 0, "the other %d tokens are the same", 7);
    clmoe_plan_destroy(&plan);
    free_case(c);
}
END_TEST

/* inf and NaN of adapters that were not chosen leave no trace, a chosen zero is kept, negative scalings count
 * as they are: the largest values are chosen, not the largest magnitudes. */
START_TEST(xlora_traps) {
    struct rng rng = rng_for(200);
    case_begin("X-LoRA traps");
    const struct clmoe_lora_params params = xlora_params(&goldens[3], 2);
    const float z[8] = {0.7f, 0, -0.2f, -INFINITY, -5, NAN, -1, -INFINITY};
    const int32_t ids[4] = {0, 1, 2, 0};
    const float weights[4] = {0.7f, 0, -1, -5};
    struct lora_case *const c = make_case(&rng, &params, 2);
    struct guarded d_z = guarded_floats(&rng, CLMOE_F32, 2, 4, z);
    c->args.scalings = d_z.tensor;
    run_case(c, CAPS_OWN, ids, weights);
    guarded_free(&d_z);
    free_case(c);
}
END_TEST

/* A second softmax has no place beside another way to renormalise the kept weights. */
START_TEST(bad_kept_softmax) {
    static const struct clmoe_route_params routes[] = {
        {.renorm = CLMOE_RENORM_SUM},
        {.score = CLMOE_SCORE_IDENTITY, .renorm_eps = 1},
    };
    struct clmoe_lora_params params = xlora_params(&goldens[3], 2);
    params.kept_softmax = 1;
    params.route = routes[_i];
    case_begin("kept_softmax with score %d", (int)params.route.score);
    clmoe_plan *plan = (clmoe_plan *)&params;
    const enum clmoe_status status = clmoe_lora_plan(tester_context(CAPS_OWN), &params, &plan);
    case_require(status == CLMOE_E_INVALID && !plan, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "nothing was logged");
}
END_TEST

/* All adapters kept with weight 0: y = base, bit for bit. */
START_TEST(zero_weights) {
    struct rng rng = rng_for(300);
    case_begin("weights of zero");
    struct clmoe_lora_params params = xlora_params(&goldens[0], 4);
    params.source = CLMOE_LORA_IDS;
    params.route = (struct clmoe_route_params){.score = CLMOE_SCORE_SOFTMAX};
    params.weights = 1;
    const float zeros[8] = {0};
    const int32_t ids[8] = {0, 1, 2, 3, 3, 2, 1, 0};
    struct lora_case *const c = make_case(&rng, &params, 2);
    struct guarded d_ids = guarded_ints(&rng, CLMOE_I32, 2, 4, ids);
    struct guarded d_zeros = guarded_floats(&rng, CLMOE_F32, 2, 4, zeros);
    c->args.ids = d_ids.tensor;
    c->args.weights = d_zeros.tensor;
    run_case(c, CAPS_OWN, ids, zeros);
    for (int64_t i = 0; i < 2 * params.out; i++)
        case_require(c->layer.got[i] == c->layer.residual[i], "y[%lld] = %g, base %g", (long long)i,
                     (double)c->layer.got[i], (double)c->layer.residual[i]);
    guarded_free(&d_ids);
    guarded_free(&d_zeros);
    free_case(c);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, adapters_by_id, 0, tester()->small ? N_SHAPES - 2 : N_IDS);
    tcase_add_loop_test(cases, xlora_settings, 0, N_GOLDENS);
    tcase_add_loop_test(cases, softmax_of_the_kept, 0, N_KEPT);
    tcase_add_loop_test(cases, xlora_as_peft_does_it, 0, tester()->small ? 1 : N_PEFT);
    tcase_add_test(cases, a_token_among_others);
    tcase_add_test(cases, xlora_traps);
    tcase_add_loop_test(cases, bad_kept_softmax, 0, 2);
    tcase_add_test(cases, zero_weights);
}

int main(void) {
    return harness_main("lora", "", add_tests);
}
