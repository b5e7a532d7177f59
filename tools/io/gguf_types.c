// SPDX-License-Identifier: MIT
#include "gguf_types.h"

#include <stddef.h>

#define PLAIN(name, bytes, dtype)                                                                            \
    { name, 1, bytes, true, dtype }
#define BLOCKS(name, block, bytes)                                                                           \
    { name, block, bytes, false, ARRAY_DTYPE_COUNT }

// By number. The gaps were types once, or are a device's own orders of them, which files do not have.
static const struct gguf_type types[] = {
    [0] = PLAIN("F32", 4, ARRAY_F32),  [1] = PLAIN("F16", 2, ARRAY_F16),    [2] = BLOCKS("Q4_0", 32, 18),
    [3] = BLOCKS("Q4_1", 32, 20),      [6] = BLOCKS("Q5_0", 32, 22),        [7] = BLOCKS("Q5_1", 32, 24),
    [8] = BLOCKS("Q8_0", 32, 34),      [9] = BLOCKS("Q8_1", 32, 40),        [10] = BLOCKS("Q2_K", 256, 84),
    [11] = BLOCKS("Q3_K", 256, 110),   [12] = BLOCKS("Q4_K", 256, 144),     [13] = BLOCKS("Q5_K", 256, 176),
    [14] = BLOCKS("Q6_K", 256, 210),   [15] = BLOCKS("Q8_K", 256, 292),     [16] = BLOCKS("IQ2_XXS", 256, 66),
    [17] = BLOCKS("IQ2_XS", 256, 74),  [18] = BLOCKS("IQ3_XXS", 256, 98),   [19] = BLOCKS("IQ1_S", 256, 50),
    [20] = BLOCKS("IQ4_NL", 32, 18),   [21] = BLOCKS("IQ3_S", 256, 110),    [22] = BLOCKS("IQ2_S", 256, 82),
    [23] = BLOCKS("IQ4_XS", 256, 136), [24] = PLAIN("I8", 1, ARRAY_I8),     [25] = PLAIN("I16", 2, ARRAY_I16),
    [26] = PLAIN("I32", 4, ARRAY_I32), [27] = PLAIN("I64", 8, ARRAY_I64),   [28] = PLAIN("F64", 8, ARRAY_F64),
    [29] = BLOCKS("IQ1_M", 256, 56),   [30] = PLAIN("BF16", 2, ARRAY_BF16), [34] = BLOCKS("TQ1_0", 256, 54),
    [35] = BLOCKS("TQ2_0", 256, 66),   [39] = BLOCKS("MXFP4", 32, 17),      [40] = BLOCKS("NVFP4", 64, 36),
    [41] = BLOCKS("Q1_0", 128, 18),
};

const struct gguf_type *gguf_type(uint32_t number) {
    const bool known = number < sizeof(types) / sizeof(types[0]) && types[number].name;
    return known ? &types[number] : NULL;
}
