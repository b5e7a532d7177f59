// SPDX-License-Identifier: MIT
// For CPU devices, where work-items are loops and local memory is plain memory: one work-item a work-group computes up
// to TM rows of one expert times 32 columns of w, with sums in vector registers.
//
//   group = slot * column groups + column group        slot -> expert and rows: slot.cl; without sorted routing a slot
//                                                      is a pair, and rows is 1
//   32 columns of w: 32 columns of y, or the gate and the up columns of 16 columns of y
//
// Columns must lie side by side: packed weights, or [E, K, R]. Where gate and up columns alternate there, so do the
// sums, until the end. In [E, K, R] the last 32 columns are taken again where fewer are left, and only those are stored
// that are new. K goes in pieces of TK, so that a piece of w stays in the first cache while all rows pass by, MR rows
// at a time.
#include "matmul/cpu_rows.cl"

#define LANES (GLU ? 16 : 32)

// That memory will be read soon, where compilers have a way to say so: OpenCL's own, prefetch(), does nothing in PoCL.
#if defined(__x86_64__) || defined(__aarch64__)
#define SOON(p) __builtin_prefetch((const void *)(ulong)(p))
#else
#define SOON(p)
#endif

// multiply_R: sums += R rows of xs * steps of w. One function for each R up to MR, so that R is a constant of its loops
// and the sums become registers, of which a vector takes one with AVX-512, two with AVX2 and four with NEON. While MR
// rows are multiplied the next piece of w can come in; a row alone is as fast as memory.
#if IS_PANEL(W_T)
// Codes are multiplied as they are, and the sums over a tile then by the scales. Each sum has two chains of additions,
// so that a row alone does not wait for itself.
#ifdef __AVX512F__
#define MR 4
#else
#define MR 2
#endif
#define HALF_LINE HALF_ROW(W_T)
#define AHEAD(w, d, stride) ((w) + (d) / TILE_STEPS * UNITS(W_T))

// Weights of one step of a tile
static inline float16 step16(const global ELEM(W_T) *tile, int d) {
    const float16 codes = d < TILE_STEPS / 2 ? LOW16(W_T, tile, d) : HIGH16(W_T, tile, d - TILE_STEPS / 2);
    return codes * SCALES16(W_T, tile);
}

#define MULTIPLY(R)                                                                                                    \
    static inline void multiply_##R(float16(*sums)[2], const floats *xs, const global ELEM(W_T) *w0,                   \
                                    const global ELEM(W_T) *w1, long depth0, long depth1, int steps) {                 \
        const int whole = steps & ~(TILE_STEPS - 1);                                                                   \
        for (int d = 0; d < whole; d += TILE_STEPS, w0 += UNITS(W_T), w1 += UNITS(W_T)) {                              \
            const global uchar *const next = (const global uchar *)AHEAD(w0, TK, 0);                                   \
            float16 low[R][2], high[R][2];                                                                             \
            UNROLL for (int r = 0; r < R; r++) low[r][0] = low[r][1] = high[r][0] = high[r][1] = (float16)(0.0f);      \
            for (int j = 0; j < TILE_STEPS / 2; j++) {                                                                 \
                const float16 b0 = LOW16(W_T, w0, j), b1 = LOW16(W_T, w1, j);                                          \
                const float16 c0 = HIGH16(W_T, w0, j), c1 = HIGH16(W_T, w1, j);                                        \
                if (R == MR) SOON(next + j * TILE_BYTES(W_T) / 16);                                                    \
                UNROLL for (int r = 0; r < R; r++) {                                                                   \
                    const float16 a = (float16)(xs[r][d + j]), b = (float16)(xs[r][d + TILE_STEPS / 2 + j]);           \
                    low[r][0] = fma(a, b0, low[r][0]), low[r][1] = fma(a, b1, low[r][1]);                              \
                    high[r][0] = fma(b, c0, high[r][0]), high[r][1] = fma(b, c1, high[r][1]);                          \
                }                                                                                                      \
            }                                                                                                          \
            const float16 scale0 = SCALES16(W_T, w0), scale1 = SCALES16(W_T, w1);                                      \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                sums[r][0] = fma(low[r][0] + high[r][0], scale0, sums[r][0]);                                          \
                sums[r][1] = fma(low[r][1] + high[r][1], scale1, sums[r][1]);                                          \
            }                                                                                                          \
        }                                                                                                              \
        for (int d = whole; d < steps; d++)                                                                            \
            for (int r = 0; r < R; r++) {                                                                              \
                const float16 a = (float16)(xs[r][d]);                                                                 \
                sums[r][0] = fma(a, step16(w0, d - whole), sums[r][0]);                                                \
                sums[r][1] = fma(a, step16(w1, d - whole), sums[r][1]);                                                \
            }                                                                                                          \
    }
