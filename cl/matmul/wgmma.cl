// SPDX-License-Identifier: MIT
// For many rows on sm_90a. Persistent: a work-group for each compute unit, of three or four groups of four warps.
//
//   tile   BLOCKS * 128 rows of w x TOKENS pairs. The instruction's rows are those of w, its columns are pairs, so that
//          few of these are multiplied for nothing. With GLU these are the rows of half as many columns of y, by turns 8
//          of gate and the 8 of up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages; of x, too, where its rows are
//                   neighbours (CONTIGUOUS)
//   warps 2, 3      have nothing to do: registers go from fours of warps to fours of warps
//   warps 4 .. 11   multiply, half of the rows of w a group of four; then activation, gamma and rows of y
//   warps 12 .. 15  fetch the rows of x that the pairs name, by asynchronous copies of 16 bytes; not if CONTIGUOUS
//
// A tile costs what it reads from the second cache: (rows of w + pairs) for each step. That is what bounds these kernels,
// and so tiles are as large as registers and the ring allow. Where experts have few pairs it is their weights that take
// the time, and tiles have half as many rows: the last tiles, when most units have none any more, take half as long.
//
// Rows in local memory have 128 bytes, their chunks of 16 bytes swizzled as the instruction wants it: chunk ^ row % 8.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float8
#define GAMMA_VALUE float8
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#ifndef CONTIGUOUS
#error "CONTIGUOUS: whether the pair at position i has row i of x, 0 or 1"
#endif
#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef IS_BF16
#error "IS_BF16: 1 where x, w and y are bf16, 0 where they are f16"
#endif
#if IS_BF16
#define WGMMA_T "bf16.bf16"
#define MAP_TYPE "10"
#define PACK_TWO "cvt.rn.bf16x2.f32"
#else
#define WGMMA_T "f16.f16"
#define MAP_TYPE "6"
#define PACK_TWO "cvt.rn.f16x2.f32"
#endif

// The driver takes the longer the more code there is: what is done once stays a loop.
#define ROLL _Pragma("unroll 1")

#define TK 64
#define ROW (2 * TK) // bytes of a row in local memory
#define BLOCKS (TOKENS > 32 ? 2 : 1) // of 64 rows of w that a multiplying group has
#define GROUP_ROWS (BLOCKS * 64)
#define BLOCK_N (GLU ? 32 : 64) // columns of y of a block
#define GROUP_N (BLOCKS * BLOCK_N)
#define TN (2 * GROUP_N)
#define MAP_SWIZZLE "3" // rows of 128 bytes
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_maps.cl"
#include "matmul/wgmma_products.cl"
#include "matmul/wgmma_tiles.cl"

#define GROUP_BYTES (GROUP_ROWS * ROW)
#define W_BYTES (2 * GROUP_BYTES)
#define BOX_PAIRS (TOKENS % 32 ? 16 : 32) // of x in a tensor copy
#define STAGE_BYTES (W_BYTES + TOKENS * ROW)

// In local memory: the ring, words of tensor maps, slots, barriers
#define MAPS_AT (STAGES * STAGE_BYTES)
#define SLOTS_AT (MAPS_AT + 256)
#define BARRIERS (2 * STAGES + 2 * SLOTS)

#define MULTIPLYING_WARPS 8
#define X_FETCHERS 128 // after the multiplying warps
#define FIRST_X_FETCHER 384

// Registers of a work-item once the groups have parted: sums alone take TOKENS. In all no more than there were before.
#if TOKENS > 128
#define FETCHER_REGISTERS "40"
#if CONTIGUOUS
#define MULTIPLIER_REGISTERS "232"
#else
#define MULTIPLIER_REGISTERS "216"
#endif
#define SET_REGISTERS(how, n) CHANGE_REGISTERS(how, n)
#else
#define SET_REGISTERS(how, n)
#endif

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};

inline struct ring ring_at(uint base, uint barriers) {
    const uint empty = barriers + 8 * STAGES, told = empty + 8 * STAGES;
    return (struct ring){base, barriers, empty, told, told + 8 * SLOTS};
}

inline void init_barriers(const struct ring *r) {
    ROLL for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 1 + (CONTIGUOUS ? 0 : X_FETCHERS));
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    ROLL for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + 1 + (CONTIGUOUS ? 0 : X_FETCHERS / 32));
    }
    ASYNC_FENCE();
}

// ---- to local memory ----

