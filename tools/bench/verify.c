/* SPDX-License-Identifier: MIT */
#include "verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 16    /* of a product's output, from its first to its last */
#define COLUMNS 64 /* of each of them */
#define TOKENS 2   /* of a layer's output: a layer costs both products of all experts of a token */
#define CHUNK 64   /* columns whose weights are read back at a time */

const struct clmoe_activation bench_act = {CLMOE_ACT_SILU, 1.702f, 7.0f, 7.0f, 1.0f};

/* What was found beside what should be. */
struct samples {
    double wanted[ROWS * COLUMNS];
    float got[ROWS * COLUMNS];
    int n;
};

/* Relative errors as triton_kernels' tests have them: of each element to itself or to the root mean square,
 * whichever is larger. */
static struct errors errors_of(const struct samples *s, double max, double rms) {
    double square = 0;
    struct errors e = {.known = true};
    for (int i = 0; i < s->n; i++)
        square += s->wanted[i] * s->wanted[i];
    const double scale = sqrt(square / (s->n ? s->n : 1)) + 1e-30;
    square = 0;
    for (int i = 0; i < s->n; i++) {
        const double error = fabs(s->wanted[i] - s->got[i]) / fmax(scale, fabs(s->wanted[i]));
        if (!(error <= e.max) && !isnan(e.max)) e.max = error; /* a NaN stays */
        square += error * error;
    }
    e.rms = sqrt(square / (s->n ? s->n : 1));
    e.good = e.max <= max && e.rms <= rms;
    return e;
}

