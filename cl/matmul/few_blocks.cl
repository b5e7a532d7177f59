// SPDX-License-Identifier: MIT
// Blocks of coded weights as few.cl takes them: a quad, four neighbouring work-items, takes two blocks of 32 or 64
// steps of a super-block, each of them a share. So neighbours read what lies together, by words or halves of words
// wherever blocks begin, and the quad's steps of a part have one scale. Codes are decoded when they are used.
//
// A share is FOURS of four steps that are neighbours in K and have their codes in four bytes of a word. TENSOR: such
// fours of the 32 lanes of a wave, for two rows of w, are an operand of mma.sync. Of what that computes, products of
// all quads' weights with all quads' x, the diagonal is wanted: one lane of a quad gets the quad's sum. Else each
// work-item has its own sum. The sums of all ways are added up in the end either way, so it is all the same to them.
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
#ifndef TENSOR
#error "TENSOR: 1 where mma.sync may multiply, which takes x in 16 bits, else 0"
#endif

#if BY_WORDS
#define IS_SUPER (BY_WORDS >= WORDS_Q4_K)
#define HAS_MIN (BY_WORDS == WORDS_Q4_K || BY_WORDS == WORDS_Q5_K)
#define SHARE 16
#define PARTS (BY_WORDS == WORDS_Q6_K ? 4 : 2)
#define FOURS (SHARE / 4)
#define QUAD_STEPS (4 * SHARE)
#if TENSOR
#define FROM local
#else
#define FROM global
#endif
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

// What x has for a share
typedef struct {
    PIECE(X_T) of[FOURS];
} x_share;

#if TENSOR
// Two elements of x, of a row of w: those of even bytes of a four, then those of odd ones
typedef struct {
    uint even[FOURS], odd[FOURS], mask;
    float sums[PARTS];
} ready_x;

// Two codes become two numbers of x's type: bits made of the codes, times a factor, and something added, all exact.
#define TWO_OF(bits) ((bits) << 16 | (bits))
#define IS_BF16 (CAT(NAME_, X_T) == 1)
#define NAME_bf16 1
#define NAME_f16 2
#if IS_BF16
#define X_NAME "bf16"
#define ONE TWO_OF(0x3f80u)
#else
#define X_NAME "f16"
#define ONE TWO_OF(0x3c00u)
#endif

#if BY_WORDS == WORDS_MXFP4
#define NUMBER_MASK (IS_BF16 ? TWO_OF(7u << 6) : TWO_OF(7u << 9))
#elif BY_WORDS == WORDS_Q8_0 && IS_BF16
#define NUMBER_MASK TWO_OF(0x7fu)
#else
#define NUMBER_MASK CODE_MASK
#endif

// `zero` is known at run time only, so that the mask is a register: an instruction has room for one number of its own.
static inline void make_ready(ready_x *to, const x_share *x, uint zero) {
    to->mask = NUMBER_MASK | zero;
    UNROLL for (int p = 0; p < PARTS; p++) to->sums[p] = 0.0f;
    UNROLL for (int f = 0; f < FOURS; f++) {
        uint raw[2];
        vstore2(x->of[f], 0, raw);
        to->even[f] = (raw[0] & 0xffffu) | raw[1] << 16;
        to->odd[f] = raw[0] >> 16 | (raw[1] & 0xffff0000u);
        if (HAS_MIN) to->sums[f / (FOURS / PARTS)] += add_lanes4(FLOATS4(X_T, x->of[f]));
    }
}

static inline uint fma_two(uint a, uint factor, uint add) {
    uint r;
    asm("fma.rn." X_NAME "x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(factor), "r"(add));
    return r;
}
static inline uint numbers_of(uint codes, uint mask) {
#if BY_WORDS == WORDS_MXFP4
    // The bits of e2m1 are those of a number 2^126 or 2^14 times smaller.
    const uint bits = (codes << (IS_BF16 ? 6 : 9) & mask) | (codes << 12 & TWO_OF(0x8000u));
    return fma_two(bits, IS_BF16 ? TWO_OF(0x7e80u) : TWO_OF(0x7400u), TWO_OF(0x8000u));
#elif !IS_BF16
    return fma_two((codes & mask) | TWO_OF(0x6400u), ONE, TWO_OF(0xe400u | CODE_ZERO)); // 1024 + code
#elif BY_WORDS == WORDS_Q8_0
    // 8 bits are one too many: 128 + the lower ones, and what is left of the highest and CODE_ZERO
    return fma_two((codes & mask) | TWO_OF(0x4300u), ONE, (codes & TWO_OF(0x80u)) ^ TWO_OF(0xc380u));
#else
    return fma_two((codes & mask) | TWO_OF(0x4300u), ONE, TWO_OF(0xc300u | CODE_ZERO)); // 128 + code
#endif
}

static inline void multiply(float *c, const share *p, const share *q, const ready_x *x, int f) {
    const uint a = four_codes(p, f), b = four_codes(q, f);
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." X_NAME "." X_NAME ".f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(numbers_of(a, x->mask)), "r"(numbers_of(b, x->mask)), "r"(numbers_of(a >> 8, x->mask)),
                   "r"(numbers_of(b >> 8, x->mask)), "r"(x->even[f]), "r"(x->odd[f]));
}

// The products of two rows' shares
static inline void add_two(float *sums, const ready_x *x, const share *p) {
    // Chosen by masks: of a choice between two of an array compilers make one of addresses, and keep it in memory.
    const uint lane = get_local_id(0) & 31, quad = lane / 4, odd = 0u - (quad & 1u);
    float scale[2][PARTS], min[2][PARTS];
    share_scales(&p[0], scale[0], min[0]);
    share_scales(&p[1], scale[1], min[1]);
    UNROLL for (int part = 0; part < PARTS; part++) {
        float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        UNROLL for (int f = 0; f < FOURS / PARTS; f++) multiply(c, &p[0], &p[1], x, part * (FOURS / PARTS) + f);
        // The column of the quad's own x; the other lanes have what nobody wants, and it may be no number.
        const bool mine = (lane & 3) == quad / 2;
        UNROLL for (int r = 0; r < 2; r++) {
            const float dot = as_float((as_uint(c[2 * r]) & ~odd) | (as_uint(c[2 * r + 1]) & odd));
            if (mine) sums[r] += dot * scale[r][part];
            if (HAS_MIN) sums[r] -= x->sums[part] * min[r][part];
        }
    }
}
#define ADD_ROWS(sums, x, p)                                                                                           \
    UNROLL for (int r = 0; r < ROWS; r += 2) add_two(&sums[r], &x, &p[r]);

#else
typedef struct {
    float4 of[FOURS];
    float sums[PARTS];
} ready_x;

static inline void make_ready(ready_x *to, const x_share *x, uint zero) {
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
#endif
#endif
