/* SPDX-License-Identifier: MIT */
#include "experts.h"

#include <math.h>
#include <stdlib.h>

enum { CODES = 32 };  /* of e2m1, with one scale */
enum { IN_WORD = 8 }; /* of 4 bits */

struct clmoe_w_scale experts_scale(const struct settings *s) {
    if (settings_words(s))
        return (struct clmoe_w_scale){CLMOE_F16, .rows = 1, .columns = s->group, .zero = CLMOE_ZERO_GIVEN};
    switch (s->dtype) {
    case CLMOE_F4_E2M1: return (struct clmoe_w_scale){.dtype = CLMOE_U8, .rows = 1, .columns = CODES};
    case CLMOE_F8_E4M3: return (struct clmoe_w_scale){.dtype = CLMOE_F32, .rows = 128, .columns = 128};
    case CLMOE_I8: return (struct clmoe_w_scale){.dtype = CLMOE_F32, .rows = 1};
    default: return (struct clmoe_w_scale){0};
    }
}

double experts_bytes(const struct settings *s, double rows, double in) {
    const struct clmoe_w_scale scale = experts_scale(s);
    const double groups = scale.columns ? ceil(in / (double)scale.columns) : 1;
    const double blocks = scale.rows ? rows / (double)scale.rows * groups : 0;
    return bytes_of(scale.dtype, blocks) + (settings_words(s)
                                                ? bytes_of(CLMOE_I32, (rows * in + blocks) / IN_WORD)
                                                : bytes_of(s->dtype, rows * in));
}

/* How large codes are; their scales have the rest of the deviation. Those of e2m1 know it themselves. */
static float codes_deviation(enum clmoe_dtype dtype) {
    switch (dtype) {
    case CLMOE_F8_E4M3: return 64;
    case CLMOE_I8: return 73;
    case CLMOE_I32: return 6.5f; /* of q - z */
    default: return 1;
    }
}

/* How many experts go into one buffer. */
static int32_t experts_per_part(struct bench *b, int32_t experts, int64_t bytes) {
    struct clmoe_device_info info;
    clmoe_context_device_info(b->s->ctx, &info);
    const uint64_t fit = info.caps.max_alloc / (uint64_t)bytes;
    const int32_t least = (experts + EXPERT_PARTS - 1) / EXPERT_PARTS;
    return fit > (uint64_t)experts ? experts : (int32_t)fit < least ? least : (int32_t)fit;
}

/* Packs part by part, so that only one part exists twice at a time. */
static int pack(struct bench *b, const struct clmoe_matmul_params *product, struct experts *e) {
    clmoe_plan *plan = NULL;
    int code = -1;
    for (int i = 0; i < e->parts && code < 0; i++) {
        struct clmoe_matmul_params params = *product;
        params.plan.kernel = NULL;
        params.experts = (int32_t)e->w[i].shape[0];
        int64_t shape[4];
        struct clmoe_tensor packed;
        enum clmoe_status status = clmoe_matmul_packed_shape(&params, shape);
        if (status == CLMOE_OK) status = clmoe_matmul_pack_plan(b->s->ctx, &params, &plan);
        if (status != CLMOE_OK) return session_fail(b->s, status, "clmoe_matmul_pack_plan");
        code = session_buffer(b->s, params.w_dtype, 4, shape, &packed);
        const struct clmoe_matmul_pack_args args = {.w = &e->w[i], .n_w = 1, .packed = &packed};
        if (code < 0) status = clmoe_matmul_pack_enqueue(plan, b->s->queue, &args, 0, NULL, NULL);
        if (code < 0 && status != CLMOE_OK) code = session_fail(b->s, status, "clmoe_matmul_pack_enqueue");
        clFinish(b->s->queue);
        clmoe_plan_destroy(&plan);
        session_release(&e->w[i]);
        e->w[i] = packed;
    }
    e->order = CLMOE_W_PACKED;
    return code;
}

