/* SPDX-License-Identifier: MIT */
#include "layer_case.h"
#include "matmul_coded.h"

#include "ref/combine.h"
#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The samples of matmul make the weights of idle experts NaN; here nobody knows yet who is idle. */
static void revive(struct rng *rng, const struct matmul_sample *s, float *v) {
    const int64_t n = v ? (int64_t)s->params.experts * s->params.out * s->params.in : 0;
    for (int64_t i = 0; i < n; i++)
        if (isnan(v[i])) v[i] = ref_round(s->params.w_dtype, rng_float(rng) / sqrtf((float)s->params.in));
}

static struct matmul_sample product(struct rng *rng, const struct clmoe_matmul_params *params, int64_t tokens,
                                    int parts) {
    struct matmul_sample s = matmul_sample_make(rng, params, tokens, ROUTING_RANDOM, parts);
    if (s.raw_gate) {
        matmul_tame_weights(rng, &s);
    } else {
        revive(rng, &s, s.gate);
        revive(rng, &s, s.up);
    }
    return s;
}

static float *rounded_rows(struct rng *rng, enum clmoe_dtype dtype, int64_t n) {
    float *const v = matmul_room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = ref_round(dtype, rng_float(rng));
    return v;
}

struct layer_sample layer_sample_make(struct rng *rng, const struct layer_spec *spec) {
    struct clmoe_matmul_params second = spec->first;
    second.in = spec->first.out;
    second.out = spec->out;
    second.x_dtype = spec->first.y_dtype;
    if (spec->mixed) second.w_dtype = spec->w2_dtype;
    if (!ref_is_scaled(second.w_dtype)) second.w_scale = (struct clmoe_w_scale){0};
    second.glu = CLMOE_GLU_NONE;
    second.act = (struct clmoe_activation){0};
    second.x_rows = CLMOE_ROWS_PAIR;
    second.bias = spec->bias2;
    second.expert_scale = spec->expert_scale;
    const int64_t cells = spec->tokens * spec->out;
    struct layer_sample s = {.first = product(rng, &spec->first, spec->tokens, spec->parts),
                             .second = product(rng, &second, spec->tokens, spec->parts),
                             .tokens = spec->tokens,
                             .k = spec->first.topk,
                             .experts = spec->first.experts,
                             .out_scale = spec->out_scale,
                             .y_dtype = spec->first.x_dtype};
    s.first.ref.gamma_input = spec->gamma == CLMOE_GAMMA_INPUT;
    if (spec->residual) s.residual = rounded_rows(rng, s.y_dtype, cells);
    if (spec->shared) s.shared = rounded_rows(rng, s.y_dtype, cells);
    s.got = matmul_room(cells, sizeof *s.got);
    s.want = matmul_room(cells, sizeof *s.want);
    s.magnitude = matmul_room(cells, sizeof *s.magnitude);
    matmul_upload(rng, &s.first, &s.d1);
    matmul_upload(rng, &s.second, &s.d2);
    return s;
}

#define FP32_ERROR 2e-6 /* of the sums in fp32, as a part of their magnitudes */

/* Turns the magnitudes of o into bounds of its errors. Sums in fp32 are off by a part of their own
 * magnitudes, those of h by what the second product of absolute values makes of them. Each element of h and
 * of o is rounded to its dtype, and an h that lies near the middle of two values may round the other way: up
 * to 1.5 units of the terms of o. */
static void bound_errors(struct layer_sample *s) {
    struct ref_matmul m = s->second.ref;
    const int64_t h = s->first.pairs * m.in, w = (int64_t)m.experts * m.out * m.in,
                  o = s->first.pairs * m.out;
    const enum clmoe_dtype dtype = s->second.params.x_dtype;
    const double unit = dtype == CLMOE_BF16 ? 0x1p-8 : dtype == CLMOE_F16 ? 0x1p-11 : 0x1p-24;
    float *const x = matmul_room(h, sizeof *x), *const gate = matmul_room(w, sizeof *gate);
    double *const passed = matmul_room(o, sizeof *passed), *const unused = matmul_room(o, sizeof *unused);
    for (int64_t i = 0; i < h; i++)
        x[i] = (float)s->first.magnitude[i];
    for (int64_t i = 0; i < w; i++)
        gate[i] = fabsf(m.gate[i]);
    m.x = x;
    m.gate = gate;
    m.bias_gate = NULL;
    ref_matmul(&m, passed, unused);
    for (int64_t i = 0; i < o; i++)
        s->second.magnitude[i] =
            1.5 * unit * s->second.magnitude[i] + FP32_ERROR * (s->second.magnitude[i] + fabs(passed[i]));
    free(x), free(gate), free(passed), free(unused);
}

void layer_sample_solve(struct layer_sample *s, const int32_t *ids, const float *gamma) {
    const bool on_input = s->first.ref.gamma_input;
    const int64_t mid = s->second.params.in, out = s->second.params.out;
    float *const o = matmul_room(s->first.pairs * out, sizeof *o), *const m = matmul_room(
                                                                       s->first.pairs * out, sizeof *m);
    double *const unused = matmul_room(s->tokens * out, sizeof *unused);
    s->first.ref.ids = s->second.ref.ids = ids;
    s->first.ref.gamma = on_input ? gamma : NULL;
    s->second.ref.gamma = on_input ? NULL : gamma;
    ref_matmul(&s->first.ref, s->first.want, s->first.magnitude);
    for (int64_t i = 0; i < s->first.pairs * mid; i++)
        s->second.x[i] = ref_round(s->second.params.x_dtype, (float)s->first.want[i]);
    ref_matmul(&s->second.ref, s->second.want, s->second.magnitude);
    bound_errors(s);
    for (int64_t i = 0; i < s->first.pairs * out; i++) {
        o[i] = (float)s->second.want[i];
        m[i] = (float)s->second.magnitude[i];
    }
    struct ref_combine c = {.tokens = s->tokens,
                            .hidden = out,
                            .k = s->k,
                            .experts = s->experts,
                            .x = o,
                            .ids = ids,
                            .residual = s->residual,
                            .shared = s->shared,
                            .scale = s->out_scale,
                            .shared_scale = 1};
    ref_combine(&c, s->want, unused);
    c.x = m;
    c.residual = c.shared = NULL;
    c.scale = fabs(s->out_scale);
    ref_combine(&c, unused, s->magnitude);
    for (int64_t i = 0; i < s->tokens * out; i++)
        s->magnitude[i] += FP32_ERROR * fabs(s->want[i]);
    free(o), free(m), free(unused);
}

void layer_compare(struct layer_sample *s, const struct guarded *y) {
    guarded_read_floats(y, s->got);
    case_close(s->y_dtype, s->got, s->want, s->magnitude, s->tokens * s->second.params.out, 1, "y");
}

void layer_sample_free(struct layer_sample *s) {
    matmul_operands_free(&s->d1);
    matmul_operands_free(&s->d2);
    matmul_sample_free(&s->first);
    matmul_sample_free(&s->second);
    free(s->residual), free(s->shared), free(s->got), free(s->want), free(s->magnitude);
}
