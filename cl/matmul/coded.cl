// SPDX-License-Identifier: MIT
// Codes of 4 bits and their scales to pairs of bf16, in the registers of a matrix instruction: exact, for every scale.
//
// A code is a sign and 3 bits that are exponent and mantissa of e2m1. At the place of the lowest exponent bits and the
// highest of the mantissa they are, in bf16, the same number times 2^-126, with or without an exponent of its own. What
// is left is a product with 2^126 and the scale 2^(e - 127): up to e = 128 that is one power of two in bf16, beyond it
// is two.
#include "common/bytes.cl"

// The products of two pairs of bf16.
static inline uint multiply_two(uint a, uint b) {
#if PTX
    uint r;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    const float low = as_float(a << 16) * as_float(b << 16);
    const float high = as_float(a & 0xffff0000u) * as_float(b & 0xffff0000u);
    return (uint)round_bf16(low) | (uint)round_bf16(high) << 16;
#endif
}

#define MAGNITUDES 0x01c001c0u
#define SIGNS 0x80008000u

// Not scaled: of the lowest 4 bits of either half; of the 4 bits above them. The product has the code at both places.
static inline uint low_codes(uint bits) { return (bits & 0x000f000fu) * 0x1040u & (MAGNITUDES | SIGNS); }
static inline uint high_codes(uint bits) { return (bits & 0x00f000f0u) * 0x0104u & (MAGNITUDES | SIGNS); }

// A pair of the factor for scale e, and of what is left of large ones.
#define LARGE_SCALE 128u
static inline uint scale_factor(uint e) { return min(e, LARGE_SCALE) * 0x00800080u + 0x3f003f00u; }
static inline uint scale_rest(uint e) {
    return e > 254 ? 0x7fc07fc0u : e > LARGE_SCALE ? (e - 1) * 0x00800080u : 0x3f803f80u;
}
