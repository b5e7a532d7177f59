/* SPDX-License-Identifier: MIT
 * matmul: the traps by name, on every row of its table, and the rules of its header. */
#include "matmul_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct clmoe_matmul_params plain = {
    .max_tokens = 40,
    .topk = 2,
    .experts = 2,
    .in = 32,
    .out = 32,
    .routing = CLMOE_ROUTING_SORTED,
};

/* Uploads, runs a plan, reads y. */
static void run_plan(struct rng *rng, struct matmul_sample *s, clmoe_plan *plan) {
    struct matmul_operands d;
    matmul_upload(rng, s, &d);
    case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
    guarded_read_floats(&d.y, s->got);
    matmul_operands_free(&d);
}

/* The plan of row `row`, or NULL if it refuses. */
static clmoe_plan *plan_row(struct matmul_sample *s, int row, const char *what) {
    clmoe_plan *plan;
    s->params.plan.kernel = clmoe_kernel_name("matmul", row);
    case_begin("%s: %s %s", what, s->params.plan.kernel, matmul_case_name(s));
    return row_fits("matmul", row, clmoe_matmul_plan(tester_context(CAPS_ONE_UNIT), &s->params, &plan))
               ? plan
               : NULL;
}

static const enum clmoe_w_order both_orders[] = {CLMOE_W_ENK, CLMOE_W_PACKED};
static const enum clmoe_routing routings[] = {CLMOE_ROUTING_SORTED, CLMOE_ROUTING_IDS};

/* W0 = I, W1 = 2I, gates 0.9 and 0.1: the rows of a token add up to 1.1 x, without gamma to 3 x. */
START_TEST(gamma_exactly_once) {
    struct rng rng = rng_for(1);
    struct clmoe_matmul_params params = plain;
    params.gamma = (enum clmoe_gamma)(_i % 3);
    params.w_order = both_orders[_i / 3 % 2];
    params.routing = routings[_i / 6];
    params.x_rows = CLMOE_ROWS_TOKEN;
    const int64_t tokens = 5;
    struct matmul_sample s = matmul_sample_make(&rng, &params, tokens, ROUTING_RANDOM, 1);
    for (int64_t i = 0; i < 2 * 32 * 32; i++)
        s.gate[i] = i % 33 == 0 && i < 1024 ? 1.0f : (i - 1024) % 33 == 0 && i >= 1024 ? 2.0f : 0.0f;
    for (int64_t p = 0; p < s.pairs; p++) {
        s.ids[p] = p % 2;
        if (s.gamma) s.gamma[p] = p % 2 ? 0.1f : 0.9f;
    }
    matmul_sample_sort(&s);
    const double factor = params.gamma ? 1.1 : 3.0;
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        clmoe_plan *plan = plan_row(&s, row, "gamma once");
        if (!plan) continue;
        run_plan(&rng, &s, plan);
        for (int64_t i = 0; i < tokens * 32; i++) {
            const float *const pair = s.got + i / 32 * 64 + i % 32;
            const double want = factor * (double)s.x[i], got = (double)pair[0] + (double)pair[32];
            case_require(fabs(got - want) <= 1e-6 * fabs(want), "x[%lld]: %g, expected %g", (long long)i, got,
                         want);
        }
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* y is linear in gamma: 4 gamma gives 4 y in every bit; and all ones are the same as no gamma. */
START_TEST(gamma_is_linear) {
    struct rng rng = rng_for(2);
    struct clmoe_matmul_params params = plain;
    params.gamma = CLMOE_GAMMA_OUTPUT;
    params.glu = CLMOE_GLU_INTERLEAVED;
    params.act.kind = CLMOE_ACT_SILU;
    params.w_order = both_orders[_i % 2];
    params.routing = routings[_i / 2];
    params.out = 37;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 9, ROUTING_RANDOM, 1);
    const int64_t cells = s.pairs * params.out;
    float *const once = matmul_room(cells, sizeof *once);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        s.params.gamma = CLMOE_GAMMA_OUTPUT;
        clmoe_plan *plan = plan_row(&s, row, "linear gamma");
        if (!plan) continue;
        run_plan(&rng, &s, plan);
        memcpy(once, s.got, (size_t)cells * sizeof *once);
        for (int64_t p = 0; p < s.pairs; p++)
            s.gamma[p] *= 4;
        run_plan(&rng, &s, plan);
        for (int64_t i = 0; i < cells; i++)
            case_require(s.got[i] == 4 * once[i], "y[%lld] = %g, expected 4 * %g", (long long)i,
                         (double)s.got[i], (double)once[i]);
        for (int64_t p = 0; p < s.pairs; p++)
            s.gamma[p] = 1;
        run_plan(&rng, &s, plan);
        memcpy(once, s.got, (size_t)cells * sizeof *once);
        clmoe_plan_destroy(&plan);
        s.params.gamma = CLMOE_GAMMA_NONE;
        plan = plan_row(&s, row, "no gamma");
        run_plan(&rng, &s, plan);
        case_require(memcmp(s.got, once, (size_t)cells * sizeof *once) == 0, "gamma of ones changes y");
        clmoe_plan_destroy(&plan);
    }
    free(once);
    matmul_sample_free(&s);
}
END_TEST