/* Words, or rows of codes, of `count` experts; and what lies beside them. */
static int make_part(struct bench *b, const struct clmoe_matmul_params *product, int64_t count, int64_t rows,
                     uint32_t seed, struct experts *e) {
    const struct clmoe_w_scale s = e->scaling;
    const int64_t in = product->in, groups = s.columns ? (in + s.columns - 1) / s.columns : 1;
    const float deviation = (float)(1.0 / sqrt((double)in)), codes = codes_deviation(product->w_dtype);
    const int64_t awq[3] = {count, in, rows / IN_WORD}, gptq[3] = {count, in / IN_WORD, rows};
    const int64_t plain[3] = {count, rows, in},
                  blocks[3] = {count, s.rows ? (rows + s.rows - 1) / s.rows : 0, groups};
    const int64_t of_groups[3] = {count, groups, rows}, zeros[3] = {count, groups, rows / IN_WORD};
    const bool words = e->order != CLMOE_W_ENK;
    const int i = e->parts;
    int code = bench_tensor(b, product->w_dtype, 3,
                            e->order == CLMOE_W_AWQ    ? awq
                            : e->order == CLMOE_W_GPTQ ? gptq
                                                       : plain,
                            seed, s.rows ? codes : deviation, &e->w[i]);
    if (code >= 0) return code;
    e->parts++;
    if (s.rows)
        code = bench_tensor(b, s.dtype, 3, words ? of_groups : blocks, seed + 1, deviation / codes,
                            &e->scale[i]);
    if (code < 0 && words) code = bench_tensor(b, CLMOE_I32, 3, zeros, seed + 2, 1, &e->zero[i]);
    return code;
}

int experts_make(struct bench *b, const struct clmoe_matmul_params *product, uint32_t seed,
                 struct experts *e) {
    *e = (struct experts){.order = product->w_order, .scaling = product->w_scale, .glu = product->glu};
    const bool words = product->w_order != CLMOE_W_ENK;
    const int64_t rows = e->glu ? 2 * product->out : product->out, numbers = rows * product->in;
    const int64_t bytes = words ? numbers / 2 : clmoe_dtype_bytes(product->w_dtype, numbers);
    if (bytes <= 0 || (words && (product->in % IN_WORD || product->out % IN_WORD)))
        return command_fail(b->s->usage, EXIT_USAGE, "%s: weights of %lld x %lld do not make whole blocks",
                            words ? "awq, gptq" : clmoe_dtype_name(product->w_dtype), (long long)rows,
                            (long long)product->in);
    const int32_t each = experts_per_part(b, product->experts, bytes);
    int code = -1;
    for (int32_t first = 0; first < product->experts && code < 0; first += each) {
        const int32_t left = product->experts - first;
        code = make_part(b, product, left < each ? left : each, rows, seed + (uint32_t)first, e);
    }
    int64_t packed[4];
    if (code < 0 && !words && clmoe_matmul_wants_packing(b->s->ctx) &&
        clmoe_matmul_packed_shape(product, packed) == CLMOE_OK)
        code = pack(b, product, e);
    if (code >= 0) experts_free(e);
    return code;
}

void experts_free(struct experts *e) {
    for (int i = 0; i < e->parts; i++) {
        session_release(&e->w[i]);
        session_release(&e->scale[i]);
        session_release(&e->zero[i]);
    }
    e->parts = 0;
}

/* The part that holds an expert, which becomes its number there. */
static int part_of(const struct experts *e, int32_t *expert) {
    int i = 0;
    for (; *expert >= e->w[i].shape[0]; i++)
        *expert -= (int32_t)e->w[i].shape[0];
    return i;
}

static int read_bytes(struct bench *b, const struct clmoe_tensor *t, size_t at, size_t bytes, void *to) {
    const cl_int err = clEnqueueReadBuffer(b->s->queue, t->mem, CL_TRUE, at, bytes, to, 0, NULL, NULL);
    return err == CL_SUCCESS ? -1
                             : command_fail(b->s->usage, EXIT_FAILED, "reading back: OpenCL error %d", err);
}

/* Rows of blocks, unpacked by the device: that it does so to the bit is what the checks of quant say. */
static int read_blocks(struct bench *b, const struct clmoe_tensor *w, int64_t first, int64_t count,
                       float *rows) {
    const int64_t in = w->shape[2], shape[2] = {count, in};
    const struct clmoe_quant_params params = {
        .mode = CLMOE_QUANT_UNPACK, .max_rows = count, .n = in, .block = w->dtype};
    struct clmoe_quant_args args = {.q = *w};
    args.q.ndim = 2;
    args.q.shape[0] = count;
    args.q.shape[1] = in;
    args.q.shape[2] = 0;
    args.q.offset += (uint64_t)clmoe_dtype_bytes(w->dtype, first * in);
    int code = session_buffer(b->s, CLMOE_F32, 2, shape, &args.x);
    if (code >= 0) return code;
    clmoe_plan *plan;
    enum clmoe_status status = clmoe_quant_plan(b->s->ctx, &params, &plan);
    if (status == CLMOE_OK) status = clmoe_quant_enqueue(plan, b->s->queue, &args, 0, NULL, NULL);
    if (status != CLMOE_OK) code = session_fail(b->s, status, "clmoe_quant");
    if (code < 0) code = bench_read(b, &args.x, 0, 1, count * in, rows);
    clmoe_plan_destroy(&plan);
    session_release(&args.x);
    return code;
}

