/* SPDX-License-Identifier: MIT
 * combine: every row of its table against ref_combine. */
#include "harness.h"
#include "ref/combine.h"
#include "ref/convert.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    int64_t tokens, hidden;
    int k, experts;
} shapes[] = {
    {1, 1, 1, 1},   {3, 5, 2, 4},  {1, 127, 8, 9}, {2, 128, 1, 3},  {17, 129, 3, 60},
    {5, 257, 7, 8}, {0, 16, 2, 4}, {9, 8, 5, 6},   {3, 1032, 4, 3},
};
static const enum clmoe_dtype dtypes[][2] = {
    {CLMOE_F32, CLMOE_F32},
    {CLMOE_F16, CLMOE_F32},
    {CLMOE_BF16, CLMOE_BF16},
    {CLMOE_F32, CLMOE_F16},
};
/* ids, gamma, sorted, residual, shared (2: in fp32), identity */
static const int options[][6] = {
    {0, 0, 0, 0, 0, 0}, {1, 1, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}, {1, 0, 1, 0, 2, 0}, {0, 1, 0, 1, 0, 1},
};

enum { N_SHAPES = sizeof shapes / sizeof *shapes, N_DTYPES = sizeof dtypes / sizeof *dtypes };
enum { N_OPTIONS = sizeof options / sizeof *options, N_CASES = N_SHAPES * N_DTYPES * N_OPTIONS };

struct sample {
    int64_t pairs, cells; /* T*k, T*H */
    float *x, *gamma, *residual, *shared, *identity, *identity_x, *got;
    int32_t *ids, *inverse;
    double *want, *magnitude;
};

static void *room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

static float *rounded(struct rng *rng, enum fill fill, enum clmoe_dtype dtype, int64_t n) {
    float *const v = room(n, sizeof *v);
    fill_floats(rng, fill, v, n);
    for (int64_t i = 0; i < n; i++)
        v[i] = ref_round(dtype, v[i]);
    return v;
}

static void shuffle(struct rng *rng, int32_t *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        v[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = rng_below(rng, i + 1);
        const int32_t swap = v[i];
        v[i] = v[j];
        v[j] = swap;
    }
}

static struct sample make_sample(struct rng *rng, int shape, int dtype, const int *option, enum fill fill,
                                 float scale, float shared_scale) {
    const int64_t tokens = shapes[shape].tokens, hidden = shapes[shape].hidden;
    const int k = shapes[shape].k;
    struct sample s = {.pairs = tokens * k, .cells = tokens * hidden};
    s.x = rounded(rng, fill, dtypes[dtype][0], s.pairs * hidden);
    s.gamma = rounded(rng, FILL_RANDOM, CLMOE_F32, s.pairs);
    s.residual = rounded(rng, fill, dtypes[dtype][1], s.cells);
    s.shared = rounded(rng, FILL_RANDOM, option[4] == 2 ? CLMOE_F32 : dtypes[dtype][1], s.cells);
    s.identity = rounded(rng, FILL_RANDOM, CLMOE_F32, tokens);
    s.identity_x = rounded(rng, fill, dtypes[dtype][1], s.cells);
    for (int64_t t = 0; t < tokens; t += 2) /* rows that must not be read into the sum */
        s.identity[t] = 0;
    s.ids = room(s.pairs, sizeof *s.ids);
    fill_ids(rng, ROUTING_SKIPS, s.ids, tokens, k, shapes[shape].experts);
    s.inverse = room(s.pairs, sizeof *s.inverse);
    shuffle(rng, s.inverse, s.pairs);
    s.got = room(s.cells, sizeof *s.got);
    s.want = room(s.cells, sizeof *s.want);
    s.magnitude = room(s.cells, sizeof *s.magnitude);
    const struct ref_combine c = {
        .tokens = tokens,
        .hidden = hidden,
        .k = k,
        .experts = shapes[shape].experts,
        .x = s.x,
        .ids = option[0] ? s.ids : NULL,
        .inverse = option[2] ? s.inverse : NULL,
        .gamma = option[1] ? s.gamma : NULL,
        .residual = option[3] ? s.residual : NULL,
        .shared = option[4] ? s.shared : NULL,
        .identity = option[5] ? s.identity : NULL,
        .identity_x = s.identity_x,
        .scale = (double)scale,
        .shared_scale = (double)shared_scale,
    };
    ref_combine(&c, s.want, s.magnitude);
    return s;
}

static void free_sample(struct sample *s) {
    free(s->x), free(s->gamma), free(s->residual), free(s->shared), free(s->got);
    free(s->identity), free(s->identity_x), free(s->ids), free(s->inverse), free(s->want), free(s->magnitude);
}

