// SPDX-License-Identifier: MIT
// Blocks of 256 codes and scales of two levels, as wgmma_coded_k.cl takes them: of 32 steps the codes that a work-item
// has, times their scales, as numbers of x's type that are exact. Where these have too few bits for that, they are two:
// s is UNIT * high + low, and code * UNIT * high and code * low have 8 bits and less.
//
//   q6_k          (q - 32) * s, q of 6 bits and s of 8 with a sign, for 16 steps: UNIT 16, high -8 .. 8, low -8 .. 7
//   q4_k, q5_k    q * s, q of 4 or 5 bits, s of 6: UNIT 8, high 0 .. 7, low 0 .. 7; f16 has all of the 11 bits of q * s
//
// Of each chunk of 8 steps a work-item has the elements 2 * (lane % 4) and the next: two neighbouring bytes of codes.
#define HAS_MIN (APART != 6) // blocks of q4_k and q5_k have scales of minima, too
#define PRODUCTS (HAS_MIN && !IS_BF16 ? 1 : 2)

// Of a row, as they are in memory: of 32 steps the codes of four chunks, the lower bits and the upper ones, and scales.
// These are of either half in q6_k, else of this block of 32 and of the next, by turns.
struct coded {
    uint low[4], high[4], scale[2];
};

// What codes are multiplied by for each product. Where many share these, so they do what of ABOVE would be in that, which
// is to be added; q6_k takes it away first.
struct factors {
    uint of[PRODUCTS], less[PRODUCTS];
};

#if APART == 6
#define SCALE_AT 104
#define UNIT_ABOVE (IS_BF16 ? 0x4500u : 0x7400u) // whose last bit is UNIT

inline void load_first(struct coded *own, const local ushort *block, uint t) {}

// Of block `b` of 32, 0 to 7, the first half or the second one. `odd` is b % 2.
inline void load_coded(struct coded *own, const local ushort *block, uint b, int odd, int second, uint t) {
    const local ushort *const low = block + b / 4 * 32 + odd * 16 + t, *const high = block + 64 + b / 4 * 16 + t;
#pragma unroll
    for (int c = 2 * second; c < 2 * second + 2; c++)
        own->low[c] = low[4 * c], own->high[c] = high[4 * c];
    own->scale[second] = (uint)(136 + (int)((const local char *)block)[192 + 2 * b + second]);
}

// Of chunks 2 * second and the next the first codes, then the second ones.
inline uint codes_of(const struct coded *own, uint b, int odd, int second) {
    const uint low = permute_bytes(own->low[2 * second], own->low[2 * second + 1], 0x5140);
    const uint high = permute_bytes(own->high[2 * second], own->high[2 * second + 1], 0x5140);
    return (low >> (b & 2u) * 2 & 0x0f0f0f0fu) | (rotate(high, 36 - 2 * (b & 3u)) & 0x30303030u);
}

// Of half of 32 steps.
inline void factors_of(const struct coded *own, struct factors *by, uint b, int odd, int second) {
    const uint scale = own->scale[second]; // s + 136
    by->of[0] = subtract_two((scale >> 4) * TWO_OF(1) + TWO_OF(UNIT_ABOVE), TWO_OF(UNIT_ABOVE | 8));
    by->of[1] = subtract_two((scale & 15u) * TWO_OF(1) + TWO_OF(ABOVE << 8), TWO_OF(ABOVE << 8 | 8));
}
#else
#define SCALE_AT 0
#define MIN_AT 1
#define UNIT_ABOVE 0x4480u // whose last bit is UNIT

inline void load_first(struct coded *own, const local ushort *block, uint t) {
#if APART == 5
#pragma unroll
    for (int c = 0; c < 4; c++)
        own->high[c] = block[8 + 4 * c + t];
#endif
}

// Two blocks share bytes of codes.
inline void load_coded(struct coded *own, const local ushort *block, uint b, int odd, int second, uint t) {
    const local ushort *const low = block + (APART == 5 ? 24 : 8) + b / 2 * 16 + t;
    const local uchar *const scales = (const local uchar *)(block + 2);
    if (!odd) own->low[2 * second] = low[8 * second], own->low[2 * second + 1] = low[8 * second + 4];
    // Its 6 bits are the first ones; or 4 of them are, and the other two the last ones of the byte before by 8.
    if (!second) own->scale[odd] = (uint)scales[b + (b & 4u)] | (uint)scales[b - (b & 4u)] << 8;
}

inline uint codes_of(const struct coded *own, uint b, int odd, int second) {
    const uint low = permute_bytes(own->low[2 * second], own->low[2 * second + 1], 0x5140) >> 4 * odd & 0x0f0f0f0fu;
#if APART == 5
    const uint high = permute_bytes(own->high[2 * second], own->high[2 * second + 1], 0x5140);
    return low | (rotate(high, 36 - b) & 0x10101010u);
#else
    return low;
#endif
}

// Of 32 steps.
inline void factors_of(const struct coded *own, struct factors *by, uint b, int odd, int second) {
    if (second) return;
    const uint s = own->scale[odd], scale = b & 4u ? (s & 15u) | (s >> 10 & 0x30u) : s & 63u;
    if (PRODUCTS == 1) {
        by->of[0] = subtract_two(scale * TWO_OF(1) + TWO_OF(ABOVE << 8), TWO_OF(ABOVE << 8));
    } else {
        by->of[0] = subtract_two((scale >> 3) * TWO_OF(1) + TWO_OF(UNIT_ABOVE), TWO_OF(UNIT_ABOVE));
        by->of[PRODUCTS - 1] = subtract_two((scale & 7u) * TWO_OF(1) + TWO_OF(ABOVE << 8), TWO_OF(ABOVE << 8));
    }
#pragma unroll
    for (int p = 0; p < PRODUCTS; p++)
        by->less[p] = scale_two(by->of[p], TWO_OF(ABOVE << 8 | 0x8000u));
}

// Of the scales of minima of a block numbers 2 * t and the next.
inline uint minima_of(const local ushort *block, uint t) {
    const uint last = block[4 + t], upper = block[2 + t];
    const uint two = t < 2 ? last & 0x3f3fu : (last >> 4 & 0x0f0fu) | (upper >> 2 & 0x3030u);
    return subtract_two(permute_bytes(two, ABOVE, 0x4140), TWO_OF(ABOVE << 8));
}
#endif

// Of half of 32 steps chunks 0 and 1 to every second register of `held`, times the factor of each product. `above` is
// ABOVE, with which codes are numbers, but too large by 2^7 or 2^10.
inline void hold_coded(const struct coded *own, uint *held, const struct factors *by, uint b, int odd, int second,
                       uint above) {
    const uint codes = codes_of(own, b, odd, second);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint two = permute_bytes(codes, above, i ? 0x4341 : 0x4240);
#if APART == 6
        const uint code = subtract_two(two, TWO_OF(ABOVE << 8 | 32));
#endif
#pragma unroll
        for (int p = 0; p < PRODUCTS; p++)
#if APART == 6
            held[4 * p + 2 * i] = scale_two(code, by->of[p]);
#else
            held[4 * p + 2 * i] = scale_and_add_two(two, by->of[p], by->less[p]);
#endif
    }
}
