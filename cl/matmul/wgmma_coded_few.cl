// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where pairs are few, and decoding is what costs: weights by tensor copies, codes by words.
//
// Work-item q of four takes all of block q of the stage's four: 16 bytes that lie together, with one scale. So what it
// holds of a product are not neighbours in K, and x has to lie in local memory in the same order:
//
//   word j of block q holds 8 codes; code i and code i + 4 go to register i of 4, which is columns 2q and 2q + 1 of
//   chunk 4j + i of 8 columns of the stage's rows of x
//
// In f4_e2m1 these are elements 8j + i and 8j + i + 4 of the block. In mxfp4, of whose words the two bytes between are
// exchanged when they are shifted to where a register has them, they are neighbours, so that x is copied by words:
// elements 4j + 2 * (i / 2) and the next, or with odd i those 16 further.
#if TK != 128
#error "TK: 128, a block for each of four work-items"
#endif
#define MAP_TYPE "0" // bytes
#define MAP_SWIZZLE "0"
#include "matmul/wgmma_maps.cl"

// ---- weights to local memory ----

// Tensor copies begin at multiples of 16 bytes. Every PERIOD-th row begins at the same byte of 16, so those are one
// box: bytes of PERIOD rows | rows / PERIOD | experts. With GLU gate and up have a map each.
#define BOX_ROWS (SIDE_ROWS / PERIOD)
#define BOX_BYTES (BOX_ROWS * PITCH)

inline void map_rows(uint at, const struct source *s, const struct weights *w, int experts) {
    const uint before = (uint)(ulong)s->w & 15u;
    const long period = PERIOD * s->column;
    fill_map(at, s->w - before, 3, before + period - s->column + w->row_bytes, PITCH);
    MAP_DIMENSION(1, w->columns / PERIOD, BOX_ROWS);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(0, period);
    MAP_STRIDE(1, experts > 1 ? s->expert : period);
}

// A work-item's box of each stage, of the first warp. `to`: in the stage; `from`: byte of the map's first dimension.
struct window {
    bool there;
    const global uchar *map;
    uint to, from;
    int expert, first; // of the second dimension
};

inline void make_maps(struct window *own, const struct weights *w, uint words, global uchar *maps, int experts,
                      uint lid) {
    const uint side = lid / PERIOD;
    own->there = lid < SIDES * PERIOD;
    if (lid >= 32) return;
    if (lid < SIDES) {
        const struct source s = source_of(w, lid);
        map_rows(words + 128 * lid, &s, w, experts);
    }
    for (uint i = 0; i < SIDES; i++)
        publish_map(maps + 128 * i, words + 128 * i);
    const struct source s = source_of(w, side);
    own->map = maps + 128 * side;
    own->to = X_BYTES + lid * BOX_BYTES;
    own->from = ((uint)(ulong)s.w & 15u) + lid % PERIOD * (uint)s.column;
}

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    own->expert = expert, own->first = (int)column / PERIOD;
}

inline void fetch_weights(uint stage, uint full, const struct window *own, uint lid, uint step, uint row_bytes) {
    if (lid >= 32) return;
    if (lid == 0) mb_expect(full, W_ROWS * PITCH);
    WARP_BARRIER();
    const uint from = (own->from + step * STEP_BYTES) & ~15u;
    if (own->there) copy_box_3(stage + own->to, own->map, full, from, own->first, own->expert);
}

// ---- x to local memory ----

// Chunks of 8 columns, of all rows one behind the other. So an element's place is a sum of what its row, block and
// chunk say, and what a warp writes at a time, two columns of four blocks in 8 rows, lies together.
#define CHUNK_BYTES (TOKENS * 16)
#define PIECES (TOKENS / 8 * 2) // 8 rows, and half of each block
#define PIECES_EACH ((PIECES + FETCHING_WARPS - 1) / FETCHING_WARPS)

// What a work-item fetches of x: of one block 16 elements of some rows.
struct rows {
    const global uint4 *x;
    uint from[PIECES_EACH]; // in chunks
    int n;                  // of pieces, which are every FETCHING_WARPS-th
    uint4 first[PIECES_EACH], second[PIECES_EACH]; // of the next stage
};

