// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where the scales of blocks are no powers of two: codes go to the instruction as the whole
// numbers that they are, and the sums of a block, apart from those of the blocks before, are scaled in fp32:
//
//   sums = fma(scale, sums of the block, sums)
//
// Pairs are multiplied a piece at a time: while one piece is multiplied, the sums of the one before are scaled.
#include "matmul/wgmma_apart_numbers.cl"

// ---- sums ----

#define ALL_SUMS (TOKENS / 2)
#define BLOCKS (TK / 32)      // of a stage, an even number
#define X_PART (TOKENS * 128) // bytes of 64 steps of x

// Block `block` of a stage, of either row.
inline void load_block(struct coded *raw, const local uchar *memory, uint stage, const struct held *h, uint step,
                       int block) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const local uchar *const row = memory + stage + h->row[i] + ((h->before[i] + step * STEP_BYTES) & 15u);
        load_coded(&raw[i], (const local ushort *)(row + block * BLOCK_BYTES), get_local_id(0) & 3u);
    }
}

// Registers of the two products of a block, and the scale of either row.
inline void hold_block(const struct coded *raw, uint *held, float *scale) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        hold_coded(&raw[i], held + i, get_local_id(0) & 3u);
        scale[i] = float_of_f16(raw[i].scale);
    }
}

// A piece of n pairs: of a block, `pairs` describing its x, to `now`; from there, once it is waited for, to `sums`. What
// is added up stays behind what is waited for, and before what comes next: else compilers keep more of `now` alive than
// there are registers for. For the same reason the first product is to look as if it added to `now`: `none` is 0.
#define DEFINE_PIECE(n, n_sums)                                                                                        \
    inline void CAT(start_piece_, n)(float *now, const uint *held, ulong pairs, uint none) {                           \
        WGMMA_FENCE();                                                                                                 \
        HELD_WGMMA_##n(now, held, pairs, none);                                                                        \
        HELD_WGMMA_##n(now, held + 4, pairs + 2, 1);                                                                   \
        WGMMA_COMMIT();                                                                                                \
    }                                                                                                                  \
    inline void CAT(add_piece_, n)(float *sums, float *now, const float *scale) {                                      \
        HOLD(n_sums, now);                                                                                             \
        _Pragma("unroll") for (int i = 0; i < n_sums; i++) sums[i] = fma(scale[i / 2 & 1], now[i], sums[i]);           \
        HOLD(n_sums, sums);                                                                                            \
    }
DEFINE_PIECE(32, 16)
DEFINE_PIECE(64, 32)

// All steps of a tile whose pairs are `pieces` of n. Of `now`, `held` and `scale` those are used by turns that nothing
// of the piece before needs.
#define DEFINE_MULTIPLY_STEPS(pieces, n)                                                                               \
    inline void CAT3(multiply_steps_, pieces, n)(const struct ring *r, struct turn *stage, uint steps,                 \
                                                 const local uchar *memory, const struct held *h, uint none,           \
                                                 float *sums) {                                                        \
        enum { PARTS = BLOCKS * pieces, PART_SUMS = n / 2 };                                                           \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        struct coded raw[2];                                                                                           \
        uint held[2][8];                                                                                               \
        float now[2][PART_SUMS], scale[2][2];                                                                          \
        _Pragma("unroll") for (int i = 0; i < PART_SUMS; i++) now[0][i] = now[1][i] = 0.0f;                            \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            const uint base = stage->at * STAGE_BYTES;                                                                 \
            const ulong pairs = tile_of(r->base + base);                                                               \
            load_block(raw, memory, base, h, step, 0);                                                                 \
            ASYNC_FENCE();                                                                                             \
            _Pragma("unroll") for (int i = 0; i < PARTS; i++) {                                                        \
                const int block = i / pieces, piece = i % pieces, before = i - 1;                                      \
                const uint at = block / 2 * X_PART + block % 2 * 64 + piece * (n * 128);                               \
                if (piece == 0) hold_block(raw, held[block & 1], scale[block & 1]);                                    \
                CAT(start_piece_, n)(now[i & 1], held[block & 1], pairs + (at >> 4), none);                            \
                if (piece == 0 && block + 1 < BLOCKS) load_block(raw, memory, base, h, step, block + 1);               \
                if (i == 0) continue;                                                                                  \
                WGMMA_WAIT("1");                                                                                       \
                CAT(add_piece_, n)(sums + before % pieces * PART_SUMS, now[before & 1], scale[before / pieces & 1]);   \
            }                                                                                                          \
            WGMMA_WAIT("0");                                                                                           \
            if (tells) mb_arrive(r->empty + 8 * stage->at);                                                            \
            next_turn(stage, STAGES);                                                                                  \
            CAT(add_piece_, n)(sums + (pieces - 1) * PART_SUMS, now[1], scale[1]);                                     \
        }                                                                                                              \
    }

#define CAT3(a, b, c) CAT(CAT(a, b), CAT(_, c))
#if TOKENS > 128
DEFINE_MULTIPLY_STEPS(3, 64)
#else
DEFINE_MULTIPLY_STEPS(1, 32)
#endif
DEFINE_MULTIPLY_STEPS(1, 64)
DEFINE_MULTIPLY_STEPS(2, 64)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
    const uint none = rows <= 0;
#if TOKENS > 128
    if (rows > 128)
        multiply_steps_3_64(r, stage, steps, memory, h, none, sums);
    else
#else
    if (rows <= 32)
        multiply_steps_1_32(r, stage, steps, memory, h, none, sums);
    else
#endif
    if (rows > 64)
        multiply_steps_2_64(r, stage, steps, memory, h, none, sums);
    else
        multiply_steps_1_64(r, stage, steps, memory, h, none, sums);
}
