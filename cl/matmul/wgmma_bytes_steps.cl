// SPDX-License-Identifier: MIT
// What wgmma_bytes.cl multiplies where tiles have more than 32 pairs: all steps of a tile. While products of one block
// of rows run, the next codes are widened, and sums of the other block go to the units of its next stage
// (wgmma_bytes_scales.cl).

// Whether there is one that is not 1 for the warp.
inline bool load_factors(const local uchar *memory, uint stage, uint row, uint *factors) {
#if STAGE_SCALES
    const local ushort *const at = (const local ushort *)(memory + FACTORS_AT) + stage * W_ROWS + row;
    factors[0] = at[0] * 0x10001u;
    factors[1] = at[8] * 0x10001u;
    return any_of_warp(factors[0] != ONES || factors[1] != ONES);
#else
    return false;
#endif
}

// n sums of a block from the given one on.
#define CHANGE_UNITS(n, sums, from, units)                                                                             \
    _Pragma("unroll") for (int i = 0; i < (n); i++)                                                                    \
        (sums)[(from) + i] *= (units)[((from) + i) / 2 & 1]

// All steps of a tile of which n pairs are multiplied. The last stage remains to be given back. Behind a stage no
// product runs: where one does around the loop, the assembler has each wait for the one before.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, uint row, float *sums) {                            \
        const uint lane = get_local_id(0) & 31u;                                                                       \
        float *const behind = sums + BLOCK_SUMS;                                                                       \
        float units[2], units_behind[2] = {1.0f, 1.0f};                                                                \
        uint held[2][4], factors[2] = {0, 0};                                                                          \
        ushort codes[2][4];                                                                                            \
        bool behind_changes = false;                                                                                   \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        wait_for_stage(r, stage);                                                                                      \
        load_codes(memory + stage->at * STAGE_BYTES + row * ROW, 0, codes[0]);                                         \
        load_codes(memory + stage->at * STAGE_BYTES + row * ROW, 1, codes[1]);                                         \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint own = stage->at;                                                                                \
            const ulong pairs = tile_of(r->base + own * STAGE_BYTES + W_BYTES);                                        \
            const local uchar *const rows = memory + own * STAGE_BYTES + row * ROW;                                    \
            const bool changes = load_units(memory, own, row, units);                                                  \
            _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                           \
                const bool scaled = load_factors(memory, own, row + block * 64, factors);                              \
                _Pragma("unroll") for (int part = 0; part < PARTS; part++) {                                           \
                    const ulong at = pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2;                                 \
                    const int last = BLOCKS * PARTS - 1, now = block * PARTS + part, next = now + 2;                   \
                    uint *const a = held[part & 1];                                                                    \
                    _Pragma("unroll") for (int i = 0; i < 4; i++) a[i] = widen(codes[part & 1][i]);                    \
                    if (scaled) _Pragma("unroll") for (int i = 0; i < 4; i++)                                          \
                        a[i] = multiply_two(a[i], factors[i & 1]);                                                     \
                    WGMMA_FENCE();                                                                                     \
                    HELD_WGMMA_##n(sums + block * BLOCK_SUMS, a, at, 1);                                               \
                    WGMMA_COMMIT();                                                                                    \
                    if (next <= last) {                                                                                \
                        load_codes(rows + next / PARTS * BLOCK_BYTES, next % PARTS, codes[part & 1]);                  \
                    } else {                                                                                           \
                        if (now < last) {                                                                              \
                            next_turn(stage, STAGES);                                                                  \
                            if (step + 1 < steps) wait_for_stage(r, stage);                                            \
                        }                                                                                              \
                        if (step + 1 < steps)                                                                          \
                            load_codes(memory + stage->at * STAGE_BYTES + row * ROW, next - last - 1, codes[part & 1]);\
                    }                                                                                                  \
                    if (now < last) {                                                                                  \
                        WGMMA_WAIT("1");                                                                               \
                    } else {                                                                                           \
                        behind_changes = load_units(memory, own, row + 64, units_behind);                              \
                        WGMMA_WAIT("0");                                                                               \
                    }                                                                                                  \
                    if (block == 0 && behind_changes) CHANGE_UNITS(n / 16, behind, part * (n / 16), units_behind);     \
                    if (block == 1 && changes) CHANGE_UNITS(n / 16, sums, part * (n / 16), units);                     \
                }                                                                                                      \
            }                                                                                                          \
            WARP_BARRIER();                                                                                            \
            if (lane == 0 && step + 1 < steps) mb_arrive(r->empty + 8 * own);                                          \
        }                                                                                                              \
        if (!STAGE_SCALES) CHANGE_UNITS(n / 2, sums, 0, units);                                                        \
        CHANGE_UNITS(n / 2, behind, 0, units_behind);                                                                  \
    }

DEFINE_MULTIPLY_STEPS(32)
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(96)
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(144)
DEFINE_MULTIPLY_STEPS(160)

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory, uint row,
                          int rows, float *sums) {
    if (rows > 144)
        multiply_steps_160(r, stage, steps, memory, row, sums);
    else if (rows > 128)
        multiply_steps_144(r, stage, steps, memory, row, sums);
    else if (rows > 96)
        multiply_steps_128(r, stage, steps, memory, row, sums);
    else if (rows > 64)
        multiply_steps_96(r, stage, steps, memory, row, sums);
    else if (rows > 32)
        multiply_steps_64(r, stage, steps, memory, row, sums);
    else
        multiply_steps_32(r, stage, steps, memory, row, sums);
}
