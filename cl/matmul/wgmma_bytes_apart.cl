// SPDX-License-Identifier: MIT
// What wgmma_bytes.cl multiplies where tiles have 32 pairs: there are registers for sums of a stage apart from those of
// the stages before, which each row's scale adds to these.
//
//   sums = fma(scale, sums of the stage, sums)
//
// What takes time here is that weights come. So a stage is given back before the next one is waited for.

// Sums of a block of rows: they are held, or compilers move additions to where products change what is added.
#define ADD_BLOCK(sums, now, scale)                                                                                    \
    HOLD(16, now);                                                                                                     \
    _Pragma("unroll") for (int i = 0; i < BLOCK_SUMS; i++) (sums)[i] = fma((scale)[i / 2 & 1], (now)[i], (sums)[i]);   \
    HOLD(16, sums)

// All steps of a tile. The last stage remains to be given back.
inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory, uint row,
                          int rows, float *sums) {
    const uint lane = get_local_id(0) & 31u;
    float now[ALL_SUMS], scale[2], scale_behind[2];
    uint held[2][4];
    ushort codes[2][4];
#pragma unroll
    for (int i = 0; i < ALL_SUMS; i++)
        now[i] = sums[i] = 0.0f;
    for (uint step = 0; step < steps; step++) {
        wait_for_stage(r, stage);
        const uint own = stage->at;
        const ulong pairs = tile_of(r->base + own * STAGE_BYTES + W_BYTES);
        const local uchar *const from = memory + own * STAGE_BYTES + row * ROW;
        load_codes(from, 0, codes[0]);
        load_codes(from, 1, codes[1]);
        load_units(memory, own, row, scale);
        load_units(memory, own, row + 64, scale_behind);
#pragma unroll
        for (int product = 0; product < BLOCKS * PARTS; product++) {
            const int block = product / PARTS, part = product % PARTS, next = product + 2;
            uint *const a = held[part & 1];
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = widen(codes[part & 1][i]);
            WGMMA_FENCE();
            HELD_WGMMA_32(now + block * BLOCK_SUMS, a, pairs + part / 4 * (X_BYTES >> 4) + part % 4 * 2, part);
            WGMMA_COMMIT();
            if (next < BLOCKS * PARTS) load_codes(from + next / PARTS * BLOCK_BYTES, next % PARTS, codes[part & 1]);
            if (product < BLOCKS * PARTS - 1)
                WGMMA_WAIT("1");
            else
                WGMMA_WAIT("0");
            if (product == PARTS) {
                ADD_BLOCK(sums, now, scale);
            }
        }
        WARP_BARRIER();
        if (lane == 0 && step + 1 < steps) mb_arrive(r->empty + 8 * own);
        float *const behind = sums + BLOCK_SUMS, *const now_behind = now + BLOCK_SUMS;
        ADD_BLOCK(behind, now_behind, scale_behind);
        next_turn(stage, STAGES);
    }
}
