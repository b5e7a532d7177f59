// SPDX-License-Identifier: MIT
// For MXFP4 weights and many rows on sm_90a: as wgmma.cl, but that weights go to the instruction from registers, where
// each multiplying work-item decodes what it holds of them. They are in local memory as they are in global memory.
//
//   tile   128 rows of w x TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of up: a work-item has
//          both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warps 1 .. 3    fetch TK steps of w and x into a ring of STAGES stages
//   warps 4 .. 11   multiply: 64 rows of w a group of four; then activation, gamma and rows of y
//
// How they do it is in wgmma_coded_few.cl where tiles have few pairs, else in wgmma_coded_many.cl.
//
//   W_T   mxfp4: blocks of a scale and 16 bytes, elements j and j + 16 in byte j
//         f4_e2m1: 16 bytes, elements 2j and 2j + 1 in byte j, scales elsewhere
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef TK
#error "TK: steps of K of a stage, 64 or 128"
#endif
#ifndef PERIOD
#error "PERIOD: rows of w after which one begins at the same byte of 16 again, 1 to 16 or with GLU 8; TOKENS 256: 1"
#endif
#define PACK_TWO "cvt.rn.bf16x2.f32"

#define TN (GLU ? 64 : 128) // columns of y, and those of one group
#define GROUP_N (TN / 2)
#define STAGED_N GROUP_N
#ifndef PTX
#define PTX 1
#endif
#include "matmul/coded.cl"
#define WGMMA_T "bf16.bf16"
#include "matmul/wgmma_held.cl"
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_coded_memory.cl"
#include "matmul/wgmma_tiles.cl"

#define FEW (TOKENS < 256)

// Of a row of w: bytes of a block of 32 elements; those of a stage, also where they may begin anywhere. Rows lie PITCH
// apart, so that reading those of eight rows meets few banks twice. Many pairs: none where rows in global memory are a
// multiple of 16 bytes apart, or 10 more (gpt-oss). Few: none in f4_e2m1, in mxfp4 two.
#define BLOCK_BYTES (SCALED ? 16 : 17)
#define STEP_BYTES (TK / 32 * BLOCK_BYTES)
#define WINDOW (SCALED ? STEP_BYTES : (STEP_BYTES + 15 + 15) / 16 * 16)
#define PITCH (FEW ? WINDOW : SCALED ? WINDOW + 16 : WINDOW + 80)
#define W_ROWS 128
#define PAIRS_STEP (TOKENS < 64 ? TOKENS : 64) // a group stages so many
#define X_BYTES (TOKENS * 2 * TK)
#define STAGE_BYTES (X_BYTES + W_ROWS * PITCH)
#define STAGED (PAIRS_STEP * GROUP_N * 2)

#define FETCHING_WARPS 3
#define MULTIPLYING_WARPS 8
#if FEW // of a work-item
#define FETCHING_REGISTERS "64"
#define MULTIPLYING_REGISTERS "88"
#else
#define FETCHING_REGISTERS "72"
#define MULTIPLYING_REGISTERS "216"
#endif

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, FEW ? FETCHING_WARPS + 1 : FETCHING_WARPS * 32);
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + FETCHING_WARPS);
    }
    ASYNC_FENCE();
}

#include "matmul/wgmma_coded_where.cl"

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

// The two rows of w that a work-item has codes of: where they lie in a stage, how many bytes behind a multiple of 16
// they begin in global memory, and there their scales.
struct held {
    uint row[2], before[2];
    const global uchar *scales[2];
    uint blocks; // of a row
};

