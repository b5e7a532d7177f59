// SPDX-License-Identifier: MIT
// What few.cl makes of the shares of few_blocks.cl: sums of products with what x has for them.
#ifndef IS_SUPER
#error "few_blocks.cl comes first"
#endif

// What x has for a share
typedef struct {
    PIECE(X_T) of[FOURS];
} x_share;

typedef struct {
    float4 of[FOURS];
    float sums[PARTS];
} ready_x;

static inline void make_ready(ready_x *to, const x_share *x) {
    UNROLL for (int p = 0; p < PARTS; p++) to->sums[p] = 0.0f;
    UNROLL for (int f = 0; f < FOURS; f++) {
        to->of[f] = FLOATS4(X_T, x->of[f]);
        if (HAS_MIN) to->sums[f / (FOURS / PARTS)] += add_lanes4(to->of[f]);
    }
}

#if BY_WORDS == WORDS_MXFP4
// The bits of e2m1 are those of a half 2^14 times smaller, two of them in a word at a time.
#define CODES_SCALE 0x1p14f
static inline uint halves_of(uint codes) { return (codes & 0x00070007u) << 9 | (codes & 0x00080008u) << 12; }
static inline float4 numbers_of(uint codes) {
    const uint even = halves_of(codes), odd = halves_of(codes >> 8);
    return (float4)(float_of_f16((ushort)even), float_of_f16((ushort)odd), float_of_f16((ushort)(even >> 16)),
                    float_of_f16((ushort)(odd >> 16)));
}
#else
// A float of 2^23 and a number below 2^23 has the number in its last bits.
#define CODES_SCALE 1.0f
static inline float4 numbers_of(uint codes) {
    const uint mask = CODE_MASK & 255u;
    const uint4 numbers = (uint4)(codes & mask, codes >> 8 & mask, codes >> 16 & mask, codes >> 24 & mask);
    return as_float4(numbers | 0x4b000000u) - (8388608.0f + CODE_ZERO);
}
#endif

static inline float add_one(float sum, const ready_x *x, const share *p) {
    float scale[PARTS], min[PARTS];
    share_scales(p, scale, min);
    UNROLL for (int part = 0; part < PARTS; part++) {
        float4 dot = (float4)(0.0f);
        UNROLL for (int f = part * (FOURS / PARTS); f < (part + 1) * (FOURS / PARTS); f++)
            dot += x->of[f] * numbers_of(four_codes(p, f));
        sum += add_lanes4(dot) * (scale[part] * CODES_SCALE);
        if (HAS_MIN) sum -= x->sums[part] * min[part];
    }
    return sum;
}
#define ADD_ROWS(sums, x, p) UNROLL for (int r = 0; r < ROWS; r++) sums[r] = add_one(sums[r], &x, &p[r]);