#else
#ifdef __AVX512F__
#define MR 8
#else
#define MR 2
#endif
#define HALF_LINE 16
#define AHEAD(w, d, stride) ((w) + (d) * (stride))
#define MULTIPLY(R)                                                                                                    \
    static inline void multiply_##R(float16(*sums)[2], const floats *xs, const global ELEM(W_T) *w0,                   \
                                    const global ELEM(W_T) *w1, long depth0, long depth1, int steps) {                 \
        float16 sum[R][2];                                                                                             \
        UNROLL for (int r = 0; r < R; r++) sum[r][0] = sums[r][0], sum[r][1] = sums[r][1];                             \
        for (int d = 0; d < steps; d++) {                                                                              \
            const float16 b0 = LOAD16(W_T, w0 + d * depth0, 0), b1 = LOAD16(W_T, w1 + d * depth1, 0);                  \
            if (R == MR) {                                                                                             \
                SOON(w0 + (d + TK) * depth0);                                                                          \
                SOON(w1 + (d + TK) * depth1);                                                                          \
            }                                                                                                          \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                sum[r][0] = fma((float16)(xs[r][d]), b0, sum[r][0]);                                                   \
                sum[r][1] = fma((float16)(xs[r][d]), b1, sum[r][1]);                                                   \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int r = 0; r < R; r++) sums[r][0] = sum[r][0], sums[r][1] = sum[r][1];                             \
    }
#endif
MULTIPLY(1)
MULTIPLY(2)
#if MR > 2
MULTIPLY(3)
MULTIPLY(4)
#endif
#if MR > 4
MULTIPLY(5)
MULTIPLY(6)
MULTIPLY(7)
MULTIPLY(8)
#endif
#define CASE(R) case R: multiply_##R(sums + r0, xs, piece0, piece1, w_depth, depth1, steps); break;

