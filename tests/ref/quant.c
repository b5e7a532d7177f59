/* SPDX-License-Identifier: MIT */
#include "quant.h"

#include "convert.h"

#include <assert.h>
#include <math.h>
#include <string.h>

int ref_block_length(enum clmoe_dtype dtype) {
    switch (dtype) {
    case CLMOE_Q8_0:
    case CLMOE_Q4_0:
    case CLMOE_Q5_0:
    case CLMOE_MXFP4: return 32;
    case CLMOE_Q4_K:
    case CLMOE_Q5_K:
    case CLMOE_Q6_K: return 256;
    case CLMOE_F4_E2M1: return 2;
    default: return 1;
    }
}

bool ref_is_scaled(enum clmoe_dtype dtype) {
    return dtype == CLMOE_I8 || dtype == CLMOE_I32 || dtype == CLMOE_F8_E4M3 || dtype == CLMOE_F4_E2M1;
}

bool ref_is_coded(enum clmoe_dtype dtype) {
    return ref_block_length(dtype) > 1 || ref_is_scaled(dtype);
}

int ref_block_bytes(enum clmoe_dtype dtype) {
    return (int)clmoe_dtype_bytes(dtype, ref_block_length(dtype));
}

static float f16_at(const unsigned char *p) {
    return ref_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static void put_f16(unsigned char *p, uint16_t bits) {
    p[0] = (unsigned char)bits;
    p[1] = (unsigned char)(bits >> 8);
}

/* ---- unpacking, block by block in the order of the bytes ---- */

static void unpack_q8_0(const unsigned char *b, float *x) {
    for (int i = 0; i < 32; i++)
        x[i] = f16_at(b) * (float)(signed char)b[2 + i];
}

static void unpack_q4_0(const unsigned char *b, float *x) {
    for (int j = 0; j < 16; j++) {
        x[j] = f16_at(b) * (float)((b[2 + j] & 15) - 8);
        x[j + 16] = f16_at(b) * (float)((b[2 + j] >> 4) - 8);
    }
}

static void unpack_q5_0(const unsigned char *b, float *x) {
    for (int j = 0; j < 32; j++) {
        const int low = b[6 + j % 16] >> (j < 16 ? 0 : 4) & 15, high = b[2 + j / 8] >> j % 8 & 1;
        x[j] = f16_at(b) * (float)(low + 16 * high - 16);
    }
}

static float e2m1(int code) {
    static const float values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    return values[code];
}

static float e4m3(int code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float magnitude = exponent == 15 && mantissa == 7 ? NAN
                            : exponent == 0                 ? ldexpf((float)mantissa, -9)
                                                            : ldexpf((float)(8 + mantissa), exponent - 10);
    return code & 128 ? -magnitude : magnitude;
}

static void unpack_mxfp4(const unsigned char *b, float *x) {
    for (int j = 0; j < 32; j++) {
        const float value = e2m1(b[1 + j % 16] >> (j < 16 ? 0 : 4) & 15);
        x[j] = b[0] == 255 ? NAN : ldexpf(value, b[0] - 127);
    }
}

/* The scale and the minimum of 32 elements. */
static void scales_of(const unsigned char *b, int sub, float *scale, float *low) {
    const unsigned char *const s = b + 4;
    const int scales[8] = {s[0] & 63,
                           s[1] & 63,
                           s[2] & 63,
                           s[3] & 63,
                           (s[8] & 15) + (s[0] >> 6) * 16,
                           (s[9] & 15) + (s[1] >> 6) * 16,
                           (s[10] & 15) + (s[2] >> 6) * 16,
                           (s[11] & 15) + (s[3] >> 6) * 16};
    const int lows[8] = {s[4] & 63,
                         s[5] & 63,
                         s[6] & 63,
                         s[7] & 63,
                         (s[8] >> 4) + (s[4] >> 6) * 16,
                         (s[9] >> 4) + (s[5] >> 6) * 16,
                         (s[10] >> 4) + (s[6] >> 6) * 16,
                         (s[11] >> 4) + (s[7] >> 6) * 16};
    *scale = f16_at(b) * (float)scales[sub];
    *low = f16_at(b + 2) * (float)lows[sub];
}

/* q4_k and q5_k; `high`: the fifth bits, NULL if there are none. */
static void unpack_k(const unsigned char *b, const unsigned char *high, const unsigned char *qs, float *x) {
    for (int i = 0; i < 256; i++) {
        const int sub = i / 32, l = i % 32;
        float scale, low;
        scales_of(b, sub, &scale, &low);
        int q = sub % 2 ? qs[sub / 2 * 32 + l] / 16 : qs[sub / 2 * 32 + l] % 16;
        if (high) q += (high[l] >> sub & 1) * 16;
        x[i] = scale * (float)q - low;
    }
}

static void unpack_q6_k(const unsigned char *b, float *x) {
    const unsigned char *ql = b, *qh = b + 128;
    const signed char *sc = (const signed char *)b + 192;
    for (int half = 0; half < 2; half++, x += 128, ql += 64, qh += 32, sc += 8)
        for (int l = 0; l < 32; l++) {
            const float d = f16_at(b + 208);
            x[l] = d * (float)sc[l / 16] * (float)((ql[l] & 15) + (qh[l] & 3) * 16 - 32);
            x[l + 32] = d * (float)sc[l / 16 + 2] * (float)((ql[l + 32] & 15) + (qh[l] >> 2 & 3) * 16 - 32);
            x[l + 64] = d * (float)sc[l / 16 + 4] * (float)((ql[l] >> 4) + (qh[l] >> 4 & 3) * 16 - 32);
            x[l + 96] = d * (float)sc[l / 16 + 6] * (float)((ql[l + 32] >> 4) + (qh[l] >> 6) * 16 - 32);
        }
}

static void unpack_block(enum clmoe_dtype dtype, const unsigned char *b, float *x) {
    switch (dtype) {
    case CLMOE_Q8_0: unpack_q8_0(b, x); break;
    case CLMOE_Q4_0: unpack_q4_0(b, x); break;
    case CLMOE_Q5_0: unpack_q5_0(b, x); break;
    case CLMOE_MXFP4: unpack_mxfp4(b, x); break;
    case CLMOE_Q4_K: unpack_k(b, NULL, b + 16, x); break;
    case CLMOE_Q5_K: unpack_k(b, b + 16, b + 48, x); break;
    case CLMOE_Q6_K: unpack_q6_k(b, x); break;
    case CLMOE_I8: x[0] = (float)(signed char)b[0]; break;
    case CLMOE_F8_E4M3: x[0] = e4m3(b[0]); break;
    case CLMOE_F4_E2M1: x[0] = e2m1(b[0] & 15), x[1] = e2m1(b[0] >> 4); break;
    default: assert(!"a block format");
    }
}

void ref_unpack(enum clmoe_dtype dtype, const void *data, int64_t n, float *x) {
    const int length = ref_block_length(dtype), bytes = ref_block_bytes(dtype);
    for (int64_t b = 0; b < n / length; b++)
        unpack_block(dtype, (const unsigned char *)data + b * bytes, x + b * length);
}

/* ---- packing ----
 * Sums, products and quotients of two floats that are made in double and rounded to float are correctly
 * rounded. */

static float times(float a, float b) {
    return (float)((double)a * (double)b);
}

static float plus(float a, float b) {
    return (float)((double)a + (double)b);
}

static float inverse_of(float v) {
    return fabsf(v) < 0x1p-125f ? 0.0f : (float)(1.0 / (double)v);
}

static int nearest(float v) {
    const int magnitude = (int)floor(fabs((double)v) + 0.5);
    return v < 0 ? -magnitude : magnitude;
}

static int clip(int v, int low, int high) {
    return v < low ? low : v > high ? high : v;
}

static bool all_finite(const float *x, int n) {
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* The first number of the largest magnitude, 0 for zeros. */
static float extreme(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    return most;
}

float ref_q8_0_scale(const float *x) {
    return (float)(fabs((double)extreme(x, 32)) / 127.0);
}

static void pack_q8_0(const float *x, unsigned char *b) {
    const float scale = all_finite(x, 32) ? ref_q8_0_scale(x) : NAN;
    put_f16(b, ref_f16_from_f32(scale));
    if (!(scale >= 0x1p-125f)) return;
    for (int i = 0; i < 32; i++)
        b[2 + i] = (unsigned char)nearest(times(x[i], inverse_of(scale)));
}

/* q4_0 (half = 8) and q5_0 (half = 16). */
static void pack_low(const float *x, int half, unsigned char *b) {
    const bool finite = all_finite(x, 32);
    const float scale = finite ? extreme(x, 32) / (float)-half : NAN;
    const float inverse = fabsf(scale) >= 0x1p-124f ? inverse_of(scale) : 0;
    unsigned char *const qs = half == 8 ? b + 2 : b + 6;
    put_f16(b, ref_f16_from_f32(scale));
    for (int i = 0; i < 32; i++) {
        int code = half;
        if (inverse != 0) code = clip((int)plus(times(x[i], inverse), (float)half + 0.5f), 0, 2 * half - 1);
        qs[i % 16] |= (unsigned char)((code & 15) << (i < 16 ? 0 : 4));
        if (half == 16) b[2 + i / 8] |= (unsigned char)((code >> 4) << i % 8);
    }
}

/* The nearest of the values, the first of two. */
static int code_mxfp4(double v) {
    static const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    int best = 0;
    for (int i = 1; i < 8; i++)
        if (fabs(fabs(v) - values[i]) < fabs(fabs(v) - values[best])) best = i;
    return best && v < 0 ? best + 8 : best;
}

static void pack_mxfp4(const float *x, unsigned char *b) {
    const bool finite = all_finite(x, 32);
    const float top = fabsf(extreme(x, 32));
    int exponent = 0;
    if (finite && top > 0) exponent = clip(ilogbf(top) - 2 + 127, 0, 254);
    b[0] = (unsigned char)(finite ? exponent : 255);
    for (int i = 0; finite && i < 32; i++)
        b[1 + i % 16] |= (unsigned char)(code_mxfp4(ldexp((double)x[i], 127 - exponent)) << (i < 16 ? 0 : 4));
}

/* A scale as f16; 0 where it becomes zero. */
static uint16_t scale_f16(float v) {
    const uint16_t bits = ref_f16_from_f32(v);
    return bits & 0x7fff ? bits : 0;
}

/* The 6-bit numbers of eight parts, where the largest becomes 63. */
static void sixths(const float *v, uint16_t unit, int *out) {
    const float most = extreme(v, 8), by = unit ? times(inverse_of(most), 63.0f) : 0;
    for (int i = 0; i < 8; i++)
        out[i] = nearest(times(v[i], by));
}

/* q4_k (levels = 15) and q5_k (31). */
static void pack_k(const float *x, int levels, unsigned char *b) {
    float spread[8], low[8];
    int scales[8], lows[8];
    for (int sub = 0; sub < 8; sub++) {
        float highest = 0, lowest = 0;
        for (int l = 0; l < 32; l++) {
            highest = fmaxf(highest, x[32 * sub + l]);
            lowest = fminf(lowest, x[32 * sub + l]);
        }
        low[sub] = -lowest;
        spread[sub] = times(plus(highest, -lowest), (float)(1.0 / levels));
    }
    const uint16_t d = scale_f16(times(extreme(spread, 8), (float)(1.0 / 63))),
                   dmin = scale_f16(times(extreme(low, 8), (float)(1.0 / 63)));
    if (!all_finite(x, 256) || d >= 0x7c00 || dmin >= 0x7c00) {
        put_f16(b, 0x7e00), put_f16(b + 2, 0x7e00);
        return;
    }
    sixths(spread, d, scales), sixths(low, dmin, lows);
    put_f16(b, d), put_f16(b + 2, dmin);
    for (int i = 0; i < 4; i++) {
        b[4 + i] = (unsigned char)(scales[i] + (scales[i + 4] >> 4) * 64);
        b[8 + i] = (unsigned char)(lows[i] + (lows[i + 4] >> 4) * 64);
        b[12 + i] = (unsigned char)(scales[i + 4] % 16 + lows[i + 4] % 16 * 16);
    }
    unsigned char *const qs = levels > 15 ? b + 48 : b + 16;
    for (int i = 0; i < 256; i++) {
        const int sub = i / 32, l = i % 32;
        const float scale = times(ref_f16_to_f32(d), (float)scales[sub]),
                    offset = times(ref_f16_to_f32(dmin), (float)lows[sub]);
        const int q = clip(nearest(times(plus(x[i], offset), inverse_of(scale))), 0, levels);
        qs[sub / 2 * 32 + l] |= (unsigned char)(q % 16 << (sub % 2 ? 4 : 0));
        if (levels > 15) b[16 + l] |= (unsigned char)((q >> 4) << sub);
    }
}

static void pack_q6_k(const float *x, unsigned char *b) {
    float scales[16];
    int sc[16];
    for (int part = 0; part < 16; part++)
        scales[part] = extreme(x + 16 * part, 16) / -32;
    const float unit = extreme(scales, 16) / -128;
    const uint16_t d = scale_f16(unit);
    if (!all_finite(x, 256) || (d & 0x7fff) >= 0x7c00) {
        put_f16(b + 208, 0x7e00);
        memset(b + 128, 0xaa, 64);
        return;
    }
    put_f16(b + 208, d);
    for (int part = 0; part < 16; part++) {
        sc[part] = d ? clip(nearest(times(scales[part], inverse_of(unit))), -128, 127) : 0;
        b[192 + part] = (unsigned char)sc[part];
    }
    for (int i = 0; i < 256; i++) {
        const float scale = times(ref_f16_to_f32(d), (float)sc[i / 16]);
        const int q = clip(nearest(times(x[i], inverse_of(scale))), -32, 31) + 32;
        const int half = i / 128, quarter = i / 32 % 4, l = i % 32;
        b[64 * half + 32 * (quarter % 2) + l] |= (unsigned char)(q % 16 << (quarter / 2 * 4));
        b[128 + 32 * half + l] |= (unsigned char)((q >> 4) << 2 * quarter);
    }
}

void ref_pack(enum clmoe_dtype dtype, const float *x, int64_t n, unsigned char *q) {
    const int length = ref_block_length(dtype), bytes = ref_block_bytes(dtype);
    memset(q, 0, (size_t)(n / length * bytes));
    for (int64_t b = 0; b < n / length; b++, x += length, q += bytes) {
        switch (dtype) {
        case CLMOE_Q8_0: pack_q8_0(x, q); break;
        case CLMOE_Q4_0: pack_low(x, 8, q); break;
        case CLMOE_Q5_0: pack_low(x, 16, q); break;
        case CLMOE_MXFP4: pack_mxfp4(x, q); break;
        case CLMOE_Q4_K: pack_k(x, 15, q); break;
        case CLMOE_Q5_K: pack_k(x, 31, q); break;
        case CLMOE_Q6_K: pack_q6_k(x, q); break;
        default: assert(!"a block format");
        }
    }
}

/* ---- blocks for tests ---- */

static void set_scales(enum clmoe_dtype dtype, unsigned char *block, uint16_t d) {
    put_f16(dtype == CLMOE_Q6_K ? block + 208 : block, d);
    if (dtype == CLMOE_Q4_K || dtype == CLMOE_Q5_K) put_f16(block + 2, d);
}

void ref_spoil_block(enum clmoe_dtype dtype, unsigned char *block) {
    if (dtype == CLMOE_MXFP4)
        block[0] = 255;
    else if (dtype == CLMOE_F8_E4M3)
        block[0] = 0x7f;
    else if (!ref_is_scaled(dtype))
        set_scales(dtype, block, 0x7e00);
}

void ref_tame_block(enum clmoe_dtype dtype, unsigned char *block, float size) {
    float x[REF_BLOCK_MAX];
    if (dtype == CLMOE_MXFP4) block[0] = (unsigned char)(127 + ilogbf(size) - 2);
    if (dtype == CLMOE_F8_E4M3 && (block[0] & 127) == 127) block[0] ^= 1;
    if (dtype == CLMOE_MXFP4 || ref_is_scaled(dtype)) return;
    set_scales(dtype, block, 0x3c00); /* 1 */
    unpack_block(dtype, block, x);
    const float top = fabsf(extreme(x, ref_block_length(dtype)));
    set_scales(dtype, block, ref_f16_from_f32(top > 0 ? size / top : size));
}