inline void place_rows(struct rows *own, const local struct slot *slot, int rows, const global uchar *x,
                       uint x_row_chunks, uint lid) {
    const uint warp = lid / 32, lane = lid & 31u;
    own->x = (const global uint4 *)x;
    own->n = ((rows + 7) / 8 * 2 - (int)warp + FETCHING_WARPS - 1) / FETCHING_WARPS;
#pragma unroll
    for (int i = 0; i < PIECES_EACH; i++) {
        const uint piece = warp + i * FETCHING_WARPS, t = piece / 2 * 8 + lane / 4;
        own->from[i] = (uint)slot->x_row[min((int)t, rows - 1)] * x_row_chunks + (lane & 3u) * 4 + (piece & 1u) * 2;
    }
}

// Behind the last column zeros.
inline void read_rows(struct rows *own, uint lid, uint step, uint depth) {
    const bool there = step * TK + (lid & 3u) * 32 < depth;
#pragma unroll
    for (int i = 0; i < PIECES_EACH; i++) {
        own->first[i] = own->second[i] = (uint4)(0);
        if (there && i < own->n) {
            const global uint4 *const from = own->x + (ulong)own->from[i] + step * (TK / 8);
            own->first[i] = from[0];
            own->second[i] = from[1];
        }
    }
}

// 8 elements of a block. f4_e2m1: the columns of a word's codes, by pairs four apart, to the word's four chunks. mxfp4:
// neighbours to every second chunk; those between are for the block's other half.
inline void store_eight(uint at, uint4 x) {
#if SCALED
    const uint two[4] = {permute_bytes(x.s0, x.s2, 0x5410), permute_bytes(x.s0, x.s2, 0x7632),
                         permute_bytes(x.s1, x.s3, 0x5410), permute_bytes(x.s1, x.s3, 0x7632)};
#else
    const uint two[4] = {x.s0, x.s1, x.s2, x.s3};
#endif
#pragma unroll
    for (uint i = 0; i < 4; i++)
        store_local(at + i * (SCALED ? 1 : 2) * CHUNK_BYTES, two[i]);
}

inline void fetch_rows(uint stage, const struct rows *own, uint lid, uint step, uint depth) {
#pragma unroll
    for (int i = 0; i < PIECES_EACH; i++) {
        if (i < own->n) {
            const uint piece = lid / 32 + i * FETCHING_WARPS;
            const uint at = stage + (piece & 1u) * (SCALED ? 8 : 1) * CHUNK_BYTES + piece / 2 * 128 + (lid & 31u) * 4;
            store_eight(at, own->first[i]);
            store_eight(at + (SCALED ? 4 : 8) * CHUNK_BYTES, own->second[i]);
        }
    }
}

// ---- sums ----

// Block q of a stage: the words of either row, their scales.
struct raw {
    uint codes[2][4], e[2];
};

inline void load_stage(struct raw *raw, const local uchar *memory, uint stage, const struct held *h, uint step) {
    const uint q = get_local_id(0) & 3u;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#if SCALED
        const uint4 w = *(const local uint4 *)(memory + stage + h->row[i] + q * 16);
        raw->codes[i][0] = w.s0, raw->codes[i][1] = w.s1, raw->codes[i][2] = w.s2, raw->codes[i][3] = w.s3;
#else
        const uint begin = ((h->before[i] + step * STEP_BYTES) & 15u) + q * BLOCK_BYTES, scale = begin & 3u;
        const local uint *const at = (const local uint *)(memory + stage + h->row[i] + (begin - scale));
        const uint words[5] = {at[0], at[1], at[2], at[3], at[4]};
#pragma unroll
        for (int j = 0; j < 4; j++)
            raw->codes[i][j] = permute_bytes(words[j], words[j + 1], 0x4231 + scale * 0x1111);
        // Behind a row's last block lies something else, which meets zeros.
        raw->e[i] = step * (TK / 32) + q < h->blocks ? permute_bytes(words[0], 0, 0x4440 | scale) : 0;
#endif
    }
}

