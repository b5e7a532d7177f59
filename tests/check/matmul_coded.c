/* SPDX-License-Identifier: MIT */
#include "matmul_coded.h"

#include "ref/convert.h"
#include "ref/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool matmul_in_words(const struct clmoe_matmul_params *p) {
    return p->w_order == CLMOE_W_AWQ || p->w_order == CLMOE_W_GPTQ;
}

int64_t matmul_glu_row(const struct clmoe_matmul_params *p, bool up, int64_t n, int64_t *rows) {
    *rows = p->glu == CLMOE_GLU_NONE || p->glu == CLMOE_GLU_APART ? p->out : 2 * p->out;
    switch (p->glu) {
    case CLMOE_GLU_GATE_UP: return up ? p->out + n : n;
    case CLMOE_GLU_UP_GATE: return up ? n : p->out + n;
    case CLMOE_GLU_INTERLEAVED: return 2 * n + up;
    default: return n;
    }
}

/* How scales are shaped behind the experts, and elements of a block; of words too, which have [G, R] in
 * memory. */
static void scale_shape(const struct clmoe_matmul_params *p, int64_t shape[2], int64_t block[2]) {
    int64_t rows;
    matmul_glu_row(p, false, 0, &rows);
    block[0] = p->w_scale.rows && p->w_scale.rows < rows ? p->w_scale.rows : rows;
    block[1] = p->w_scale.columns ? p->w_scale.columns : p->in;
    shape[0] = (rows + block[0] - 1) / block[0];
    shape[1] = (p->in + block[1] - 1) / block[1];
}

static float scale_dtype_round(enum clmoe_dtype dtype, float v) {
    return dtype == CLMOE_U8 ? ldexpf(1, ilogbf(v)) : ref_round(dtype, v);
}

static void tame_blocks(struct rng *rng, enum clmoe_dtype dtype, unsigned char *raw, int64_t n,
                        float *values) {
    const int bytes = ref_block_bytes(dtype);
    for (int64_t b = 0; b < n / ref_block_length(dtype); b++)
        ref_tame_block(dtype, raw + b * bytes, 0.1f + 2 * fabsf(rng_float(rng)));
    ref_unpack(dtype, raw, n, values);
}

/* New scales, and the weights times them. */
static void scale_weights(struct rng *rng, struct matmul_sample *s, bool up) {
    const struct clmoe_matmul_params *const p = &s->params;
    const float largest = p->w_dtype == CLMOE_I8 ? 128 : p->w_dtype == CLMOE_F8_E4M3 ? 448 : 6;
    const bool own = up && p->glu == CLMOE_GLU_APART;
    float *const scales = own ? s->scales_up : s->scales, *const w = up ? s->up : s->gate;
    const unsigned char *const zeros = own ? s->zeros_up : s->zeros, *const raw =
                                                                         up ? s->raw_up : s->raw_gate;
    int64_t shape[2], block[2], rows;
    scale_shape(p, shape, block);
    for (int64_t i = 0; (!up || own) && i < p->experts * shape[0] * shape[1]; i++)
        scales[i] = scale_dtype_round(p->w_scale.dtype, (0.1f + 2 * fabsf(rng_float(rng))) / largest);
    for (int64_t i = 0; i < p->experts * p->out * p->in; i++) {
        const int64_t k = i % p->in, n = i / p->in % p->out, e = i / p->in / p->out;
        const int64_t row = matmul_glu_row(p, up, n, &rows) / block[0];
        const int64_t at = (e * shape[0] + row) * shape[1] + k / block[1];
        if (matmul_in_words(p))
            w[i] = (float)(raw[i] - (zeros ? zeros[at] + (p->w_scale.zero == CLMOE_ZERO_PLUS_ONE) : 8));
        w[i] *= scales[at];
    }
}

void matmul_tame_weights(struct rng *rng, struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    for (int up = 0; up <= (s->up != NULL); up++) {
        if (!matmul_in_words(p))
            tame_blocks(rng, p->w_dtype, up ? s->raw_up : s->raw_gate, p->experts * p->out * p->in,
                        up ? s->up : s->gate);
        if (s->scales) scale_weights(rng, s, up);
    }
}

/* Bytes of which only `bits` are set. */
static unsigned char *random_bytes(struct rng *rng, int64_t n, unsigned bits) {
    unsigned char *const raw = matmul_room(n, 1);
    for (int64_t i = 0; i < n; i++)
        raw[i] = (unsigned char)(rng_u32(rng) & bits);
    return raw;
}

