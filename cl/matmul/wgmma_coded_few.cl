// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where pairs are few, and decoding is what costs: weights by tensor copies, codes by words.
// Only with scales apart: for blocks there is mma_coded.cl.
//
// Work-item q of four takes all of block q of the stage's four: 16 bytes that lie together, with one scale. So what it
// holds of a product are not neighbours in K, and x has to lie in local memory in the same order:
//
//   word j of block q holds 8 codes; code i and code i + 4 go to register i of 4, which is columns 2q and 2q + 1 of
//   chunk 4j + i of 8 columns of the stage's rows of x
//
// These are elements 8j + i and 8j + i + 4 of the block.
#if !SCALED
#error "W_T: f4_e2m1 with scales where pairs are few"
#endif
#if TK != 128
#error "TK: 128, a block for each of four work-items"
#endif
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

// 8 elements of a block: the columns of a word's codes, by pairs four apart, to the word's four chunks.
inline void store_eight(uint at, uint4 x) {
    const uint two[4] = {permute_bytes(x.s0, x.s2, 0x5410), permute_bytes(x.s0, x.s2, 0x7632),
                         permute_bytes(x.s1, x.s3, 0x5410), permute_bytes(x.s1, x.s3, 0x7632)};
#pragma unroll
    for (uint i = 0; i < 4; i++)
        store_local(at + i * CHUNK_BYTES, two[i]);
}

inline void fetch_rows(uint stage, const struct rows *own, uint lid, uint step, uint depth) {
#pragma unroll
    for (int i = 0; i < PIECES_EACH; i++) {
        if (i < own->n) {
            const uint piece = lid / 32 + i * FETCHING_WARPS;
            const uint at = stage + (piece & 1u) * 8 * CHUNK_BYTES + piece / 2 * 128 + (lid & 31u) * 4;
            store_eight(at, own->first[i]);
            store_eight(at + 4 * CHUNK_BYTES, own->second[i]);
        }
    }
}

// ---- sums ----

#include "matmul/coded_words.cl"

inline void load_block(struct raw *raw, const local uchar *stage, const struct held *h, uint step, uint block) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint4 w = *(const local uint4 *)(stage + h->row[i] + block * 16);
        raw->codes[i][0] = w.s0, raw->codes[i][1] = w.s1, raw->codes[i][2] = w.s2, raw->codes[i][3] = w.s3;
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
        take_scales(&raw, ahead, h, ~0u);                                                                              \
        mb_wait(r->full + 8 * stage->at, stage->phase);                                                                \
        load_block(&raw, memory + stage->at * STAGE_BYTES, h, 0, get_local_id(0) & 3u);                                \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint own = stage->at;                                                                                \
            const ulong pairs = chunks_of(r->base + own * STAGE_BYTES);                                                \
            take_scales(&raw, ahead, h, step);                                                                         \
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
                        load_block(&raw, memory + stage->at * STAGE_BYTES, h, step + 1, get_local_id(0) & 3u);         \
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