inline struct held held_of(const struct weights *w, int expert, long n0) {
    const uint lid = get_local_id(0) - 128, warp = lid / 32 & 3u, i = lid / 4 & 7u;
    struct held h;
    h.blocks = w->blocks;
#pragma unroll
    for (uint second = 0; second < 2; second++) {
        const uint side = GLU ? second : 0;
        const uint column = lid / 128 * GROUP_N + (GLU ? warp : 2 * warp + second) * 8 + i;
#if FEW
        h.row[second] = X_BYTES + ((side * PERIOD + column % PERIOD) * (SIDE_ROWS / PERIOD) + column / PERIOD) * PITCH;
#else
        h.row[second] = X_BYTES + (lid / 128 * 32 + warp * 8 + i + W_ROWS / 2 * second) * PITCH;
#endif
        h.before[second] = (uint)(ulong)row_at(w, column, side, expert, n0) & 15u;
        h.scales[second] = scales_at(w, column, side, expert, n0);
    }
    return h;
}

// Of f4_e2m1: of a block, or of none.
inline uint scale_at(const struct held *h, int second, uint block) {
    return block < h->blocks ? h->scales[second][block] : 0;
}

// What is left to multiply registers of both rows with where scales are large, which they hardly ever are.
inline void scale_held(const uint *e, uint *held) {
    uint rest[2] = {e[0], e[1]};
    COMPUTED_HERE(rest[0], rest[1]);
    rest[0] = scale_rest(rest[0]), rest[1] = scale_rest(rest[1]);
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], rest[n & 1]);
}

#if FEW
#include "matmul/wgmma_coded_few.cl"
#else
#include "matmul/wgmma_coded_many.cl"
#endif

// All tiles of this work-group.
inline void fetch_tiles(const struct ring *r, const struct job *j, const struct weights *w,
                        const local struct slot *slots, const global uchar *x, uint x_row_chunks, uint depth,
                        uint map_words, global uchar *maps) {
    const uint lid = get_local_id(0) - 32;
    struct window own;
#if FEW
    make_maps(&own, w, map_words, maps, j->count, lid);
#endif
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, expert = slot->expert, column = slot->column;
        if (rows == 0) return;
        place_window(&own, w, lid, expert, column);
        struct rows own_rows;
        place_rows(&own_rows, slot, rows, x, x_row_chunks, lid);
#if FEW
        read_rows(&own_rows, lid, 0, depth);
#endif
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES;
            fetch_weights(base, r->full + 8 * stage.at, &own, lid, step, w->row_bytes);
            fetch_rows(base, &own_rows, lid, step, depth);
#if FEW
            ASYNC_FENCE();
            WARP_BARRIER();
            if ((lid & 31u) == 0) mb_arrive(r->full + 8 * stage.at);
            if (step + 1 < j->steps) read_rows(&own_rows, lid, step + 1, depth);
#else
            mb_arrive_copied(r->full + 8 * stage.at);
#endif
            next_turn(&stage, STAGES);
        }
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        next_turn(&turn, SLOTS);
    }
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"
#include "matmul/wgmma_staged.cl"