START_TEST(against_reference) {
    const int shape = _i % N_SHAPES, dtype = _i / N_SHAPES % N_DTYPES, o = _i / N_SHAPES / N_DTYPES;
    const int *const option = options[o];
    const bool aligned = (shape + dtype + o) % 2; /* so that rows of whole eights are read by eights */
    const enum fill fill = (enum fill)(_i % FILL_COUNT);
    const enum forced_caps caps = (enum forced_caps)(_i / FILL_COUNT % CAPS_COUNT);
    struct rng rng = rng_for((uint64_t)_i);
    struct clmoe_combine_params params = {
        .max_tokens = shapes[shape].tokens + (_i % 2),
        .topk = shapes[shape].k,
        .experts = shapes[shape].experts,
        .hidden = shapes[shape].hidden,
        .x_dtype = dtypes[dtype][0],
        .y_dtype = dtypes[dtype][1],
        .x_rows = option[2] ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .ids = option[0],
        .gamma = option[1],
        .residual = option[3],
        .shared = option[4] != 0,
        .identity = option[5],
        .shared_f32 = option[4] == 2,
        .scale = _i % 3 ? 0.0f : 0.5f,
        .shared_scale = _i % 4 ? 0.0f : -1.5f,
    };
    struct sample s = make_sample(&rng, shape, dtype, option, fill, params.scale != 0 ? params.scale : 1,
                                  params.shared_scale != 0 ? params.shared_scale : 1);
    const int64_t tokens = shapes[shape].tokens;
    for (int row = 0; (params.plan.kernel = clmoe_kernel_name("combine", row)); row++) {
        case_begin("%s T=%lld k=%d H=%lld %s->%s option %d %s fill %s caps %s", params.plan.kernel,
                   (long long)tokens, params.topk, (long long)params.hidden, clmoe_dtype_name(params.x_dtype),
                   clmoe_dtype_name(params.y_dtype), o, aligned ? "aligned" : "anywhere", fill_name(fill),
                   caps_name(caps));
        clmoe_plan *plan;
        if (!row_fits("combine", row, clmoe_combine_plan(tester_context(caps), &params, &plan))) continue;
        guarded_align(aligned);
        struct guarded x = guarded_floats(&rng, params.x_dtype, s.pairs, params.hidden, s.x);
        struct guarded ids = guarded_ints(&rng, CLMOE_I32, tokens, params.topk, s.ids);
        struct guarded inverse = guarded_ints(&rng, CLMOE_I32, 1, s.pairs, s.inverse);
        struct guarded gamma = guarded_floats(&rng, CLMOE_F32, tokens, params.topk, s.gamma);
        struct guarded residual = guarded_floats(&rng, params.y_dtype, tokens, params.hidden, s.residual);
        struct guarded shared = guarded_floats(&rng, params.shared_f32 ? CLMOE_F32 : params.y_dtype, tokens,
                                               params.hidden, s.shared);
        struct guarded identity = guarded_floats(&rng, CLMOE_F32, 1, tokens, s.identity);
        struct guarded identity_x = guarded_floats(&rng, params.y_dtype, tokens, params.hidden, s.identity_x);
        struct guarded y = guarded_floats(&rng, params.y_dtype, tokens, params.hidden, NULL);
        guarded_align(false);
        struct clmoe_combine_args args = {.x = x.tensor, .y = y.tensor};
        if (option[0]) args.ids = ids.tensor;
        if (option[1]) args.gamma = gamma.tensor;
        if (option[2]) args.inverse = as_1d(&inverse);
        if (option[3]) args.residual = residual.tensor;
        if (option[4]) args.shared = shared.tensor;
        if (option[5]) args.identity = as_1d(&identity), args.identity_x = identity_x.tensor;
        case_ok(clmoe_combine_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
        guarded_read_floats(&y, s.got);
        case_close(params.y_dtype, s.got, s.want, s.magnitude, s.cells, 1e-6 * params.topk, "y");
        guarded_read(&x, NULL);
        guarded_free(&x), guarded_free(&ids), guarded_free(&inverse), guarded_free(&gamma);
        guarded_free(&residual), guarded_free(&shared), guarded_free(&identity);
        guarded_free(&identity_x), guarded_free(&y);
        clmoe_plan_destroy(&plan);
    }
    free_sample(&s);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, against_reference, 0, tester()->small ? N_SHAPES : N_CASES);
}

int main(void) {
    return harness_main("combine", "combine", add_tests);
}
