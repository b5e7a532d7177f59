// SPDX-License-Identifier: MIT
// Codes of weights as few_mma.cl takes them: a work-item of a quad owns 64 of the 256 steps of K of a segment, in two
// rows of w, and makes of them numbers of x's type, in fours that one instruction multiplies.
//
//   SEGMENT_BYTES            of a row
//   PARTS                    parts of what a work-item owns that have scales of their own
//   FOURS                    fours of a part
//   ORDER_EIGHT              of two fours of x the first has elements 0, 4, 1, 5 of eight neighbours and the second
//                            the others; else a four has elements 0, 2, 1, 3 of four neighbours
//   four_at(t, f)            where four f of what work-item t of the quad owns begins in the segment
//   part_codes               codes of a part of a row; (number - OFFSET) * scale - min is the weight, min only if
//                            HAS_MIN; scale not if APART
//   load_row(own, at, t, aligned)          what parts share, from where the segment begins in local memory
//   load_part(own, at, t, part, aligned)   a part; aligned: `at` is a multiple of 4
//   four_numbers(to, own, part, f, zero)   two words of two numbers: the even elements of the four, the odd ones
#define SEGMENT 256
#define OWN 64

#include "matmul/few_words.cl"

#ifndef BY_WORDS
#error "BY_WORDS: the number of few_words.cl that W_T has"
#endif
#ifndef SCALE_STEPS
#error "SCALE_STEPS: where scales lie apart, steps of K that share one, at most 256"
#endif

#define IS_BF16 (CAT(NAME_, X_T) == 1)
#define NAME_bf16 1
#define NAME_f16 2
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))

#define SEGMENT_BYTES (SEGMENT / BLOCK(W_T) * UNITS(W_T) * (int)sizeof(ELEM(W_T)))
#define BLOCK_BYTES (UNITS(W_T) * (int)sizeof(ELEM(W_T)))

// Two numbers of BITS bits, at bit `at` of either half of a word, as the highest bits of a mantissa: 2^BITS more than
// the code, without an instruction that adds or rounds. `zero` is known at run time only, here and below: masks are
// then in registers, where an instruction has room for one number of its own.
#if IS_BF16
#define X_NAME "bf16"
#define MANTISSA 7
#define BIASED(bits) TWO_OF((127 + (bits)) << 7)
#else
#define X_NAME "f16"
#define MANTISSA 10
#define BIASED(bits) TWO_OF((15 + (bits)) << 10)
#endif
static inline uint biased(uint codes, int at, int bits, uint zero) {
    const int to = MANTISSA - bits;
    const uint moved = at > to ? codes >> ((at - to) & 31) : codes << ((to - at) & 31);
    return (moved & (TWO_OF(((1 << bits) - 1) << to) | zero)) | BIASED(bits);
}

static inline float half_of(uint two, int upper) { return FLOAT_OF(X_T, (ushort)(two >> 16 * upper)); }