// A map of experts x columns x steps of K, in boxes of a group's rows. With GLU columns are split into eights, so that
// gate and up take turns: steps | 8 columns | gate, up | eights | experts. `first` is of what lies first in memory, the
// other one `other` bytes behind it.
inline void map_w(uint at, const global void *first, ulong other, long column, long expert, long depth, long columns,
                  int experts) {
    const long expert_bytes = (experts > 1 ? expert : column) * 2;
    fill_map(at, first, GLU ? 5 : 3, depth, TK);
    MAP_STRIDE(0, column * 2);
#if GLU
    MAP_DIMENSION(1, 8, 8);
    MAP_DIMENSION(2, 2, 2);
    MAP_DIMENSION(3, columns / 8, GROUP_ROWS / 16);
    MAP_DIMENSION(4, experts, 1);
    MAP_STRIDE(1, other);
    MAP_STRIDE(2, column * 16);
    MAP_STRIDE(3, expert_bytes);
#else
    MAP_DIMENSION(1, columns, GROUP_ROWS);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(1, expert_bytes);
#endif
}

inline void map_x(uint at, const global void *x, long row_bytes, long depth, long rows) {
    fill_map(at, x, 2, depth, TK);
    MAP_DIMENSION(1, rows, BOX_PAIRS);
    MAP_STRIDE(0, row_bytes);
}

// Makes both maps of a work-group; `up` is of no meaning without GLU. By a warp.
inline void make_maps(global uchar *maps, uint at, const global void *gate, const global void *up, long column,
                      long expert, int experts, const global void *x, long x_row_bytes, long depth,
                      const struct job *j) {
    const ulong gate_at = (ulong)gate, up_at = (ulong)up;
    const bool up_first = GLU && up_at < gate_at;
    if ((get_local_id(0) & 31u) == 0) {
        map_w(at, up_first ? up : gate, up_first ? gate_at - up_at : up_at - gate_at, column, expert, depth, j->columns,
              experts);
        if (CONTIGUOUS) map_x(at + 128, x, x_row_bytes, depth, j->pairs);
    }
    publish_map(maps, at);
    if (CONTIGUOUS) publish_map(maps + 128, at + 128);
}

// Multiplying groups that have columns of y in a tile.
inline uint groups_of(const struct job *j, uint column) { return column + GROUP_N < j->columns ? 2 : 1; }

// All tiles, by one work-item.
inline void fetch_boxes(const struct ring *r, const struct job *j, const local struct slot *slots,
                        const global uchar *maps) {
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const uint rows = slot->rows, column = slot->column, expert = slot->expert, first = slot->first;
        mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        const uint pairs = CONTIGUOUS ? (rows + BOX_PAIRS - 1) / BOX_PAIRS * BOX_PAIRS : 0;
        const uint groups = groups_of(j, column);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            mb_expect(full, groups * GROUP_BYTES + pairs * ROW);
            for (uint who = 0; who < groups; who++) {
                const uint to = base + who * GROUP_BYTES, n = column + who * GROUP_N;
#if GLU
                copy_box_5(to, maps, full, step * TK, n / 8, expert);
#else
                copy_box_3(to, maps, full, step * TK, n, expert);
#endif
            }
            for (uint p = 0; p < pairs; p += BOX_PAIRS)
                copy_box_2(base + W_BYTES + p * ROW, maps + 128, full, step * TK, first + p);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// Rows of x of all tiles, by X_FETCHERS: each has one chunk of every X_APART-th row. Behind the last pair there stays
// what was there: sums of other pairs do not see it. Where rows begin is kept in chunks of 16 bytes.
#define X_APART (X_FETCHERS / 8)
#define X_COPIES ((TOKENS + X_APART - 1) / X_APART)
inline void fetch_rows(const struct ring *r, const struct job *j, const local struct slot *slots, const global uchar *x,
                       uint x_row_chunks, uint depth) {
    const uint lid = get_local_id(0) - FIRST_X_FETCHER, chunk = lid & 7u, row = lid / 8;
    const uint to = W_BYTES + row * ROW + (chunk ^ (row & 7u)) * 16;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        uint from[X_COPIES];
#pragma unroll
        for (int i = 0; i < X_COPIES; i++)
            from[i] = (uint)slot->x_row[min((int)row + X_APART * i, max(rows, 1) - 1)] * x_row_chunks + chunk;
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES + to;
            const uint bytes = step * TK + chunk * 8 < depth ? 16 : 0; // past the end of a row: zeros
            const global uchar *const x_step = x + step * (ulong)ROW;
#pragma unroll
            for (int i = 0; i < X_COPIES; i++)
                copy_16_below(base + i * X_APART * ROW, x_step + from[i] * 16ul, bytes, (int)row + X_APART * i, rows);
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

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
    // One array, which begins as the ring wants it: apart they would be padded, and there is no room for that.
    local uchar memory[SLOTS_AT + SLOTS * sizeof(struct slot) + 8 * BARRIERS] __attribute__((aligned(1024)));
    local struct slot *const slots = (local struct slot *)(memory + SLOTS_AT);
    WHEN_SHOWN
    SUMS // declares those of a work-item
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
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
