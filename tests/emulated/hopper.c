/* SPDX-License-Identifier: MIT
 * Runs the kernel of cl/matmul/wgmma.cl, wgmma_bytes.cl, wgmma_coded.cl or wgmma_words.cl on a CPU, of which
 * chip.c makes what it is written for, on random weights and tokens, and checks y. hopper.py compiles it with the
 * kernel and says which shapes to run.
 *
 * hopper K N E tokens topk glu contiguous groups seed
 *   glu: 0 none, 1 gate rows then up rows, 2 interleaved, 3 in two places, up before gate */
#include "call.h"
#include "chip.h"
#include "ref/convert.h"
#include "ref/quant.h"
#include "words.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char uchar;
typedef unsigned short ushort;

#ifndef ITEMS
#error "ITEMS: of a work-group, 384 or 512"
#endif
#ifndef BYTES
#error "BYTES: 1 for cl/matmul/wgmma_bytes.cl, else 0"
#endif
#ifndef INTEGERS
#error "INTEGERS: 1 for integers in that, which have a scale for a row, else 0"
#endif
#ifndef CODED
#error "CODED: bytes of CODES weights for cl/matmul/wgmma_coded.cl: 17 in mxfp4, 16 with scales apart, else 0"
#endif
#ifndef CODES
#error "CODES: weights of a block, 32 or 256"
#endif
#ifndef BLOCKS
#error "BLOCKS: their dtype if they are blocks of codes and f16 scales, else 0"
#endif
#ifndef X_TYPE
#error "X_TYPE: CLMOE_BF16 or CLMOE_F16, of x and y"
#endif
#ifndef WORDS
#error "WORDS: steps that share a scale in cl/matmul/wgmma_words.cl, less than 0 with GPTQ, else 0"
#endif
enum { BLOCK = 128 };
_Static_assert(ITEMS <= MOST_ITEMS, "a work-group of more work-items than items.c has room for");

/* Whether blocks of codes have minima: the kernel takes sums of x. */
#define HAS_MIN (BLOCKS == CLMOE_Q4_K || BLOCKS == CLMOE_Q5_K)

/* ---- numbers ---- */

static float e4m3(uint code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float magnitude = exponent ? ldexpf(8 + mantissa, exponent - 10) : ldexpf(mantissa, -9);
    if ((code & 127) == 127) return NAN;
    return code & 128 ? -magnitude : magnitude;
}

float value_of(half h) {
    return X_TYPE == CLMOE_BF16 ? ref_bf16_to_f32(h) : ref_f16_to_f32(h);
}

static half half_of(float v) {
    return X_TYPE == CLMOE_BF16 ? ref_bf16_from_f32(v) : ref_f16_from_f32(v);
}

/* What comes of a code, and by what it is less than what the code stands for, as wgmma_codes.cl has it. */
enum { CODE_UNIT = INTEGERS ? 64 : 1 };
static float code_value(uchar code) {
    return INTEGERS ? (float)(signed char)code / CODE_UNIT : e4m3(code);
}

uint pack_two(float low, float high) {
    return half_of(low) | (uint)half_of(high) << 16;
}

uint widen(ushort codes) {
    return pack_two(code_value((uchar)codes), code_value((uchar)(codes >> 8)));
}

uint multiply_two(uint a, uint b) {
    return pack_two(value_of((half)a) * value_of((half)b),
                    value_of((half)(a >> 16)) * value_of((half)(b >> 16)));
}

/* ---- the kernel ---- */

void call_kernel(const struct call *call);

static struct problem {
    long depth, columns, experts, tokens, k, pairs, rows; /* rows: of w for an expert */
    int glu, contiguous;
    uchar *weights, *gate, *up;
    float *values; /* of weights that are BLOCKS */
    half *x, *y, *x_sums;
    long column; /* elements from one gate row to the next, and from one up row */
    /* Scales of blocks of BLOCK x BLOCK, 1 x CODES or 1 x all, those of up behind those of gate if they are
     * apart: rows and columns of them, where those of up begin; up row n is up_first + n * step. */
    void *scales;
    long blocks[2], up_scales, up_first, step;
    int *ids, *offsets, *order, *place;
    float *gamma, *bias;
    uint counters[2];
    struct words words[2]; /* the second one: up in a tensor of its own */
} p;

