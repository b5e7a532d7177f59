// SPDX-License-Identifier: MIT
// What wgmma_fp8.cl does with scales: the sums of a stage, over which each row of w has one, are apart from those of the
// stages before.
//
//   sums = fma(scale, sums of the stage, sums)
#if TK != 128
#error "TK: 128, steps of K that have one scale"
#endif

// For products of a number of pairs: sums of a work-item, and HOLD of these.
#define HALF_32 16
#define HALF_64 32
#define HALF_96 48
#define HALF_128 64
#define HOLD_32(d) HOLD(16, d)
#define HOLD_64(d) HOLD(32, d)
#define HOLD_96(d) HOLD(48, d)
#define HOLD_128(d) HOLD(64, d)

// All steps of a tile of which n pairs are multiplied. Codes are widened while the products before run. The last stage
// remains to be given back.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, uint row, float *sums) {                            \
        const uint lane = get_local_id(0) & 31u;                                                                       \
        float now[CAT(HALF_, n)];                                                                                      \
        uint held[2][4];                                                                                               \
        ushort codes[4];                                                                                               \
        _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++) now[i] = 0.0f;                                       \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            if (!CONTIGUOUS) ASYNC_FENCE();                                                                            \
            const uint base = stage->at * STAGE_BYTES;                                                                 \
            const ulong pairs = tile_of(r->base + base + W_BYTES);                                                     \
            const local float *const scales =                                                                          \
                (const local float *)(memory + SCALES_AT) + stage->at * W_ROWS + row;                                  \
            _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                           \
                const local uchar *const rows = memory + base + block * BLOCK_BYTES + row * ROW;                       \
                load_codes(rows, 0, codes);                                                                            \
                _Pragma("unroll") for (int part = 0; part < TK / 16; part++) {                                         \
                    const ulong at = pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2;                                 \
                    _Pragma("unroll") for (int i = 0; i < 4; i++) held[part & 1][i] = widen(codes[i]);                 \
                    if (part < TK / 16 - 1) load_codes(rows, part + 1, codes);                                         \
                    WGMMA_FENCE();                                                                                     \
                    HELD_WGMMA_##n(now, held[part & 1], at, part);                                                     \
                    WGMMA_COMMIT();                                                                                    \
                    if (part < TK / 16 - 1)                                                                            \
                        WGMMA_WAIT("1");                                                                               \
                    else                                                                                               \
                        WGMMA_WAIT("0");                                                                               \
                }                                                                                                      \
                CAT(HOLD_, n)(now);                                                                                    \
                const float scale = scales[block * 64], scale8 = scales[block * 64 + 8];                               \
                _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++) {                                            \
                    float *const sum = &sums[block * BLOCK_SUMS + i];                                                  \
                    *sum = fma(i & 2 ? scale8 : scale, now[i], *sum);                                                  \
                }                                                                                                      \
            }                                                                                                          \
            WARP_BARRIER();                                                                                            \
            if (lane == 0 && step + 1 < steps) mb_arrive(r->empty + 8 * stage->at);                                    \
            next_turn(stage, STAGES);                                                                                  \
        }                                                                                                              \
    }

DEFINE_MULTIPLY_STEPS(32)
#if TOKENS > 32
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(96)
DEFINE_MULTIPLY_STEPS(128)
#endif

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory, uint row,
                          int rows, float *sums) {
#if TOKENS > 32
    if (rows > 96)
        multiply_steps_128(r, stage, steps, memory, row, sums);
    else if (rows > 64)
        multiply_steps_96(r, stage, steps, memory, row, sums);
    else if (rows > 32)
        multiply_steps_64(r, stage, steps, memory, row, sums);
    else
#endif
        multiply_steps_32(r, stage, steps, memory, row, sums);
}