static inline uint fma_two(uint a, uint factor, uint add) {
#if EMULATED
    uint r = 0;
    for (int i = 0; i < 2; i++)
        r |= (uint)ROUND(X_T, half_of(a, i) * half_of(factor, i) + half_of(add, i)) << 16 * i;
#else
    uint r;
    asm("fma.rn." X_NAME "x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(factor), "r"(add));
#endif
    return r;
}

// n words from any byte on; aligned: from a multiple of 4.
static inline void load_words(uint *to, const local uchar *at, int n, bool aligned) {
    const uint bytes = aligned ? 0 : (uint)(size_t)at & 3;
    const local uint *const words = (const local uint *)(at - bytes);
    if (aligned)
        UNROLL for (int i = 0; i < n; i++) to[i] = words[i];
    else {
        uint low = words[0];
        UNROLL for (int i = 0; i < n; i++) {
            const uint high = words[i + 1];
            to[i] = (uint)(((ulong)high << 32 | low) >> bytes * 8);
            low = high;
        }
    }
}

#if BY_WORDS == WORDS_MXFP4
#define PARTS 2
static inline uint four_at(uint t, uint f) { return t * OWN + f / 8 * 32 + (f / 2 & 3) * 4 + (f & 1) * 16; }
struct part_codes {
    uint words[4];
    float scale;
};
static inline void load_part(struct part_codes *own, const local uchar *segment, uint t, int part, bool aligned) {
    const local uchar *const block = segment + (t * 2 + part) * BLOCK_BYTES;
    load_words(own->words, block + 1, 4, false);
    own->scale = half_scale_e8m0(*block) * 2.0f;
}

#elif BY_WORDS == WORDS_Q4_K || BY_WORDS == WORDS_Q5_K
// What a quad's work-item owns are 32 bytes: their lower halves are the first part, the upper ones the second.
#define PARTS 2
#define HAS_MIN 1
static inline uint four_at(uint t, uint f) { return t * OWN + f * 4; }
struct part_codes {
    uint words[8], high[8], scales, mins;
    float d, d_min, scale, min;
};
static inline void load_row(struct part_codes *own, const local uchar *block, uint t, bool aligned) {
    uint head[4];
    load_words(head, block, 4, aligned);
    load_words(own->words, block + (BLOCK_BYTES - 128) + t * 32, 8, aligned);
#if BY_WORDS == WORDS_Q5_K
    load_words(own->high, block + 16, 8, aligned);
    UNROLL for (int i = 0; i < 8; i++) own->high[i] >>= t * 2;
#endif
    // Two numbers of 6 bits for each of two parts (blocks.cl has how they lie)
    const uint shift = (t & 1) * 16, first = head[1] >> shift, next = head[2] >> shift, last = head[3] >> shift;
    own->scales = t < 2 ? first & 0x3f3fu : (last & 0x0f0fu) | (first >> 2 & 0x3030u);
    own->mins = t < 2 ? next & 0x3f3fu : (last >> 4 & 0x0f0fu) | (next >> 2 & 0x3030u);
    own->d = float_of_f16((ushort)head[0]);
    own->d_min = float_of_f16((ushort)(head[0] >> 16));
}
static inline void load_part(struct part_codes *own, const local uchar *block, uint t, int part, bool aligned) {
    own->scale = own->d * (float)(own->scales >> part * 8 & 255u);
    own->min = own->d_min * (float)(own->mins >> part * 8 & 255u);
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
#if BY_WORDS == WORDS_Q5_K
#define OFFSET 32
    const uint codes = (own->words[f] >> part * 4 & 0x0f0f0f0fu) | (own->high[f] >> part & 0x01010101u) << 4;
    to[0] = biased(codes, 0, 5, zero);
    to[1] = biased(codes, 8, 5, zero);
#else
#define OFFSET 16
    to[0] = biased(own->words[f], part * 4, 4, zero);
    to[1] = biased(own->words[f], part * 4 + 8, 4, zero);
#endif
}

#elif BY_WORDS == WORDS_Q6_K
// 16 bytes of each kind, of which each pair of bits of the high ones belongs to a part of its own
#define PARTS 4
#define OFFSET (64 + 32)
static inline uint four_at(uint t, uint f) { return t / 2 * 128 + f / 4 * 32 + (t & 1) * 16 + (f & 3) * 4; }
struct part_codes {
    uint low[8], high[4];
    float d, scale;
};
static inline void load_row(struct part_codes *own, const local uchar *block, uint t, bool aligned) {
    const local uchar *const low = block + t / 2 * 64 + (t & 1) * 16;
    load_words(own->low, low, 4, aligned);
    load_words(own->low + 4, low + 32, 4, aligned);
    load_words(own->high, block + 128 + t * 16, 4, aligned);
    own->d = float_of_f16(*(const local ushort *)(block + 208));
}
static inline void load_part(struct part_codes *own, const local uchar *block, uint t, int part, bool aligned) {
    own->scale = own->d * (float)(char)block[192 + t / 2 * 8 + part * 2 + (t & 1)];
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    const uint high = part < 2 ? own->high[f] << (4 - part * 2) : own->high[f] >> (part * 2 - 4);
    const uint codes = (own->low[part % 2 * 4 + f] >> part / 2 * 4 & 0x0f0f0f0fu) | (high & 0x30303030u);
    to[0] = biased(codes, 0, 6, zero);
    to[1] = biased(codes, 8, 6, zero);
}

#else
// Codes without blocks: a quad takes words that are neighbours.
#define PARTS (SEGMENT / SCALE_STEPS)
#define APART 1
#if BY_WORDS == WORDS_F4_E2M1
#define WORD_STEPS 8
#define ORDER_EIGHT 1
static inline uint four_at(uint t, uint f) { return f / 2 * 32 + t * 8 + (f & 1) * 4; }
#else
#define WORD_STEPS 4
static inline uint four_at(uint t, uint f) { return f * 16 + t * 4; }
#endif
#define WORDS (OWN / PARTS / WORD_STEPS)
struct part_codes {
    uint words[WORDS];
    float scale;
};
static inline void load_part(struct part_codes *own, const local uchar *segment, uint t, int part, bool aligned) {
    UNROLL for (int i = 0; i < WORDS; i++)
        load_words(&own->words[i], segment + (part * WORDS + i) * 16 + t * 4, 1, aligned);
}
#endif

#if BY_WORDS == WORDS_MXFP4 || BY_WORDS == WORDS_F4_E2M1
// The bits of e2m1 are those of a number 2^126 or 2^14 times smaller.
static inline uint e2m1_bits(uint word, int at) { // of the 4 bits at `at` of either half
#if IS_BF16
    const uint magnitudes = 0x01c001c0u, signs = 0x80008000u;
    if (at == 12) return (word >> 6 & magnitudes) | (word & signs);
    // A product has the code in both places.
    if (at == 4) return (word & 0x00f000f0u) * 0x0104u & (magnitudes | signs);
    return (word >> at & 0x000f000fu) * 0x1040u & (magnitudes | signs);
#else
    const uint codes = word >> at;
    return (codes << 9 & TWO_OF(7u << 9)) | (codes << 12 & TWO_OF(0x8000u));
#endif
}
static inline uint e2m1_numbers(uint word, int at) {
    return fma_two(e2m1_bits(word, at), IS_BF16 ? TWO_OF(0x7e80u) : TWO_OF(0x7400u), TWO_OF(0x8000u));
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    const int next = BY_WORDS == WORDS_MXFP4 ? 8 : 4, at = (f & 1) * (12 - next);
    to[0] = e2m1_numbers(own->words[f / 2], at);
    to[1] = e2m1_numbers(own->words[f / 2], at + next);
}
#elif BY_WORDS == WORDS_I8
#define ONE (IS_BF16 ? TWO_OF(0x3f80u) : TWO_OF(0x3c00u))
static inline uint i8_numbers(uint codes) { // of bytes 0 and 2, 128 more than the codes are
#if IS_BF16
    // 8 bits are one too many: 128 + the lower ones, and what is left of the highest and 128
    return fma_two((codes & 0x007f007fu) | TWO_OF(0x4300u), ONE, (codes & TWO_OF(0x80u)) ^ TWO_OF(0xc380u));
#else
    return fma_two((codes & 0x00ff00ffu) | TWO_OF(0x6400u), ONE, TWO_OF(0xe480u)); // 1024 + code
#endif
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    const uint codes = own->words[f] ^ 0x80808080u;
    to[0] = i8_numbers(codes);
    to[1] = i8_numbers(codes >> 8);
}
#elif BY_WORDS == WORDS_F8_E4M3
static inline uint e4m3_numbers(uint bytes) { // the lower two
#if EMULATED
    float v[2];
    for (int i = 0; i < 2; i++) {
        const uint code = bytes >> 8 * i & 255, bits = code & 127;
        const float normal = as_float(bits == 127 ? 0x7fc00000u : (bits << 20) + 0x3c000000u);
        const float magnitude = bits < 8 ? (float)bits * 0x1p-9f : normal;
        v[i] = code & 128 ? -magnitude : magnitude;
    }
    return ROUND(X_T, v[0]) | (uint)ROUND(X_T, v[1]) << 16;
#else
    uint halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((ushort)bytes));
#if IS_BF16
    float low, high;
    asm("{ .reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
        : "=f"(low), "=f"(high)
        : "r"(halves));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(halves) : "f"(high), "f"(low));
#endif
    return halves;
#endif
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    to[0] = e4m3_numbers(own->words[f]);
    to[1] = e4m3_numbers(own->words[f] >> 16);
}
#define ORDER_PAIRS 1
#endif

#if BY_WORDS != WORDS_Q4_K && BY_WORDS != WORDS_Q5_K && BY_WORDS != WORDS_Q6_K
static inline void load_row(struct part_codes *own, const local uchar *segment, uint t, bool aligned) {}
#endif

#define FOURS (OWN / PARTS / 4)
#ifndef HAS_MIN
#define HAS_MIN 0
#endif
#ifndef APART
#define APART 0
#endif
#ifndef ORDER_EIGHT
#define ORDER_EIGHT 0
#endif
#ifndef ORDER_PAIRS
#define ORDER_PAIRS 0
#endif
#ifndef OFFSET
#define OFFSET 0
#endif
