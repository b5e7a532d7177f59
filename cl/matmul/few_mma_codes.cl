// SPDX-License-Identifier: MIT
// Codes of weights as few_mma.cl takes them: a work-item of a quad owns 64 of the 256 steps of K of a segment, in two
// rows of w, and makes of them numbers of x's type, in fours that one instruction multiplies.
//
//   SEGMENT_BYTES            of a row
//   PARTS                    parts of what a work-item owns that have scales of their own
//   FOURS                    fours of a part
//   M_T                      bf16 or f16, what is multiplied
//   X_SCALED                 1 if x, of bf16, is multiplied by a power of two for each part, so that it can be f16, or
//                            codes be the lowest bits of an exponent
//   LACKING                  factor of what products are too small by, without that of x
//   ORDER_EIGHT              of two fours of x the first has elements 0, 4, 1, 5 of eight neighbours and the second
//                            the others; else a four has elements 0, 2, 1, 3 of four neighbours
//   four_at(t, f)            where four f of what work-item t of the quad owns begins in the segment
//   part_codes               codes of a part of a row; (number - OFFSET) * scale - min is the weight, min only if
//                            HAS_MIN; scale not if APART
//   WIDE                     segments that begin at multiples of so many bytes are loaded faster
//   load_row(own, at, t, wide)             what parts share, from where the segment begins in local memory
//   load_part(own, at, t, part, wide)      a part; wide: `at` is a multiple of WIDE
//   scale_at(t, part)                      if APART: the step of the segment whose scale a part has
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

#define NAME_bf16 1
#define NAME_f16 2
#define IS_E2M1 (BY_WORDS == WORDS_MXFP4 || BY_WORDS == WORDS_F4_E2M1)
#define IS_BYTES (BY_WORDS == WORDS_I8 || BY_WORDS == WORDS_Q8_0 || BY_WORDS == WORDS_F8_E4M3)
#define IS_SUPER_BLOCK (BY_WORDS == WORDS_Q4_K || BY_WORDS == WORDS_Q5_K || BY_WORDS == WORDS_Q6_K)
#define IS_EVEN (BY_WORDS == WORDS_Q4_0 || BY_WORDS == WORDS_Q5_0 || BY_WORDS == WORDS_Q8_0)
#define IS_BF16 (CAT(NAME_, X_T) == NAME_bf16 && !IS_BYTES) // bytes are more than bf16 has room for
#define X_SCALED (CAT(NAME_, X_T) == NAME_bf16 && (IS_E2M1 || IS_BYTES))
#define FOURS (OWN / PARTS / 4)
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))

#define SEGMENT_BYTES (SEGMENT / BLOCK(W_T) * UNITS(W_T) * (int)sizeof(ELEM(W_T)))
#define BLOCK_BYTES (UNITS(W_T) * (int)sizeof(ELEM(W_T)))

// Two numbers of BITS bits, at bit `at` of either half of a word, as the highest bits of a mantissa: 2^BITS more than
// the code, without an instruction that adds or rounds. `zero` is known at run time only, here and below: masks are
// then in registers, where an instruction has room for one number of its own.
#if IS_BF16
#define M_T bf16
#define M_NAME "bf16"
#define MANTISSA 7
#define BIASED(bits) TWO_OF((127 + (bits)) << 7)
#else
#define M_T f16
#define M_NAME "f16"
#define MANTISSA 10
#define BIASED(bits) TWO_OF((15 + (bits)) << 10)
#endif
static inline uint biased(uint codes, int at, int bits, uint zero) {
    const int to = MANTISSA - bits;
    const uint moved = at > to ? codes >> ((at - to) & 31) : codes << ((to - at) & 31);
    return (moved & (TWO_OF(((1 << bits) - 1) << to) | zero)) | BIASED(bits);
}

static inline float half_of(uint two, int upper) { return FLOAT_OF(M_T, (ushort)(two >> 16 * upper)); }

#if BY_WORDS == WORDS_MXFP4
#define WIDE 1
#elif IS_EVEN || BY_WORDS == WORDS_Q6_K
#define WIDE 4
#else
#define WIDE 16
#endif

