// SPDX-License-Identifier: MIT
#include "mxfp4.h"
#include "array.h"

#include <math.h>

static const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

static float decode(unsigned nibble, uint8_t scale) {
    const float value = nibble & 8u ? -magnitudes[nibble & 7u] : magnitudes[nibble & 7u];
    return scale == 255 ? NAN : ldexpf(value, scale - 127);
}

void mxfp4_to_bf16(const uint8_t *blocks, const uint8_t *scales, size_t n, uint16_t *out) {
    uint16_t values[16];
    for (size_t b = 0; b < n; ++b) {
        for (unsigned i = 0; i < 16; ++i)
            values[i] = array_f32_to_bf16(decode(i, scales[b]));
        for (size_t i = 0; i < MXFP4_BLOCK_BYTES; ++i) {
            const uint8_t pair = blocks[b * MXFP4_BLOCK_BYTES + i];
            *out++ = values[pair & 15u];
            *out++ = values[pair >> 4u];
        }
    }
}