static double dot(const float *x, const float *w, int64_t n) {
    double sums[8] = {0}; /* independent, so that they overlap */
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            sums[j] += (double)x[i + j] * w[i + j];
    for (; i < n; i++)
        sums[0] += (double)x[i] * w[i];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/* One element of a product: x times the row of weights, or the gate and the up row that follow each other. */
static double element(const float *x, const float *rows, int64_t n, bool glu) {
    const double g = dot(x, rows, n);
    if (!glu) return g;
    const double gate = fmin(g, (double)bench_act.gate_max);
    const double up = fmin(fmax(dot(x, rows + n, n), -(double)bench_act.up_max), (double)bench_act.up_max);
    return gate / (1 + exp(-(double)bench_act.alpha * gate)) * (up + (double)bench_act.up_add);
}

/* COLUMNS of n or all, evenly apart; other ones for each sample, the last among them. */
struct columns {
    int64_t first, step;
    int count;
};

static struct columns columns_of(int64_t n, int sample) {
    const int64_t step = n > COLUMNS ? n / COLUMNS : 1, count = n > COLUMNS ? COLUMNS : n;
    const int64_t spare = n - 1 - (count - 1) * step;
    return (struct columns){sample ? (int64_t)sample * 37 % (spare + 1) : spare, step, (int)count};
}

static int64_t row_of(enum clmoe_rows rows, int64_t sorted, int64_t pair, int32_t topk) {
    return rows == CLMOE_ROWS_TOKEN ? pair / topk : rows == CLMOE_ROWS_SORTED ? sorted : pair;
}

/* A few elements of the row of y that belongs to the pair at place `sorted` of the order. */
static int sample_row(struct bench *b, const struct product_run *run, int64_t sorted, int sample, float *x,
                      float *weights, struct samples *out) {
    const struct clmoe_matmul_params *const p = run->params;
    const int64_t pair = run->pairs->order[sorted];
    const int64_t x_row = row_of(p->x_rows, sorted, pair, p->topk),
                  y_row = row_of(p->y_rows, sorted, pair, p->topk);
    const double gamma = p->gamma == CLMOE_GAMMA_OUTPUT ? (double)run->pairs->gamma[pair] : 1;
    const struct columns c = columns_of(p->out, sample);
    int code = bench_read(b, &run->args->x, x_row * p->in, 1, p->in, x);
    for (int i = 0; i < c.count && code < 0; i++, out->n++) {
        const int64_t n = c.first + i * c.step;
        code = experts_read(b, run->w, run->pairs->ids[pair], n, 1, weights);
        if (code < 0) code = bench_read(b, &run->args->y, y_row * p->out + n, 1, 1, &out->got[out->n]);
        if (code < 0) out->wanted[out->n] = gamma * element(x, weights, p->in, p->glu != CLMOE_GLU_NONE);
    }
    return code;
}

static struct errors product_errors(const struct samples *s, enum clmoe_dtype y) {
    return y == CLMOE_F32 ? errors_of(s, 1e-3, 1e-4) : errors_of(s, 2e-2, 4e-3);
}

int verify_product(struct bench *b, const struct product_run *run, struct errors *errors) {
    const int64_t pairs = run->pairs->d_order.shape[0], in = run->params->in;
    const int rows = pairs < ROWS ? (int)pairs : ROWS;
    float *const x = malloc((size_t)in * sizeof *x), *const weights =
                                                         malloc((size_t)in * 2 * sizeof *weights);
    struct samples samples = {.n = 0};
    int code = x && weights ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    for (int i = 0; i < rows && code < 0; i++)
        code = sample_row(b, run, rows > 1 ? i * (pairs - 1) / (rows - 1) : 0, i, x, weights, &samples);
    if (code < 0) *errors = product_errors(&samples, run->params->y_dtype);
    free(x);
    free(weights);
    return code;
}

static float rounded(double value, enum clmoe_dtype dtype) {
    const float v = (float)value;
    return dtype == CLMOE_F16    ? array_f16_to_f32(array_f32_to_f16(v))
           : dtype == CLMOE_BF16 ? array_bf16_to_f32(array_f32_to_bf16(v))
                                 : v;
}

/* A layer on the host: a row of x, of h, of weights, and of y at the sampled columns. */
struct row_buffers {
    float *x, *h, *weights;
};

/* h = act(x . w1[e]), all of it. */
static int hidden_row(struct bench *b, const struct layer_run *run, int32_t expert,
                      const struct row_buffers *rows) {
    const int64_t in = run->params->hidden, out = run->params->inter;
    int code = -1;
    for (int64_t n = 0; n < out && code < 0; n += CHUNK) {
        const int64_t count = out - n < CHUNK ? out - n : CHUNK;
        code = experts_read(b, run->w1, expert, n, count, rows->weights);
        for (int64_t i = 0; i < count && code < 0; i++)
            rows->h[n + i] =
                rounded(element(rows->x, rows->weights + 2 * i * in, in, true), run->params->mid_dtype);
    }
    return code;
}

static int sample_token(struct bench *b, const struct layer_run *run, int64_t token, int sample,
                        const struct row_buffers *rows, struct samples *out) {
    const struct clmoe_moe_params *const p = run->params;
    const struct columns c = columns_of(p->hidden, sample);
    double *const wanted = out->wanted + out->n;
    int code = bench_read(b, &run->args->x, token * p->hidden, 1, p->hidden, rows->x);
    for (int32_t slot = 0; slot < p->topk && code < 0; slot++) {
        const int64_t pair = token * p->topk + slot;
        const int32_t expert = run->pairs->ids[pair];
        code = hidden_row(b, run, expert, rows);
        for (int i = 0; i < c.count && code < 0; i++) {
            code = experts_read(b, run->w2, expert, c.first + i * c.step, 1, rows->weights);
            wanted[i] += (double)run->pairs->gamma[pair] * element(rows->h, rows->weights, p->inter, false);
        }
    }
    for (int i = 0; i < c.count && code < 0; i++, out->n++)
        code =
            bench_read(b, &run->args->y, token * p->hidden + c.first + i * c.step, 1, 1, &out->got[out->n]);
    return code;
}

int verify_layer(struct bench *b, const struct layer_run *run, int64_t tokens, struct errors *errors) {
    const int64_t h = run->params->hidden, inter = run->params->inter, wide = h > inter ? h : inter;
    const struct row_buffers rows = {malloc((size_t)h * sizeof *rows.x),
                                     malloc((size_t)inter * sizeof *rows.h),
                                     malloc((size_t)wide * 2 * CHUNK * sizeof *rows.weights)};
    struct samples samples = {.n = 0};
    int code =
        rows.x && rows.h && rows.weights ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    for (int i = 0; i < TOKENS && i < tokens && code < 0; i++)
        code = sample_token(b, run, i ? tokens - 1 : 0, i, &rows, &samples);
    if (code < 0) /* two roundings on the way: of h and of each expert's output */
        *errors = run->params->mid_dtype == CLMOE_F32 ? errors_of(&samples, 1e-3, 1e-4)
                                                      : errors_of(&samples, 4e-2, 8e-3);
    free(rows.x);
    free(rows.h);
    free(rows.weights);
    return code;
}

static bool is_plain(const struct clmoe_route_params *p) {
    return p->score == CLMOE_SCORE_SOFTMAX && p->renorm == CLMOE_RENORM_SUM && !p->bias && p->n_group <= 1;
}

static bool same_ids(const struct array *ids, const struct array *gamma, const struct pairs *pairs) {
    if (memcmp(ids->data, pairs->ids, ids->bytes) != 0) return false;
    const float *const g = gamma->data;
    for (int64_t i = 0; i < array_count(gamma); i++)
        if (!(fabsf(g[i] - pairs->gamma[i]) <= 1e-5f)) return false;
    return true;
}

static int same_order(struct bench *b, const struct settings *s, const struct clmoe_route_args *args,
                      const struct array *ids, bool *same) {
    struct array offsets = {0}, order = {0}, wanted_offsets = {0}, wanted_order = {0};
    struct io_error error;
    const int64_t experts = s->shape.experts, pairs = array_count(ids);
    int32_t *const counts = malloc((size_t)experts * sizeof *counts);
    int code = session_download(b->s, &args->offsets, &offsets);
    if (code < 0) code = session_download(b->s, &args->order, &order);
    if (code < 0 &&
        (!counts || !array_alloc("offsets", ARRAY_I32, 1, offsets.shape, &wanted_offsets, &error) ||
         !array_alloc("order", ARRAY_I32, 1, order.shape, &wanted_order, &error)))
        code = command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) {
        const int32_t *const id = ids->data;
        for (int64_t i = 0; i < pairs; i++)
            *same = *same && id[i] >= 0 && id[i] < experts;
        if (*same) pairs_sort(id, pairs, (int32_t)experts, counts, wanted_offsets.data, wanted_order.data);
        *same = *same && memcmp(offsets.data, wanted_offsets.data, offsets.bytes) == 0 &&
                memcmp(order.data, wanted_order.data, order.bytes) == 0;
    }
    free(counts);
    array_free(&offsets);
    array_free(&order);
    array_free(&wanted_offsets);
    array_free(&wanted_order);
    return code;
}

int verify_routing(struct bench *b, const struct settings *s, const struct clmoe_route_args *args,
                   const struct pairs *pairs, struct errors *errors) {
    const bool plain = is_plain(&s->shape.route), sorted = args->order.mem != NULL;
    struct array ids = {0}, gamma = {0};
    bool same = true;
    int code = session_download(b->s, &args->ids, &ids);
    if (code < 0) code = session_download(b->s, &args->gamma, &gamma);
    if (code < 0 && plain) same = same_ids(&ids, &gamma, pairs);
    if (code < 0 && sorted) code = same_order(b, s, args, &ids, &same);
    array_free(&ids);
    array_free(&gamma);
    if (code < 0) *errors = (struct errors){plain || sorted, same, same ? 0 : 1, same ? 0 : 1};
    return code;
}