/* Weights are zero: each row of y is the bias of its expert, up to the last bit. */
START_TEST(bias_of_the_expert) {
    struct rng rng = rng_for(3);
    struct clmoe_matmul_params params = plain;
    params.experts = 7;
    params.out = 41;
    params.bias = 1;
    params.bias_dtype = _i % 2 ? CLMOE_F16 : CLMOE_F32;
    params.w_order = both_orders[_i / 2 % 2];
    params.routing = routings[_i / 4];
    struct matmul_sample s = matmul_sample_make(&rng, &params, 11, ROUTING_SKIPS, 2);
    memset(s.gate, 0, (size_t)(7 * 41 * 32) * sizeof *s.gate);
    for (int64_t i = 0; i < 7 * 41; i++)
        s.bias_gate[i] = (float)(i / 41 * 100 + i % 41);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        clmoe_plan *plan = plan_row(&s, row, "bias");
        if (!plan) continue;
        run_plan(&rng, &s, plan);
        for (int64_t i = 0; i < s.pairs * 41; i++) {
            const int32_t e = s.ids[i / 41];
            const float want = e < 0 || e >= 7 ? 0.0f : (float)(e * 100 + i % 41);
            case_require(s.got[i] == want, "y[%lld] = %g, expected %g", (long long)i, (double)s.got[i],
                         (double)want);
        }
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* Copies the ids, gamma and row of x of one token of `s` into a sample of that token alone. */
static struct matmul_sample one_token(const struct matmul_sample *s, int64_t t) {
    struct matmul_sample one = *s;
    const int k = s->params.topk;
    one.ref.tokens = 1;
    one.pairs = k;
    one.x = s->x + t * s->params.in;
    one.ids = s->ids + t * k;
    one.gamma = s->gamma + t * k;
    one.offsets = matmul_room(s->params.experts + 1, sizeof *one.offsets);
    one.order = matmul_room(k, sizeof *one.order);
    one.got = matmul_room(k * s->params.out, sizeof *one.got);
    matmul_sample_sort(&one);
    return one;
}

/* Weights that CPUs multiply by other code where a row of x is alone. The first two also run small. */
static const struct {
    enum clmoe_dtype w;
    enum clmoe_w_order order;
    int64_t in;
} coded[] = {
    {CLMOE_I32, CLMOE_W_AWQ, 152},     {CLMOE_I32, CLMOE_W_GPTQ, 152},     {CLMOE_Q8_0, CLMOE_W_PACKED, 288},
    {CLMOE_Q4_0, CLMOE_W_PACKED, 288}, {CLMOE_MXFP4, CLMOE_W_PACKED, 288}, {CLMOE_Q5_0, CLMOE_W_ENK, 288},
    {CLMOE_Q4_K, CLMOE_W_ENK, 512},    {CLMOE_F8_E4M3, CLMOE_W_ENK, 152},
};
enum { N_CODED = sizeof coded / sizeof *coded };

static void make_coded(int i, struct clmoe_matmul_params *p) {
    p->in = coded[i].in, p->out = 48;
    p->w_dtype = coded[i].w, p->w_order = coded[i].order;
    p->routing = CLMOE_ROUTING_SORTED; /* or every row of x is alone */
    if (p->w_dtype == CLMOE_I32) p->w_scale = (struct clmoe_w_scale){CLMOE_F32, 1, 32, CLMOE_ZERO_GIVEN};
    if (p->w_dtype == CLMOE_F8_E4M3)
        p->w_scale = (struct clmoe_w_scale){.dtype = CLMOE_F32, .rows = 1, .columns = 32};
}

/* What a token gets does not depend on the tokens beside it. */
START_TEST(batch_invariance) {
    struct rng rng = rng_for(4);
    struct clmoe_matmul_params params = plain;
    params.experts = 24;
    params.in = 77;
    params.out = 45;
    params.x_rows = CLMOE_ROWS_TOKEN;
    params.gamma = CLMOE_GAMMA_OUTPUT;
    params.glu = CLMOE_GLU_UP_GATE;
    params.act.kind = CLMOE_ACT_SILU;
    params.w_order = (enum clmoe_w_order)(_i % 3);
    params.routing = routings[_i / 3 % 2];
    if (_i >= 6) make_coded(_i - 6, &params);
    const int64_t width = params.topk * params.out;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 40, ROUTING_RANDOM, 1);
    for (int64_t i = 0; i < s.pairs; i++)
        if (i % 3) s.ids[i] = (int32_t)(i % 2); /* two experts with many pairs, others with few */
    for (int64_t i = 0; i < params.experts * params.out * params.in; i++)
        s.gate[i] = rng_float(&rng), s.up[i] = rng_float(&rng);
    matmul_sample_sort(&s);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        clmoe_plan *plan = plan_row(&s, row, "batch invariance");
        if (!plan) continue;
        run_plan(&rng, &s, plan);
        for (int64_t t = 0; t < 40; t += 13) {
            struct matmul_sample one = one_token(&s, t);
            run_plan(&rng, &one, plan);
            case_require(memcmp(one.got, s.got + t * width, (size_t)width * sizeof *one.got) == 0,
                         "token %lld alone differs from the same token among 40", (long long)t);
            free(one.offsets), free(one.order), free(one.got);
        }
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* A NaN row of x and a NaN column of w reach their own row and column of y, and nothing else. */
START_TEST(nan_stays_where_it_is) {
    struct rng rng = rng_for(5);
    struct clmoe_matmul_params params = plain;
    params.in = 33;
    params.out = _i % 2 ? 47 : 33;
    params.experts = 9;
    params.w_order = (enum clmoe_w_order)(_i / 2 % 3);
    params.routing = routings[_i / 6];
    struct matmul_sample s = matmul_sample_make(&rng, &params, 18, ROUTING_RANDOM, 1);
    for (int64_t k = 0; k < 33; k++) {
        s.x[5 * 33 + k] = NAN;
        s.gate[(s.ids[3] * params.out + params.out - 1) * 33 + k] = NAN;
    }
    matmul_sample_solve(&s);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++)
        matmul_run_row(&rng, &s, CAPS_OWN, row);
    matmul_sample_free(&s);
}
END_TEST

