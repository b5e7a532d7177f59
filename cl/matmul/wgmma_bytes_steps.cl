// SPDX-License-Identifier: MIT
// What wgmma_bytes.cl multiplies where tiles have more than 32 pairs: all steps of a tile. While products of one block
// of rows run, the next codes are widened, and sums of the other block go to the units of its next stage
// (wgmma_bytes_scales.cl).

// Factors of four rows, as the work-items of a warp have those of all rows of a group: if one is not 1, its products
// are others.
inline uint2 four_factors(const local uchar *memory, uint stage, uint row) {
#if STAGE_SCALES
    const uint first = row / GROUP_ROWS * GROUP_ROWS + (get_local_id(0) & 31u) * 4;
    return *(const local uint2 *)(memory + FACTORS_AT + (stage * W_ROWS + first) * 2);
#else
    return (uint2)(0);
#endif
}

inline bool are_factors(uint2 four) {
#if STAGE_SCALES
    return any_of_warp(four.s0 != ONES || four.s1 != ONES);
#else
    return false;
#endif
}

#if STAGE_SCALES
// Codes of product `part` of a block, with the factors of both rows of a work-item.
inline void hold_scaled(uint *held, const local uchar *rows, int part, const local ushort *factors) {
    ushort codes[4];
    load_codes(rows, part, codes);
#pragma unroll
    for (int i = 0; i < 4; i++)
        held[i] = multiply_two(widen(codes[i]), factors[i % 2 * 8] * 0x10001u);
}

