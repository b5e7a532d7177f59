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

/* What the codes of non-negative numbers mean. */
static void values_of(enum clmoe_dtype dtype, double *values) {
    for (int code = 0; dtype != CLMOE_I8 && code < codes_of(dtype); code++)
        values[code] = value_of(dtype, code);
}

/* The nearest code by trying all of them, so that what is too large is the last. */
static unsigned char nearest_code(enum clmoe_dtype dtype, const double *values, double v, bool negative) {
    if (dtype == CLMOE_I8) {
        const double whole = fmin(floor(fabs(v) + 0.5), 127);
        return (unsigned char)(signed char)(negative ? -whole : whole);
    }
    int best = 0;
    for (int code = 1; code < codes_of(dtype); code++) {
        const double now = fabs(fabs(v) - values[code]), least = fabs(fabs(v) - values[best]);
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
    if (share < 0x1p-100f) share = 0;
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
    double values[127];
    values_of(dtype, values);
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
                        code = nearest_code(dtype, values, divided(scale, v, s), signbit(v) != 0);
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

/* ---- 4 bits in words ---- */

static int place_of(enum clmoe_w_order order, int64_t i) {
    static const int awq[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return order == CLMOE_W_AWQ ? awq[i % 8] : (int)(i % 8);
}

/* The word of code (row, k), and where in it the code is. */
static int64_t word_of(enum clmoe_w_order order, int64_t row, int64_t k, int64_t rows, int *shift) {
    *shift = 4 * place_of(order, order == CLMOE_W_AWQ ? row : k);
    return order == CLMOE_W_AWQ ? (k * rows + row) / 8 : k / 8 * rows + row;
}

static int base_of(enum clmoe_zero zero) {
    return zero == CLMOE_ZERO_EIGHT ? 8 : zero == CLMOE_ZERO_PLUS_ONE ? 1 : 0;
}

static int steps_of(float x, float scale) {
    const float inverse = (float)(1.0 / (double)scale), v = (float)((double)x * (double)inverse);
    return (int)(v < 0 ? -floor(0.5 - (double)v) : floor((double)v + 0.5));
}

static int within(int v, int low) {
    return v < low ? low : v > low + 15 ? low + 15 : v;
}

/* The scale of a group as it is stored; *low is what its zero is made from. */
static float group_scale(const struct clmoe_w_scale *scale, const float *x, int64_t n, float *low) {
    double most = 0, least = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!isfinite(x[k])) return NAN;
        most = fmax(most, (double)x[k]);
        least = fmin(least, (double)x[k]);
    }
    if (scale->zero == CLMOE_ZERO_EIGHT) most = fmax(most, -least), least = -most;
    *low = (float)-least;
    const float sum = (float)(most - least), share = (float)((double)sum / 15);
    return isinf(sum) ? NAN : ref_round(scale->dtype, share < 0x1p-100f ? 0 : share);
}

void ref_words_pack(enum clmoe_w_order order, const struct clmoe_w_scale *scale, const float *x, int64_t rows,
                    int64_t n, uint32_t *words, void *scales, uint32_t *zeros) {
    const int64_t width = span_of(scale->columns, n), groups = (n + width - 1) / width;
    const int base = base_of(scale->zero);
    memset(words, 0, (size_t)(rows * n / 2));
    memset(zeros, 0, (size_t)(groups * rows / 2));
    for (int64_t i = 0; i < rows * groups; i++) {
        const int64_t row = i / groups, group = i % groups, begin = group * width;
        const int64_t end = begin + width < n ? begin + width : n;
        float low = 0;
        const float s = group_scale(scale, x + row * n + begin, end - begin, &low);
        const bool usable = isfinite(s) && s > 0;
        const int zero = usable && scale->zero != CLMOE_ZERO_EIGHT ? within(steps_of(low, s), base) : base;
        ref_store(scale->dtype, scales, group * rows + row, s);
        zeros[(group * rows + row) / 8] |= (uint32_t)(zero - base) << 4 * place_of(order, row);
        for (int64_t k = begin; k < end; k++) {
            int shift;
            const int64_t at = word_of(order, row, k, rows, &shift);
            words[at] |= (uint32_t)within(zero + (usable ? steps_of(x[row * n + k], s) : 0), 0) << shift;
        }
    }
}

void ref_words_unpack(enum clmoe_w_order order, const struct clmoe_w_scale *scale, const uint32_t *words,
                      const void *scales, const uint32_t *zeros, int64_t rows, int64_t n, float *x) {
    const int64_t width = span_of(scale->columns, n);
    for (int64_t i = 0; i < rows * n; i++) {
        const int64_t row = i / n, k = i % n, at = k / width * rows + row;
        int shift, zero = base_of(scale->zero);
        if (scale->zero != CLMOE_ZERO_EIGHT) zero += (int)(zeros[at / 8] >> 4 * place_of(order, row) & 15);
        const int64_t word = word_of(order, row, k, rows, &shift);
        const int code = (int)(words[word] >> shift & 15);
        x[i] = (float)((double)(code - zero) * scale_at(scale, scales, at));
    }
}
