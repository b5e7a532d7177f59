// SPDX-License-Identifier: MIT
// For many rows on sm_90a. Persistent: a work-group for each compute unit, of three or four groups of four warps.
//
//   tile   BLOCKS * 128 rows of w x TOKENS pairs. The instruction's rows are those of w, its columns are pairs, so that
//          few of these are multiplied for nothing. With GLU these are the rows of half as many columns of y, by turns
//          8 of gate and the 8 of up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages; of x, too, where its rows are
//                   neighbours (CONTIGUOUS)
//   warps 2, 3      have nothing to do: registers go from fours of warps to fours of warps
//   warps 4 .. 11   multiply, half of the rows of w a group of four; then activation, gamma and rows of y
//   warps 12 .. 15  fetch the rows of x that the pairs name, by asynchronous copies of 16 bytes; not if CONTIGUOUS
//
// A tile costs what it reads from the second cache: (rows of w + pairs) for each step. That is what bounds these
// kernels, and so tiles are as large as registers and the ring allow. Where experts have few pairs it is their weights
// that take the time, and tiles have half as many rows: the last tiles, when most units have none any more, take half
// as long.
//
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float8
#define GAMMA_VALUE float8
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#define TK 64
#define BLOCKS (TOKENS > 32 ? 2 : 1) // of 64 rows of w that a multiplying group has
#define GROUP_ROWS (BLOCKS * 64)
#define BLOCK_N (GLU ? 32 : 64) // columns of y of a block
#define GROUP_N (BLOCKS * BLOCK_N)
#define SCALE_WARPS 0
#include "matmul/wgmma_ring.cl"
#include "matmul/wgmma_products.cl"

// In local memory: the ring; then the rest (RING_BEGIN)
#define MAPS_AT (STAGES * STAGE_BYTES)

// Sums alone take TOKENS registers of a work-item.
#if TOKENS > 128
#define SET_REGISTERS(how, n) CHANGE_REGISTERS(how, n)
#else
#define SET_REGISTERS(how, n)
#endif

// ---- sums ----

// All steps of a tile of `rows` pairs. The last stage remains to be given back.
inline void multiply_steps(const struct ring *r, struct turn *stage, uint steps, uint who, int rows SUMS_PARAMETER) {
    const bool tells = (get_local_id(0) & 31u) == 0;
    uint previous = 0;
    for (uint step = 0; step < steps; step++) {
        mb_wait(r->full + 8 * stage->at, stage->phase);
        if (!CONTIGUOUS) ASYNC_FENCE();
        const uint base = r->base + stage->at * STAGE_BYTES;
        const ulong weights = tile_of(base + who * GROUP_BYTES), pairs = tile_of(base + W_BYTES);
        MULTIPLY_STAGE(rows, weights, pairs, step);
        WAIT_FOR_STAGES_BEFORE();
        if (step && tells) mb_arrive(r->empty + 8 * previous);
        previous = stage->at;
        next_turn(stage, STAGES);
    }
    WGMMA_WAIT("0");
}

// The same for a group that has no columns.
inline void pass_steps(const struct ring *r, struct turn *stage, uint steps) {
    for (uint step = 0; step < steps; step++) {
        mb_wait(r->full + 8 * stage->at, stage->phase);
        WARP_BARRIER(); // all have seen it before it may be filled again
        if (step + 1 < steps && (get_local_id(0) & 31u) == 0) mb_arrive(r->empty + 8 * stage->at);
        next_turn(stage, STAGES);
    }
}

inline void multiply_tile(const struct ring *r, const struct job *j, struct turn *stage, uint who, uint column,
                          int rows SUMS_PARAMETER) {
    if (who >= groups_of(j, column))
        pass_steps(r, stage, j->steps);
    else
        multiply_steps(r, stage, j->steps, who, rows SUMS_ARGUMENT);
}

// ---- sums to y ----

#include "matmul/wgmma_rows.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma(MATMUL_ARGS, global uchar *maps,
                                                                                 ulong maps_skip,
                                                                                 global uint *counters) {
    MATMUL_NUMBERS
    WHEN_SHOWN
    SUMS // declares those of a work-item
    RING_BEGIN;
    const bool up_first = GLU && v + v_skip < w + w_skip;
    if (lid < 128) {
        SET_REGISTERS("dec", FETCHER_REGISTERS);
        if (lid < 32) {
            plan_tiles(&j, slots, r.told, r.heard, counters);
        } else if (lid < 64) {
            FETCH_BOXES;
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
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        multiply_tile(&r, &j, &stage, who, (uint)slot->column, rows SUMS_ARGUMENT);
        const uint last = (stage.at ? stage.at : STAGES) - 1;
        const uint staging = last * STAGE_BYTES + who * STAGED;
        const int to_stage = who < groups_of(&j, (uint)slot->column) ? rows : 0;
        PAIR_BARRIER(3); // the last stage has been read
#include "matmul/wgmma_finish.cl"
        ASYNC_FENCE(); // copies may follow
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.empty + 8 * last);
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, j.starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
