// SPDX-License-Identifier: MIT
// The ring of stages in local memory, and what fills it, for persistent work-groups on sm_90a of which two groups of
// four warps multiply: w by tensor copies, a box for each of these groups; the pairs' rows of x by tensor copies where
// they are neighbours (CONTIGUOUS), else by asynchronous copies of 16 bytes, by X_FETCHERS work-items.
//
//   stage   rows of w of either group | rows of x, 64 steps of K behind 64 steps
//
// A kernel whose scale warps bring w, too, says how many bytes of a stage that is (W_BYTES).
// Rows in local memory have 128 bytes, their chunks of 16 bytes swizzled as the instruction wants it: chunk ^ row % 8.
#ifndef CONTIGUOUS
#error "CONTIGUOUS: whether the pair at position i has row i of x, 0 or 1"
#endif
#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef IS_BF16
#error "IS_BF16: 1 where x and y are bf16, 0 where they are f16"
#endif
#ifndef TK
#error "TK: steps of K of a stage, 64 where w has 16 bits, 128 where it has 8"
#endif
#ifndef GROUP_ROWS
#error "GROUP_ROWS: of w, that a multiplying group has"
#endif
#ifndef GROUP_N
#error "GROUP_N: columns of y that a multiplying group has"
#endif
#ifndef SCALE_WARPS
#error "SCALE_WARPS: that arrive at a stage as well, and hear of tiles"
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

#define TN (2 * GROUP_N)
#define MAP_SWIZZLE "3" // rows of 128 bytes
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_maps.cl"
#include "matmul/wgmma_tiles.cl"

#define ROW 128 // bytes of a row in local memory
#ifdef W_BYTES
#define W_BOXES 0
#else
#define W_BOXES 1 // of tensor copies
#define W_BYTES (2 * GROUP_ROWS * ROW)
#endif
#define GROUP_BYTES (W_BYTES / 2)
#define X_PARTS (TK / 64)
#define X_BYTES (TOKENS * ROW) // of a part
#define BOX_PAIRS (TOKENS % 32 ? 16 : 32) // of x in a tensor copy
#define STAGE_BYTES (W_BYTES + X_PARTS * X_BYTES)

#define BARRIERS (2 * STAGES + 2 * SLOTS)

#define MULTIPLYING_WARPS 8
#define BOX_WARPS (W_BOXES || CONTIGUOUS ? 1 : 0)
#ifndef X_FETCHERS
#define X_FETCHERS 128 // after the multiplying warps
#define FIRST_X_FETCHER 384
#endif

// Registers of a work-item once the groups have parted, where they differ. In all no more than there were before.
#define FETCHER_REGISTERS "40"
#if CONTIGUOUS
#define MULTIPLIER_REGISTERS "232"
#else
#define MULTIPLIER_REGISTERS "216"
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
        mb_init(r->full + 8 * i, BOX_WARPS + SCALE_WARPS + (CONTIGUOUS ? 0 : X_FETCHERS));
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    ROLL for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i,
                MULTIPLYING_WARPS + BOX_WARPS + SCALE_WARPS + (CONTIGUOUS ? 0 : X_FETCHERS / 32));
    }
    ASYNC_FENCE();
}

// How kernels with a ring in one array begin, behind MATMUL_NUMBERS and WHEN_SHOWN: in it, behind the ring and what
// else they have up to MAPS_AT, are words of tensor maps, slots and barriers. Apart they would be padded, and there is
// no room for that.
#define SLOTS_AT (MAPS_AT + 256)
#define RING_BEGIN                                                                                                     \
    local uchar memory[SLOTS_AT + SLOTS * sizeof(struct slot) + 8 * BARRIERS] __attribute__((aligned(1024)));          \
    local struct slot *const slots = (local struct slot *)(memory + SLOTS_AT);                                         \
    local uint *const map_words = (local uint *)(memory + MAPS_AT);                                                    \
    const uint lid = get_local_id(0), lane = lid & 31u;                                                                \
    const struct ring r = ring_at((uint)(size_t)memory, (uint)(size_t)(slots + SLOTS));                                \
    const struct job j = JOB;                                                                                          \
    if (lid == 0) init_barriers(&r);                                                                                   \
    if (lid < 64) map_words[lid] = 0;                                                                                  \
    barrier(CLK_LOCAL_MEM_FENCE)

