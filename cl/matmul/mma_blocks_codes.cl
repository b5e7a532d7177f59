// SPDX-License-Identifier: MIT
// Codes of which the scales lie apart as mma_blocks.cl takes them: what few_blocks.cl has for blocks, of rows in local
// memory that begin at multiples of 4 bytes.
#ifndef BY_WORDS
#error "BY_WORDS: the number of few_words.cl that W_T has"
#endif

#define IS_SUPER 0
#define HAS_MIN 0
#define SHARE 16
#define PARTS 2
#define FOURS (SHARE / 4)
#define QUAD_STEPS (4 * SHARE)

#if BY_WORDS == WORDS_F4_E2M1
// Of a word's eight steps the first four has 0, 4, 1, 5 and the second the others, as x then has.
#define WORDS_OWN 2
static inline uint four_at(uint way, int f) { return way / 4 * 64 + f / 2 * 32 + (way & 3) * 8 + (f & 1) * 4; }
#else
#define WORDS_OWN 4
static inline uint four_at(uint way, int f) { return way / 4 * 64 + f * 16 + (way & 3) * 4; }
#endif
typedef struct {
    uint codes[WORDS_OWN];
} share;
static inline uint share_at(uint way) { return way / 4 * (WORDS_OWN * 16) + (way & 3) * 4; }
static inline void load_wide(share *own, const local ELEM(W_T) *from, uint way) {
    UNROLL for (int i = 0; i < WORDS_OWN; i++) own->codes[i] = ((const local uint *)from)[i * 4];
}

#if BY_WORDS == WORDS_F4_E2M1
static inline uint four_codes(const share *own, int f) { return own->codes[f / 2] >> (f & 1) * 8; }
#elif BY_WORDS == WORDS_I8
#define CODE_ZERO 128
#define CODE_MASK 0x00ff00ffu
static inline uint four_codes(const share *own, int f) { return own->codes[f] ^ 0x80808080u; }
#else
static inline uint four_codes(const share *own, int f) { return own->codes[f]; }
#endif