// Word i from any byte on
static inline uint word_at(const local uchar *at, int i) {
    const uint bytes = (uint)(size_t)at & 3;
    const local uint *const words = (const local uint *)(at - bytes) + i;
    return (uint)(((ulong)words[1] << 32 | words[0]) >> bytes * 8);
}
// Four of them. Without a loop, since compilers unroll those before they know how far these go.
static inline void load_four(uint *to, const local uchar *at, bool wide) {
    if (wide && WIDE == 16) {
        const uint4 four = *(const local uint4 *)at;
        to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else if (wide && WIDE == 4) {
        const local uint *const words = (const local uint *)at;
        to[0] = words[0], to[1] = words[1], to[2] = words[2], to[3] = words[3];
    } else
        to[0] = word_at(at, 0), to[1] = word_at(at, 1), to[2] = word_at(at, 2), to[3] = word_at(at, 3);
}

#if BY_WORDS == WORDS_MXFP4
#define PARTS 2
static inline uint four_at(uint t, uint f) { return t * OWN + f / 8 * 32 + (f / 2 & 3) * 4 + (f & 1) * 16; }
struct part_codes {
    uint words[4];
    float scale;
};
static inline void load_part(struct part_codes *own, const local uchar *segment, uint t, int part, bool wide) {
    const local uchar *const block = segment + (t * 2 + part) * BLOCK_BYTES;
    load_four(own->words, block + 1, false);
    own->scale = float_of_e8m0(*block);
}

#elif IS_EVEN
// Blocks of 32 steps that begin with their scale, of which two have as many bytes as whole words have.
#define PARTS 2
#define WORDS_OWN (BLOCK_BYTES / 2)
struct part_codes {
    uint words[WORDS_OWN];
    float scale;
};
static inline void load_row(struct part_codes *own, const local uchar *segment, uint t, bool wide) {
    const local uchar *const blocks = segment + t * (2 * BLOCK_BYTES);
    if (wide)
        UNROLL for (int i = 0; i < WORDS_OWN; i++) own->words[i] = ((const local uint *)blocks)[i];
    else
        UNROLL for (int i = 0; i < WORDS_OWN; i++) own->words[i] = word_at(blocks, i);
}
static inline void load_part(struct part_codes *own, const local uchar *segment, uint t, int part, bool wide) {
    own->scale = float_of_f16((ushort)(part ? own->words[WORDS_OWN / 2] >> 16 : own->words[0]));
}
// Word i of a block behind the scale. Of shifts compilers make one instruction that oclgrind does not know.
static inline uint word_of(const struct part_codes *own, int part, int i) {
    if (part) return own->words[WORDS_OWN / 2 + 1 + i];
    return as_uint((ushort2)(as_ushort2(own->words[i]).s1, as_ushort2(own->words[i + 1]).s0));
}
#if BY_WORDS == WORDS_Q8_0
static inline uint four_at(uint t, uint f) { return t * OWN + f * 4; }
#else
static inline uint four_at(uint t, uint f) { return t * OWN + f / 8 * 32 + (f / 2 & 3) * 4 + (f & 1) * 16; }
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
#if BY_WORDS == WORDS_Q4_0
#define OFFSET (16 + 8)
    const uint word = word_of(own, part, f / 2);
    to[0] = biased(word, (f & 1) * 4, 4, zero);
    to[1] = biased(word, (f & 1) * 4 + 8, 4, zero);
#else
#define OFFSET (32 + 16)
    const uint high = word_of(own, part, 0) >> (f / 2 * 4 + (f & 1) * 16) & 15; // a product has one bit in each byte
    const uint low = word_of(own, part, 1 + f / 2) >> (f & 1) * 4 & 0x0f0f0f0fu;
    const uint codes = low | (high * 0x02040810u & 0x10101010u);
    to[0] = biased(codes, 0, 5, zero);
    to[1] = biased(codes, 8, 5, zero);
#endif
}
#endif