static void run_item(void) {
    static uchar maps[8 * 4 * 128];
    const long w[4] = {0, p.rows * p.depth, p.column, 1}, bias[4] = {0, 2 * p.columns, 2, 0};
    struct call call = {p.x,
                        p.gate,
                        p.up,
                        p.scales,
                        NULL,
                        p.y,
                        p.bias,
                        p.gamma,
                        p.ids,
                        p.offsets,
                        p.order,
                        {{0, p.depth, 0, p.columns}},
                        .shape = {0, 1},
                        .maps = HAS_MIN ? (uchar *)p.x_sums : maps,
                        .counters = p.counters};
    memcpy(call.numbers[1], w, sizeof w);
    memcpy(call.numbers[2], w, sizeof w);
    memcpy(call.numbers[3], (long[4]){0, p.blocks[0] * p.blocks[1], p.blocks[1], 1}, sizeof w);
    memcpy(call.numbers[4], (long[4]){p.up_scales, p.blocks[0] * p.blocks[1], p.blocks[1], 1}, sizeof w);
    call.numbers[6][3] = p.up_first;
    memcpy(call.numbers[7], bias, sizeof bias);
    memcpy(call.numbers[8], bias, sizeof bias);
    memcpy(call.numbers[11], (long[4]){0, p.k, 0, p.k}, sizeof w);
    memcpy(call.numbers[12], (long[4]){p.pairs, p.depth, p.columns, INTEGERS ? 1 : BLOCK}, sizeof w);
    memcpy(call.numbers[13], (long[4]){p.k, p.experts, 0, p.experts}, sizeof w);
    memcpy(call.numbers[14], (long[4]){0, p.step, INTEGERS ? 30 : 7, 0}, sizeof w);
    if (WORDS) words_set(&call, p.words, p.glu == 3, p.glu == 1 ? p.columns : 0);
    call_kernel(&call);
}

/* ---- data ---- */

static uint drawn(uint n) {
    static uint state;
    state = state * 1664525 + 1013904223;
    return (state >> 8) % n;
}

static void *room(size_t bytes) {
    void *const at = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (!at) fail("no memory");
    memset(at, 0xff, (bytes + 511) / 256 * 256); /* NaN */
    return at;
}

static half *random_rows(long n) {
    half *const rows = room((size_t)n * sizeof *rows);
    for (long i = 0; i < n; i++)
        rows[i] = half_of(((int)drawn(2001) - 1000) / 1000.0f);
    return rows;
}

/* A scale is 2^(e - 127): few are so large that a product in half does not have it. */
static uchar random_exponent(void) {
    return (uchar)(drawn(500) ? 122 + drawn(8) : 129 + drawn(3));
}

/* Some that blocks do not have beside others, up to denormal ones. */
static float random_scale(void) {
    const float scale = (float)(1 + drawn(1000)) / 50000.0f;
    switch (drawn(16)) {
    case 0: return 0.0f;
    case 1: return ldexpf(scale, -140);
    case 2: return -ldexpf(scale, 8 - (int)drawn(40));
    default: return scale;
    }
}

/* Of so many weights. */
static long bytes_of(long n) {
    return CODED ? n / CODES * CODED : BYTES ? n : n * 2;
}

/* What blocks multiply that with has 6 or 8 bits in those of 256. */
#define CODES_SCALE (CODES > 32 ? 1 / 64.0f : 1.0f)

static uchar *random_weights(long n) {
    if (!BYTES && !CODED) return (uchar *)random_rows(n);
    uchar *const codes = room((size_t)bytes_of(n));
    for (long i = 0; i < bytes_of(n); i++) {
        codes[i] = (uchar)drawn(256);
        if (BYTES && isnan(code_value(codes[i]))) codes[i] = 0;
        if (CODED == 17 && i % 17 == 0) codes[i] = random_exponent();
    }
    for (long i = BLOCKS == CLMOE_Q6_K ? 208 : 0; BLOCKS && i < bytes_of(n); i += CODED) {
        for (int s = 0; s <= HAS_MIN; s++) {
            const half scale = ref_f16_from_f32(random_scale() * CODES_SCALE);
            memcpy(codes + i + s * (int)sizeof scale, &scale, sizeof scale);
        }
    }
    if (BLOCKS) {
        p.values = room((size_t)n * sizeof *p.values);
        ref_unpack(BLOCKS, codes, n, p.values);
    }
    return codes;
}

