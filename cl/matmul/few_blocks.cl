// SPDX-License-Identifier: MIT
// Blocks of coded weights as few.cl takes them: a quad, four neighbouring work-items, takes two blocks of 32 or 64
// steps of a super-block, each of them a share. So neighbours read what lies together, by words or halves of words
// wherever blocks begin, and the quad's steps of a part have one scale. Codes are decoded when they are used.
//
// A share is FOURS of four steps that are neighbours in K and have their codes in four bytes of a word.
//
//   SHARE, PARTS                     steps of a share, of which so many parts have scales of their own
//   share_at(way)                    where a share begins, in elements of w, from where the round begins
//   four_at(way, f)                  where four f of it is in K, in the same way
//   QUAD_STEPS, QUAD_UNITS           steps of a quad; elements of w from where its shares begin to where they end
//   ROUND_UNITS                      elements of w of a round of all ways
//   share                            one on its way
//   load_any, load_wide(own, at, way)   from `at`; wide where rows begin at multiples of W_ALIGNED bytes
//   load_last(own, at, way)          LAST_APART: the last share of a row
//   four_codes(own, f)               the codes of a four in the lowest bits of four bytes, CODE_MASK; CODE_ZERO means 0
//   share_scales(own, scale, min)    what the codes of each part are multiplied by; what is taken from them (HAS_MIN)
#include "matmul/few_words.cl"

#ifndef BY_WORDS
#error "BY_WORDS: the number of few_words.cl that W_T has, 0 for types that have none"
#endif
#ifndef FROM
#error "FROM: where blocks are read, global or local"
#endif

#if BY_WORDS
#define IS_SUPER (BY_WORDS >= WORDS_Q4_K)
#define HAS_MIN (BY_WORDS == WORDS_Q4_K || BY_WORDS == WORDS_Q5_K)
#define SHARE 16
#define PARTS (BY_WORDS == WORDS_Q6_K ? 4 : 2)
#define FOURS (SHARE / 4)
#define QUAD_STEPS (4 * SHARE)
#define W_ALIGNED (HAS_MIN ? 16 : BY_WORDS <= WORDS_Q5_0 ? 4 : 1)
#define QUAD_UNITS ((IS_SUPER ? 1 : 2) * UNITS(W_T))
#define ROUND_UNITS (WAYS * SHARE / BLOCK(W_T) * UNITS(W_T))

static inline uint word_at(const FROM ushort *p) { return p[0] | (uint)p[1] << 16; }
static inline uint word_at_4(const FROM ushort *p) { return *(const FROM uint *)p; }
static inline uint join(const ushort *halves) { return halves[0] | (uint)halves[1] << 16; }
static inline uint clean_low(uint bytes) { return bytes & 0x0f0f0f0fu; }

#if !IS_SUPER
static inline uint share_at(uint way) { return way / 4 * QUAD_UNITS; }
// Of each block the steps 4t .. 4t + 3 and 16 more than these: where codes have 4 bits they share four bytes.
static inline uint four_at(uint way, int f) { return way / 4 * 64 + f / 2 * 32 + (f & 1) * 16 + (way & 3) * 4; }
#endif

// Where rows begin at multiples of 4 bytes, so do the codes of the second block of two (but those of mxfp4).
#if BY_WORDS == WORDS_Q8_0
#define CODE_ZERO 128
#define CODE_MASK 0x00ff00ffu
typedef struct {
    uint codes[4];
    ushort d[2];
} share;
#define LOAD_SHARE(word_at_second)                                                                                     \
    const FROM ushort *const p = blocks + 1 + (way & 3) * 2;                                                           \
    own->d[0] = blocks[0], own->d[1] = blocks[UNITS(W_T)];                                                             \
    own->codes[0] = word_at(p), own->codes[1] = word_at(p + 8);                                                        \
    own->codes[2] = word_at_second(p + UNITS(W_T)), own->codes[3] = word_at_second(p + UNITS(W_T) + 8);
static inline void load_any(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at) }
static inline void load_wide(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at_4) }
static inline uint four_codes(const share *own, int f) { return own->codes[f] ^ 0x80808080u; }

#elif BY_WORDS == WORDS_Q4_0
#define CODE_ZERO 8
#define CODE_MASK 0x000f000fu
typedef struct {
    uint codes[2];
    ushort d[2];
} share;
#define LOAD_SHARE(word_at_second)                                                                                     \
    const FROM ushort *const p = blocks + 1 + (way & 3) * 2;                                                         \
    own->d[0] = blocks[0], own->d[1] = blocks[UNITS(W_T)];                                                             \
    own->codes[0] = word_at(p), own->codes[1] = word_at_second(p + UNITS(W_T));
