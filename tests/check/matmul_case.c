/* SPDX-License-Identifier: MIT */
#include "matmul_case.h"
#include "matmul_coded.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *matmul_room(int64_t count, size_t size) {
    void *const p = calloc((size_t)count + 1, size);
    if (!p) abort();
    return p;
}

static float *random_floats(struct rng *rng, enum clmoe_dtype dtype, int64_t n, float factor) {
    float *const v = matmul_room(n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = ref_round(dtype, factor * rng_float(rng));
    return v;
}

/* What must not be read is NaN. */
static void poison_unused(struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    const int64_t per_expert = p->out * p->in, blocks = per_expert / ref_block_length(p->w_dtype);
    for (int e = 0; e < p->experts; e++) {
        bool used = false;
        for (int64_t i = 0; i < s->pairs; i++)
            used |= s->ids[i] == e;
        for (int64_t i = 0; !used && i < per_expert; i++) {
            s->gate[e * per_expert + i] = NAN;
            if (s->up) s->up[e * per_expert + i] = NAN;
        }
        if (!used && s->scales) matmul_spoil_scales(s, e);
        for (int64_t b = e * blocks; !used && s->raw_gate && b < (e + 1) * blocks; b++) {
            matmul_spoil_block(s, b * ref_block_length(p->w_dtype));
        }
    }
    for (int64_t i = 0; p->x_rows != CLMOE_ROWS_TOKEN && i < s->pairs; i++)
        if (s->ids[i] < 0 || s->ids[i] >= p->experts)
            for (int64_t c = 0; c < p->in; c++)
                s->x[i * p->in + c] = NAN;
}

/* Limits of all kinds; what is beyond them is NaN. */
static void limit_experts(struct rng *rng, struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    const bool by_row = p->limit == CLMOE_LIMIT_OUT;
    const int64_t most = by_row ? p->out : p->in, per_expert = p->out * p->in;
    if (!p->limit) return;
    s->limits = matmul_room(p->experts, sizeof *s->limits);
    for (int e = 0; e < p->experts; e++)
        s->limits[e] = (int32_t)rng_below(rng, most + 3) - 1;
    for (int64_t i = 0; i < p->experts * per_expert; i++) {
        const int64_t at = by_row ? i % per_expert / p->in : i % p->in;
        if (at < s->limits[i / per_expert]) continue;
        s->gate[i] = NAN;
        if (s->up) s->up[i] = NAN;
        if (s->raw_gate && i % ref_block_length(p->w_dtype) == 0) matmul_spoil_block(s, i);
    }
}

struct matmul_sample matmul_sample_make(struct rng *rng, const struct clmoe_matmul_params *params,
                                        int64_t tokens, enum routing_fill fill, int parts) {
    struct matmul_sample s = {.params = *params, .pairs = tokens * params->topk, .parts = parts};
    const bool coded = ref_is_coded(params->w_dtype), gated = params->glu != CLMOE_GLU_NONE;
    const int64_t x_rows = params->x_rows == CLMOE_ROWS_TOKEN ? tokens : s.pairs;
    const int64_t cells = (int64_t)params->experts * params->out, weights = cells * params->in;
    const float size = 1.0f / sqrtf((float)params->in);
    s.x = random_floats(rng, params->x_dtype, x_rows * params->in, 1.0f);
    s.gate = random_floats(rng, coded ? CLMOE_F32 : params->w_dtype, weights, 2 * size);
    if (gated) s.up = random_floats(rng, coded ? CLMOE_F32 : params->w_dtype, weights, 2 * size);
    if (coded) matmul_make_coded(rng, &s);
    if (params->bias) s.bias_gate = random_floats(rng, params->bias_dtype, cells, 1.0f);
    if (params->bias && gated) s.bias_up = random_floats(rng, params->bias_dtype, cells, 1.0f);
    if (params->add) s.add_gate = random_floats(rng, CLMOE_F32, s.pairs * params->out, 1.0f);
    if (params->add && gated) s.add_up = random_floats(rng, CLMOE_F32, s.pairs * params->out, 1.0f);
    if (params->expert_scale) s.expert_scale = random_floats(rng, CLMOE_F32, params->experts, 1.0f);
    if (params->gamma) s.gamma = random_floats(rng, CLMOE_F32, s.pairs, 1.0f);
    s.ids = matmul_room(s.pairs, sizeof *s.ids);
    fill_ids(rng, fill, s.ids, tokens, params->topk, params->experts);
    s.offsets = matmul_room(params->experts + 1, sizeof *s.offsets);
    s.order = matmul_room(s.pairs, sizeof *s.order);
    s.got = matmul_room(s.pairs * params->out, sizeof *s.got);
    s.want = matmul_room(s.pairs * params->out, sizeof *s.want);
    s.magnitude = matmul_room(s.pairs * params->out, sizeof *s.magnitude);
    poison_unused(&s);
    limit_experts(rng, &s);
    s.ref = (struct ref_matmul){
        .tokens = tokens,
        .in = params->in,
        .out = params->out,
        .k = params->topk,
        .experts = params->experts,
        .ids = s.ids,
        .x = s.x,
        .x_token = params->x_rows == CLMOE_ROWS_TOKEN,
        .gate = s.gate,
        .up = s.up,
        .bias_gate = s.bias_gate,
        .bias_up = s.bias_up,
        .add_gate = s.add_gate,
        .add_up = s.add_up,
        .expert_scale = s.expert_scale,
        .gamma = s.gamma,
        .gamma_input = params->gamma == CLMOE_GAMMA_INPUT,
        .limits = s.limits,
        .limit = params->limit,
        .act = params->act,
    };
    matmul_sample_sort(&s);
    return s;
}

struct matmul_sample matmul_sample_pick(struct rng *structure, struct rng *rng,
                                        const struct clmoe_matmul_params *params, int64_t tokens) {
    const int part_counts[] = {1, 1, params->experts > 1 ? 2 : 1, params->experts};
    const int parts = part_counts[rng_below(structure, 4)];
    const enum routing_fill fill = (enum routing_fill)rng_below(structure, ROUTING_COUNT);
    const bool dense = params->routing == CLMOE_ROUTING_DENSE;
    return matmul_sample_make(rng, params, tokens, dense ? ROUTING_ONE_EXPERT : fill, parts);
}

void matmul_sample_sort(struct matmul_sample *s) {
    const int32_t experts = s->params.experts;
    int32_t at = 0;
    for (int32_t e = 0; e <= experts; e++) {
        s->offsets[e] = at;
        for (int64_t p = 0; p < s->pairs; p++) {
            const int32_t id = s->ids[p];
            if (e < experts ? id == e : id < 0 || id >= experts) s->order[at++] = (int32_t)p;
        }
    }
}

static void sort_rows(const struct matmul_sample *s, double *rows) {
    const int64_t n = s->params.out;
    double *const copy = matmul_room(s->pairs * n, sizeof *copy);
    memcpy(copy, rows, (size_t)(s->pairs * n) * sizeof *copy);
    for (int64_t i = 0; i < s->pairs; i++)
        memcpy(rows + i * n, copy + s->order[i] * n, (size_t)n * sizeof *copy);
    free(copy);
}

void matmul_sample_solve(struct matmul_sample *s) {
    ref_matmul(&s->ref, s->want, s->magnitude);
    if (s->params.y_rows != CLMOE_ROWS_SORTED) return;
    sort_rows(s, s->want);
    sort_rows(s, s->magnitude);
}

void matmul_sample_free(struct matmul_sample *s) {
    free(s->x), free(s->gate), free(s->up), free(s->bias_gate), free(s->bias_up);
    free(s->add_gate), free(s->add_up), free(s->limits);
    free(s->expert_scale), free(s->gamma), free(s->got), free(s->raw_gate), free(s->raw_up);
    free(s->scales), free(s->scales_up), free(s->zeros), free(s->zeros_up);
    free(s->ids), free(s->offsets), free(s->order), free(s->want), free(s->magnitude);
}

int64_t matmul_w_index(const struct clmoe_matmul_params *p, bool up, int64_t e, int64_t n, int64_t k) {
    int64_t rows;
    const int64_t r = matmul_glu_row(p, up, n, &rows);
    if (p->w_order == CLMOE_W_EKN) return (e * p->in + k) * rows + r;
    if (p->w_order == CLMOE_W_ENK) return (e * rows + r) * p->in + k;
    const int64_t lanes = p->glu == CLMOE_GLU_NONE ? 32 : 16, panels = (p->out + lanes - 1) / lanes;
    return ((e * panels + n / lanes) * p->in + k) * 32 + n % lanes + (up ? 16 : 0);
}

/* The tensor of experts first .. first + count - 1, dense, as floats. `only`: 0 gate, 1 up, -1 both. */
static float *dense_weights(const struct matmul_sample *s, int first, int count, int only, int64_t total) {
    float *const dense = matmul_room(total, sizeof *dense);
    for (int up = 0; up <= (s->up != NULL); up++)
        for (int64_t e = 0; (only < 0 || only == up) && e < count; e++)
            for (int64_t n = 0; n < s->params.out; n++)
                for (int64_t k = 0; k < s->params.in; k++)
                    dense[matmul_w_index(&s->params, up, e, n, k)] =
                        (up ? s->up : s->gate)[((e + first) * s->params.out + n) * s->params.in + k];
    return dense;
}

/* Packed weights, `total` of them. */
static void *packed_bytes(const struct matmul_sample *s, int first, int count, int64_t total) {
    if (s->raw_gate) return matmul_panel_bytes(s, first, count);
    float *const dense = dense_weights(s, first, count, -1, total);
    char *const raw = matmul_room(total, 4);
    for (int64_t i = 0; i < total; i++)
        ref_store(s->params.w_dtype, raw, i, dense[i]);
    free(dense);
    return raw;
}

static struct guarded upload_part(struct rng *rng, const struct matmul_sample *s, int first, int count,
                                  int only, struct clmoe_tensor *view) {
    const struct clmoe_matmul_params *const p = &s->params;
    int64_t rows;
    matmul_glu_row(p, false, 0, &rows);
    struct guarded g;
    if (p->w_order == CLMOE_W_PACKED) {
        const int64_t lanes = p->glu == CLMOE_GLU_NONE ? 32 : 16, panels = (p->out + lanes - 1) / lanes;
        const int64_t shape[4] = {count, panels, p->in, 32};
        void *const raw = packed_bytes(s, first, count, count * panels * p->in * 32);
        g = guarded_bytes(rng, p->w_dtype, 4, shape, raw);
        free(raw);
        *view = g.tensor;
        return g;
    }
    const bool by_column = p->w_order == CLMOE_W_EKN;
    const int64_t shape[3] = {count, by_column ? p->in : rows, by_column ? rows : p->in};
    if (matmul_in_words(p)) return matmul_upload_words(rng, s, first, count, only, view);
    if (s->raw_gate) {
        g = matmul_upload_blocks(rng, s, first, count, only, rows);
        g.tensor.stride[0] = 0;
        *view = g.tensor;
        view->stride[1] = p->in + matmul_row_padding(s);
    } else {
        float *const dense = dense_weights(s, first, count, only, shape[0] * shape[1] * shape[2]);
        g = guarded_floats(rng, p->w_dtype, shape[0] * shape[1], shape[2], dense);
        free(dense);
        *view = g.tensor;
        view->stride[1] = g.tensor.stride[0];
    }
    view->ndim = 3;
    memcpy(view->shape, shape, sizeof shape);
    view->stride[0] = shape[1] * view->stride[1];
    view->stride[2] = 1;
    return g;
}

void matmul_upload_weights(struct rng *rng, const struct matmul_sample *s, struct matmul_operands *d) {
    const bool apart = s->params.glu == CLMOE_GLU_APART && s->params.w_order != CLMOE_W_PACKED;
    d->parts = s->parts;
    for (int i = 0, first = 0; i < s->parts; i++) {
        /* Uneven parts: the first ones have one expert each. */
        const int count = i == s->parts - 1 ? s->params.experts - first : 1;
        d->w[i] = upload_part(rng, s, first, count, apart ? 0 : -1, &d->w_views[i]);
        if (apart) d->w_up[i] = upload_part(rng, s, first, count, 1, &d->w_up_views[i]);
        matmul_upload_scales(rng, s, first, count, i, d);
        first += count;
    }
    d->args.w = d->w_views;
    d->args.w_up = apart ? d->w_up_views : NULL;
    d->args.w_scale = s->scales ? d->w_scale_views : NULL;
    d->args.w_scale_up = s->scales_up ? d->w_scale_up_views : NULL;
    d->args.w_zero = s->zeros ? d->w_zero_views : NULL;
    d->args.w_zero_up = s->zeros_up ? d->w_zero_up_views : NULL;
    d->args.n_w = s->parts == 1 ? 0 : s->parts;
}

/* [E, R] in the order of the params. */
static struct guarded upload_bias(struct rng *rng, const struct matmul_sample *s, int only) {
    const struct clmoe_matmul_params *const p = &s->params;
    int64_t rows;
    matmul_glu_row(p, false, 0, &rows);
    float *const dense = matmul_room(p->experts * rows, sizeof *dense);
    for (int up = 0; s->bias_gate && up <= (s->up != NULL); up++)
        for (int64_t i = 0; (only < 0 || only == up) && i < p->experts * p->out; i++)
            dense[i / p->out * rows + matmul_glu_row(p, up, i % p->out, &rows)] =
                (up ? s->bias_up : s->bias_gate)[i];
    struct guarded g = guarded_floats(rng, p->bias_dtype, p->experts, rows, dense);
    free(dense);
    return g;
}

/* What is added to gate and up: one buffer, in which their columns alternate. */
static void upload_add(struct rng *rng, const struct matmul_sample *s, struct matmul_operands *d) {
    if (!s->params.add) return;
    const int step = s->add_up ? 2 : 1;
    const int64_t n = s->params.out;
    float *const both = matmul_room(s->pairs * n * step, sizeof *both);
    for (int64_t i = 0; i < s->pairs * n * step; i++)
        both[i] = (i % step ? s->add_up : s->add_gate)[i / step];
    d->add = guarded_floats(rng, CLMOE_F32, s->pairs, n * step, both);
    free(both);
    d->args.add = d->add.tensor;
    d->args.add.shape[1] = n;
    d->args.add.stride[1] = step;
    if (!s->add_up) return;
    d->args.add_up = d->args.add;
    d->args.add_up.offset += sizeof(float);
}

/* x in the order that the kernels read. */
static struct guarded upload_x(struct rng *rng, const struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    if (p->x_rows != CLMOE_ROWS_SORTED)
        return guarded_floats(rng, p->x_dtype, p->x_rows == CLMOE_ROWS_TOKEN ? s->ref.tokens : s->pairs,
                              p->in, s->x);
    float *const sorted = matmul_room(s->pairs * p->in, sizeof *sorted);
    for (int64_t i = 0; i < s->pairs; i++)
        memcpy(sorted + i * p->in, s->x + s->order[i] * p->in, (size_t)p->in * sizeof *sorted);
    struct guarded g = guarded_floats(rng, p->x_dtype, s->pairs, p->in, sorted);
    free(sorted);
    return g;
}

void matmul_upload(struct rng *rng, const struct matmul_sample *s, struct matmul_operands *d) {
    const struct clmoe_matmul_params *const p = &s->params;
    const int64_t tokens = s->ref.tokens;
    const bool apart = p->glu == CLMOE_GLU_APART;
    guarded_align(s->aligned);
    *d = (struct matmul_operands){.x = upload_x(rng, s)};
    d->bias = upload_bias(rng, s, apart ? 0 : -1);
    d->bias_up = upload_bias(rng, s, 1);
    upload_add(rng, s, d);
    d->gamma = guarded_floats(rng, CLMOE_F32, tokens, p->topk, s->gamma);
    d->expert_scale = guarded_floats(rng, CLMOE_F32, 1, p->experts, s->expert_scale);
    d->limits = guarded_ints(rng, CLMOE_I32, 1, p->experts, s->limits);
    d->ids = guarded_ints(rng, CLMOE_I32, tokens, p->topk, s->ids);
    d->offsets = guarded_ints(rng, CLMOE_I32, 1, p->experts + 1, s->offsets);
    d->order = guarded_ints(rng, CLMOE_I32, 1, s->pairs, s->order);
    d->y = guarded_floats(rng, p->y_dtype, s->pairs, p->out, NULL);
    matmul_upload_weights(rng, s, d);
    guarded_align(false);
    d->args.x = d->x.tensor;
    if (p->routing != CLMOE_ROUTING_DENSE) d->args.ids = d->ids.tensor;
    d->args.y = d->y.tensor;
    if (p->bias) d->args.bias = d->bias.tensor;
    if (p->bias && apart) d->args.bias_up = d->bias_up.tensor;
    if (p->limit) d->args.limits = as_1d(&d->limits);
    if (p->gamma) d->args.gamma = d->gamma.tensor;
    if (p->expert_scale) d->args.expert_scale = as_1d(&d->expert_scale);
    if (p->routing == CLMOE_ROUTING_SORTED) {
        d->args.offsets = as_1d(&d->offsets);
        d->args.order = as_1d(&d->order);
    }
}

void matmul_operands_free(struct matmul_operands *d) {
    guarded_free(&d->x), guarded_free(&d->bias), guarded_free(&d->bias_up), guarded_free(&d->add);
    guarded_free(&d->limits), guarded_free(&d->gamma);
    guarded_free(&d->expert_scale), guarded_free(&d->ids), guarded_free(&d->offsets);
    guarded_free(&d->order), guarded_free(&d->y);
    for (int i = 0; i < d->parts; i++)
        guarded_free(&d->w[i]), guarded_free(&d->w_up[i]), guarded_free(&d->w_scale[i]),
            guarded_free(&d->w_scale_up[i]), guarded_free(&d->w_zero[i]), guarded_free(&d->w_zero_up[i]);
}

void matmul_compare(struct matmul_sample *s, const struct matmul_operands *d) {
    guarded_read_floats(&d->y, s->got);
    case_close(s->params.y_dtype, s->got, s->want, s->magnitude, s->pairs * s->params.out,
               0x1p-24 * (double)(s->params.in + 24), "y");
}

void matmul_check_packing(struct rng *rng, const struct matmul_sample *s, clmoe_plan *plan) {
    const struct clmoe_matmul_params *const p = &s->params;
    struct clmoe_tensor views[MATMUL_PARTS];
    struct guarded packed[MATMUL_PARTS];
    struct matmul_operands d = {0};
    int64_t shape[4];
    matmul_upload_weights(rng, s, &d);
    case_ok(clmoe_matmul_packed_shape(p, shape));
    for (int i = 0; i < s->parts; i++) {
        shape[0] = d.w_views[i].shape[0];
        packed[i] = guarded_bytes(rng, p->w_dtype, 4, shape, NULL);
        views[i] = packed[i].tensor;
    }
    const struct clmoe_matmul_pack_args args = {d.args.w, d.args.w_up, d.args.n_w, views};
    case_ok(clmoe_matmul_pack_enqueue(plan, tester()->queue, &args, 0, NULL, NULL));
    struct matmul_sample as_packed = *s;
    as_packed.params.w_order = CLMOE_W_PACKED;
    for (int64_t i = 0, first = 0; i < s->parts; first += views[i++].shape[0]) {
        const int64_t count = views[i].shape[0], total = count * shape[1] * p->in * 32;
        const int64_t bytes = clmoe_dtype_bytes(p->w_dtype, total);
        unsigned char *const got = matmul_room(bytes, 1);
        unsigned char *const want = packed_bytes(&as_packed, (int)first, (int)count, total);
        guarded_read(&packed[i], got);
        for (int64_t at = 0; at < bytes; at++)
            case_require(got[at] == want[at], "part %d byte %lld of %lld: %u, expected %u", (int)i,
                         (long long)at, (long long)bytes, got[at], want[at]);
        free(got), free(want);
        guarded_free(&packed[i]);
    }
    matmul_operands_free(&d);
}

int matmul_row_of(const char *name) {
    int row = 0;
    while (clmoe_kernel_name("matmul", row) && strcmp(clmoe_kernel_name("matmul", row), name))
        row++;
    return row;
}

bool matmul_run_row(struct rng *rng, struct matmul_sample *s, enum forced_caps caps, int row) {
    s->params.plan.kernel = clmoe_kernel_name("matmul", row);
    case_begin("%s caps %s %s", s->params.plan.kernel, caps_name(caps), matmul_case_name(s));
    clmoe_plan *plan;
    if (!row_fits("matmul", row, clmoe_matmul_plan(tester_context(caps), &s->params, &plan))) return false;
    struct matmul_operands d;
    matmul_upload(rng, s, &d);
    case_ok(clmoe_matmul_enqueue(plan, tester()->queue, &d.args, 0, NULL, NULL));
    matmul_compare(s, &d);
    matmul_operands_free(&d);
    clmoe_plan_destroy(&plan);
    return true;
}

void matmul_run_emulated(struct rng *rng, struct matmul_sample *s, const char *name) {
    matmul_sample_solve(s);
    matmul_run_row(rng, s, CAPS_EMULATED, matmul_row_of(name));
    matmul_sample_free(s);
}

void matmul_run_tuned(struct rng *rng, struct matmul_sample *s, const char *name, const char *parameters) {
    clmoe_context *const ctx = tester_context(CAPS_EMULATED);
    char text[160];
    snprintf(text, sizeof text, "device * | * | *\n%s * %s", name, parameters);
    case_begin("%s", text);
    case_ok(clmoe_context_set_tuning(ctx, text, 0));
    clmoe_plan *plan;
    s->params.plan.kernel = name;
    case_ok(clmoe_matmul_plan(ctx, &s->params, &plan));
    snprintf(text, sizeof text, "[%s", parameters);
    case_require(strstr(clmoe_plan_describe(plan), text), "no \"%s\" in \"%s\"", text,
                 clmoe_plan_describe(plan));
    clmoe_plan_destroy(&plan);
    matmul_run_emulated(rng, s, name);
    case_ok(clmoe_context_set_tuning(ctx, NULL, 0));
}

void matmul_run_out_of_order(struct rng *rng, struct matmul_sample *s, clmoe_plan *plan) {
    struct matmul_operands d;
    matmul_upload(rng, s, &d);
    cl_int err;
    const cl_event gate = clCreateUserEvent(tester()->context, &err);
    case_require(err == CL_SUCCESS, "clCreateUserEvent: %d", (int)err);
    cl_event first, second;
    case_ok(clmoe_matmul_enqueue(plan, tester()->ooo_queue, &d.args, 1, &gate, &first));
    case_ok(clmoe_matmul_enqueue(plan, tester()->ooo_queue, &d.args, 1, &first, &second));
    cl_int state = CL_COMPLETE;
    clGetEventInfo(second, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    case_require(state != CL_COMPLETE, "it ran before its event (%d)", (int)state);
    clSetUserEventStatus(gate, CL_COMPLETE);
    err = clWaitForEvents(1, &second);
    case_require(err == CL_SUCCESS, "clWaitForEvents: %d", (int)err);
    matmul_compare(s, &d);
    clReleaseEvent(gate), clReleaseEvent(first), clReleaseEvent(second);
    matmul_operands_free(&d);
}

const char *matmul_case_name(const struct matmul_sample *s) {
    static const char *const orders[] = {"ENK", "EKN", "PACKED", "AWQ", "GPTQ"};
    static const char *const glus[] = {"none", "gate_up", "up_gate", "interleaved", "apart"};
    static char text[400];
    const struct clmoe_matmul_params *const p = &s->params;
    snprintf(text, sizeof text,
             "T=%lld k=%d E=%d K=%lld N=%lld x=%s w=%s y=%s %s glu=%s act=%d x_rows=%d y_rows=%d sorted=%d "
             "gamma=%d bias=%d add=%d limit=%d scale=%d parts=%d w_scale=%s/%lld/%lld",
             (long long)s->ref.tokens, p->topk, p->experts, (long long)p->in, (long long)p->out,
             clmoe_dtype_name(p->x_dtype), clmoe_dtype_name(p->w_dtype), clmoe_dtype_name(p->y_dtype),
             orders[p->w_order], glus[p->glu], (int)p->act.kind, (int)p->x_rows, (int)p->y_rows,
             (int)p->routing, (int)p->gamma, p->bias, p->add, (int)p->limit, p->expert_scale, s->parts,
             clmoe_dtype_name(p->w_scale.dtype), (long long)p->w_scale.rows, (long long)p->w_scale.columns);
    return text;
}