static void make_scales(void) {
    const long rows = CODED || INTEGERS ? 1 : BLOCK, columns = CODED ? CODES : INTEGERS ? p.depth : BLOCK;
    p.blocks[0] = (p.rows + rows - 1) / rows;
    p.blocks[1] = (p.depth + columns - 1) / columns;
    const long n = p.experts * p.blocks[0] * p.blocks[1];
    p.up_scales = p.glu == 3 ? n : 0;
    p.step = p.glu == 2 ? 2 : 1;
    p.up_first = p.glu == 1 ? p.columns : p.glu == 2;
    const size_t bytes = (size_t)(2 * n) * (CODED ? 1 : sizeof(float));
    p.scales = room(bytes);
    for (long i = 0; i < 2 * n; i++)
        if (CODED)
            ((uchar *)p.scales)[i] = random_exponent();
        else
            ((float *)p.scales)[i] = random_scale();
    readable[2] = (struct range){p.scales, (uchar *)p.scales + bytes};
}

/* Of a sum of 32 elements of x three numbers of its type that are as much, as cl/matmul/wgmma_x_sums.cl has them. */
static void split_sum(float sum, half *parts) {
    const float step = X_TYPE == CLMOE_BF16 ? 1 : 0x1p11f;
    float rest = X_TYPE == CLMOE_BF16 ? sum : sum / 32;
    for (int i = 0; i < 3; i++) {
        parts[8 * i] = half_of(rest);
        rest = (rest - value_of(parts[8 * i])) * step;
    }
    parts[24] = 0;
}

static void make_x_sums(long rows) {
    const long n = rows * p.depth / 32;
    p.x_sums = room((size_t)n * 4 * sizeof *p.x_sums);
    for (long i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 32; k++)
            sum += value_of(p.x[i * 32 + k]);
        split_sum(sum, p.x_sums + i / 8 * 32 + i % 8);
    }
    readable[3] = (struct range){(uchar *)p.x_sums, (uchar *)(p.x_sums + n * 4)};
}

static void route(void) {
    int at = 0;
    for (long i = 0; i < p.pairs; i++) {
        p.ids[i] = drawn(8) ? (int)drawn((uint)p.experts) : -1;
        p.gamma[i] = drawn(1000) / 500.0f;
    }
    for (int e = 0; e <= p.experts; e++) {
        p.offsets[e] = at;
        for (int i = 0; i < p.pairs; i++)
            if (p.ids[i] == (e < p.experts ? e : -1)) p.place[i] = at, p.order[at++] = i;
    }
}

static void make_data(void) {
    p.pairs = p.tokens * p.k;
    p.rows = p.glu == 1 || p.glu == 2 ? 2 * p.columns : p.columns;
    p.column = p.glu == 2 ? 2 * p.depth : p.depth;
    const long elements = p.experts * p.rows * p.depth, x_rows = p.contiguous ? p.pairs : p.tokens;
    const long all_weights = p.glu == 3 ? 2 * elements : elements;
    p.weights = random_weights(all_weights);
    p.gate = p.weights + bytes_of(p.glu == 3 ? elements : 0);
    p.up = p.weights + bytes_of(p.glu == 1 ? p.columns * p.depth : p.glu == 2 ? p.depth : 0);
    make_scales();
    if (WORDS) words_make(p.words, WORDS, p.experts, p.depth, p.rows, room, drawn);
    p.x = random_rows(x_rows * p.depth);
    if (HAS_MIN) make_x_sums(x_rows);
    p.y = room((size_t)(p.pairs * p.columns) * sizeof *p.y);
    readable[0] = (struct range){p.weights, p.weights + bytes_of(all_weights)};
    readable[1] = (struct range){(uchar *)p.x, (uchar *)(p.x + x_rows * p.depth)};
    p.ids = room((size_t)p.pairs * sizeof *p.ids);
    p.order = room((size_t)p.pairs * sizeof *p.order);
    p.place = room((size_t)p.pairs * sizeof *p.place);
    p.offsets = room((size_t)(p.experts + 1) * sizeof *p.offsets);
    p.gamma = room((size_t)p.pairs * sizeof *p.gamma);
    p.bias = room((size_t)(p.experts * 2 * p.columns) * sizeof *p.bias);
    for (long i = 0; i < p.experts * 2 * p.columns; i++)
        p.bias[i] = drawn(1000) / 300.0f;
    route();
}

static double e2m1(uint code) {
    static const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -magnitudes[code & 7] : magnitudes[code & 7];
}