// Lanes 0, 2, .. of two vectors, and lanes 1, 3, ..
static inline void part_lanes(float16 a, float16 b, float16 *even, float16 *odd) {
    float mixed[32], parted[32];
    vstore16(a, 0, mixed);
    vstore16(b, 1, mixed);
    for (int c = 0; c < 16; c++) {
        parted[c] = mixed[2 * c];
        parted[16 + c] = mixed[2 * c + 1];
    }
    *even = vload16(0, parted);
    *odd = vload16(1, parted);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_cpu(MATMUL_ARGS) {
    MATMUL_NUMBERS
    const long column_groups = (columns + LANES - 1) / LANES;
    const long slot = (long)get_group_id(0) / column_groups;
    const long n0 = ((long)get_group_id(0) - slot * column_groups) * LANES;
    const long start = panel ? n0 : min(n0, columns - LANES);

    long begin;
    int rows;
    const int e = find_rows(slot, &begin, &rows, offsets + offsets_skip, ids + ids_skip, ids_stride, pairs, k, experts,
                            first, count, flags),
              expert = e - first;
    if (e == experts)
        for (int r = 0; r < rows; r++) {
            const long i = begin + r;
            const ulong out = y_skip + y_row(i, pair_at(i, order + order_skip, flags), flags) * y_stride;
            for (long n = n0; n < min(n0 + LANES, columns); n++)
                STORE(Y_T, y, out + n, 0.0f);
        }
    if (e == experts || rows <= 0) return;

    const global ELEM(W_T) *const w0 =
        ROW_AT(W_T, w + w_skip, expert * w_expert + column_at(start, w_column, panel));
    const bool alternate = !panel && w_column == 2; // only with GLU
    const bool apart = GLU ? !alternate : false;
    const global ELEM(W_T) *const w1 =
        apart ? ROW_AT(W_T, v + v_skip, expert * v_expert + column_at(start, v_column, panel)) : w0 + HALF_LINE;
    const long depth1 = apart ? v_depth : w_depth;
    float16 sums[TM][2];
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = (float16)(0.0f);
    const long all = steps_at(limits + limits_skip, e, start, depth, flags);
    for (long d0 = 0; d0 < all; d0 += TK) {
        const int steps = (int)min((long)TK, all - d0);
        for (int r0 = 0; r0 < rows; r0 += MR) {
            float room[MR][TK];
            floats xs[MR];
            const int some = min(MR, rows - r0);
            for (int r = 0; r < some; r++) {
                const long i = begin + r0 + r, p = pair_at(i, order + order_skip, flags);
                xs[r] = piece_of_x(x + x_skip + x_row(i, p, p / k, flags) * x_stride + d0, room[r], steps);
            }
            const global ELEM(W_T) *const piece0 = AHEAD(w0, d0, w_depth), *const piece1 = AHEAD(w1, d0, depth1);
            switch (some) {
                CASE(1)
                CASE(2)
#if MR > 2
                CASE(3)
                CASE(4)
#endif
#if MR > 4
                CASE(5)
                CASE(6)
                CASE(7)
                CASE(8)
#endif
            }
        }
    }

    float16 bias0 = (float16)(0.0f), bias1 = bias0;
    if (flags & HAS_BIAS) {
        float values[2][16];
        for (int c = 0; c < 16; c++) {
            values[0][c] = BIAS_AT(e, min(start + c, columns - 1));
            values[1][c] = GLU ? BIAS_UP_AT(e, min(start + c, columns - 1))
                               : BIAS_AT(e, min(start + 16 + c, columns - 1));
        }
        bias0 = vload16(0, values[0]);
        bias1 = vload16(0, values[1]);
    }
    const float scale = PAIR_SCALE(e);
    const int from = (int)(n0 - start), to = (int)min((long)LANES, columns - start);
    for (int r = 0; r < rows; r++) {
        const long i = begin + r, p = pair_at(i, order + order_skip, flags);
        const ulong out = y_skip + y_row(i, p, flags) * y_stride + start;
        const float weight = PAIR_GAMMA(p, p / k);
        const float16 s0 = sums[r][0], s1 = sums[r][1];
        float16 gate = s0, up = s1;
        if (alternate) part_lanes(s0, s1, &gate, &up);
        const float in = GAMMA_IN(weight), after = GAMMA_OUT(weight);
        float16 b0 = bias0, b1 = bias1;
        if (flags & HAS_ADD) {
            b0 += add16(add + add_skip + p * add_pair, add_column, start, columns);
            b1 += GLU ? add16(add_up + add_up_skip + p * add_up_pair, add_up_column, start, columns)
                      : add16(add + add_skip + p * add_pair, add_column, start + 16, columns);
        }
        store16(y, out, finish(gate, up, b0, b1, in, scale, after, ACT_ARGS), min(from, 16), min(to, 16));
        if (!GLU)
            store16(y, out + 16, finish(s1, s1, b1, b1, in, scale, after, ACT_ARGS), max(from - 16, 0),
                    max(to - 16, 0));
    }
}
