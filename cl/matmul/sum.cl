// SPDX-License-Identifier: MIT
// Vectors of which the lanes are added up at the end.
#define UNROLL _Pragma("unroll")

// The sum of 16 lanes, or of 4, in a tree. By way of an array: from sums of components LLVM makes shuffles that
// oclgrind's check of uninitialised values cannot take.
static inline float add_lanes(float16 v) {
    float lanes[16];
    vstore16(v, 0, lanes);
    UNROLL for (int i = 0; i < 8; i++) lanes[i] += lanes[i + 8];
    UNROLL for (int i = 0; i < 4; i++) lanes[i] += lanes[i + 4];
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static inline float add_lanes4(float4 v) {
    float lanes[4];
    vstore4(v, 0, lanes);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

// The sum with 16 products and their common scale added, 4 lanes at a time
static inline float4 add_products16(float4 sum, float16 products, float scale) {
    float lanes[16];
    vstore16(products, 0, lanes);
    UNROLL for (int i = 0; i < 8; i++) lanes[i] += lanes[i + 8];
    UNROLL for (int i = 0; i < 4; i++) lanes[i] += lanes[i + 4];
    return sum + vload4(0, lanes) * scale;
}