#elif BY_WORDS == WORDS_Q4_K || BY_WORDS == WORDS_Q5_K
// What a quad's work-item owns are 32 bytes: their lower halves are the first part, the upper ones the second.
#define PARTS 2
#define HAS_MIN 1
static inline uint four_at(uint t, uint f) { return t * OWN + f * 4; }
struct part_codes {
    uint words[8], high[8], scales, mins;
    float d, d_min, scale, min;
};
static inline void load_row(struct part_codes *own, const local uchar *block, uint t, bool wide) {
    uint head[4];
    const local uchar *const words = block + (BLOCK_BYTES - 128) + t * 32;
    load_four(head, block, wide);
    load_four(own->words, words, wide);
    load_four(own->words + 4, words + 16, wide);
#if BY_WORDS == WORDS_Q5_K
    load_four(own->high, block + 16, wide);
    load_four(own->high + 4, block + 32, wide);
    UNROLL for (int i = 0; i < 8; i++) own->high[i] >>= t * 2;
#endif
    // Two numbers of 6 bits for each of two parts (blocks.cl has how they lie)
    const uint shift = (t & 1) * 16, first = head[1] >> shift, next = head[2] >> shift, last = head[3] >> shift;
    own->scales = t < 2 ? first & 0x3f3fu : (last & 0x0f0fu) | (first >> 2 & 0x3030u);
    own->mins = t < 2 ? next & 0x3f3fu : (last >> 4 & 0x0f0fu) | (next >> 2 & 0x3030u);
    own->d = float_of_f16((ushort)head[0]);
    own->d_min = float_of_f16((ushort)(head[0] >> 16));
}
static inline void load_part(struct part_codes *own, const local uchar *block, uint t, int part, bool wide) {
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
static inline void load_row(struct part_codes *own, const local uchar *block, uint t, bool wide) {
    const local uchar *const low = block + t / 2 * 64 + (t & 1) * 16;
    load_four(own->low, low, wide);
    load_four(own->low + 4, low + 32, wide);
    load_four(own->high, block + 128 + t * 16, wide);
    own->d = float_of_f16(*(const local ushort *)(block + 208));
}
static inline void load_part(struct part_codes *own, const local uchar *block, uint t, int part, bool wide) {
    own->scale = own->d * (float)(char)block[192 + t / 2 * 8 + part * 2 + (t & 1)];
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    const uint high = part < 2 ? own->high[f] << (4 - part * 2) : own->high[f] >> (part * 2 - 4);
    const uint codes = (own->low[part % 2 * 4 + f] >> part / 2 * 4 & 0x0f0f0f0fu) | (high & 0x30303030u);
    to[0] = biased(codes, 0, 6, zero);
    to[1] = biased(codes, 8, 6, zero);
}

#else
// Codes without blocks: a work-item takes 16 bytes at a time, of nibbles those that are neighbours.
#define APART 1
#if BY_WORDS == WORDS_F4_E2M1
#define PARTS (SCALE_STEPS < OWN ? 2 : 1)
#define ORDER_EIGHT 1
#define CHUNK(t, i) ((t) * 2 + (i))
static inline uint four_at(uint t, uint f) { return t * OWN + f * 4; }
static inline uint scale_at(uint t, uint part) { return t * OWN + part * (OWN / 2); }
#else
#define PARTS (SCALE_STEPS < OWN ? 4 : SEGMENT / SCALE_STEPS)
#define CHUNK(t, i) ((t) + (i) * 4)
static inline uint four_at(uint t, uint f) { return f / 4 * 64 + t * 16 + (f & 3) * 4; }
static inline uint scale_at(uint t, uint part) { return part * (SEGMENT / PARTS) + t * 16; }
#endif
#define CHUNKS_OWN (SEGMENT_BYTES / 64)
struct part_codes {
    uint words[CHUNKS_OWN * 4];
    float scale;
};
static inline void load_row(struct part_codes *own, const local uchar *segment, uint t, bool wide) {
    UNROLL for (int i = 0; i < CHUNKS_OWN; i++) load_four(own->words + i * 4, segment + CHUNK(t, i) * 16, wide);
}
static inline void load_part(struct part_codes *own, const local uchar *segment, uint t, int part, bool wide) {}
#endif

#if IS_E2M1
// The bits of e2m1 are those of a number 2^126 or 2^14 times smaller, with or without an exponent of its own.
static inline uint e2m1_bits(uint word, int at) { // of the 4 bits at `at` of either half
#if IS_BF16
    const uint magnitudes = 0x01c001c0u, signs = 0x80008000u;
    const uint codes = at < 8 ? word : word >> 8;
    // A product has the code in both places.
    return (at & 4 ? (codes & 0x00f000f0u) * 0x0104u : (codes & 0x000f000fu) * 0x1040u) & (magnitudes | signs);
#else
    const uint codes = word >> at;
    return (codes << 9 & TWO_OF(7u << 9)) | (codes << 12 & TWO_OF(0x8000u));
#endif
}
#if !IS_BF16
#define LACKING 0x1p14f
#endif
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    const int next = BY_WORDS == WORDS_MXFP4 ? 8 : 4, at = (f & 1) * (12 - next);
    const uint word = own->words[(BY_WORDS == WORDS_MXFP4 ? 0 : part * FOURS / 2) + f / 2];
    to[0] = e2m1_bits(word, at);
    to[1] = e2m1_bits(word, at + next);
}
#elif BY_WORDS == WORDS_I8 || BY_WORDS == WORDS_Q8_0
static inline uint i8_numbers(uint codes, uint zero) { // of bytes 0 and 2, 128 more than the codes are
    const uint more = (codes & (0x00ff00ffu | zero)) | TWO_OF(0x6400u); // by 1024
#if EMULATED
    return ROUND(f16, half_of(more, 0) - 1152.0f) | (uint)ROUND(f16, half_of(more, 1) - 1152.0f) << 16;
#else
    uint numbers;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(numbers) : "r"(more), "r"(TWO_OF(0x6480u)));
    return numbers;
#endif
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
#if BY_WORDS == WORDS_Q8_0
    const uint codes = word_of(own, part, f) ^ 0x80808080u;
#else
    const uint codes = own->words[part * FOURS + f] ^ 0x80808080u;
#endif
    to[0] = i8_numbers(codes, zero);
    to[1] = i8_numbers(codes >> 8, zero);
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
    return ROUND(f16, v[0]) | (uint)ROUND(f16, v[1]) << 16;
#else
    uint numbers;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(numbers) : "h"((ushort)bytes));
    return numbers;
#endif
}
static inline void four_numbers(uint *to, const struct part_codes *own, int part, int f, uint zero) {
    to[0] = e4m3_numbers(own->words[part * FOURS + f]);
    to[1] = e4m3_numbers(own->words[part * FOURS + f] >> 16);
}
#define ORDER_PAIRS 1
#endif

#if BY_WORDS == WORDS_MXFP4
static inline void load_row(struct part_codes *own, const local uchar *segment, uint t, bool wide) {}
#endif

#ifndef LACKING
#define LACKING 1.0f
#endif
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