void matmul_make_coded(struct rng *rng, struct matmul_sample *s) {
    const struct clmoe_matmul_params *const p = &s->params;
    const bool words = matmul_in_words(p), apart = p->glu == CLMOE_GLU_APART;
    const int64_t weights = p->experts * p->out * p->in;
    const int64_t bytes = words ? weights : clmoe_dtype_bytes(p->w_dtype, weights);
    int64_t shape[2], block[2];
    scale_shape(p, shape, block);
    const int64_t scales = p->experts * shape[0] * shape[1];
    s->raw_gate = random_bytes(rng, bytes, words ? 15 : 255);
    if (s->up) s->raw_up = random_bytes(rng, bytes, words ? 15 : 255);
    if (ref_is_scaled(p->w_dtype)) {
        s->scales = matmul_room(scales, sizeof *s->scales);
        if (apart) s->scales_up = matmul_room(scales, sizeof *s->scales_up);
    }
    if (words && p->w_scale.zero != CLMOE_ZERO_EIGHT) {
        s->zeros = random_bytes(rng, scales, 15);
        if (apart) s->zeros_up = random_bytes(rng, scales, 15);
    }
    matmul_tame_weights(rng, s);
}

void matmul_spoil_scales(struct matmul_sample *s, int e) {
    int64_t shape[2], block[2];
    scale_shape(&s->params, shape, block);
    for (int64_t i = e * shape[0] * shape[1]; i < (e + 1) * shape[0] * shape[1]; i++) {
        s->scales[i] = NAN;
        if (s->scales_up) s->scales_up[i] = NAN;
    }
}

void matmul_spoil_block(struct matmul_sample *s, int64_t i) {
    const enum clmoe_dtype dtype = s->params.w_dtype;
    if (matmul_in_words(&s->params)) return;
    const int64_t at = clmoe_dtype_bytes(dtype, i);
    ref_spoil_block(dtype, s->raw_gate + at);
    if (s->raw_up) ref_spoil_block(dtype, s->raw_up + at);
}

int64_t matmul_row_padding(const struct matmul_sample *s) {
    const int64_t length = ref_block_length(s->params.w_dtype), bytes = ref_block_bytes(s->params.w_dtype);
    const int64_t behind = 16 - clmoe_dtype_bytes(s->params.w_dtype, s->params.in) % 16;
    return s->aligned && 16 % bytes == 0 ? behind / bytes * length : length;
}

/* Block formats: whole rows, each row followed by blocks that belong to nobody. */
struct guarded matmul_upload_blocks(struct rng *rng, const struct matmul_sample *s, int first, int count,
                                    int only, int64_t rows) {
    const enum clmoe_dtype dtype = s->params.w_dtype;
    const int64_t padding = matmul_row_padding(s), width = clmoe_dtype_bytes(dtype, s->params.in);
    const int64_t pitch = width + clmoe_dtype_bytes(dtype, padding);
    unsigned char *const raw = matmul_room(count * rows * pitch, 1);
    memset(raw, 0xff, (size_t)(count * rows * pitch));
    for (int up = 0; up <= (s->up != NULL); up++)
        for (int64_t e = 0; (only < 0 || only == up) && e < count; e++)
            for (int64_t n = 0; n < s->params.out; n++) {
                const int64_t row = matmul_w_index(&s->params, up, e, n, 0) / s->params.in;
                memcpy(raw + row * pitch,
                       (up ? s->raw_up : s->raw_gate) + ((e + first) * s->params.out + n) * width,
                       (size_t)width);
            }
    const int64_t shape[] = {count * rows * (s->params.in + padding)};
    struct guarded g = guarded_bytes(rng, dtype, 1, shape, raw);
    free(raw);
    return g;
}

/* Where byte c of lane j's block is in a tile. */
static int64_t panel_byte(enum clmoe_dtype dtype, int64_t j, int64_t c) {
    const int64_t scale = dtype == CLMOE_MXFP4 ? 1 : 2, at = j % 16 * scale + c, code = c - scale;
    if (c < scale) return at / 16 * 32 + j / 16 * 16 + at % 16;
    return 32 * (scale + (dtype == CLMOE_Q8_0 ? code % 16 * 2 + code / 16 : code)) + j;
}

unsigned char *matmul_panel_bytes(const struct matmul_sample *s, int first, int count) {
    const struct clmoe_matmul_params *const p = &s->params;
    const int64_t lanes = p->glu == CLMOE_GLU_NONE ? 32 : 16, panels = (p->out + lanes - 1) / lanes;
    const int64_t blocks = p->in / 32, size = ref_block_bytes(p->w_dtype);
    unsigned char *const packed = matmul_room(count * panels * blocks * 32 * size, 1);
    for (int up = 0; up <= (s->up != NULL); up++)
        for (int64_t i = 0; i < count * p->out * blocks; i++) {
            const int64_t b = i % blocks, n = i / blocks % p->out, e = i / blocks / p->out;
            const unsigned char *const block =
                (up ? s->raw_up : s->raw_gate) + (first * p->out * blocks + i) * size;
            unsigned char *const tile = packed + ((e * panels + n / lanes) * blocks + b) * 32 * size;
            for (int64_t c = 0; c < size; c++)
                tile[panel_byte(p->w_dtype, n % lanes + (up ? 16 : 0), c)] = block[c];
        }
    return packed;
}

/* ---- words of 8 codes ---- */