/* K = 1 and x = 1: gate and up are the weights themselves, at points where the curves are special. */
START_TEST(activation_points) {
    static const float points[] = {0,        -0.0f,  1,       -1,      7,      -7,       6.9999f,
                                   7.0001f,  40,     -40,     100,     -100,   3e38f,    -3e38f,
                                   INFINITY, NAN,    1e-30f,  -1e-30f, 0.125f, -0.0625f, 1e10f,
                                   88.8f,    -88.8f, -103.9f, 2,       -2};
    enum { N = sizeof points / sizeof *points };
    const int kind = _i / 3, clamped = _i % 3;
    struct rng rng = rng_for(6);
    struct clmoe_matmul_params params = plain;
    params.experts = 1;
    params.topk = 1;
    params.max_tokens = 4;
    params.in = 1;
    params.out = N * 3;
    params.glu = CLMOE_GLU_GATE_UP;
    params.w_order = CLMOE_W_EKN;
    params.act.kind = (enum clmoe_act)kind;
    if (clamped == 1) params.act = (struct clmoe_activation){(enum clmoe_act)kind, 1.702f, 7, 7, 1};
    if (clamped == 2) params.act.act_max = params.act.up_max = 1.5f;
    if (kind == CLMOE_ACT_SITU) params.act.gate_tanh = 4, params.act.up_tanh = clamped ? 25 : 0;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 1, ROUTING_ONE_EXPERT, 1);
    s.x[0] = 1;
    for (int64_t n = 0; n < params.out; n++) {
        s.gate[n] = points[n % N];
        s.up[n] = n < N ? 1.0f : n < 2 * N ? points[(n + 7) % N] : -9.5f;
        const double f = ref_activation(&params.act, false, (double)s.gate[n], 0);
        const double y = ref_activation(&params.act, true, (double)s.gate[n], (double)s.up[n]);
        /* Where a factor leaves the range of fp32, so may the product. */
        if (isfinite(f) && (fabs(f) > 1e37 || (f != 0 && fabs(f) < 1e-36))) s.gate[n] = 0.5f;
        if (isinf(y) && isfinite(f)) s.up[n] = 0.25f;
    }
    matmul_sample_solve(&s);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++)
        matmul_run_row(&rng, &s, CAPS_OWN, row);
    matmul_sample_free(&s);
}
END_TEST

