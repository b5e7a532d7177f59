// SPDX-License-Identifier: MIT
// For weights of 8 bits with scales, fp8 or integers, and many rows on sm_90a: as wgmma.cl, but that weights go to the
// instruction from registers, where each multiplying work-item widens its codes; scales follow in fp32, so that they
// round nothing but sums.
//
//   tile   256 rows of w x TOKENS pairs. With GLU these are the rows of half as many columns of y, by turns 8 of gate
//          and the 8 of up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages (wgmma_ring.cl); of x, too,
//                   where its rows are neighbours (CONTIGUOUS)
//   warps 2, 3      fetch scales
//   warps 4 .. 11   multiply: two blocks of 64 rows a group of four; then activation, gamma and rows of y
//   warps 12 .. 15  fetch the rows of x that the pairs name; not if CONTIGUOUS
//
// The TK steps of a stage have one scale (STAGE_SCALES), or all steps have: wgmma_bytes_scales.cl. Sums get it in
// wgmma_bytes_apart.cl where tiles have 32 pairs, else in wgmma_bytes_steps.cl.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#ifndef STAGE_SCALES
#error "STAGE_SCALES: 1 where scales differ along K, 0 where a row has one"
#endif

#define VALUE float
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#define SLOTS 2 // the ring leaves no room for more
#define TK 128
#define BLOCKS 2 // of 64 rows of w that a multiplying group has
#define GROUP_ROWS (BLOCKS * 64)
#define BLOCK_N (GLU ? 32 : 64) // columns of y of a block
#define GROUP_N (BLOCKS * BLOCK_N)
#define SCALE_WARPS 2
#include "matmul/wgmma_ring.cl"
#include "matmul/wgmma_codes.cl"
#include "matmul/wgmma_held.cl"

#define BLOCK_BYTES (64 * ROW)
#define W_ROWS (2 * GROUP_ROWS)
#define STAGED_N BLOCK_N
#define PAIRS_STEP (TOKENS < 64 ? TOKENS : 64) // a group stages so many
#define STAGED (PAIRS_STEP * BLOCK_N * 2)

#define BLOCK_SUMS (TOKENS / 2) // those of the second block are behind those of the first
#define ALL_SUMS (BLOCKS * BLOCK_SUMS)

// Of the units of sums of two stages: where there is one set of sums, and scales differ along K.
#define RATIOS (STAGE_SCALES && TOKENS > 32)

// In local memory: the ring, of W_ROWS rows for each stage units and factors, words of tensor maps, slots, barriers
#define UNITS_AT (STAGES * STAGE_BYTES)
#define FACTORS_AT (UNITS_AT + STAGES * W_ROWS * 4)
#define MAPS_AT (FACTORS_AT + (RATIOS ? STAGES * W_ROWS * 2 : 0))
#define SLOTS_AT (MAPS_AT + 256)

#if TOKENS > 32
#define SET_REGISTERS(how, n) CHANGE_REGISTERS(how, n)
#else
#define SET_REGISTERS(how, n)
#endif

#include "matmul/wgmma_bytes_scales.cl"
#include "matmul/wgmma_bytes_stage.cl"
#if TOKENS > 32
#include "matmul/wgmma_bytes_steps.cl"
#else
#include "matmul/wgmma_bytes_apart.cl"
#endif

// ---- sums to y ----

#include "matmul/wgmma_y.cl"
#include "matmul/wgmma_staged.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_bytes(MATMUL_ARGS, global uchar *maps,
                                                                                     ulong maps_skip,
                                                                                     global uint *counters) {
    MATMUL_NUMBERS
    // One array, which begins as the ring wants it.
    local uchar memory[SLOTS_AT + SLOTS * sizeof(struct slot) + 8 * BARRIERS] __attribute__((aligned(1024)));
    local struct slot *const slots = (local struct slot *)(memory + SLOTS_AT);
    WHEN_SHOWN
    const uint lid = get_local_id(0), lane = lid & 31u;
    const global int *const starts = offsets + offsets_skip;
    const struct ring r = ring_at((uint)(size_t)memory, (uint)(size_t)(slots + SLOTS));
    const struct job j = {starts,       order + order_skip, gamma + gamma_skip, gamma_stride, pairs,
                          columns,      k,                  first,              count,        flags,
                          (uint)((depth + TK - 1) / TK)};
    if (lid == 0) init_barriers(&r);
    local uint *const map_words = (local uint *)(memory + MAPS_AT);
    if (lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const bool up_first = GLU && v + v_skip < w + w_skip;
    if (lid < 128) {
        SET_REGISTERS("dec", FETCHER_REGISTERS);
        if (lid < 32) {
            plan_tiles(&j, slots, r.told, r.heard, counters);
        } else if (lid < 64) {
            global uchar *const own_maps = maps + maps_skip + get_group_id(0) * 256;
            make_maps(own_maps, (uint)(size_t)map_words, w + w_skip, v + v_skip, w_column, w_expert, count, x + x_skip,
                      x_stride * 2, depth, &j);
            if (lane == 0) fetch_boxes(&r, &j, slots, own_maps);
        } else {
            const struct scale_rows of_w = SCALE_ROWS_OF(w), of_v = SCALE_ROWS_OF(v);
            const struct scales scales = {up_first ? of_v : of_w, up_first ? of_w : of_v,
                                          (uint)scale_rows, (uint)scale_step, (uint)columns, scale_shift};
            fetch_scales(&r, &j, slots, &scales, memory);
        }
        return;
    }
#if !CONTIGUOUS
    if (lid >= FIRST_X_FETCHER) {
        SET_REGISTERS("dec", FETCHER_REGISTERS);
        fetch_rows(&r, &j, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth);
        return;
    }
#endif

    SET_REGISTERS("inc", MULTIPLIER_REGISTERS);
    const uint who = lid / 128 - 1, warp = lid / 32 & 3u;
    const bool aligned = (((ulong)(y + y_skip) | (ulong)y_stride * 2) & 15) == 0;
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[ALL_SUMS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        multiply_tile(&r, &stage, j.steps, memory, who * GROUP_ROWS + warp * 16 + lane / 4, rows, sums);
#include "matmul/wgmma_bytes_finish.cl"
        ASYNC_FENCE(); // copies may follow
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.empty + 8 * last);
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
