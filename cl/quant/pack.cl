// SPDX-License-Identifier: MIT
// Packing of q4_0, q5_0 and mxfp4: blocks of 32 elements, of which j and j + 16 share a byte.
// include/clmoe/quant.h has the formulas.
#include "quant/round.cl"

// ---- q4_0, q5_0 ----

// (1 << bits) levels from the element of the largest magnitude on, which becomes -(1 << (bits - 1)). Stores
// d; what elements are multiplied with. 0 where |D| < 2^-124: no denormal x_i can be a quarter of a level
// there, and d is 0.
static inline float scale_low(float largest, int bits, global ushort *d) {
    if (magnitude_bits(largest) >= INF_BITS) {
        *d = NAN_F16;
        return 0.0f;
    }
    const float scale = -largest / (float)(1 << (bits - 1));
    *d = round_f16(scale);
    return magnitude_bits(scale) < 0x01800000u ? 0.0f : reciprocal(scale);
}

static inline uint code_low(float v, float inverse, int bits) {
    if (inverse == 0.0f) return 1u << (bits - 1); // also of NaN
    const float middle = (float)(1 << (bits - 1)) + 0.5f;
    return min((uint)(int)(v * inverse + middle), (1u << bits) - 1);
}

static inline void pack_q4_0(const global ELEM(X_T) *x, global ushort *block) {
    const float inverse = scale_low(largest_of(x, 32), 4, block);
    global uchar *const qs = (global uchar *)(block + 1);
    for (int j = 0; j < 16; j++)
        qs[j] = (uchar)(code_low(LOAD(X_T, x, j), inverse, 4) | code_low(LOAD(X_T, x, j + 16), inverse, 4) << 4);
}

static inline void pack_q5_0(const global ELEM(X_T) *x, global ushort *block) {
    const float inverse = scale_low(largest_of(x, 32), 5, block);
    global uchar *const qs = (global uchar *)(block + 3);
    uint high = 0;
    for (int j = 0; j < 16; j++) {
        const uint a = code_low(LOAD(X_T, x, j), inverse, 5), b = code_low(LOAD(X_T, x, j + 16), inverse, 5);
        qs[j] = (uchar)((a & 15) | (b & 15) << 4);
        high |= (a >> 4) << j | (b >> 4) << (j + 16);
    }
    block[1] = (ushort)high;
    block[2] = (ushort)(high >> 16);
}

// ---- mxfp4 ----

// The code of the element nearest to v / 2^(e - 127), that of the smaller magnitude of two. The elements are
// 0, 1, 2, 3, 4, 6, 8, 12 halves, the bounds between them half as many odd numbers of quarters: so the code
// is how many of these are less than what v is in quarters, rounded up. From the bits, since v may be
// denormal.
static inline uint code_mxfp4(float v, uint e) {
    const uint bits = magnitude_bits(v), exponent = max(bits >> 23, 1u);
    const uint mantissa = (bits & 0x7fffffu) | (bits >> 23 ? 0x800000u : 0u);
    const uint shift = 21 + e - exponent; // v = mantissa * 2^-shift quarters, shift >= 19
    const uint quarters = shift > 24 ? mantissa != 0 : (mantissa + (1u << shift) - 1) >> shift;
    const uint code = (quarters > 1) + (quarters > 3) + (quarters > 5) + (quarters > 7) + (quarters > 10) +
                      (quarters > 14) + (quarters > 20);
    return code ? code | (as_uint(v) >> 31) << 3 : 0;
}

static inline void pack_mxfp4(const global ELEM(X_T) *x, global uchar *block) {
    const uint top = magnitude_bits(largest_of(x, 32));
    const bool damaged = top >= INF_BITS;
    const uint e = damaged ? 255 : max(top >> 23, 2u) - 2;
    block[0] = (uchar)e;
    for (int j = 0; j < 16; j++) {
        const uint a = damaged ? 0 : code_mxfp4(LOAD(X_T, x, j), e);
        const uint b = damaged ? 0 : code_mxfp4(LOAD(X_T, x, j + 16), e);
        block[1 + j] = (uchar)(a | b << 4);
    }
}