static int place_of(const struct clmoe_matmul_params *p, int64_t row) {
    static const int awq[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return p->w_order == CLMOE_W_AWQ ? awq[row % 8] : (int)(row % 8);
}

/* A tensor [count, rows, columns], of whose rows each is followed by words that belong to nobody. */
static struct guarded upload_matrix(struct rng *rng, enum clmoe_dtype dtype, int64_t count, int64_t rows,
                                    int64_t columns, const void *values, struct clmoe_tensor *view) {
    struct guarded g = dtype == CLMOE_I32 || dtype == CLMOE_U8
                           ? guarded_ints(rng, dtype, count * rows, columns, values)
                           : guarded_floats(rng, dtype, count * rows, columns, values);
    *view = g.tensor;
    view->ndim = 3;
    view->shape[0] = count, view->shape[1] = rows, view->shape[2] = columns;
    view->stride[2] = 1;
    view->stride[1] = g.tensor.stride[0];
    view->stride[0] = rows * g.tensor.stride[0];
    return g;
}

struct guarded matmul_upload_words(struct rng *rng, const struct matmul_sample *s, int first, int count,
                                   int only, struct clmoe_tensor *view) {
    const struct clmoe_matmul_params *const p = &s->params;
    const bool awq = p->w_order == CLMOE_W_AWQ;
    int64_t rows;
    matmul_glu_row(p, false, 0, &rows);
    const int64_t height = awq ? p->in : p->in / 8, width = awq ? rows / 8 : rows;
    uint32_t *const words = matmul_room(count * height * width, sizeof *words);
    for (int up = 0; up <= (s->up != NULL); up++)
        for (int64_t i = 0; (only < 0 || only == up) && i < count * p->out * p->in; i++) {
            const int64_t k = i % p->in, n = i / p->in % p->out, e = i / p->in / p->out;
            const int64_t r = matmul_glu_row(p, up, n, &rows);
            const int64_t word = awq ? (e * height + k) * width + r / 8 : (e * height + k / 8) * width + r;
            const int place = awq ? place_of(p, r) : (int)(k % 8);
            words[word] |= (uint32_t)(up ? s->raw_up : s->raw_gate)[first * p->out * p->in + i] << 4 * place;
        }
    struct guarded g = upload_matrix(rng, CLMOE_I32, count, height, width, words, view);
    free(words);
    return g;
}

static struct guarded upload_zeros(struct rng *rng, const struct matmul_sample *s, const unsigned char *zeros,
                                   int first, int count, struct clmoe_tensor *view) {
    int64_t shape[2], block[2];
    scale_shape(&s->params, shape, block);
    const int64_t rows = shape[0], groups = shape[1];
    uint32_t *const words = matmul_room(count * groups * rows / 8, sizeof *words);
    for (int64_t i = 0; i < count * rows * groups; i++) {
        const int64_t g = i % groups, r = i / groups % rows, e = i / groups / rows;
        words[((e * groups + g) * rows + r) / 8] |= (uint32_t)zeros[first * rows * groups + i]
                                                    << 4 * place_of(&s->params, r);
    }
    struct guarded g = upload_matrix(rng, CLMOE_I32, count, groups, rows / 8, words, view);
    free(words);
    return g;
}

/* ---- scales ---- */

/* Experts first .. first + count - 1 of `scales`: [rows, groups] or, beside words, [groups, rows]. */
static struct guarded upload_scale(struct rng *rng, const struct matmul_sample *s, const float *scales,
                                   int first, int count, struct clmoe_tensor *view) {
    const struct clmoe_matmul_params *const p = &s->params;
    int64_t shape[2], block[2];
    scale_shape(p, shape, block);
    const int64_t rows = shape[0], groups = shape[1], n = count * rows * groups;
    const bool words = matmul_in_words(p), exponents = p->w_scale.dtype == CLMOE_U8;
    float *const values = matmul_room(n, sizeof *values);
    unsigned char *const bytes = matmul_room(n, 1);
    for (int64_t i = 0; i < n; i++) {
        const int64_t g = i % groups, r = i / groups % rows, e = i / groups / rows;
        const int64_t at = words ? (e * groups + g) * rows + r : i;
        values[at] = scales[first * rows * groups + i];
        bytes[at] = isnan(values[at]) ? 255 : (unsigned char)(127 + ilogbf(values[at]));
    }
    struct guarded g = upload_matrix(rng, p->w_scale.dtype, count, words ? groups : rows,
                                     words ? rows : groups, exponents ? (const void *)bytes : values, view);
    free(values), free(bytes);
    return g;
}

void matmul_upload_scales(struct rng *rng, const struct matmul_sample *s, int first, int count, int i,
                          struct matmul_operands *d) {
    if (s->scales) d->w_scale[i] = upload_scale(rng, s, s->scales, first, count, &d->w_scale_views[i]);
    if (s->scales_up)
        d->w_scale_up[i] = upload_scale(rng, s, s->scales_up, first, count, &d->w_scale_up_views[i]);
    if (s->zeros) d->w_zero[i] = upload_zeros(rng, s, s->zeros, first, count, &d->w_zero_views[i]);
    if (s->zeros_up)
        d->w_zero_up[i] = upload_zeros(rng, s, s->zeros_up, first, count, &d->w_zero_up_views[i]);
}
