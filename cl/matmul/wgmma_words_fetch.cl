// SPDX-License-Identifier: MIT
// Codes, scales and zeros of w to local memory, for wgmma_words.cl: by 128 work-items, of whom each has the scales and
// zeros of a row of the tile.
//
// A product wants of a lane 4 * g + t, of row g of eight, steps 2t, 2t + 1, 2t + 8 and 2t + 9 of 16. These of 32 steps
// are a word here: its nibbles i and i + 4 are the two of pair i. The four words of a lane are 16 bytes of a stage,
//
//   512 * (row / 8) + (64 * (g ^ row / 8 % 2) + 16 * (t ^ g / 2) ^ SPREAD(row / 16))
//
// In GPTQ a work-item has the 16 words of its row, in AWQ, whose words are 8 columns of a step, those of 8 rows for t
// and 64 steps. Either way they are turned in registers. Stores as well as loads meet all banks: in GPTQ eight
// work-items store 16 bytes each for the g of eight rows, in AWQ sixteen store 8 bytes each for one g of all 16 eights,
// of which every other one has the last two words of a lane before the first.
#include "common/bytes.cl"

#define IS_AWQ (CAT(ORDER_, W_T) == 1)
#define ORDER_awq 1
#define ORDER_gptq 2

// Where rows of gate or up are: their words, and words from one step (GPTQ: eight) to the next; their zeros and scales.
struct word_rows {
    const global uint *at;
    long expert, step;
};
struct factor_rows {
    const global uint *zeros;
    const global ELEM(S_T) *scales;
    long zero_expert, zero_group, scale_expert, scale_group;
};

#define WORD_ROWS_OF(w) {w + w##_skip, w##_expert / 8, w##_depth / 8}
#define FACTOR_ROWS_OF(w)                                                                                              \
    {                                                                                                                  \
        w##_zero + w##_zero_skip + w##_first / 8, w##_scale + w##_scale_skip + w##_first, w##_zero_expert / 8,         \
            w##_zero_group / 8, w##_scale_expert, w##_scale_group                                                      \
    }

// What a work-item fetches of a tile: its first word, its scale and the word with its zero.
struct own {
    const global uint *words, *zeros;
    const global ELEM(S_T) *scales;
};

#define FETCHER (get_local_id(0) - FIRST_W_FETCHER)
#if IS_AWQ
#define OWN_EIGHT (FETCHER & 15u) // of the rows of a tile
#define OWN_ROW (OWN_EIGHT * 8)
#define OWN_T (FETCHER / 16 & 3u)
#define OWN_WORD (FETCHER / 64 * 2) // of the four of a lane, and the next
#define OWN_STEP (OWN_WORD * 32 + OWN_T * 2)
#else
#define OWN_ROW FETCHER
#define OWN_STEP 0
#endif

// The column of y that a row of the tile belongs to; past the last one (`last`) that again.
inline long column_of(uint row, int column, long last) {
    return min(column + (long)(GLU ? row / 16 * 8 + (row & 7u) : row), last);
}

inline void place_own(struct own *own, const struct job *j, const struct word_rows *w, const struct factor_rows *f,
                      int expert, int column) {
    const long n = column_of(OWN_ROW, column, j->columns - (IS_AWQ ? 8 : 1));
    const long n1 = column_of(FETCHER, column, j->columns - 1);
    own->words = w->at + expert * w->expert + (IS_AWQ ? n / 8 + OWN_STEP * w->step : n);
    own->zeros = f->zeros + expert * f->zero_expert + n1 / 8;
    own->scales = f->scales + expert * f->scale_expert + n1;
}

// What a work-item has of a stage. Of groups behind the last step the scale is 0.
struct fetched {
    uint words[16];
    float scale[SCALE_GROUPS];
    uint zeros[SCALE_GROUPS]; // eight of them
};

// The step that word i of the work-item's begins with, from its first one on: in AWQ two neighbours of each eight.
#define STEP_OF_WORD(i) (IS_AWQ ? (i) / 2 * 8 + (i) % 2 : (i) * 8)

inline void read_stage(struct fetched *f, const struct own *own, const struct word_rows *w,
                       const struct factor_rows *of, uint step, uint depth, int shift) {
    const uint first = step * TK + OWN_STEP;
    const global uint *from = own->words + (ulong)(step * (IS_AWQ ? TK : TK / 8)) * w->step;
#pragma unroll
    for (uint i = 0; i < 16; i++) {
        const bool is = first + STEP_OF_WORD(i) < depth;
        // In AWQ a tile has 64 bytes of a step, or twice 32. Other work-groups want the rest of the line now.
        f->words[i] = IS_AWQ ? load_of_line(from, is) : is ? *from : 0;
        from += IS_AWQ && i % 2 ? 7 * w->step : w->step;
    }
#pragma unroll
    for (uint i = 0; i < SCALE_GROUPS; i++) {
        const uint k = step * TK + i * SCALE_STEPS, group = k >> shift;
        f->scale[i] = k < depth ? LOAD(S_T, own->scales, group * of->scale_group) : 0.0f;
        f->zeros[i] = PLAN_FLAGS & HAS_ZERO && k < depth ? own->zeros[group * of->zero_group] : 0x88888888u;
    }
}

