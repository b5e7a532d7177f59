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

#define SUMS 2
#define PIECE_OF_W const global ELEM(W_T) *
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

// R rows, by the codes of both halves of a tile: B0, B1 of its first steps, C0, C1 of the others. FIFTH: the parameter
// where cpu_products.cl hands on depth0, which tiles do not need.
#define PANEL_PRODUCTS(NAME, R, FIFTH, B0, B1, C0, C1)                                                                 \
    static inline void NAME(float16 *sums, const floats *xs, const global ELEM(W_T) *w0, const global ELEM(W_T) *w1,   \
                            FIFTH, long depth1, int steps) {                                                           \
        const int whole = steps & ~(TILE_STEPS - 1);                                                                   \
        for (int d = 0; d < whole; d += TILE_STEPS, w0 += UNITS(W_T), w1 += UNITS(W_T)) {                              \
            const global uchar *const next = (const global uchar *)AHEAD(w0, TK, 0);                                   \
            float16 low[R][2], high[R][2];                                                                             \
            UNROLL for (int r = 0; r < R; r++) low[r][0] = low[r][1] = high[r][0] = high[r][1] = (float16)(0.0f);      \
            for (int j = 0; j < TILE_STEPS / 2; j++) {                                                                 \
                const float16 b0 = B0, b1 = B1, c0 = C0, c1 = C1;                                                      \
                if (R == MR) SOON(next + j * TILE_BYTES(W_T) / 16);                                                    \
                UNROLL for (int r = 0; r < R; r++) {                                                                   \
                    const float16 a = (float16)(xs[r][d + j]), b = (float16)(xs[r][d + TILE_STEPS / 2 + j]);           \
                    low[r][0] = fma(a, b0, low[r][0]), low[r][1] = fma(a, b1, low[r][1]);                              \
                    high[r][0] = fma(b, c0, high[r][0]), high[r][1] = fma(b, c1, high[r][1]);                          \
                }                                                                                                      \
            }                                                                                                          \
            const float16 scale0 = SCALES16(W_T, w0), scale1 = SCALES16(W_T, w1);                                      \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                sums[r * SUMS] = fma(low[r][0] + high[r][0], scale0, sums[r * SUMS]);                                  \
                sums[r * SUMS + 1] = fma(low[r][1] + high[r][1], scale1, sums[r * SUMS + 1]);                          \
            }                                                                                                          \
        }                                                                                                              \
        for (int d = whole; d < steps; d++)                                                                            \
            for (int r = 0; r < R; r++) {                                                                              \
                const float16 a = (float16)(xs[r][d]);                                                                 \
                sums[r * SUMS] = fma(a, step16(w0, d - whole), sums[r * SUMS]);                                        \
                sums[r * SUMS + 1] = fma(a, step16(w1, d - whole), sums[r * SUMS + 1]);                                \
            }                                                                                                          \
    }
#define MULTIPLY(R)                                                                                                    \
    PANEL_PRODUCTS(multiply_##R, R, long depth0, LOW16(W_T, w0, j), LOW16(W_T, w1, j), HIGH16(W_T, w0, j),             \
                   HIGH16(W_T, w1, j))

// Where more than MR rows share a piece its codes are decoded once: four vectors for each step of half a tile.
PANEL_PRODUCTS(multiply_decoded, MR, const float16 *codes, codes[2 * d + 4 * j], codes[2 * d + 4 * j + 1],
               codes[2 * d + 4 * j + 2], codes[2 * d + 4 * j + 3])

static inline void decode_tiles(float16 *codes, const global ELEM(W_T) *w0, const global ELEM(W_T) *w1, int steps) {
    for (int d = 0; d + TILE_STEPS <= steps; d += TILE_STEPS, w0 += UNITS(W_T), w1 += UNITS(W_T))
        for (int j = 0; j < TILE_STEPS / 2; j++, codes += 4) {
            codes[0] = LOW16(W_T, w0, j), codes[1] = LOW16(W_T, w1, j);
            codes[2] = HIGH16(W_T, w0, j), codes[3] = HIGH16(W_T, w1, j);
        }
}
#else
#define NUMBERS16(p) LOAD16(W_T, p, 0)
#define SOON_OF_W(p) SOON(p)
#define HALF_LINE 16
#define AHEAD(w, d, stride) ((w) + (d) * (stride))
#endif
#include "matmul/cpu_products.cl"

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
    GROUP_ROWS(LANES)
    const int expert = e - first;
    const long start = panel ? n0 : min(n0, columns - LANES);
    const global ELEM(W_T) *const w0 =
        ROW_AT(W_T, w + w_skip, expert * w_expert + column_at(start, w_column, panel));
    const bool alternate = !panel && w_column == 2; // only with GLU
    const bool apart = GLU ? !alternate : false;
    const global ELEM(W_T) *const w1 =
        apart ? ROW_AT(W_T, v + v_skip, expert * v_expert + column_at(start, v_column, panel)) : w0 + HALF_LINE;
    const long depth1 = apart ? v_depth : w_depth;
    float16 sums[TM * SUMS];
    for (int r = 0; r < rows * SUMS; r++)
        sums[r] = (float16)(0.0f);
    const long all = steps_at(limits + limits_skip, e, start, depth, flags);
#if IS_PANEL(W_T)
    float16 codes[TK * 2];
#endif
    for (long d0 = 0; d0 < all; d0 += TK) {
        const int steps = (int)min((long)TK, all - d0);
        const global ELEM(W_T) *const piece0 = AHEAD(w0, d0, w_depth), *const piece1 = AHEAD(w1, d0, depth1);
#if IS_PANEL(W_T)
        if (rows > MR) decode_tiles(codes, piece0, piece1, steps);
#endif
        for (int r0 = 0; r0 < rows; r0 += MR) {
            PIECES_OF_X(MR, r0, d0, steps)
#if IS_PANEL(W_T)
            if (rows > MR && some == MR) {
                multiply_decoded(sums + r0 * SUMS, xs, piece0, piece1, codes, depth1, steps);
                continue;
            }
#endif
            multiply(some, sums + r0 * SUMS, xs, piece0, piece1, w_depth, depth1, steps);
        }
    }

    const float16 bias0 = BIAS16(start), bias1 = GLU ? BIAS16_UP(start) : BIAS16(start + 16);
    const float scale = PAIR_SCALE(e);
    const int from = (int)(n0 - start), to = (int)min((long)LANES, columns - start);
    for (int r = 0; r < rows; r++) {
        const long i = begin + r, p = pair_at(i, order + order_skip, flags);
        const ulong out = y_skip + y_row(i, p, flags) * y_stride + start;
        const float weight = PAIR_GAMMA(p, p / k);
        const float16 s0 = sums[r * SUMS], s1 = sums[r * SUMS + 1];
        float16 gate = s0, up = s1;
        if (alternate) part_lanes(s0, s1, &gate, &up);
        const float in = GAMMA_IN(weight), after = GAMMA_OUT(weight);
        float16 b0 = bias0, b1 = bias1;
        if (flags & HAS_ADD) {
            b0 += ADD16(p, start);
            b1 += GLU ? ADD16_UP(p, start) : ADD16(p, start + 16);
        }
        store16(y, out, finish(gate, up, b0, b1, in, scale, after, ACT_ARGS), min(from, 16), min(to, 16));
        if (!GLU)
            store16(y, out + 16, finish(s1, s1, b1, b1, in, scale, after, ACT_ARGS), max(from - 16, 0),
                    max(to - 16, 0));
    }
}
