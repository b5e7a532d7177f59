// SPDX-License-Identifier: MIT
// From the codes of a share to numbers of x's type as mma.sync takes them: whole numbers, and so exact.
// A byte that is put below the upper one of 2^7 (bf16) or of 2^10 (f16) is in the last bits of the mantissa.
#ifndef IS_SUPER
#error "few_blocks.cl or mma_blocks_codes.cl comes first"
#endif

#define IS_BF16 (CAT(NAME_, X_T) == 1)
#define NAME_bf16 1
#define NAME_f16 2
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))
#define FOUR_OF(byte) (TWO_OF(byte) << 8 | TWO_OF(byte))
#if IS_BF16
#define X_NAME "bf16"
#define ONE TWO_OF(0x3f80u)
#define ABOVE 0x43u // the upper byte of 128
#define BELOW 0xc3u // of -128
#else
#define X_NAME "f16"
#define ONE TWO_OF(0x3c00u)
#define ABOVE 0x64u // of 1024
#define BELOW 0xe4u
#endif

#if EMULATED
static inline uint fma_two(uint a, uint factor, uint add) {
    uint r = 0;
    for (int i = 0; i < 2; i++) {
        const float v = FLOAT_OF(X_T, (ushort)(a >> 16 * i)) * FLOAT_OF(X_T, (ushort)(factor >> 16 * i));
        r |= (uint)ROUND(X_T, v + FLOAT_OF(X_T, (ushort)(add >> 16 * i))) << 16 * i;
    }
    return r;
}
static inline uint two_bytes(uint bytes, int from, uint above) {
    const uint two = bytes >> 8 * from;
    return (two & 255u) | (two & 0xff00u) << 8 | TWO_OF(above << 8);
}
#else
static inline uint fma_two(uint a, uint factor, uint add) {
    uint r;
    asm("fma.rn." X_NAME "x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(factor), "r"(add));
    return r;
}
// Bytes `from` and the next one, each below the byte `above`
static inline uint two_bytes(uint bytes, int from, uint above) {
    uint r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(bytes), "r"(above), "r"(from ? 0x4342 : 0x4140));
    return r;
}
#endif

// Two words of two neighbours each
#if BY_WORDS == WORDS_MXFP4 || BY_WORDS == WORDS_F4_E2M1
// Of the 4 bits at `at` of either half: those of e2m1 are the bits of a number 2^126 or 2^14 times smaller.
static inline uint e2m1_numbers(uint codes, int at) {
    const int to = IS_BF16 ? 6 : 9;
    const uint bits = (codes << (to - at) & TWO_OF(7u << to)) | (codes << (12 - at) & TWO_OF(0x8000u));
    return fma_two(bits, IS_BF16 ? TWO_OF(0x7e80u) : TWO_OF(0x7400u), TWO_OF(0x8000u));
}
static inline void four_numbers(uint *to, uint codes) {
#if BY_WORDS == WORDS_F4_E2M1
    to[0] = e2m1_numbers(codes, 0), to[1] = e2m1_numbers(codes, 4);
#else
    to[0] = e2m1_numbers(two_bytes(codes, 0, 0), 0), to[1] = e2m1_numbers(two_bytes(codes, 2, 0), 0);
#endif
}
#elif BY_WORDS == WORDS_F8_E4M3
// The bits of e4m3 are those of a number 2^120 or 2^8 times smaller, but for NaN, which gets the highest exponent here.
static inline uint e4m3_numbers(uint two) { // the upper bytes of halves
    const int down = IS_BF16 ? 4 : 1;
    const uint lowest = TWO_OF(1u << (8 - down)), magnitude = two >> down & TWO_OF(0x7fu << (8 - down));
    const uint nan = (magnitude + lowest) & lowest << 7;
    const uint bits = magnitude | (IS_BF16 ? (nan << 4) - (nan >> 4) : nan) | (two & TWO_OF(0x8000u));
    return fma_two(bits, IS_BF16 ? TWO_OF(0x7b80u) : TWO_OF(0x5c00u), TWO_OF(0x8000u));
}
static inline void four_numbers(uint *to, uint codes) {
    UNROLL for (int i = 0; i < 2; i++) to[i] = e4m3_numbers(two_bytes(codes, 2 * i, 0) << 8);
}
#elif (BY_WORDS == WORDS_Q8_0 || BY_WORDS == WORDS_I8) && IS_BF16
// 8 bits are one too many: 128 + the lower ones, and what is left of the highest and CODE_ZERO, -128 or -256
static inline void four_numbers(uint *to, uint codes) {
    const uint low = codes & FOUR_OF(0x7fu), rest = (codes ^ FOUR_OF(CODE_ZERO)) & FOUR_OF(0x80u);
    UNROLL for (int i = 0; i < 2; i++)
        to[i] = fma_two(two_bytes(low, 2 * i, ABOVE), ONE, two_bytes(rest, 2 * i, BELOW));
}
#else
// Of four bits there may be others beside them.
#define CODES_CLEAN (CODE_MASK != 0x000f000fu)
static inline void four_numbers(uint *to, uint codes) {
    const uint clean = CODES_CLEAN ? codes : codes & FOUR_OF(0x0fu), less = TWO_OF(BELOW << 8 | CODE_ZERO);
    UNROLL for (int i = 0; i < 2; i++) to[i] = fma_two(two_bytes(clean, 2 * i, ABOVE), ONE, less);
}
#endif