static inline void load_any(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at) }
static inline void load_wide(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at_4) }
static inline uint four_codes(const share *own, int f) { return own->codes[f / 2] >> (f & 1) * 4; }

#elif BY_WORDS == WORDS_Q5_0
#define CODE_ZERO 16
#define CODE_MASK 0x001f001fu
typedef struct {
    uint codes[2], high[2], shift;
    ushort d[2];
} share;
#define LOAD_SHARE(word_at_second)                                                                                     \
    const FROM ushort *const p = blocks + 3 + (way & 3) * 2;                                                         \
    own->d[0] = blocks[0], own->d[1] = blocks[UNITS(W_T)];                                                             \
    own->high[0] = word_at(blocks + 1), own->high[1] = word_at_second(blocks + UNITS(W_T) + 1);                        \
    own->codes[0] = word_at(p), own->codes[1] = word_at_second(p + UNITS(W_T));                                        \
    own->shift = (way & 3) * 4;
static inline void load_any(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at) }
static inline void load_wide(share *own, const FROM ushort *blocks, uint way) { LOAD_SHARE(word_at_4) }
// Four bits come to bit 4 of a byte each, in products with four powers of two, of which no two meet.
static inline uint four_codes(const share *own, int f) {
    const uint high = (own->high[f / 2] >> own->shift >> (f & 1) * 16 & 15u) * 0x02040810u & 0x10101010u;
    return clean_low(own->codes[f / 2] >> (f & 1) * 4) | high;
}

#elif BY_WORDS == WORDS_MXFP4
typedef struct {
    uint words[2][2], shift[2];
    uchar d[2];
} share;
// Two words are loaded for the four bytes that are wanted, and reach up to 3 bytes beyond them. The last ones of a row
// are loaded one by one: they may be the last of the buffer.
static inline void load_any(share *own, const FROM uchar *blocks, uint way) {
    UNROLL for (int b = 0; b < 2; b++) {
        const FROM uchar *const p = blocks + b * UNITS(W_T) + 1 + (way & 3) * 4;
        const uint ahead = (uint)(ulong)p & 3;
        const FROM uint *const words = (const FROM uint *)(p - ahead);
        own->d[b] = blocks[b * UNITS(W_T)];
        own->words[b][0] = words[0], own->words[b][1] = words[1];
        own->shift[b] = ahead * 8;
    }
}
static inline void load_last(share *own, const FROM uchar *blocks, uint way) {
    UNROLL for (int b = 0; b < 2; b++) {
        const FROM uchar *const p = blocks + b * UNITS(W_T) + 1 + (way & 3) * 4;
        own->d[b] = blocks[b * UNITS(W_T)];
        own->words[b][0] = p[0] | (uint)p[1] << 8 | (uint)p[2] << 16 | (uint)p[3] << 24;
        own->words[b][1] = own->shift[b] = 0;
    }
}
#define LAST_APART 1
static inline uint four_codes(const share *own, int f) {
    const uint *const words = own->words[f / 2];
    return (uint)(((ulong)words[1] << 32 | words[0]) >> own->shift[f / 2]) >> (f & 1) * 4;
}

#elif HAS_MIN
// A quad has 32 bytes of a super-block: their lower halves are the first part, the upper ones the second.
#define CODE_ZERO 0
static inline uint share_at(uint way) { return way / 16 * UNITS(W_T); }
static inline uint four_at(uint way, int f) { return way / 4 * 64 + f / 2 * 32 + (way & 3) * 8 + (f & 1) * 4; }
typedef struct {
    uint head[4], codes[2], high[2], c;
} share;