/* An out-of-order queue, behind an event, with a launch for each expert: nothing runs before the event. */
START_TEST(out_of_order_queue) {
    struct rng rng = rng_for(7);
    struct clmoe_matmul_params params = plain;
    params.experts = 5;
    params.w_order = both_orders[_i];
    params.y_rows = CLMOE_ROWS_SORTED;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 10, ROUTING_SKIPS, 5);
    matmul_sample_solve(&s);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        clmoe_plan *plan = plan_row(&s, row, "out of order");
        if (!plan) continue;
        matmul_run_out_of_order(&rng, &s, plan);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

/* No tokens: nothing is read or written, the event comes. */
START_TEST(no_tokens) {
    struct rng rng = rng_for(8);
    struct clmoe_matmul_params params = plain;
    params.max_tokens = 4 + 96 * _i; /* for few pairs, and for large tiles */
    struct matmul_sample s = matmul_sample_make(&rng, &params, 0, ROUTING_RANDOM, 1);
    for (int row = 0; clmoe_kernel_name("matmul", row); row++) {
        clmoe_plan *plan = plan_row(&s, row, "no tokens");
        if (!plan) continue;
        struct matmul_operands d;
        matmul_upload(&rng, &s, &d);
        d.args.x.mem = d.args.y.mem = d.args.ids.mem = d.args.order.mem = NULL;
        cl_event event = NULL;
        case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, &event));
        case_require(event && clWaitForEvents(1, &event) == CL_SUCCESS, "no event");
        clReleaseEvent(event);
        guarded_read(&d.y, NULL);
        matmul_operands_free(&d);
        clmoe_plan_destroy(&plan);
    }
    matmul_sample_free(&s);
}
END_TEST