// The lower and the upper codes of the bytes of a and b: those of a are the lower ones of what comes of it.
inline uint lower_codes(uint a, uint b) { return (a & 0x0f0f0f0fu) | (b << 4 & 0xf0f0f0f0u); }
inline uint upper_codes(uint a, uint b) { return (a >> 4 & 0x0f0f0f0fu) | (b & 0xf0f0f0f0u); }

// Byte i of word j to byte j of word i.
inline void turn_bytes(uint *w) {
    const uint a = permute_bytes(w[0], w[1], 0x5140), b = permute_bytes(w[2], w[3], 0x5140);
    const uint c = permute_bytes(w[0], w[1], 0x7362), d = permute_bytes(w[2], w[3], 0x7362);
    w[0] = permute_bytes(a, b, 0x5410), w[1] = permute_bytes(a, b, 0x7632);
    w[2] = permute_bytes(c, d, 0x5410), w[3] = permute_bytes(c, d, 0x7632);
}

inline uint place_of(uint eight, uint g, uint t) { return eight * 512 + (g ^ (eight & 1u)) * 64 + (t ^ g / 2) * 16; }
#define SPREAD(sixteen) (IS_AWQ ? (sixteen) * 16 : 0)

#if IS_AWQ
// Rows 2 * (p % 4) + p / 4 of eight are in nibble p of words.
inline void store_words(local uchar *to, const uint *w) {
    uint turned[2][2][4]; // of nibbles 2i + half, for either word of a lane
#pragma unroll
    for (int u = 0; u < 2; u++) {
        const uint *const own = w + 8 * u;
#pragma unroll
        for (int i = 0; i < 4; i++) { // even steps, then odd ones
            const uint a = own[i % 2 * 4 + i / 2], b = own[i % 2 * 4 + i / 2 + 2];
            turned[0][u][i] = lower_codes(a, b);
            turned[1][u][i] = upper_codes(a, b);
        }
        turn_bytes(turned[0][u]);
        turn_bytes(turned[1][u]);
    }
#pragma unroll
    for (uint p = 0; p < 8; p++) {
        local uchar *const at =
            to + (place_of(OWN_EIGHT, p % 4 * 2 + p / 4, OWN_T) ^ SPREAD(OWN_EIGHT / 2)) +
            (OWN_WORD / 2 ^ (OWN_EIGHT & 1u)) * 8;
        *(local uint2 *)at = (uint2)(turned[p % 2][0][p / 2], turned[p % 2][1][p / 2]);
    }
}
#else
inline void store_words(local uchar *to, const uint *w) {
    uint turned[4][4]; // of 32 steps, for each lane
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint *const own = w + 4 * i;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            turned[i][h] = lower_codes(own[2 * h], own[2 * h + 1]);
            turned[i][2 + h] = upper_codes(own[2 * h], own[2 * h + 1]);
        }
        turn_bytes(turned[i]);
    }
#pragma unroll
    for (uint t = 0; t < 4; t++)
        *(local uint4 *)(to + place_of(FETCHER / 8, FETCHER & 7u, t)) =
            (uint4)(turned[0][t], turned[1][t], turned[2][t], turned[3][t]);
}
#endif

// For a row and a group of K: the scale, and twice the zero as a number like codes become (wgmma_words_products.cl).
struct factor {
    float scale;
    uint zero;
};

// Two codes 0, as numbers of x's type whose lowest bit is 1.
#define TWO_CODES (IS_BF16 ? 0x43004300u : 0x64006400u)

inline void store_factors(local struct factor *to, const struct fetched *f) {
    const uint row = FETCHER & 7u, nibble = IS_AWQ ? (row & 1u) * 4 + row / 2 : row;
#pragma unroll
    for (uint i = 0; i < SCALE_GROUPS; i++) {
        const uint zero = (f->zeros[i] >> nibble * 4 & 15u) + (PLAN_FLAGS & ZERO_PLUS_ONE ? 1 : 0);
        to[i * W_ROWS + FETCHER] = (struct factor){f->scale[i], TWO_CODES + zero * 0x00010001u};
    }
}

// All tiles.
inline void fetch_words(const struct ring *r, const struct job *j, const local struct slot *slots,
                        const struct word_rows *w, const struct factor_rows *f, local uchar *memory, uint depth,
                        int shift) {
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, expert = slot->expert, column = slot->column;
        WARP_BARRIER();
        if ((FETCHER & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        struct own own;
        struct fetched fetched;
        place_own(&own, j, w, f, expert, column);
        read_stage(&fetched, &own, w, f, 0, depth, shift);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            store_words(memory + stage.at * STAGE_BYTES, fetched.words);
            store_factors((local struct factor *)(memory + FACTORS_AT) + stage.at * (SCALE_GROUPS * W_ROWS), &fetched);
            WARP_BARRIER();
            if ((FETCHER & 31u) == 0) mb_arrive(r->full + 8 * stage.at);
            if (step + 1 < j->steps) read_stage(&fetched, &own, w, f, step + 1, depth, shift);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}
