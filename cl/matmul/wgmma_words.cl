// SPDX-License-Identifier: MIT
// For words of 4-bit codes (AWQ, GPTQ) and many rows on sm_90a: as wgmma_bytes.cl, but that codes come to local memory by
// way of registers, in the order in which products have them, so that AWQ and GPTQ are the same from there on.
//
//   tile   128 rows of w x TOKENS pairs. With GLU these are the rows of 64 columns of y, by turns 8 of gate and the 8
//          of up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of x by tensor copies, where its rows are neighbours (CONTIGUOUS), into a ring of
//                   STAGES stages (wgmma_ring.cl)
//   warps 1 .. 3    else fetch the rows of x that the pairs name (wgmma_words_x.cl)
//   warps 4 .. 11   multiply: 64 rows of w a group of four (wgmma_words_products.cl); then activation, gamma, rows of y
//   warps 12 .. 15  fetch codes, scales and zeros (wgmma_words_fetch.cl)
//
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#ifndef SCALE_STEPS
#error "SCALE_STEPS: steps that share a scale, 32, 64 or 128; more are counted as 128"
#endif
#ifndef PTX
#define PTX 1
#endif

#define VALUE float
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#define TK 128
#define BLOCKS 1 // of 64 rows of w that a multiplying group has
#define GROUP_ROWS 64
#define W_ROWS 128
#define BLOCK_N (GLU ? 32 : 64) // columns of y of a block
#define GROUP_N BLOCK_N
#define W_BYTES (W_ROWS * TK / 2)
#define SCALE_WARPS 4
#define FIRST_W_FETCHER 384
#define X_FETCHERS 96
#define FIRST_X_FETCHER 32
#include "matmul/wgmma_ring.cl"
#include "matmul/wgmma_held.cl"

#define STAGED_N BLOCK_N
#define PAIRS_STEP 32 // a group stages so many
#define STAGED (PAIRS_STEP * BLOCK_N * 2)
#define BLOCK_SUMS (TOKENS / 2)
#define ALL_SUMS BLOCK_SUMS

// In local memory: the ring, factors of W_ROWS rows for each group of K of a stage; then the rest (RING_BEGIN)
#define SCALE_GROUPS (TK / SCALE_STEPS)
#define FACTORS_AT (STAGES * STAGE_BYTES)
#define MAPS_AT (FACTORS_AT + STAGES * SCALE_GROUPS * W_ROWS * 8)

// Registers of a work-item once the groups have parted; in all no more than there were before, or they wait for ever.
#if TOKENS > 32
#define ALL_REGISTERS 512 // of a work-item of each group
#define X_REGISTERS 56
#define W_REGISTERS 72
#define PRODUCT_REGISTERS 192
#else
#define ALL_REGISTERS 256 // two work-groups share a unit
#define X_REGISTERS 48
#define W_REGISTERS 64
#define PRODUCT_REGISTERS 72
#endif
#if X_REGISTERS + W_REGISTERS + 2 * PRODUCT_REGISTERS > ALL_REGISTERS || W_REGISTERS > ALL_REGISTERS / 4
#error "more registers than a unit has"
#endif
#define TEXT_OF(n) TEXT(n)
#define TEXT(n) #n

#include "matmul/wgmma_words_x.cl"
#include "matmul/wgmma_words_fetch.cl"
#include "matmul/wgmma_words_products.cl"

// ---- sums to y ----

#include "matmul/wgmma_y.cl"
#include "matmul/wgmma_staged.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_words(MATMUL_ARGS, global uchar *maps,
                                                                                       ulong maps_skip,
                                                                                       global uint *counters) {
    MATMUL_NUMBERS
    WHEN_SHOWN
    RING_BEGIN;
    if (lid < 128) {
        CHANGE_REGISTERS("dec", TEXT_OF(X_REGISTERS));
        if (lid < 32) {
            plan_tiles(&j, slots, r.told, r.heard, counters);
        } else if (CONTIGUOUS && lid < 64) {
            FETCH_BOXES;
        } else if (!CONTIGUOUS && lid >= FIRST_X_FETCHER) {
            fetch_x(&r, &j, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth);
        }
        return;
    }
    if (lid >= FIRST_W_FETCHER) {
        if (W_REGISTERS < ALL_REGISTERS / 4) CHANGE_REGISTERS("dec", TEXT_OF(W_REGISTERS));
        const struct word_rows gate = WORD_ROWS_OF(w), up = WORD_ROWS_OF(v);
        const struct factor_rows of_gate = FACTOR_ROWS_OF(w), of_up = FACTOR_ROWS_OF(v);
        const struct word_rows own_words = GLU && OWN_ROW & 8u ? up : gate;
        const struct factor_rows own_factors = GLU && FETCHER & 8u ? of_up : of_gate;
        fetch_words(&r, &j, slots, &own_words, &own_factors, memory, (uint)depth, scale_shift);
        return;
    }

    CHANGE_REGISTERS("inc", TEXT_OF(PRODUCT_REGISTERS));
    const uint who = lid / 128 - 1, warp = lid / 32 & 3u, own = who * 4 + warp;
    const bool up_first = false; // gate rows come first
#include "matmul/wgmma_bytes_tiles.cl"
}