// Scales that lie apart are on their way while a stage is multiplied. Step ~0 only asks for the first.
inline void take_scales(struct raw *raw, uint *ahead, const struct held *h, uint step) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (step != ~0u) raw->e[i] = ahead[i];
        ahead[i] = scale_at(h, i, (step + 1) * (TK / 32) + (get_local_id(0) & 3u));
    }
}

// Registers of two products: pairs of codes of either row by turns.
inline void hold_word(const struct raw *raw, int word, const uint *factor, uint *held) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint w = raw->codes[i][word], w8 = w >> 8;
        held[i] = multiply_two(low_codes(w), factor[i]);
        held[2 + i] = multiply_two(high_codes(w), factor[i]);
        held[4 + i] = multiply_two(low_codes(w8), factor[i]);
        held[6 + i] = multiply_two(high_codes(w8), factor[i]);
    }
}

// Describes two chunks of x in local memory.
inline ulong chunks_of(uint at) {
    return (ulong)((at & 0x3ffffu) >> 4) | (ulong)(CHUNK_BYTES >> 4) << 16 | (ulong)(128 >> 4) << 32;
}

// All steps of a tile of which n pairs are multiplied. While products run, codes of the next word are decoded, or those
// of the next stage read.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, float *sums) {                \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        struct raw raw;                                                                                                \
        uint held[2][8], ahead[2], previous = 0;                                                                       \
        if (SCALED) take_scales(&raw, ahead, h, ~0u);                                                                  \
        mb_wait(r->full + 8 * stage->at, stage->phase);                                                                \
        load_stage(&raw, memory, stage->at * STAGE_BYTES, h, 0);                                                       \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint own = stage->at;                                                                                \
            const ulong pairs = chunks_of(r->base + own * STAGE_BYTES);                                                \
            if (SCALED) take_scales(&raw, ahead, h, step);                                                             \
            const uint factor[2] = {scale_factor(raw.e[0]), scale_factor(raw.e[1])};                                   \
            const uint e[2] = {raw.e[0], raw.e[1]};                                                                    \
            const bool large = any_of_warp(max(raw.e[0], raw.e[1]) > LARGE_SCALE);                                     \
            _Pragma("unroll") for (int word = 0; word < 4; word++) {                                                   \
                hold_word(&raw, word, factor, held[word & 1]);                                                         \
                if (large) scale_held(e, held[word & 1]);                                                              \
                WGMMA_FENCE();                                                                                         \
                _Pragma("unroll") for (int i = 0; i < 2; i++) {                                                        \
                    const int k16 = 2 * word + i;                                                                      \
                    HELD_WGMMA_##n(sums, held[word & 1] + 4 * i, pairs + k16 * (2 * CHUNK_BYTES >> 4), k16 ? 1 : step);\
                }                                                                                                      \
                WGMMA_COMMIT();                                                                                        \
                if (word == 3) {                                                                                       \
                    next_turn(stage, STAGES);                                                                          \
                    if (step + 1 < steps) {                                                                            \
                        mb_wait(r->full + 8 * stage->at, stage->phase);                                                \
                        load_stage(&raw, memory, stage->at * STAGE_BYTES, h, step + 1);                                \
                    }                                                                                                  \
                }                                                                                                      \
                WGMMA_WAIT("1");                                                                                       \
                if (word == 0 && step && tells) mb_arrive(r->empty + 8 * previous);                                    \
            }                                                                                                          \
            previous = own;                                                                                            \
        }                                                                                                              \
        WGMMA_WAIT("0");                                                                                               \
        if (tells) mb_arrive(r->empty + 8 * previous);                                                                 \
    }

#define ALL_SUMS 16
DEFINE_MULTIPLY_STEPS(16)
DEFINE_MULTIPLY_STEPS(32)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
    if (rows > 16)
        multiply_steps_32(r, stage, steps, memory, h, sums);
    else
        multiply_steps_16(r, stage, steps, memory, h, sums);
    HOLD(ALL_SUMS, sums);
}
