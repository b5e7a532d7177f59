/* SPDX-License-Identifier: MIT */
#include "quant.h"

#include "convert.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Quotients and products of two floats, made in double and rounded to float, are correctly rounded. */
float ref_q8_0_scale(const float *x) {
    double amax = 0;
    for (int i = 0; i < 32; i++)
        amax = fmax(amax, fabs((double)x[i]));
    return (float)(amax / 127.0);
}

static void pack_block(const float *x, unsigned char *block) {
    bool finite = true;
    for (int i = 0; i < 32; i++)
        finite = finite && isfinite(x[i]);
    const float scale = finite ? ref_q8_0_scale(x) : NAN;
    const uint16_t d = ref_f16_from_f32(scale);
    memset(block, 0, 34);
    memcpy(block, &d, sizeof d);
    if (!(scale >= 0x1p-125f)) return;
    const float inverse = (float)(1.0 / (double)scale);
    for (int i = 0; i < 32; i++) {
        const float scaled = (float)((double)x[i] * (double)inverse);
        const int magnitude = (int)floor(fabs((double)scaled) + 0.5);
        const signed char q = (signed char)(scaled < 0 ? -magnitude : magnitude);
        memcpy(block + 2 + i, &q, 1);
    }
}

void ref_q8_0_pack(const float *x, int64_t n, unsigned char *q) {
    for (int64_t b = 0; b < n / 32; b++)
        pack_block(x + b * 32, q + b * 34);
}
