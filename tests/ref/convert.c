/* SPDX-License-Identifier: MIT */
#include "convert.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static uint32_t bits(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static float from_bits(uint32_t u) {
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

float ref_f16_to_f32(uint16_t h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float sign = h & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31)
        return mantissa ? from_bits((uint32_t)(h & 0x8000) << 16 | 0x7f800000u | (uint32_t)mantissa << 13)
                        : sign * INFINITY;
    if (exponent == 0) return sign * ldexpf((float)mantissa, -24);
    return sign * ldexpf((float)(1024 + mantissa), exponent - 25);
}

uint16_t ref_f16_from_f32(float v) {
    const uint16_t sign = (uint16_t)(bits(v) >> 16 & 0x8000);
    if (isnan(v)) return (uint16_t)(sign | 0x7e00);
    const double a = fabs((double)v);
    if (a >= 65520.0) return (uint16_t)(sign | 0x7c00);
    int exponent;
    frexp(a, &exponent);
    /* Spacing of halves around a: 2^(e-11) for normal numbers, 2^-24 below. */
    const int step = a < 0x1p-14 ? -24 : exponent - 11;
    const double units = nearbyint(ldexp(a, -step)); /* default rounding: ties to even */
    const double rounded = ldexp(units, step);
    if (rounded < 0x1p-14) return (uint16_t)(sign | (uint16_t)ldexp(rounded, 24));
    frexp(rounded, &exponent);
    return (uint16_t)(sign | (uint16_t)((exponent + 14) << 10) |
                      ((uint16_t)ldexp(rounded, 11 - exponent) & 1023));
}

float ref_bf16_to_f32(uint16_t b) {
    return from_bits((uint32_t)b << 16);
}

uint16_t ref_bf16_from_f32(float v) {
    const uint32_t u = bits(v);
    if (isnan(v)) return (uint16_t)(u >> 16 | 0x40);
    const uint32_t low = u & 0xffff, high = u >> 16;
    return (uint16_t)(high + (low > 0x8000 || (low == 0x8000 && (high & 1))));
}

float ref_load(enum clmoe_dtype dtype, const void *data, int64_t i) {
    uint16_t u;
    float v;
    switch (dtype) {
    case CLMOE_F32: memcpy(&v, (const char *)data + 4 * i, sizeof v); return v;
    case CLMOE_F16: memcpy(&u, (const char *)data + 2 * i, sizeof u); return ref_f16_to_f32(u);
    case CLMOE_BF16: memcpy(&u, (const char *)data + 2 * i, sizeof u); return ref_bf16_to_f32(u);
    default: assert(!"a float type"); return NAN;
    }
}

void ref_store(enum clmoe_dtype dtype, void *data, int64_t i, float v) {
    const uint16_t u = dtype == CLMOE_F16 ? ref_f16_from_f32(v) : ref_bf16_from_f32(v);
    assert(dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16);
    if (dtype == CLMOE_F32)
        memcpy((char *)data + 4 * i, &v, sizeof v);
    else
        memcpy((char *)data + 2 * i, &u, sizeof u);
}

float ref_round(enum clmoe_dtype dtype, float v) {
    if (dtype == CLMOE_F16) return ref_f16_to_f32(ref_f16_from_f32(v));
    if (dtype == CLMOE_BF16) return ref_bf16_to_f32(ref_bf16_from_f32(v));
    return v;
}
