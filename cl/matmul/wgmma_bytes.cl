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

// In local memory: the ring, of W_ROWS rows for each stage units and factors; then the rest (RING_BEGIN)
#define UNITS_AT (STAGES * STAGE_BYTES)
#define FACTORS_AT (UNITS_AT + STAGES * W_ROWS * 4)
#define MAPS_AT (FACTORS_AT + (RATIOS ? STAGES * W_ROWS * 2 : 0))

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
    WHEN_SHOWN
    RING_BEGIN;
    const bool up_first = GLU && v + v_skip < w + w_skip;
    if (lid < 128) {
        SET_REGISTERS("dec", FETCHER_REGISTERS);
        if (lid < 32) {
            plan_tiles(&j, slots, r.told, r.heard, counters);
        } else if (lid < 64) {
            FETCH_BOXES;
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
    const uint who = lid / 128 - 1, warp = lid / 32 & 3u, own = who * GROUP_ROWS + warp * 16 + lane / 4;
#include "matmul/wgmma_bytes_tiles.cl"
}
