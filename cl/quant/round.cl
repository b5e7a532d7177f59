// SPDX-License-Identifier: MIT
// Arithmetic of packing that gives the same bits on every device.
//
// OpenCL lets fp32 division be off by 2.5 ulp and devices flush denormals, so quotients are made of integers,
// and what is left are sums and products of normal numbers, which round alike everywhere.
#include "common/blocks.cl"

#pragma OPENCL FP_CONTRACT OFF // products are rounded before they are added to

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef X_T
#error "X_T: f32, f16 or bf16, the plain type"
#endif

#define INF_BITS 0x7f800000u
#define NAN_F16 0x7e00
#define INF_F16 0x7c00

static inline uint magnitude_bits(float v) { return as_uint(v) & 0x7fffffffu; }

// 1 / v rounded to nearest, for |v| < 2^126; 0 for |v| < 2^-125. There is no tie: 2^48 / M is whole only for
// a power of two. So rounding is adding half and shifting.
static inline float reciprocal(float v) {
    const uint exponent = magnitude_bits(v) >> 23, mantissa = (as_uint(v) & 0x7fffffu) | 0x800000u;
    if (exponent < 2) return 0.0f;
    const uint quotient = (uint)(((1UL << 48) / mantissa + 1) >> 1); // 2^23 .. 2^24
    return as_float((as_uint(v) & 0x80000000u) | (((252 - exponent) << 23) + quotient));
}

// The fp32 amax / N, rounded to nearest; 0 below 2^-125. `amax`: bits of a finite number; N = odd << twos,
// 2^power <= N < 2^(power + 1), and odd no power of two. The quotient of the mantissas has 25 or 26 bits. It
// cannot be a tie, since where nothing remains it is a multiple of four.
static inline float share_of(uint amax, uint odd, int twos, int power) {
    const uint quotient = (((amax & 0x7fffffu) | 0x800000u) << (power - twos + 2)) / odd;
    const uint wide = quotient >> 25;
    const int exponent = (int)(amax >> 23) - 1 - power + (int)wide;
    if (exponent < 2) return 0.0f;
    const uint mantissa = wide ? (quotient + 2) >> 2 : (quotient + 1) >> 1; // 2^23 .. 2^24
    return as_float(((uint)(exponent - 1) << 23) + mantissa);
}

// To the nearest integer, halves away from zero, for |v| < 2^22. The sum with the number below 0.5 is exact
// or rounds to where its integer part is right; so this is round() without its branches.
static inline int nearest(float v) { return (int)(v + copysign(0x1.fffffep-2f, v)); }

// Of the largest magnitude among 16 or 32 numbers: the first that has it, 0 if all are 0
static inline float largest_of(const global ELEM(X_T) *x, int n) {
    float largest = 0.0f;
    uint top = 0;
    for (int i = 0; i < n; i++) {
        const float v = LOAD(X_T, x, i);
        if (magnitude_bits(v) > top) top = magnitude_bits(v), largest = v;
    }
    return largest;
}
