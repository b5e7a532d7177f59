// SPDX-License-Identifier: MIT
// In the kernels of wgmma_bytes.cl and wgmma_words.cl, whose names these are: all tiles of a multiplying work-item, and
// their sums to y by way of a tile's last stage, which is no longer needed. `own` says which rows of w are its own.
const bool aligned = (((ulong)(y + y_skip) | (ulong)y_stride * 2) & 15) == 0;
struct turn stage = {0, 0}, turn = {0, 0};
float sums[ALL_SUMS];
for (;; next_turn(&turn, SLOTS)) {
    const local struct slot *const slot = &slots[turn.at];
    mb_wait(r.told + 8 * turn.at, turn.phase);
    const int rows = slot->rows, e = first + slot->expert;
    if (rows == 0) break;
    const float scale = PAIR_SCALE(e);
    multiply_tile(&r, &stage, j.steps, memory, own, rows, sums);
    const uint last = (stage.at ? stage.at : STAGES) - 1;
    local uchar *const staging = memory + last * STAGE_BYTES + who * STAGED;
    PAIR_BARRIER(3); // the last stage has been read
#pragma unroll
    for (int block = 0; block < BLOCKS; block++) {
        const long n0 = slot->column + who * GROUP_N + block * BLOCK_N;
        const float *const block_sums = sums + block * BLOCK_SUMS;
#include "matmul/wgmma_staged_sums.cl"
    }
    ASYNC_FENCE(); // copies may follow
    WARP_BARRIER();
    if (lane == 0) mb_arrive(r.empty + 8 * last);
    if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
}
const bool routed = !(flags & DENSE);
if (first == 0 && routed) clear_skipped(&j, j.starts[experts], y + y_skip, y_stride, lid - 128, 256);
