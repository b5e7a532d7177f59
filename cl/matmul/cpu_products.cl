// SPDX-License-Identifier: MIT
// For CPU devices: multiply() adds up to MR rows of xs, times 32 columns of w over a piece of K, to the sums of each
// row, which are two vectors; rows lie SUMS vectors apart.
//
// multiply_R: R rows. One function for each R up to MR, so that R is a constant of its loops and the sums become
// registers, of which a vector takes one with AVX-512, two with AVX2 and four with NEON. While MR rows are multiplied
// the next piece of w can come in; a row alone is as fast as memory.
//
// Who includes this has defined PIECE_OF_W, the type of a pointer into w, and either MULTIPLY(R) and MR or
//   NUMBERS16(p)     16 columns of a step
//   SOON_OF_W(p)     that these will be read soon, or nothing
#ifndef SUMS
#error "SUMS: vectors of sums of a row, 2 or more"
#endif

#ifndef MULTIPLY
#ifdef __AVX512F__
#define MR 8
#else
#define MR 2
#endif
#define MULTIPLY(R)                                                                                                    \
    static inline void multiply_##R(float16 *sums, const floats *xs, PIECE_OF_W w0, PIECE_OF_W w1,                     \
                                    long depth0, long depth1, int steps) {                                             \
        float16 sum[R][2];                                                                                             \
        UNROLL for (int r = 0; r < R; r++) sum[r][0] = sums[r * SUMS], sum[r][1] = sums[r * SUMS + 1];                 \
        for (int d = 0; d < steps; d++) {                                                                              \
            const float16 b0 = NUMBERS16(w0 + d * depth0), b1 = NUMBERS16(w1 + d * depth1);                            \
            if (R == MR) {                                                                                             \
                SOON_OF_W(w0 + (d + TK) * depth0);                                                                     \
                SOON_OF_W(w1 + (d + TK) * depth1);                                                                     \
            }                                                                                                          \
            UNROLL for (int r = 0; r < R; r++) {                                                                       \
                sum[r][0] = fma((float16)(xs[r][d]), b0, sum[r][0]);                                                   \
                sum[r][1] = fma((float16)(xs[r][d]), b1, sum[r][1]);                                                   \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int r = 0; r < R; r++) sums[r * SUMS] = sum[r][0], sums[r * SUMS + 1] = sum[r][1];                 \
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

#define CASE(R) case R: multiply_##R(sums, xs, w0, w1, depth0, depth1, steps); break;

// w0, w1: a step's first 16 columns and the others, depth0, depth1: from a step to the next
static inline void multiply(int rows, float16 *sums, const floats *xs, PIECE_OF_W w0, PIECE_OF_W w1, long depth0,
                            long depth1, int steps) {
    switch (rows) {
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
