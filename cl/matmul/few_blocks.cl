// SPDX-License-Identifier: MIT
// Blocks of 32 as few.cl takes them: whole, one for each work-item, by words of 4 bytes, though blocks begin at any 2
// bytes (MXFP4: at any byte), and decoded when they are used. Loads of single bytes are what bounds a product of few rows
// otherwise: each takes the cache as long as one of a word.
//
//   block_run                            a block on its way, and how far it is out of line
//   load_block(run, row, d, depth)       the block of steps d .. d + 31 of a row of `depth` steps
//   block_scale(run)                     what the codes are multiplied by
//   block_even(run, g), block_odd(run, g) -> float4: codes of steps 8g + 0, 2, 4, 6 and 8g + 1, 3, 5, 7
#ifndef BY_WORDS
#error "BY_WORDS: 1, 2 or 3 for W_T q8_0, q4_0 or mxfp4, 0 for all other types"
#endif
#define BY_WORDS_Q8_0 1
#define BY_WORDS_Q4_0 2
#define BY_WORDS_MXFP4 3

#if BY_WORDS
#if BY_WORDS == BY_WORDS_Q8_0
#define CODE_WORDS 8
#else
#define CODE_WORDS 4
#endif

typedef struct {
    uint words[CODE_WORDS + 1], shift;
} block_run;

static inline ulong two_words(const block_run *run, int j) { return (ulong)run->words[j + 1] << 32 | run->words[j]; }

#if BY_WORDS == BY_WORDS_MXFP4
// Words reach into the blocks beside this one, up to 3 bytes: those at the ends of a row are loaded byte by byte.
static inline void load_block(block_run *run, const global uchar *row, uint d, uint depth) {
    const global uchar *const block = ROW_AT(W_T, row, d);
    const uint ahead = (uint)(ulong)block & 3;
    if ((d > 0 || ahead == 0) && d + 32 < depth) {
        const global uint *const words = (const global uint *)(block - ahead);
        UNROLL for (int j = 0; j <= CODE_WORDS; j++) run->words[j] = words[j];
        run->shift = 8 * ahead;
    } else {
        UNROLL for (int j = 0; j < CODE_WORDS; j++) run->words[j] =
            block[4 * j] | block[4 * j + 1] << 8 | block[4 * j + 2] << 16 | (uint)block[4 * j + 3] << 24;
        run->words[CODE_WORDS] = block[4 * CODE_WORDS];
        run->shift = 0;
    }
}
static inline uint code_word(const block_run *run, int j) { return two_words(run, j) >> (run->shift + 8); }
#else
// The scale stands alone before the words of the codes, or it is in the first of them and the last codes stand alone.
static inline void load_block(block_run *run, const global ushort *row, uint d, uint depth) {
    const global ushort *const block = ROW_AT(W_T, row, d);
    const uint alone = (uint)((ulong)block >> 1) & 1;
    const global uint *const words = (const global uint *)(block + alone);
    UNROLL for (int j = 0; j < CODE_WORDS; j++) run->words[j] = words[j];
    run->words[CODE_WORDS] = block[alone ? 0 : 2 * CODE_WORDS];
    run->shift = alone ? 0 : 16;
}
// By masks, since of a choice between two words compilers make one of addresses, and keep the words in memory.
static inline float block_scale(const block_run *run) {
    const uint alone = (run->shift >> 4) - 1; // all bits, or none
    return float_of_f16((ushort)((run->words[CODE_WORDS] & alone) | (run->words[0] & ~alone)));
}
static inline uint code_word(const block_run *run, int j) { return two_words(run, j) >> run->shift; }
#endif

// A float of 2^23 and a number below 2^23 has the number in its last bits.
#define AS_FLOATS(numbers, zero) (as_float4((numbers) | 0x4b000000u) - (8388608.0f + (zero)))
// Bytes 0 and 2, or 1 and 3, of two words, from bit `shift` of them on
#define OF_BYTES(a, b, shift) ((uint4)((a) >> (shift), (a) >> (16 + (shift)), (b) >> (shift), (b) >> (16 + (shift))))

#if BY_WORDS == BY_WORDS_Q8_0
static inline float4 block_codes(const block_run *run, int g, uint shift) {
    const uint a = code_word(run, 2 * g) ^ 0x80808080u, b = code_word(run, 2 * g + 1) ^ 0x80808080u;
    return AS_FLOATS(OF_BYTES(a, b, shift) & 255u, 128.0f);
}
static inline float4 block_even(const block_run *run, int g) { return block_codes(run, g, 0); }
static inline float4 block_odd(const block_run *run, int g) { return block_codes(run, g, 8); }
#else

// Step j is in the lower half of byte j, step j + 16 in the upper half.
#if BY_WORDS == BY_WORDS_Q4_0
static inline float4 block_codes(uint a, uint b, uint shift) {
    return AS_FLOATS(OF_BYTES(a, b, shift) & 15u, 8.0f);
}
#else
// The bits of e2m1 are those of a half 2^14 times smaller, two of them in a word at a time.
static inline float block_scale(const block_run *run) {
    return half_scale_e8m0(run->words[0] >> run->shift & 255);
}
static inline uint halves_of(uint codes) { return (codes & 0x70007u) << 9 | (codes & 0x80008u) << 12; }
static inline float4 block_codes(uint a, uint b, uint shift) {
    const uint pairs[2] = {halves_of(a >> shift), halves_of(b >> shift)};
    return vload_half4(0, (const half *)pairs) * 0x1p15f;
}
#endif
static inline float4 block_even(const block_run *run, int g) {
    return block_codes(code_word(run, g % 2 * 2), code_word(run, g % 2 * 2 + 1), g / 2 * 4);
}
static inline float4 block_odd(const block_run *run, int g) {
    return block_codes(code_word(run, g % 2 * 2), code_word(run, g % 2 * 2 + 1), g / 2 * 4 + 8);
}
#endif
#endif
