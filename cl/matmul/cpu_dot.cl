// SPDX-License-Identifier: MIT
// For CPU devices and weights whose neighbours are neighbours in K (checkpoints as they are, blocks): as cpu.cl,
// one work-item a work-group for up to TM rows of one expert, but the lanes of the vectors are steps of K.
//
//   group = slot * column groups + group of 16 columns of y        slot -> expert and rows: slot.cl
//
// MR rows of x times 4 rows of w (4 columns, or gate and up of 2) at a time, over a piece of TK steps; the 16 lanes are
// then added up in a tree and join the sum of the pieces before. Columns past the end compute the last one again. What
// has to be decoded is so once for all rows, right before the first of them need it.
#include "matmul/cpu_rows.cl"
#include "matmul/cpu_unpack.cl"

#define MR 4
#define NR 4
#define WIDTH 16

// Where the numbers of a piece of a row of w are
#if IN_RUNS
typedef const float *numbers;
#define NUMBER(p, d) (p)[d]
#define NUMBERS16(p, d) *(const float16 *)((p) + (d))
#else
typedef const global ELEM(W_T) *numbers;
#define NUMBER(p, d) LOAD(W_T, p, d)
#define NUMBERS16(p, d) LOAD16(W_T, p, d)
#endif

// dot_R: sums[r][lane[c]] += R rows of xs times NR rows of w. One function for each R, so that R is a constant of its
// loops and the vectors of sums become registers.
#define DOT(R)                                                                                                         \
    static inline void dot_##R(float(*sums)[2 * WIDTH], const int *lane, const floats *xs, const numbers *w,           \
                               int steps) {                                                                            \
        const int whole = steps & ~15;                                                                                 \
        float16 sum[R][NR];                                                                                            \
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < NR; c++) sum[r][c] = (float16)(0.0f);            \
        for (int d = 0; d < whole; d += 16) {                                                                          \
            float16 b[NR];                                                                                             \
            UNROLL for (int c = 0; c < NR; c++) b[c] = NUMBERS16(w[c], d);                                             \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                const float16 a = vload16(0, xs[r] + d);                                                               \
                UNROLL for (int c = 0; c < NR; c++) sum[r][c] = fma(a, b[c], sum[r][c]);                               \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < NR; c++) {                                       \
            float total = add_lanes(sum[r][c]);                                                                        \
            for (int d = whole; d < steps; d++)                                                                        \
                total = fma(xs[r][d], NUMBER(w[c], d), total);                                                         \
            sums[r][lane[c]] += total;                                                                                 \
        }                                                                                                              \
    }
DOT(1)
DOT(2)
DOT(3)
DOT(4)

// A piece of the row of w of column n; of coded ones the numbers, while the next row that will be asked for comes in
#define PIECE_OF_ROW(w, n) ROW_AT(W_T, w + w##_skip, (e - first) * w##_expert + (n) * w##_column + d0)
#define UNPACK_ROW(w, n, to)                                                                                           \
    unpack(to, PIECE_OF_ROW(w, n), PIECE_OF_ROW(w, (n) + (GLU ? NR / 2 : NR)), steps, SCALE_ROW(w, e - first, n),      \
           w_scale_group, scale_shift, d0)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_cpu_dot(MATMUL_ARGS) {
    MATMUL_NUMBERS
    GROUP_ROWS(WIDTH)
    const int width = (int)min((long)WIDTH, columns - n0);

    float sums[TM][2 * WIDTH]; // gate, up
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 2 * WIDTH; c++)
            sums[r][c] = 0.0f;
    const long all = steps_at(limits + limits_skip, e, n0, depth, flags);
#if IN_RUNS
    float16 decoded[2 * WIDTH][TK / 16 + 1]; // one more, or rows lie in the same sets of a cache
#endif
    for (long d0 = 0; d0 < all; d0 += TK) {
        const int steps = (int)min((long)TK, all - d0);
        for (int r0 = 0; r0 < rows; r0 += MR) {
            PIECES_OF_X(MR, r0, d0, steps)
            for (int c0 = 0; c0 < width; c0 += GLU ? NR / 2 : NR) {
                numbers w_rows[NR];
                int lane[NR];
                for (int c = 0; c < NR; c++) {
                    const bool up = GLU && c >= NR / 2;
                    const int column = c0 + (up ? c - NR / 2 : c);
                    const long n = min(n0 + column, columns - 1);
                    lane[c] = column + (up ? WIDTH : 0);
#if IN_RUNS
                    float16 *const to = decoded[rows > MR ? lane[c] : c];
                    w_rows[c] = (numbers)to;
                    if (r0 > 0) continue;
                    if (up)
                        UNPACK_ROW(v, n, to);
                    else
                        UNPACK_ROW(w, n, to);
#else
                    w_rows[c] = up ? PIECE_OF_ROW(v, n) : PIECE_OF_ROW(w, n);
#endif
                }
                switch (some) {
                case 1: dot_1(sums + r0, lane, xs, w_rows, steps); break;
                case 2: dot_2(sums + r0, lane, xs, w_rows, steps); break;
                case 3: dot_3(sums + r0, lane, xs, w_rows, steps); break;
                default: dot_4(sums + r0, lane, xs, w_rows, steps); break;
                }
            }
        }
    }

#define GATE16(r) vload16(0, sums[r])
#define UP16(r) vload16(1, sums[r])
    FINISH16(n0, 0, width, GATE16, UP16)
}