// A map of experts x columns x steps of K, in boxes of a group's rows. With GLU columns are split into eights, so that
// gate and up take turns: steps | 8 columns | gate, up | eights | experts. `first` is of what lies first in memory, the
// other one `other` bytes behind it.
inline void map_w(uint at, const global void *first, ulong other, long column, long expert, long depth, long columns,
                  int experts) {
    const long bytes = ROW / TK, expert_bytes = (experts > 1 ? expert : column) * bytes;
    fill_map(at, first, GLU ? 5 : 3, depth, TK);
#if ROW == TK
    MAP_OF_BYTES();
#endif
    MAP_STRIDE(0, column * bytes);
#if GLU
    MAP_DIMENSION(1, 8, 8);
    MAP_DIMENSION(2, 2, 2);
    MAP_DIMENSION(3, columns / 8, GROUP_ROWS / 16);
    MAP_DIMENSION(4, experts, 1);
    MAP_STRIDE(1, other);
    MAP_STRIDE(2, column * 8 * bytes);
    MAP_STRIDE(3, expert_bytes);
#else
    MAP_DIMENSION(1, columns, GROUP_ROWS);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(1, expert_bytes);
#endif
}

inline void map_x(uint at, const global void *x, long row_bytes, long depth, long rows) {
    fill_map(at, x, 2, depth, 64);
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
        if (W_BOXES)
            map_w(at, up_first ? up : gate, up_first ? gate_at - up_at : up_at - gate_at, column, expert, depth,
                  j->columns, experts);
        if (CONTIGUOUS) map_x(at + 128, x, x_row_bytes, depth, j->pairs);
    }
    if (W_BOXES) publish_map(maps, at);
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
        const uint groups = W_BOXES ? groups_of(j, column) : 0;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            mb_expect(full, groups * GROUP_BYTES + pairs * (X_PARTS * ROW));
            for (uint who = 0; who < groups; who++) {
                const uint to = base + who * GROUP_BYTES, n = column + who * GROUP_N;
#if GLU
                copy_box_5(to, maps, full, step * TK, n / 8, expert);
#else
                copy_box_3(to, maps, full, step * TK, n, expert);
#endif
            }
            for (uint p = 0; p < pairs; p += BOX_PAIRS)
#pragma unroll
                for (uint part = 0; part < X_PARTS; part++)
                    copy_box_2(base + W_BYTES + part * X_BYTES + p * ROW, maps + 128, full, step * TK + part * 64,
                               first + p);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// In such a kernel: the maps of its work-group, and all tiles. By a warp.
#define FETCH_BOXES                                                                                                    \
    global uchar *const own_maps = maps + maps_skip + get_group_id(0) * 256;                                           \
    make_maps(own_maps, (uint)(size_t)map_words, w + w_skip, v + v_skip, w_column, w_expert, count, x + x_skip,        \
              x_stride * 2, depth, &j);                                                                                \
    if (lane == 0) fetch_boxes(&r, &j, slots, own_maps)

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
#pragma unroll
            for (uint part = 0; part < X_PARTS; part++) {
                const uint bytes = step * TK + part * 64 + chunk * 8 < depth ? 16 : 0; // past the end of a row: zeros
                const global uchar *const x_step = x + step * (ulong)(X_PARTS * ROW) + part * ROW;
#pragma unroll
                for (int i = 0; i < X_COPIES; i++)
                    copy_16_below(base + part * X_BYTES + i * X_APART * ROW, x_step + from[i] * 16ul, bytes,
                                  (int)row + X_APART * i, rows);
            }
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// Describes rows of 128 bytes in local memory.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }
