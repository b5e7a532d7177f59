/* SPDX-License-Identifier: MIT */
#include "quantise.h"
#include "place.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORD 8 /* numbers of 4 bits in a word */

struct quant_format {
    const char *name;
    enum clmoe_dtype dtype;
    enum clmoe_dtype narrow; /* K formats: of rows that blocks of 256 do not divide; others: the same */
    int64_t block;           /* elements that `narrow` comes in, and words */
    struct clmoe_w_scale scale;
};

const struct quant_format *quant_format(enum quant_choice choice) {
    static const struct quant_format formats[] = {
        [QUANT_Q8_0] = {"q8_0", CLMOE_Q8_0, CLMOE_Q8_0, 32},
        [QUANT_Q6_K] = {"q6_k", CLMOE_Q6_K, CLMOE_Q8_0, 32},
        [QUANT_Q5_K] = {"q5_k", CLMOE_Q5_K, CLMOE_Q8_0, 32},
        [QUANT_Q5_0] = {"q5_0", CLMOE_Q5_0, CLMOE_Q5_0, 32},
        [QUANT_Q4_K] = {"q4_k", CLMOE_Q4_K, CLMOE_Q5_0, 32},
        [QUANT_Q4_0] = {"q4_0", CLMOE_Q4_0, CLMOE_Q4_0, 32},
        [QUANT_MXFP4] = {"mxfp4", CLMOE_MXFP4, CLMOE_MXFP4, 32},
        [QUANT_FP8] = {"fp8", CLMOE_F8_E4M3, CLMOE_F8_E4M3, 1, {CLMOE_F32, 128, 128}},
        [QUANT_INT8] = {"int8", CLMOE_I8, CLMOE_I8, 1, {CLMOE_F32, 1}},
        [QUANT_INT4] = {"int4", CLMOE_I32, CLMOE_I32, WORD, {CLMOE_F16, 1, 32, CLMOE_ZERO_GIVEN}},
    };
    return &formats[choice];
}

static bool is_k(const struct quant_format *f) {
    return f->dtype != f->narrow;
}

bool quant_fits(const struct quant_format *f, int64_t hidden, int64_t inter, struct io_error *err) {
    const int64_t odd = hidden % f->block ? hidden : inter;
    return odd % f->block == 0 || io_fail(err, f->name, "%lld numbers are no whole blocks of %lld",
                                          (long long)odd, (long long)f->block);
}

void quant_params(const struct quant_format *f, struct clmoe_matmul_params *p) {
    p->w_dtype = is_k(f) && p->in % 256 ? f->narrow : f->dtype;
    p->w_scale = f->scale;
    p->w_order = f->dtype == CLMOE_I32 ? CLMOE_W_AWQ : CLMOE_W_ENK;
}

void quantised_release(struct quantised *q) {
    device_release(&q->w.mem);
    device_release(&q->scale.mem);
    device_release(&q->zero.mem);
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t expert_rows(const struct clmoe_matmul_params *p) {
    return p->out * (p->glu ? 2 : 1);
}

static int64_t scale_columns(const struct clmoe_matmul_params *p) {
    return p->w_scale.columns ? p->w_scale.columns : p->in;
}

double quant_bits(const struct clmoe_matmul_params *p) {
    const int64_t rows = expert_rows(p), weights = rows * p->in;
    if (!p->w_scale.rows) return (double)clmoe_dtype_bytes(p->w_dtype, weights) * 8 / (double)weights;
    const int64_t scales = ceil_div(rows, p->w_scale.rows) * ceil_div(p->in, scale_columns(p));
    const bool words = p->w_dtype == CLMOE_I32;
    const double bits = words ? 4 : 8, zero = words ? 4 : 0;
    const double scale = 8 * (double)clmoe_dtype_bytes(p->w_scale.dtype, 1);
    return bits + (scale + zero) * (double)scales / (double)weights;
}

/* ---- block formats ---- */

static bool pack_blocks(const struct device *device, const struct clmoe_matmul_params *p, int64_t n,
                        const struct array *arrays, struct clmoe_tensor *w, struct io_error *err) {
    struct clmoe_matmul_params plain = *p;
    struct clmoe_tensor x = {0};
    clmoe_plan *plan = NULL;
    plain.w_dtype = place_dtype(arrays[0].dtype);
    bool ok = place_rows(device, &plain, n, arrays, &x, err);
    const int64_t rows = x.shape[0] * x.shape[1];
    if (ok) w->mem = device_buffer(device, (size_t)clmoe_dtype_bytes(p->w_dtype, rows * p->in), NULL, err);
    if (!w->mem) ok = false;
    const struct clmoe_quant_params params = {
        .max_rows = rows, .n = p->in, .plain = plain.w_dtype, .block = p->w_dtype};
    if (ok)
        ok = device_moe_ok(device, clmoe_quant_plan(device->ctx, &params, &plan), "clmoe_quant_plan", err);
    const struct clmoe_quant_args args = {.x = clmoe_tensor_2d(x.mem, plain.w_dtype, rows, p->in),
                                          .q = clmoe_tensor_2d(w->mem, p->w_dtype, rows, p->in)};
    if (ok)
        ok = device_moe_ok(device, clmoe_quant_enqueue(plan, device->queue, &args, 0, NULL, NULL),
                           "clmoe_quant_enqueue", err);
    clmoe_plan_destroy(&plan);
    device_release(&x.mem);
    const struct clmoe_tensor of = clmoe_tensor_3d(w->mem, p->w_dtype, p->experts, rows / p->experts, p->in);
    *w = of;
    return ok;
}

/* ---- codes with scales ---- */

/* What the codes of a product are made from, and what they become, all [E, ...]. */
struct coding {
    const struct clmoe_matmul_params *params;
    int64_t rows, groups, bands; /* of an expert: rows of w; of scales, columns and rows */
    float *x;                    /* [E, rows, in] */
    unsigned char *codes;
    void *scales, *zeros;
};

/* To nearest, of two the even one; at most 448. */
static unsigned char f8_code(float x) {
    const float size = fabsf(x);
    unsigned char low = 0, high = 0x7e;
    while (high - low > 1) {
        const unsigned char middle = (unsigned char)((low + high) / 2);
        *(array_f8_e4m3_to_f32(middle) <= size ? &low : &high) = middle;
    }
    const float below = size - array_f8_e4m3_to_f32(low), above = array_f8_e4m3_to_f32(high) - size;
    const unsigned char code = below < above || (below == above && low % 2 == 0) ? low : high;
    return (unsigned char)(code | (signbit(x) ? 0x80 : 0));
}

/* One block of rows and columns with one scale, the largest magnitude at the last code. */
static void code_block(struct coding *c, int64_t e, int64_t band, int64_t group) {
    const struct clmoe_matmul_params *const p = c->params;
    const int64_t per = p->w_scale.rows, columns = scale_columns(p);
    const int64_t row_end = (band + 1) * per < c->rows ? (band + 1) * per : c->rows;
    const int64_t end = (group + 1) * columns < p->in ? (group + 1) * columns : p->in;
    const bool f8 = p->w_dtype == CLMOE_F8_E4M3;
    float largest = 0;
    for (int64_t r = band * per; r < row_end; r++)
        for (int64_t k = group * columns; k < end; k++)
            largest = fmaxf(largest, fabsf(c->x[(e * c->rows + r) * p->in + k]));
    const float scale = largest / (f8 ? 448.0f : 127.0f);
    ((float *)c->scales)[(e * c->bands + band) * c->groups + group] = scale;
    for (int64_t r = band * per; r < row_end; r++)
        for (int64_t k = group * columns; k < end; k++) {
            const int64_t at = (e * c->rows + r) * p->in + k;
            const float x = scale > 0 ? c->x[at] / scale : 0;
            c->codes[at] = f8 ? f8_code(x) : (unsigned char)(signed char)lroundf(x);
        }
}

/* Where AWQ has number r % 8 of a word. */
static void put_nibble(void *words, int64_t row_words, int64_t row, int64_t r, uint32_t value) {
    static const int place[WORD] = {0, 4, 1, 5, 2, 6, 3, 7};
    ((uint32_t *)words)[row * row_words + r / WORD] |= value << 4 * place[r % WORD];
}

static uint32_t nibble(float x) {
    return (uint32_t)fminf(fmaxf(roundf(x), 0), 15);
}

/* A group of a row from its smallest to its largest number, 0 among them. */
static void code_nibbles(struct coding *c, int64_t e, int64_t r, int64_t group) {
    const struct clmoe_matmul_params *const p = c->params;
    const int64_t begin = group * p->w_scale.columns, words = c->rows / WORD;
    const int64_t end = begin + p->w_scale.columns < p->in ? begin + p->w_scale.columns : p->in;
    const float *const x = c->x + (e * c->rows + r) * p->in;
    float low = 0, high = 0;
    for (int64_t k = begin; k < end; k++)
        low = fminf(low, x[k]), high = fmaxf(high, x[k]);
    const uint16_t bits = array_f32_to_f16((high - low) / 15);
    const float scale = array_f16_to_f32(bits);
    const uint32_t zero = scale > 0 ? nibble(-low / scale) : 0;
    ((uint16_t *)c->scales)[(e * c->groups + group) * c->rows + r] = bits;
    put_nibble(c->zeros, words, e * c->groups + group, r, zero);
    for (int64_t k = begin; k < end; k++)
        put_nibble(c->codes, words, e * p->in + k, r, nibble(scale > 0 ? x[k] / scale + (float)zero : 0));
}

static void code_all(struct coding *c) {
    const bool words = c->params->w_dtype == CLMOE_I32;
    for (int64_t e = 0; e < c->params->experts; e++)
        for (int64_t band = 0; band < c->bands; band++)
            for (int64_t group = 0; group < c->groups; group++)
                (words ? code_nibbles : code_block)(c, e, band, group);
}

static bool widen(int64_t n, const struct array *arrays, float *x, struct io_error *err) {
    bool ok = true;
    for (int64_t i = 0; i < n && ok; i++) {
        struct array wide = {0};
        ok = array_to_f32("weights", &arrays[i], &wide, err);
        if (ok) memcpy(x, wide.data, wide.bytes);
        if (ok) x += array_count(&wide);
        array_free(&wide);
    }
    return ok;
}

static bool code_weights(const struct device *device, const struct clmoe_matmul_params *p, int64_t n,
                         const struct array *arrays, struct quantised *q, struct io_error *err) {
    const struct clmoe_w_scale *const s = &p->w_scale;
    const bool words = p->w_dtype == CLMOE_I32;
    const int64_t e = p->experts, rows = expert_rows(p);
    struct coding c = {.params = p,
                       .rows = rows,
                       .groups = ceil_div(p->in, scale_columns(p)),
                       .bands = ceil_div(rows, s->rows)};
    const size_t codes = (size_t)(e * rows * p->in) / (words ? 2 : 1);
    const size_t scales = (size_t)(e * c.bands * c.groups) * (words ? 2 : 4);
    const size_t zeros = words ? (size_t)(e * c.groups * rows) / 2 : 0;
    c.x = malloc((size_t)(e * rows * p->in) * sizeof *c.x);
    c.codes = calloc(codes, 1);
    c.scales = calloc(scales, 1);
    c.zeros = calloc(zeros + 1, 1);
    bool ok = (c.x && c.codes && c.scales && c.zeros) || io_fail(err, "weights", "out of memory");
    if (ok) ok = widen(n, arrays, c.x, err);
    if (ok) code_all(&c);
    if (words) {
        q->w = clmoe_tensor_3d(NULL, p->w_dtype, e, p->in, rows / WORD);
        q->scale = clmoe_tensor_3d(NULL, s->dtype, e, c.groups, rows);
        q->zero = clmoe_tensor_3d(NULL, CLMOE_I32, e, c.groups, rows / WORD);
    } else {
        q->w = clmoe_tensor_3d(NULL, p->w_dtype, e, rows, p->in);
        q->scale = clmoe_tensor_3d(NULL, s->dtype, e, c.bands, c.groups);
    }
    ok = ok && (q->w.mem = device_buffer(device, codes, c.codes, err)) &&
         (q->scale.mem = device_buffer(device, scales, c.scales, err)) &&
         (!words || (q->zero.mem = device_buffer(device, zeros, c.zeros, err)));
    free(c.x), free(c.codes), free(c.scales), free(c.zeros);
    return ok;
}

bool quantise_weights(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                      const struct array *arrays, struct quantised *q, struct io_error *err) {
    *q = (struct quantised){0};
    return params->w_scale.rows ? code_weights(device, params, n, arrays, q, err)
                                : pack_blocks(device, params, n, arrays, &q->w, err);
}