/* Where byte c of lane j's block is in a tile of packed blocks (matmul.h). */
static size_t packed_byte(enum clmoe_dtype dtype, size_t j, size_t c) {
    const size_t scale = dtype == CLMOE_MXFP4 ? 1 : 2, at = j % 16 * scale + c, code = c - scale;
    if (c < scale) return at / 16 * 32 + j / 16 * 16 + at % 16;
    return 32 * (scale + (dtype == CLMOE_Q8_0 ? code % 16 * 2 + code / 16 : code)) + j;
}

/* Lane j of a panel of packed blocks: as the row of blocks that it was. */
static int read_lane(struct bench *b, const struct clmoe_tensor *w, int64_t panel, int64_t j, float *row) {
    const int64_t in = w->shape[2], shape[2] = {1, in};
    const size_t size = (size_t)clmoe_dtype_bytes(w->dtype, 32), bytes = (size_t)(in / 32) * 32 * size;
    struct clmoe_tensor blocks = {0};
    char *const tiles = malloc(bytes), *const lane = malloc(bytes / 32);
    int code = tiles && lane ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) code = read_bytes(b, w, (size_t)panel * bytes, bytes, tiles);
    for (size_t i = 0; code < 0 && i < bytes / 32; i++)
        lane[i] = tiles[i / size * 32 * size + packed_byte(w->dtype, (size_t)j, i % size)];
    if (code < 0) code = session_buffer(b->s, w->dtype, 2, shape, &blocks);
    if (code < 0) code = session_write(b->s, lane, bytes / 32, 0, &blocks);
    if (code < 0) {
        blocks.ndim = 3;
        blocks.shape[2] = in;
        code = read_blocks(b, &blocks, 0, 1, row);
    }
    session_release(&blocks);
    free(tiles);
    free(lane);
    return code;
}

/* Rows of codes with their scales. */
static int read_codes(struct bench *b, const struct clmoe_tensor *w, const struct clmoe_tensor *scale,
                      int64_t first, int64_t count, float *rows) {
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const size_t n = (size_t)(count * w->shape[2]), at = (size_t)(first * w->shape[2]);
    unsigned char *const codes = malloc(n), *const scales = codes + n / 2;
    int code = codes ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) code = read_bytes(b, w, at / 2, n / 2, codes);
    if (code < 0) code = read_bytes(b, scale, at / CODES, n / CODES, scales);
    for (size_t i = 0; i < n && code < 0; i++) {
        const int c = codes[i / 2] >> i % 2 * 4 & 15;
        rows[i] = ldexpf(c & 8 ? -values[c & 7] : values[c], scales[i / CODES] - 127);
    }
    free(codes);
    return code;
}

/* A row of codes, counted from the part's first, becomes what it is with its scales. */
static int scale_row(struct bench *b, const struct experts *e, int part, int64_t row, float *values) {
    const struct clmoe_w_scale s = e->scaling;
    const struct clmoe_tensor *const w = &e->w[part], *const scale = &e->scale[part];
    const int64_t of_expert = w->shape[1], blocks = scale->shape[2];
    const int64_t first = (row / of_expert * scale->shape[1] + row % of_expert / s.rows) * blocks;
    float *const scales = malloc((size_t)blocks * sizeof *scales);
    int code = scales ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0) code = bench_read(b, scale, first, 1, blocks, scales);
    for (int64_t k = 0; k < w->shape[2] && code < 0; k++)
        values[k] *= scales[s.columns ? k / s.columns : 0];
    free(scales);
    return code;
}

/* Where element r of 8 is in a word (matmul.h). */
static int word_place(enum clmoe_w_order order, int64_t r) {
    return (int)(order == CLMOE_W_AWQ ? r % 2 * 4 + r % IN_WORD / 2 : r % IN_WORD);
}

