// SPDX-License-Identifier: MIT
// What wgmma_coded.cl does where pairs are many.
//
// In a step of 16 a work-item holds elements 2 * (lane % 4) and the next of two chunks of 8: in a block of mxfp4 those
// are in neighbouring bytes, twice two of them, and in f4_e2m1 in one byte of each word.

// ---- sums ----

// Of a block of either row, as they are in memory: what the work-item needs of its codes; its scale.
struct raw {
    uint codes[2][4], e[2];
};

// Block `block` of a stage.
inline void load_block(struct raw *raw, const local uchar *memory, uint stage, const struct held *h, uint step,
                       int block) {
    const uint lane = get_local_id(0) & 31u;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const local uchar *const row = memory + stage + h->row[i];
#if SCALED
        const uint4 words = *(const local uint4 *)(row + block * 16);
        raw->codes[i][0] = words.s0, raw->codes[i][1] = words.s1, raw->codes[i][2] = words.s2,
        raw->codes[i][3] = words.s3;
        raw->e[i] = scale_at(h, i, step * (TK / 32) + block);
#else
        const local uchar *const at = row + ((h->before[i] + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES;
        const local uchar *const own = at + 2 * (lane & 3u);
        raw->e[i] = at[0];
        raw->codes[i][0] = own[1], raw->codes[i][1] = own[2], raw->codes[i][2] = own[9], raw->codes[i][3] = own[10];
#endif
    }
}

// Registers of two products: of chunks 0 .. 3 those of the first row, each followed by the second row's.
inline void hold_block(const struct raw *raw, uint *held) {
    const uint factor[2] = {scale_factor(raw->e[0]), scale_factor(raw->e[1])};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint *const codes = raw->codes[i];
#if SCALED
        const uint select = (get_local_id(0) & 3u) * 0x1111u + 0x0004u;
#pragma unroll
        for (int c = 0; c < 4; c++)
            held[2 * c + i] = high_codes(permute_bytes(codes[c], codes[c] << 4, select));
#else
        const uint first = codes[0] | codes[1] << 16, second = codes[2] | codes[3] << 16;
        held[i] = low_codes(first), held[2 + i] = low_codes(second);
        held[4 + i] = high_codes(first), held[6 + i] = high_codes(second);
#endif
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], factor[n & 1]);
}

inline void hold_scaled(const struct raw *raw, uint *held) {
    hold_block(raw, held);
    if (any_of_warp(max(raw->e[0], raw->e[1]) > LARGE_SCALE)) scale_held(raw->e, held);
}

#define BLOCKS (TK / 32) // of a stage

// All steps of a tile of which n pairs are multiplied. While products run, codes of the next block are read and
// decoded.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, float *sums) {                \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        struct raw raw;                                                                                                \
        uint held[2][8], previous = 0;                                                                                 \
        mb_wait(r->full + 8 * stage->at, stage->phase);                                                                \
        load_block(&raw, memory, stage->at * STAGE_BYTES, h, 0, 0);                                                    \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint base = stage->at * STAGE_BYTES, own = stage->at;                                                \
            const ulong pairs = tile_of(r->base + base);                                                               \
            ASYNC_FENCE();                                                                                             \
            _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                           \
                hold_scaled(&raw, held[block & 1]);                                                                    \
                WGMMA_FENCE();                                                                                         \
                _Pragma("unroll") for (int i = 0; i < 2; i++) {                                                        \
                    const int k16 = 2 * block + i;                                                                     \
                    HELD_WGMMA_##n(sums, held[block & 1] + 4 * i, pairs + k16 / 4 * (TOKENS * 128 >> 4) + k16 % 4 * 2, \
                                   k16 ? 1 : step);                                                                    \
                }                                                                                                      \
                WGMMA_COMMIT();                                                                                        \
                if (block + 1 < BLOCKS) {                                                                              \
                    load_block(&raw, memory, base, h, step, block + 1);                                                \
                } else {                                                                                               \
                    next_turn(stage, STAGES);                                                                          \
                    if (step + 1 < steps) {                                                                            \
                        mb_wait(r->full + 8 * stage->at, stage->phase);                                                \
                        load_block(&raw, memory, stage->at * STAGE_BYTES, h, step + 1, 0);                             \
                    }                                                                                                  \
                }                                                                                                      \
                WGMMA_WAIT("1");                                                                                       \
                if (block == 0 && step && tells) mb_arrive(r->empty + 8 * previous);                                   \
            }                                                                                                          \
            previous = own;                                                                                            \
        }                                                                                                              \
        WGMMA_WAIT("0");                                                                                               \
        if (tells) mb_arrive(r->empty + 8 * previous);                                                                 \
    }

#define ALL_SUMS 128 // as a number, for HOLD
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(160)
DEFINE_MULTIPLY_STEPS(192)
DEFINE_MULTIPLY_STEPS(256)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
    if (rows > 192)
        multiply_steps_256(r, stage, steps, memory, h, sums);
    else if (rows > 160)
        multiply_steps_192(r, stage, steps, memory, h, sums);
    else if (rows > 128)
        multiply_steps_160(r, stage, steps, memory, h, sums);
    else if (rows > 64)
        multiply_steps_128(r, stage, steps, memory, h, sums);
    else
        multiply_steps_64(r, stage, steps, memory, h, sums);
    HOLD(ALL_SUMS, sums);
}