/* Element k of the gate or up row of column n. */
static double weight(long e, int up, long n, long k) {
    if (WORDS) return words_weight(&p.words[up && p.glu == 3], e, n + (up && p.glu == 1 ? p.columns : 0), k);
    const long first = e * p.rows * p.depth + n * p.column, row = (up ? p.up_first : 0) + n * p.step;
    const uchar *const at = (up ? p.up : p.gate) + bytes_of(CODED ? first + k / CODES * CODES : first + k);
    if (BLOCKS) return p.values[(at - p.weights) / (CODED ? CODED : 1) * CODES + k % CODES];
    if (CODED) {
        const uchar *const scales = (uchar *)p.scales + (up ? p.up_scales : 0);
        const long j = k % CODES;
        const uint code = CODED == 17 ? at[1 + j % 16] >> j / 16 * 4 : at[j / 2] >> j % 2 * 4;
        return ldexp(e2m1(code & 15),
                     (CODED == 17 ? at[0] : scales[(e * p.blocks[0] + row) * p.blocks[1] + k / CODES]) - 127);
    }
    if (!BYTES) return value_of(*(const half *)at);
    const float *const scales = (float *)p.scales + (up ? p.up_scales : 0);
    const long block =
        (e * p.blocks[0] + row / (INTEGERS ? 1 : BLOCK)) * p.blocks[1] + (INTEGERS ? 0 : k / BLOCK);
    return (double)code_value(*at) * CODE_UNIT * scales[block];
}

/* What sums are made of, each read once: weights of experts x (gate, up) x columns x depth, x of a pair. */
static struct { double *weights, *x; } exact;

static void read_weights(void) {
    double *to = exact.weights = room((size_t)(p.experts * 2 * p.columns * p.depth) * sizeof *to);
    exact.x = room((size_t)p.depth * sizeof *exact.x);
    for (long e = 0; e < p.experts; e++)
        for (int up = 0; up < 2; up++)
            for (long n = 0; n < p.columns; n++)
                for (long k = 0; k < p.depth; k++)
                    *to++ = up && !p.glu ? 0 : weight(e, up, n, k);
}

static void read_x(long pair) {
    const half *const x = p.x + (p.contiguous ? p.place[pair] : pair / p.k) * p.depth;
    for (long k = 0; k < p.depth; k++)
        exact.x[k] = value_of(x[k]);
}

/* One sum in double, with its bias; what its rounding may come to is added to `magnitude`. */
static double sum_of(long e, long n, int up, double *magnitude) {
    const double *const w = exact.weights + ((2 * e + up) * p.columns + n) * p.depth;
    double sum = p.bias[e * 2 * p.columns + 2 * n + up];
    for (long k = 0; k < p.depth; k++) {
        const double product = w[k] * exact.x[k];
        sum += product;
        *magnitude += fabs(product);
    }
    return sum;
}

/* x of the pair has been read. */
static int is_right(long pair, long n) {
    double magnitude = 0, want = 0;
    if (p.ids[pair] >= 0) {
        const double gate = sum_of(p.ids[pair], n, 0, &magnitude);
        const double up = p.glu ? sum_of(p.ids[pair], n, 1, &magnitude) : 0;
        want = (p.glu ? gate / (1 + exp(-gate)) * up : gate) * p.gamma[pair];
        if (p.glu) magnitude *= 1 + fabs(gate) + fabs(up);
    }
    const double got = value_of(p.y[pair * p.columns + n]), error = fabs(got - want);
    if (error <= fabs(want) / 256 + magnitude * 1e-5 + 1e-6) return 1;
    printf("pair %ld of expert %d, column %ld: %g, expected %g\n", pair, p.ids[pair], n, got, want);
    return 0;
}

static int count_wrong(void) {
    int wrong = p.counters[0] || p.counters[1];
    if (wrong) printf("counters are not as they were\n");
    read_weights();
    for (long pair = 0; pair < p.pairs && wrong < 5; pair++) {
        read_x(pair);
        for (long n = 0; n < p.columns && wrong < 5; n++)
            wrong += !is_right(pair, n);
    }
    return wrong;
}

int main(int argc, char **argv) {
    if (argc != 10) return fprintf(stderr, "usage: hopper K N E tokens topk glu contiguous groups seed\n"), 2;
    p.depth = atol(argv[1]), p.columns = atol(argv[2]), p.experts = atol(argv[3]), p.tokens = atol(argv[4]);
    p.k = atol(argv[5]), p.glu = atoi(argv[6]), p.contiguous = atoi(argv[7]);
    items_seed((uint32_t)atol(argv[9]));
    make_data();
    chip_run((uint)atoi(argv[8]), ITEMS, run_item);
    return count_wrong() ? 1 : 0;
}