/* Row n of an expert's weights, which is a column of its words. */
static int read_words(struct bench *b, const struct experts *e, int part, int32_t expert, int64_t n,
                      float *row) {
    const struct clmoe_tensor *const w = &e->w[part], *const scale = &e->scale[part],
                                     *const zero = &e->zero[part];
    const int64_t groups = scale->shape[1], rows = scale->shape[2], in_words = rows / IN_WORD;
    const bool awq = e->order == CLMOE_W_AWQ;
    const int64_t count = w->shape[1], in = awq ? count : count * IN_WORD;
    uint32_t *const words = malloc((size_t)(count + groups) * sizeof *words), *const zeros = words + count;
    float *const scales = malloc((size_t)groups * sizeof *scales);
    int code = words && scales ? -1 : command_fail(b->s->usage, EXIT_FAILED, "out of memory");
    if (code < 0)
        code = bench_read_words(b, w, (expert * count) * w->shape[2] + (awq ? n / IN_WORD : n), w->shape[2],
                                count, words);
    if (code < 0)
        code = bench_read_words(b, zero, expert * groups * in_words + n / IN_WORD, in_words, groups, zeros);
    if (code < 0) code = bench_read(b, scale, expert * groups * rows + n, rows, groups, scales);
    for (int64_t k = 0; k < in && code < 0; k++) {
        const int64_t g = k / e->scaling.columns;
        const uint32_t q =
            awq ? words[k] >> 4 * word_place(e->order, n) : words[k / IN_WORD] >> 4 * word_place(e->order, k);
        const uint32_t z = zeros[g] >> 4 * word_place(e->order, n);
        row[k] = (float)((int)(q & 15) - (int)(z & 15)) * scales[g];
    }
    free(words);
    free(scales);
    return code;
}

/* The gate row, and with GLU the up row, of some columns. */
static int read_words_of(struct bench *b, const struct experts *e, int part, int32_t expert, int64_t first,
                         int64_t count, float *rows) {
    const int ways = e->glu ? 2 : 1;
    const int64_t up = e->scale[part].shape[2] / ways,
                  in = e->w[part].shape[1] * (e->order == CLMOE_W_AWQ ? 1 : IN_WORD);
    int code = -1;
    for (int64_t i = 0; i < count * ways && code < 0; i++)
        code = read_words(b, e, part, expert, first + i / ways + i % ways * up, rows + i * in);
    return code;
}

/* Packed weights (matmul.h): panels of 32 rows, column by column. */
static int read_packed(struct bench *b, const struct experts *e, const struct clmoe_tensor *w, int32_t expert,
                       int64_t first, int64_t count, float *rows) {
    const int ways = e->glu ? 2 : 1, each = 32 / ways;
    const int64_t in = w->shape[2];
    int code = -1;
    for (int64_t i = 0; i < count * ways && code < 0; i++) {
        const int64_t n = first + i / ways, panel = expert * w->shape[1] + n / each;
        const int64_t at = n % each + i % ways * each;
        code = clmoe_dtype_bytes(w->dtype, 1) <= 0
                   ? read_lane(b, w, panel, at, rows + i * in)
                   : bench_read(b, w, panel * in * 32 + at, 32, in, rows + i * in);
    }
    return code;
}

int experts_read(struct bench *b, const struct experts *e, int32_t expert, int64_t first, int64_t count,
                 float *rows) {
    const int part = part_of(e, &expert);
    const struct clmoe_tensor *const w = &e->w[part];
    if (e->order == CLMOE_W_PACKED) return read_packed(b, e, w, expert, first, count, rows);
    if (e->order != CLMOE_W_ENK) return read_words_of(b, e, part, expert, first, count, rows);
    const int ways = e->glu ? 2 : 1; /* gate and up interleaved */
    const int64_t row = expert * w->shape[1] + first * ways, n = count * ways;
    if (w->dtype == CLMOE_F4_E2M1) return read_codes(b, w, &e->scale[part], row, n, rows);
    if (clmoe_dtype_bytes(w->dtype, 1) <= 0) return read_blocks(b, w, row, n, rows);
    int code = bench_read(b, w, row * w->shape[2], 1, n * w->shape[2], rows);
    for (int64_t i = 0; e->scaling.rows && i < n && code < 0; i++)
        code = scale_row(b, e, part, row + i, rows + i * w->shape[2]);
    return code;
}