static inline void any_2(uint *to, const FROM ushort *p) { to[0] = word_at(p), to[1] = word_at(p + 2); }
static inline void any_4(uint *to, const FROM ushort *p) { any_2(to, p), any_2(to + 2, p + 4); }
static inline void wide_2(uint *to, const FROM ushort *p) {
    const uint2 v = *(const FROM uint2 *)p;
    to[0] = v.x, to[1] = v.y;
}
static inline void wide_4(uint *to, const FROM ushort *p) {
    const uint4 v = *(const FROM uint4 *)p;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
#if BY_WORDS == WORDS_Q5_K
#define CODE_MASK 0x001f001fu
#define LOAD_HIGH(words_2) words_2(own->high, block + 8 + (way & 3) * 4);
#else
#define CODE_MASK 0x000f000fu
#define LOAD_HIGH(words_2)
#endif
#define LOAD_SHARE(words_2, words_4)                                                                                   \
    own->c = way / 4 & 3;                                                                                              \
    words_4(own->head, block);                                                                                         \
    words_2(own->codes, block + (UNITS(W_T) - 64) + own->c * 16 + (way & 3) * 4);                                      \
    LOAD_HIGH(words_2)
static inline void load_any(share *own, const FROM ushort *block, uint way) {
    LOAD_SHARE(any_2, any_4)
}
static inline void load_wide(share *own, const FROM ushort *block, uint way) {
    LOAD_SHARE(wide_2, wide_4)
}

static inline void two_floats(float *out, uint bytes, float factor) {
    out[0] = (float)(bytes & 255u) * factor, out[1] = (float)(bytes >> 8 & 255u) * factor;
}
// Two numbers of 6 bits for each of two parts (blocks.cl has how they lie)
static inline void share_scales(const share *own, float *scale, float *min) {
    const uint shift = (own->c & 1) * 16;
    const uint first = own->head[1] >> shift, next = own->head[2] >> shift, last = own->head[3] >> shift;
    const uint s = own->c < 2 ? first & 0x3f3fu : (last & 0x0f0fu) | (first >> 2 & 0x3030u);
    const uint m = own->c < 2 ? next & 0x3f3fu : (last >> 4 & 0x0f0fu) | (next >> 2 & 0x3030u);
    two_floats(scale, s, float_of_f16((ushort)own->head[0]));
    two_floats(min, m, float_of_f16((ushort)(own->head[0] >> 16)));
}
static inline uint four_codes(const share *own, int f) {
    const uint codes = own->codes[f & 1] >> f / 2 * 4;
#if BY_WORDS == WORDS_Q5_K
    return clean_low(codes) | (own->high[f & 1] >> (own->c * 2 + f / 2) & 0x01010101u) << 4;
#else
    return codes;
#endif
}

#else
// A quad has 16 bytes of each kind, of which each four belongs to a part of its own.
#define CODE_ZERO 32
#define CODE_MASK 0x003f003fu
static inline uint share_at(uint way) { return way / 16 * UNITS(W_T); }
static inline uint four_at(uint way, int f) {
    return way / 16 * 256 + (way / 8 & 1) * 128 + f * 32 + (way & 7) * 4;
}
typedef struct {
    ushort codes[4], high[2], scales[4], d, half_group;
} share;
static inline void load_any(share *own, const FROM ushort *block, uint way) {
    const uint h = way / 8 & 1, l = (way & 7) * 2;
    UNROLL for (int i = 0; i < 2; i++) {
        own->codes[i] = block[h * 32 + l + i];
        own->codes[2 + i] = block[h * 32 + 16 + l + i];
        own->high[i] = block[64 + h * 16 + l + i];
    }
    UNROLL for (int q = 0; q < 4; q++) own->scales[q] = block[96 + h * 4 + q];
    own->d = block[104];
    own->half_group = (way & 4) * 2;
}
static inline void share_scales(const share *own, float *scale, float *min) {
    UNROLL for (int q = 0; q < 4; q++)
        scale[q] = float_of_f16(own->d) * (float)(char)(own->scales[q] >> own->half_group);
}
static inline uint four_codes(const share *own, int f) {
    const uint codes = join(own->codes + f % 2 * 2), high = join(own->high);
    return clean_low(codes >> f / 2 * 4) | (high >> 2 * f & 0x03030303u) << 4;
}
#endif

#if BY_WORDS == WORDS_Q6_K || BY_WORDS == WORDS_MXFP4
#define load_wide load_any // it is the same to them
#endif
#ifndef LAST_APART
#define LAST_APART 0
#define load_last load_any
#endif
#if BY_WORDS == WORDS_MXFP4
static inline void share_scales(const share *own, float *scale, float *min) {
    UNROLL for (int b = 0; b < 2; b++) scale[b] = half_scale_e8m0(own->d[b]) * 2.0f;
}
#elif !IS_SUPER
static inline void share_scales(const share *own, float *scale, float *min) {
    UNROLL for (int b = 0; b < 2; b++) scale[b] = float_of_f16(own->d[b]);
}
#endif
#endif
