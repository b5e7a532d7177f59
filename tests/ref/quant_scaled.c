/* SPDX-License-Identifier: MIT */
#include "convert.h"
#include "quant.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Codes of non-negative numbers, in their order: how many, and what the largest means. */
static int codes_of(enum clmoe_dtype dtype) {
    return dtype == CLMOE_F4_E2M1 ? 8 : 127;
}

static double value_of(enum clmoe_dtype dtype, int code) {
    float v[2];
    const unsigned char byte = (unsigned char)code;
    ref_unpack(dtype, &byte, ref_block_length(dtype), v);
    return (double)v[0];
}

static double largest_of(enum clmoe_dtype dtype) {
    return dtype == CLMOE_I8 ? 127 : value_of(dtype, codes_of(dtype) - 1);
}

/* The nearest code by trying all of them, so that what is too large is the last. */
static unsigned char nearest_code(enum clmoe_dtype dtype, double v, bool negative) {
    if (dtype == CLMOE_I8) {
        const double whole = fmin(floor(fabs(v) + 0.5), 127);
        return (unsigned char)(signed char)(negative ? -whole : whole);
    }
    int best = 0;
    for (int code = 1; code < codes_of(dtype); code++) {
        const double now = fabs(fabs(v) - value_of(dtype, code)),
                     least = fabs(fabs(v) - value_of(dtype, best));
        const bool even = dtype == CLMOE_F8_E4M3 && code % 2 == 0;
        if (now < least || (now == least && even)) best = code;
    }
    if (dtype == CLMOE_F4_E2M1) return (unsigned char)(best && negative ? best + 8 : best);
    return (unsigned char)(negative ? best + 128 : best);
}

static int64_t span_of(int64_t block, int64_t all) {
    return block ? block : all;
}

/* What scale number `at` of an array is. */
static double scale_at(const struct clmoe_w_scale *scale, const void *scales, int64_t at) {
    if (scale->dtype != CLMOE_U8) return (double)ref_load(scale->dtype, scales, at);
    const int e = ((const unsigned char *)scales)[at];
    return e == 255 ? (double)NAN : ldexp(1, e - 127);
}

/* Stores the scale of a block with the largest magnitude `most` (NaN: one that is not finite). */
static void put_scale(enum clmoe_dtype dtype, const struct clmoe_w_scale *scale, double most, void *scales,
                      int64_t at) {
    if (scale->dtype == CLMOE_U8) {
        int e = 255;
        if (!isnan(most)) e = most > 0 ? ilogb(most) - ilogb(largest_of(dtype)) + 127 : 0;
        ((unsigned char *)scales)[at] = (unsigned char)(e < 0 ? 0 : e);
        return;
    }
    /* A quotient of two floats, made in double, is rounded to float as if it had been exact. */
    float share = isnan(most) ? NAN : (float)(most / largest_of(dtype));
    if (share < 0x1p-116f) share = 0;
    ref_store(scale->dtype, scales, at, share);
}

static double divided(const struct clmoe_w_scale *scale, float x, double s) {
    if (scale->dtype == CLMOE_U8) return (double)x / s;
    const float inverse = (float)(1.0 / s);
    return (double)(float)((double)x * (double)inverse);
}

static void put_code(enum clmoe_dtype dtype, unsigned char *codes, int64_t at, unsigned char code) {
    if (dtype != CLMOE_F4_E2M1)
        codes[at] = code;
    else if (at % 2 == 0)
        codes[at / 2] = code;
    else
        codes[at / 2] |= (unsigned char)(code << 4);
}

void ref_scaled_pack(enum clmoe_dtype dtype, const struct clmoe_w_scale *scale, const float *x, int64_t rows,
                     int64_t n, unsigned char *codes, void *scales) {
    const int64_t height = span_of(scale->rows, rows), width = span_of(scale->columns, n);
    int64_t at = 0;
    for (int64_t top = 0; top < rows; top += height)
        for (int64_t left = 0; left < n; left += width, at++) {
            double most = 0;
            for (int64_t r = top; r < top + height && r < rows; r++)
                for (int64_t k = left; k < left + width && k < n; k++)
                    most = !isfinite(x[r * n + k]) ? (double)NAN
                           : isnan(most)           ? most
                                                   : fmax(most, fabs((double)x[r * n + k]));
            put_scale(dtype, scale, most, scales, at);
            const double s = scale_at(scale, scales, at);
            for (int64_t r = top; r < top + height && r < rows; r++)
                for (int64_t k = left; k < left + width && k < n; k++) {
                    const float v = x[r * n + k];
                    unsigned char code = 0;
                    if (s > 0 && isfinite(s))
                        code = nearest_code(dtype, divided(scale, v, s), signbit(v) != 0);
                    put_code(dtype, codes, r * n + k, code);
                }
        }
}

void ref_scaled_unpack(enum clmoe_dtype dtype, const struct clmoe_w_scale *scale, const unsigned char *codes,
                       const void *scales, int64_t rows, int64_t n, float *x) {
    const int64_t height = span_of(scale->rows, rows), width = span_of(scale->columns, n);
    ref_unpack(dtype, codes, rows * n, x);
    for (int64_t i = 0; i < rows * n; i++) {
        const int64_t at = i / n / height * ((n + width - 1) / width) + i % n / width;
        x[i] = (float)((double)x[i] * scale_at(scale, scales, at));
    }
}
