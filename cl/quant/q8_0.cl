// SPDX-License-Identifier: MIT
// What the q8_0 kernels share: the scale of a block, with the same bits on every device.
//
//   block of 32 elements, 34 bytes: d as f16, then q[0..31] as int8; in memory 17 ushorts, two q in each
//   D = amax / 127,   q_i = round-half-away(x_i * (1/D)),   d = D rounded to f16
//
// OpenCL lets fp32 division be off by 2.5 ulp and devices flush denormals, so both quotients are made of integers.
// Neither can be a tie: with 127 (odd) a remainder of zero means an even quotient, and 2^48 / M is whole only for a
// power of two. So rounding to nearest is adding half and shifting. What is left is a product, which rounds alike
// everywhere. A block with D < 2^-125 gets q = 0: from there on no denormal x_i is large enough to count. Its d is 0.
#include "common/dtype.cl"

#pragma OPENCL FP_CONTRACT OFF // the product is rounded before it is added to

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef X_T
#error "X_T: f32, f16 or bf16, the plain type"
#endif

#define INF_BITS 0x7f800000u
#define NAN_F16 0x7e00

// Both as bits of fp32 numbers.
struct scale {
    uint d, inverse;
};

// `amax`: bits of the largest |x_i|, finite.
inline struct scale block_scale(uint amax) {
    struct scale s = {0, 0};
    const uint quotient = (((amax & 0x7fffffu) | 0x800000u) << 8) / 127u; // 25 or 26 bits
    const uint wide = quotient >> 25;
    const int exponent = (int)(amax >> 23) - 7 + (int)wide;
    if (exponent < 2) return s;
    const uint mantissa = wide ? (quotient + 2) >> 2 : (quotient + 1) >> 1; // 2^23 .. 2^24
    s.d = ((uint)(exponent - 1) << 23) + mantissa;
    const uint reciprocal = (uint)(((1UL << 48) / mantissa + 1) >> 1); // the same
    s.inverse = ((uint)(252 - exponent) << 23) + reciprocal;
    return s;
}

inline void store_scale(global ushort *block, uint amax, struct scale s) {
    if (amax >= INF_BITS)
        block[0] = NAN_F16;
    else
        vstore_half_rte(as_float(s.d), 0, (global half *)block);
}

// To the nearest integer, halves away from zero, for |v| < 2^22. The sum with the number below 0.5 is exact or rounds
// to where its integer part is right; so this is round() without its branches.
inline char nearest(float v) { return (char)(int)(v + copysign(0x1.fffffep-2f, v)); }

// Two neighbours as they lie in memory. |x * inverse| <= 127 after rounding.
inline ushort pack_pair(float a, float b, uint amax, struct scale s) {
    if (amax >= INF_BITS) return 0;
    const float inverse = as_float(s.inverse);
    return as_ushort((char2)(nearest(a * inverse), nearest(b * inverse)));
}

inline void unpack_pair(global ELEM(X_T) *x, ulong i, float d, ushort pair) {
    const char2 q = as_char2(pair);
    STORE(X_T, x, i, d * (float)q.x);
    STORE(X_T, x, i + 1, d * (float)q.y);
}