// Rows of w begin at whole blocks: what lies between two of them, in bytes.
#define TO_BYTES(stride) ((stride) / BLOCK(W_T) * UNITS(W_T))
#if SCALED
#define SCALES_OF(w) w##_scale + w##_scale_skip + w##_first * w##_scale_row
#else
#define SCALES_OF(w) 0
#endif
#define SOURCE_OF(w)                                                                                                   \
    {                                                                                                                  \
        w + w##_skip, SCALES_OF(w), TO_BYTES(w##_expert), TO_BYTES(w##_column), w##_scale_expert,                      \
            scale_step * w##_scale_row                                                                                 \
    }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_coded(MATMUL_ARGS, global uchar *maps,
                                                                                       ulong maps_skip,
                                                                                       global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[STAGES * STAGE_BYTES + 2 * STAGED] __attribute__((aligned(1024)));
    local uint map_words[2 * 32] __attribute__((aligned(128)));
    local ulong barriers[2 * STAGES + 2 * SLOTS];
    local struct slot slots[SLOTS];
    WHEN_SHOWN
    const uint lid = get_local_id(0), lane = lid & 31u;
    const global int *const starts = offsets + offsets_skip;
    struct ring r = {(uint)(size_t)memory, (uint)(size_t)barriers, 0, 0, 0};
    r.empty = r.full + 8 * STAGES, r.told = r.empty + 8 * STAGES, r.heard = r.told + 8 * SLOTS;

    const struct job j = {
        starts, order + order_skip,           gamma + gamma_skip, gamma_stride, pairs, columns, k, first, count,
        flags,  (uint)((depth + TK - 1) / TK)};
    const struct weights weights = {SOURCE_OF(w), SOURCE_OF(v), (uint)(depth / 32) * BLOCK_BYTES, (uint)(depth / 32),
                                    columns};
    if (lid == 0) init_barriers(&r);
    if (FEW && lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 128) {
        CHANGE_REGISTERS("dec", FETCHING_REGISTERS);
        if (lid < 32)
            plan_tiles(&j, slots, r.told, r.heard, counters);
        else
            fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth,
                        (uint)(size_t)map_words, maps + maps_skip + get_group_id(0) * 256);
        return;
    }
    // More than a work-item has registers for if all have as many.
    CHANGE_REGISTERS("inc", MULTIPLYING_REGISTERS);

    const uint who = lid / 128 - 1, warp = lid / 32 & 3u;
    local uchar *const staging = memory + STAGES * STAGE_BYTES + who * STAGED;
    const bool aligned = (((ulong)(y + y_skip) | (ulong)y_stride * 2) & 15) == 0;
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[ALL_SUMS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        const struct held held = held_of(&weights, slot->expert, slot->column);
        multiply_tile(&r, &stage, j.steps, memory, &held, rows, sums);
        const long n0 = slot->column + who * GROUP_N;
        const uint c = (GLU ? warp : 2 * warp) * 8 + lane / 4, c8 = GLU ? c : c + 8;
        const long n = min(n0 + c, columns - 1), n8 = min(n0 + c8, columns - 1);
        const float bias_n = BIAS_AT(e, n), bias_n8 = GLU ? BIAS_UP_AT(e, n) : BIAS_AT(e, n8);
#pragma unroll
        for (int staged = 0; staged < TOKENS; staged += PAIRS_STEP) {
            if (staged < rows) {
                GROUP_BARRIER(1 + who); // what was staged before is in y
#pragma unroll
                for (int t8 = 0; t8 < PAIRS_STEP; t8 += GLU ? 32 : 16) {
                    uint packed[4];
#pragma unroll
                    for (int q = 0; q < 4; q++) { // of pairs t and t + 1
                        const int eight = t8 + 8 * (GLU ? q : q / 2), t = staged + eight + 2 * (int)(lane & 3u);
                        const int o = (staged + eight) / 2 + (GLU ? 0 : 2 * (q & 1));
                        const float weight = slot->gamma[t], weight1 = slot->gamma[t + 1];
#if GLU
                        packed[q] = pack_two(FINISH(sums[o], sums[o + 2], bias_n, bias_n8, weight),
                                             FINISH(sums[o + 1], sums[o + 3], bias_n, bias_n8, weight1));
#else
                        const float bias_q = q & 1 ? bias_n8 : bias_n;
                        packed[q] = pack_two(FINISH(sums[o], 0.0f, bias_q, 0.0f, weight),
                                             FINISH(sums[o + 1], 0.0f, bias_q, 0.0f, weight1));
#endif
                    }
                    const uint t = t8 + (GLU ? lane : (lane >> 4) * 8 + (lane & 7u));
                    const uint chunk = GLU ? warp : warp * 2 + (lane >> 3 & 1u);
                    store_matrices((uint)(size_t)staging + staged_at(t, chunk), packed);
                }
                GROUP_BARRIER(1 + who);
                store_rows(staging, slot, staged, (global ushort *)y + y_skip, y_stride, aligned, n0, columns);
            }
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