#define BAD(change)                                                                                          \
    do {                                                                                                     \
        struct clmoe_matmul_params p = plain;                                                                \
        clmoe_plan *plan = (clmoe_plan *)&p;                                                                 \
        p.change;                                                                                            \
        case_begin("params %s", #change);                                                                    \
        const enum clmoe_status status = clmoe_matmul_plan(tester_context(CAPS_OWN), &p, &plan);             \
        case_require(status == CLMOE_E_INVALID && !plan, "%s", clmoe_status_name(status));                   \
        case_require(*tester_log(), "nothing was logged");                                                   \
    } while (0)

START_TEST(bad_params) {
    BAD(max_tokens = -1);
    BAD(max_tokens = INT32_MAX / 2 + 1);
    BAD(topk = 0);
    BAD(topk = 4097);
    BAD(experts = 0);
    BAD(experts = 4097);
    BAD(in = 0);
    BAD(in = INT64_C(1) << 31);
    BAD(out = 0);
    BAD(out = INT64_C(1) << 30);
    BAD(x_dtype = CLMOE_I32);
    BAD(x_dtype = CLMOE_Q8_0);
    BAD(y_dtype = CLMOE_U8);
    BAD(w_dtype = CLMOE_I32);
    BAD(w_dtype = (enum clmoe_dtype)99);
    BAD(w_order = (enum clmoe_w_order)5);
    BAD(glu = (enum clmoe_glu)5);
    BAD(act.kind = (enum clmoe_act)8);
    BAD(act.kind = CLMOE_ACT_SITU);
    BAD(act.kind = CLMOE_ACT_SITU; p.act.gate_tanh = -4);
    BAD(act.kind = CLMOE_ACT_SITU; p.act.gate_tanh = NAN);
    BAD(act.kind = CLMOE_ACT_SITU; p.act.gate_tanh = INFINITY);
    BAD(act.kind = CLMOE_ACT_SITU; p.act.gate_tanh = 4; p.act.up_tanh = -1);
    BAD(act.kind = CLMOE_ACT_SITU; p.act.gate_tanh = 4; p.act.up_tanh = INFINITY);
    BAD(act.gate_tanh = 4);
    BAD(limit = (enum clmoe_limit)3);
    BAD(act.up_tanh = 25);
    BAD(act.act_max = -1.0f);
    BAD(act.act_max = NAN);
    BAD(act.gate_max = -1.0f);
    BAD(act.gate_max = NAN);
    BAD(act.up_max = -0.5f);
    BAD(act.up_max = NAN);
    BAD(x_rows = (enum clmoe_rows)3);
    BAD(y_rows = CLMOE_ROWS_TOKEN);
    BAD(routing = (enum clmoe_routing)2);
    BAD(gamma = (enum clmoe_gamma)3);
    BAD(w_dtype = CLMOE_Q8_0; p.w_order = CLMOE_W_EKN);
    BAD(w_dtype = CLMOE_Q5_0; p.w_order = CLMOE_W_PACKED);
    BAD(w_dtype = CLMOE_Q8_0; p.in = 48);
    BAD(w_dtype = CLMOE_U8);
    BAD(w_dtype = CLMOE_F4_E2M1; p.in = 33);
    BAD(w_dtype = CLMOE_F8_E4M3; p.w_order = CLMOE_W_EKN);
    BAD(w_dtype = CLMOE_I8; p.w_scale.dtype = CLMOE_I8);
    BAD(w_dtype = CLMOE_I8; p.w_scale.dtype = (enum clmoe_dtype)99);
    BAD(w_dtype = CLMOE_I8; p.w_scale.rows = -1);
    BAD(w_dtype = CLMOE_I8; p.w_scale.columns = 8);
    BAD(w_dtype = CLMOE_I8; p.w_scale.columns = 48);
    BAD(w_dtype = CLMOE_I8; p.w_scale.columns = -32);
    BAD(w_scale.rows = 1);
    BAD(w_scale.columns = 32);
    BAD(w_scale.dtype = CLMOE_U8);
    BAD(bias = 1; p.bias_dtype = CLMOE_I32);
    BAD(routing = CLMOE_ROUTING_IDS; p.x_rows = CLMOE_ROWS_SORTED);
    BAD(routing = CLMOE_ROUTING_IDS; p.y_rows = CLMOE_ROWS_SORTED);
    BAD(plan.kernel = "matmul_nonesuch");
    BAD(plan.kernel = "combine_rows");
}
END_TEST

static void expect_invalid(clmoe_plan *plan, const struct clmoe_matmul_args *args, const char *what) {
    case_begin("args: %s", what);
    cl_event event = (cl_event)plan;
    const enum clmoe_status status = clmoe_matmul_enqueue(plan, tester()->queue, args, 0, NULL, &event);
    case_require(status == CLMOE_E_INVALID && !event, "%s", clmoe_status_name(status));
    case_require(*tester_log(), "nothing was logged");
}

#define BAD_ARGS(change)                                                                                     \
    do {                                                                                                     \
        struct clmoe_matmul_args a = d.args;                                                                 \
        struct clmoe_tensor w[2] = {d.w_views[0], d.w_views[1]};                                             \
        struct clmoe_tensor w_up[2] = {d.w_up_views[0], d.w_up_views[1]};                                    \
        a.w = w, a.w_up = w_up;                                                                              \
        change;                                                                                              \
        expect_invalid(plan, &a, #change);                                                                   \
    } while (0)

START_TEST(bad_args) {
    struct rng rng = rng_for(9);
    struct clmoe_matmul_params params = plain;
    params.glu = CLMOE_GLU_APART;
    params.bias = params.add = 1;
    params.limit = CLMOE_LIMIT_IN;
    params.gamma = CLMOE_GAMMA_OUTPUT;
    params.expert_scale = 1;
    params.max_tokens = 4;
    struct matmul_sample s = matmul_sample_make(&rng, &params, 4, ROUTING_RANDOM, 2);
    params.plan.kernel = "matmul_ref";
    clmoe_plan *plan;
    case_begin("plan");
    case_ok(clmoe_matmul_plan(tester_context(CAPS_OWN), &params, &plan));
    struct matmul_operands d;
    matmul_upload(&rng, &s, &d);
    case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
    BAD_ARGS(a.ids.shape[0] = 5);
    BAD_ARGS(a.ids.shape[0] = -1);
    BAD_ARGS(a.ids.dtype = CLMOE_U32);
    BAD_ARGS(a.ids.mem = NULL);
    BAD_ARGS(a.x.shape[1] = 31);
    BAD_ARGS(a.x.stride[1] = 2);
    BAD_ARGS(a.x.dtype = CLMOE_F16);
    BAD_ARGS(a.y.shape[0] = 7);
    BAD_ARGS(a.y.offset += (uint64_t)1 << 40);
    BAD_ARGS(a.y.mem = a.x.mem; a.y.offset = a.x.offset);
    BAD_ARGS(a.y.mem = w[1].mem; a.y.offset = w[1].offset);
    BAD_ARGS(a.y.mem = w_up[0].mem; a.y.offset = w_up[0].offset);
    BAD_ARGS(a.w = NULL);
    BAD_ARGS(a.w_up = NULL);
    BAD_ARGS(a.n_w = 3);
    BAD_ARGS(a.n_w = -1);
    BAD_ARGS(a.n_w = 1);
    BAD_ARGS(w[0].shape[0] = 2);
    BAD_ARGS(w[0].shape[0] = 0; w[1].shape[0] = 2);
    BAD_ARGS(w[1].ndim = 2);
    BAD_ARGS(w[1].shape[1] = 31);
    BAD_ARGS(w_up[1].shape[0] = 2);
    BAD_ARGS(w_up[1].mem = NULL);
    BAD_ARGS(a.bias.mem = NULL);
    BAD_ARGS(a.bias.shape[1] = 64);
    BAD_ARGS(a.bias_up = (struct clmoe_tensor){0});
    BAD_ARGS(a.add = (struct clmoe_tensor){0});
    BAD_ARGS(a.add.shape[0] = 2);
    BAD_ARGS(a.add.dtype = CLMOE_F16);
    BAD_ARGS(a.add_up = (struct clmoe_tensor){0});
    BAD_ARGS(a.y.mem = a.add.mem; a.y.offset = a.add.offset);
    BAD_ARGS(a.limits = (struct clmoe_tensor){0});
    BAD_ARGS(a.limits.shape[0] = 3);
    BAD_ARGS(a.gamma = (struct clmoe_tensor){0});
    BAD_ARGS(a.gamma.dtype = CLMOE_F16);
    BAD_ARGS(a.expert_scale.shape[0] = 3);
    BAD_ARGS(a.offsets.shape[0] = 2);
    BAD_ARGS(a.order = (struct clmoe_tensor){0});
    guarded_read(&d.y, NULL);
    matmul_operands_free(&d);
    clmoe_plan_destroy(&plan);
    matmul_sample_free(&s);
}
END_TEST

/* Which row a problem gets, and packing's own rules. */
START_TEST(choices) {
    struct clmoe_matmul_params p = plain;
    int64_t shape[4];
    clmoe_plan *plan;
    case_begin("packing rules");
    p.in = 256;
    for (int i = 0; i < 2; i++) {
        p.w_dtype = i ? CLMOE_I8 : CLMOE_Q4_K;
        if (i) p.w_scale.dtype = CLMOE_F32;
        const char *const name = clmoe_dtype_name(p.w_dtype);
        p.w_order = CLMOE_W_ENK;
        case_require(clmoe_matmul_packed_shape(&p, shape) == CLMOE_E_INVALID, "%s has a packed shape", name);
        case_require(clmoe_matmul_pack_plan(tester_context(CAPS_OWN), &p, &plan) == CLMOE_E_INVALID && !plan,
                     "%s is packed", name);
        p.w_order = CLMOE_W_PACKED;
        case_require(clmoe_matmul_plan(tester_context(CAPS_OWN), &p, &plan) == CLMOE_E_INVALID && !plan,
                     "%s is taken for packed", name);
    }
    p = plain;
    p.w_dtype = CLMOE_Q4_0;
    p.w_order = CLMOE_W_EKN;
    case_require(clmoe_matmul_packed_shape(&p, shape) == CLMOE_E_INVALID, "blocks of columns are packed");
    p = plain;
    p.w_order = CLMOE_W_PACKED;
    case_require(clmoe_matmul_pack_plan(tester_context(CAPS_OWN), &p, &plan) == CLMOE_E_INVALID && !plan,
                 "packed weights are packed again");
    p = plain;
    p.out = 33;
    p.plan.kernel = "matmul_ref";
    case_ok(clmoe_matmul_packed_shape(&p, shape));
    case_require(shape[0] == 2 && shape[1] == 2 && shape[2] == 32 && shape[3] == 32, "packed shape");
    p.glu = CLMOE_GLU_APART;
    case_ok(clmoe_matmul_packed_shape(&p, shape));
    case_require(shape[1] == 3, "packed shape with GLU: %lld panels", (long long)shape[1]);
    case_ok(clmoe_matmul_pack_plan(tester_context(CAPS_OWN), &p, &plan));
    clmoe_plan_destroy(&plan);
    case_require(!clmoe_matmul_wants_packing(tester_context(CAPS_PLAIN)), "a bare GPU wants packing");

    static const struct {
        int64_t tokens;
        enum clmoe_routing routing;
        enum forced_caps caps;
        const char *row;
    } wanted[] = {
        {4, CLMOE_ROUTING_SORTED, CAPS_PLAIN, "matmul: matmul_few"},
        {4000, CLMOE_ROUTING_SORTED, CAPS_PLAIN, "matmul: matmul_tile_"},
        {4000, CLMOE_ROUTING_IDS, CAPS_PLAIN, "matmul: matmul_few"},
        {4000, CLMOE_ROUTING_SORTED, CAPS_GROUP_64, "matmul: matmul_tile_32x32"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        p = plain;
        p.max_tokens = wanted[i].tokens;
        p.routing = wanted[i].routing;
        case_begin("choice %d", (int)i);
        case_ok(clmoe_matmul_plan(tester_context(wanted[i].caps), &p, &plan));
        const char *const text = clmoe_plan_describe(plan);
        struct clmoe_device_info info;
        case_ok(clmoe_context_device_info(tester_context(wanted[i].caps), &info));
        const bool cpu = info.features & CLMOE_FEATURE_CPU, small = info.caps.max_work_group < 256;
        case_require(cpu || (small && wanted[i].caps == CAPS_PLAIN) ||
                         strncmp(text, wanted[i].row, strlen(wanted[i].row)) == 0,
                     "%s, expected %s", text, wanted[i].row);
        clmoe_plan_destroy(&plan);
    }
}
END_TEST

static void add_tests(TCase *cases) {
    const bool small = tester()->small;
    tcase_add_loop_test(cases, gamma_exactly_once, 0, small ? 2 : 12);
    tcase_add_loop_test(cases, gamma_is_linear, 0, small ? 1 : 4);
    tcase_add_loop_test(cases, bias_of_the_expert, 0, small ? 1 : 8);
    tcase_add_loop_test(cases, batch_invariance, small ? 6 : 0, small ? 8 : 6 + N_CODED);
    tcase_add_loop_test(cases, nan_stays_where_it_is, 0, small ? 1 : 12);
    tcase_add_loop_test(cases, activation_points, 0, small ? 1 : 3 * (CLMOE_ACT_SITU + 1));
    tcase_add_loop_test(cases, out_of_order_queue, 0, small ? 1 : 2);
    tcase_add_loop_test(cases, no_tokens, 0, 2);
    tcase_add_test(cases, bad_params);
    tcase_add_test(cases, bad_args);
    tcase_add_test(cases, choices);
}

int main(void) {
    return harness_main("matmul_rules", "matmul", add_tests);
}