// All of a stage that has factors, which is seldom: one product after the other, so that it is little code.
#define DEFINE_MULTIPLY_SCALED(n)                                                                                      \
    inline void CAT(multiply_scaled_, n)(const local uchar *memory, uint stage, uint row, ulong pairs, float *sums) {  \
        const local ushort *const factors = (const local ushort *)(memory + FACTORS_AT) + stage * W_ROWS + row;        \
        const local uchar *const rows = memory + stage * STAGE_BYTES + row * ROW;                                      \
        _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                               \
            ROLL for (int part = 0; part < PARTS; part++) {                                                            \
                uint a[4];                                                                                             \
                hold_scaled(a, rows + block * BLOCK_BYTES, part, factors + block * 64);                                \
                WGMMA_FENCE();                                                                                         \
                HELD_WGMMA_##n(sums + block * BLOCK_SUMS, a, pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2, 1);     \
                WGMMA_COMMIT();                                                                                        \
                WGMMA_WAIT("0");                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }
#define MULTIPLY_SCALED(n, memory, stage, row, pairs, sums) multiply_scaled_##n(memory, stage, row, pairs, sums)
#else
#define DEFINE_MULTIPLY_SCALED(n)
#define MULTIPLY_SCALED(n, memory, stage, row, pairs, sums)
#endif

// n sums of a block from the given one on.
#define CHANGE_UNITS(n, sums, from, units)                                                                             \
    _Pragma("unroll") for (int i = 0; i < (n); i++)                                                                    \
        (sums)[(from) + i] *= (units)[((from) + i) / 2 & 1]

// Whether sums of the warp have to go to other units.
inline bool are_units(const float *units) { return STAGE_SCALES && any_of_warp(units[0] != 1.0f || units[1] != 1.0f); }

// A stage once it is there: the codes of its first two products.
inline void enter_stage(const struct ring *r, const struct turn *stage, const local uchar *memory, uint row,
                        ushort (*codes)[4]) {
    wait_for_stage(r, stage);
    load_codes(memory + stage->at * STAGE_BYTES + row * ROW, 0, codes[0]);
    load_codes(memory + stage->at * STAGE_BYTES + row * ROW, 1, codes[1]);
}

// All steps of a tile of which n pairs are multiplied. The last stage remains to be given back. Behind a stage no
// product runs: where one does around the loop, the assembler has each wait for the one before. What is asked for from
// local memory is looked at some products later.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, uint row, float *sums) {                            \
        const uint lane = get_local_id(0) & 31u;                                                                       \
        float *const behind = sums + BLOCK_SUMS;                                                                       \
        float units[2], units_behind[2] = {1.0f, 1.0f};                                                                \
        uint held[2][4];                                                                                               \
        ushort codes[2][4];                                                                                            \
        bool changes = false, behind_changes = false;                                                                  \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        enter_stage(r, stage, memory, row, codes);                                                                     \
        uint2 four = four_factors(memory, stage->at, row);                                                             \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint own = stage->at;                                                                                \
            const bool more = step + 1 < steps, scaled = are_factors(four);                                            \
            const ulong pairs = tile_of(r->base + own * STAGE_BYTES + W_BYTES);                                        \
            const local uchar *const rows = memory + own * STAGE_BYTES + row * ROW;                                    \
            load_units(memory, own, row, units);                                                                       \
            if (scaled) {                                                                                              \
                CHANGE_UNITS(n / 2, behind, 0, units_behind);                                                          \
                MULTIPLY_SCALED(n, memory, own, row, pairs, sums);                                                     \
                CHANGE_UNITS(n / 2, sums, 0, units);                                                                   \
                load_units(memory, own, row + 64, units_behind);                                                       \
                behind_changes = true;                                                                                 \
                next_turn(stage, STAGES);                                                                              \
                if (more) enter_stage(r, stage, memory, row, codes);                                                   \
                if (more) four = four_factors(memory, stage->at, row);                                                 \
            }                                                                                                          \
            if (!scaled) _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                              \
                _Pragma("unroll") for (int part = 0; part < PARTS; part++) {                                           \
                    const ulong at = pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2;                                 \
                    const int last = BLOCKS * PARTS - 1, now = block * PARTS + part, next = now + 2;                   \
                    uint *const a = held[part & 1];                                                                    \
                    _Pragma("unroll") for (int i = 0; i < 4; i++) a[i] = widen(codes[part & 1][i]);                    \
                    WGMMA_FENCE();                                                                                     \
                    HELD_WGMMA_##n(sums + block * BLOCK_SUMS, a, at, 1);                                               \
                    WGMMA_COMMIT();                                                                                    \
                    if (next <= last) {                                                                                \
                        load_codes(rows + next / PARTS * BLOCK_BYTES, next % PARTS, codes[part & 1]);                  \
                    } else {                                                                                           \
                        if (now < last) {                                                                              \
                            next_turn(stage, STAGES);                                                                  \
                            if (more) wait_for_stage(r, stage);                                                        \
                            if (more) four = four_factors(memory, stage->at, row);                                     \
                        }                                                                                              \
                        if (more)                                                                                      \
                            load_codes(memory + stage->at * STAGE_BYTES + row * ROW, next - last - 1, codes[part & 1]);\
                    }                                                                                                  \
                    if (now == 2) changes = are_units(units);                                                          \
                    if (now == PARTS) load_units(memory, own, row + 64, units_behind);                                 \
                    if (now == PARTS + 2) behind_changes = are_units(units_behind);                                    \
                    if (now < last)                                                                                    \
                        WGMMA_WAIT("1");                                                                               \
                    else                                                                                               \
                        WGMMA_WAIT("0");                                                                               \
                    if (block == 0 && behind_changes) CHANGE_UNITS(n / 16, behind, part * (n / 16), units_behind);     \
                    if (block == 1 && changes) CHANGE_UNITS(n / 16, sums, part * (n / 16), units);                     \
                }                                                                                                      \
            }                                                                                                          \
            WARP_BARRIER();                                                                                            \
            if (lane == 0 && more) mb_arrive(r->empty + 8 * own);                                                      \
        }                                                                                                              \
        if (!STAGE_SCALES) CHANGE_UNITS(n / 2, sums, 0, units);                                                        \
        CHANGE_UNITS(n / 2, behind, 0, units_behind);                                                                  \
    }

DEFINE_MULTIPLY_SCALED(32)
DEFINE_MULTIPLY_STEPS(32)
DEFINE_MULTIPLY_SCALED(64)
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_SCALED(96)
DEFINE_MULTIPLY_STEPS(96)
DEFINE_MULTIPLY_SCALED(128)
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_SCALED(144)
DEFINE_MULTIPLY_STEPS(144)
DEFINE_MULTIPLY_SCALED(160)
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
