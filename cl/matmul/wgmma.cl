// SPDX-License-Identifier: MIT
// For many rows on sm_90a. Persistent: a work-group for each compute unit, three groups of four warps.
//
//   tile   BLOCKS * 128 rows of w x TOKENS pairs. The instruction's rows are those of w, its columns are pairs, so that
//          no more than PAIRS_STEP - 1 of these are multiplied for nothing. With GLU a block holds 64 columns of y, by
//          turns 8 of their gate rows and the 8 up rows: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages; of x, too, where its rows are
//                   neighbours (CONTIGUOUS)
//   warps 2, 3      fetch the rows of x that the pairs name, by asynchronous copies of 16 bytes
//   warps 4 .. 11   multiply: 64 rows of each block a group of four; then activation, gamma and rows of y
//
// Rows in local memory have 128 bytes, their chunks of 16 bytes swizzled as the instruction wants it: chunk ^ row % 8.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#define ACT_EXP(x) native_exp(x)
#define ACT_DIVIDE(a, b) native_divide(a, b)
#include "matmul/epilogue.cl"

#ifndef BLOCKS
#error "BLOCKS: of 128 rows of w in a tile: 1 for TOKENS 256, 2 for fewer"
#endif
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

#define TK 64
#define BLOCK_N (GLU ? 64 : 128) // columns of y of a block, and those of one group
#define GROUP_N (BLOCK_N / 2)
#define TN (BLOCKS * BLOCK_N)
#define MAP_SWIZZLE "3" // rows of 128 bytes
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_maps.cl"
#include "matmul/wgmma_shapes.cl"
#include "matmul/wgmma_tiles.cl"

#define BLOCK_BYTES (128 * 2 * TK)
#define W_BYTES (BLOCKS * BLOCK_BYTES)
#define PAIRS_STEP (TOKENS < 64 ? TOKENS : 64) // the pairs multiplied are a multiple of it; a group stages so many
#define STEP_BYTES (PAIRS_STEP * 2 * TK)
#define STAGE_BYTES (W_BYTES + TOKENS * 2 * TK)
#define STAGED (PAIRS_STEP * GROUP_N * 2) // bytes of y that a group stages at a time

#define X_FETCHERS 64
#define MULTIPLYING_WARPS 8

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 1 + (CONTIGUOUS ? 0 : X_FETCHERS));
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + 1 + (CONTIGUOUS ? 0 : X_FETCHERS / 32));
    }
    ASYNC_FENCE();
}

// ---- to local memory ----

// A map of experts x columns x steps of K, in boxes of a block. With GLU columns are split into eights, so that gate
// and up take turns: steps | 8 columns | gate, up | eights | experts. `first` is of what lies first in memory, the
// other one `other` bytes behind it.
inline void map_w(uint at, const global void *first, ulong other, long column, long expert, long depth, long columns,
                  int experts) {
    const long expert_bytes = (experts > 1 ? expert : column) * 2;
    fill_map(at, first, GLU ? 5 : 3, depth, TK);
    MAP_STRIDE(0, column * 2);
#if GLU
    MAP_DIMENSION(1, 8, 8);
    MAP_DIMENSION(2, 2, 2);
    MAP_DIMENSION(3, columns / 8, 8);
    MAP_DIMENSION(4, experts, 1);
    MAP_STRIDE(1, other);
    MAP_STRIDE(2, column * 16);
    MAP_STRIDE(3, expert_bytes);
#else
    MAP_DIMENSION(1, columns, 128);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(1, expert_bytes);
#endif
}

inline void map_x(uint at, const global void *x, long row_bytes, long depth, long rows) {
    fill_map(at, x, 2, depth, TK);
    MAP_DIMENSION(1, rows, PAIRS_STEP);
    MAP_STRIDE(0, row_bytes);
}

// Pairs of a tile that are multiplied.
inline uint pairs_of(int rows) { return ((uint)rows + PAIRS_STEP - 1) / PAIRS_STEP * PAIRS_STEP; }

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
        const uint pairs = CONTIGUOUS ? pairs_of(rows) : 0;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            mb_expect(full, W_BYTES + pairs * 2 * TK);
            for (int block = 0; block < BLOCKS; block++) {
                const uint to = base + block * BLOCK_BYTES, n = column + block * BLOCK_N;
#if GLU
                copy_box_5(to, maps, full, step * TK, n / 8, expert);
#else
                copy_box_3(to, maps, full, step * TK, n, expert);
#endif
            }
            for (uint p = 0; p < pairs; p += PAIRS_STEP)
                copy_box_2(base + W_BYTES + p * 2 * TK, maps + 128, full, step * TK, first + p);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// Rows of x of all tiles, by X_FETCHERS: each has one chunk of every eighth row. Behind the last pair there stays what
// was there: sums of other pairs do not see it.
inline void fetch_rows(const struct ring *r, const struct job *j, const local struct slot *slots, const global uchar *x,
                       long x_row_bytes, uint depth) {
    const uint lid = get_local_id(0) & (X_FETCHERS - 1), chunk = lid & 7u, row = lid / 8;
    const uint to = W_BYTES + row * 128 + (chunk ^ row) * 16;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        const global uchar *from[TOKENS / 8];
#pragma unroll
        for (int i = 0; i < TOKENS / 8; i++)
            from[i] = x + slot->x_row[min((int)row + 8 * i, max(rows, 1) - 1)] * x_row_bytes + chunk * 16;
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES + to;
            const uint bytes = step * TK + chunk * 8 < depth ? 16 : 0; // past the end of a row: zeros
#pragma unroll
            for (int i = 0; i < TOKENS / 8; i++)
                copy_16_below(base + i * 1024, from[i] + step * 128, bytes, (int)row + 8 * i, rows);
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

#define BLOCK_SUMS (TOKENS / 2) // those of the second block are behind those of the first

#if BLOCKS == 1
#define ALL_SUMS 128 // as a number, for HOLD
#define MULTIPLY(n, at, keep) WGMMA(n, sums, weights + (at), pairs + (at), keep);
#else
#define ALL_SUMS TOKENS
#define MULTIPLY(n, at, keep)                                                                                          \
    WGMMA(n, sums, weights + (at), pairs + (at), keep);                                                                \
    WGMMA(n, sums + BLOCK_SUMS, weights + (BLOCK_BYTES >> 4) + (at), pairs + (at), keep);
#endif

// All steps of a tile of which n pairs are multiplied.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps, uint who, float *sums) { \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        uint previous = 0;                                                                                             \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            if (!CONTIGUOUS) ASYNC_FENCE();                                                                            \
            const uint base = r->base + stage->at * STAGE_BYTES;                                                       \
            const ulong weights = tile_of(base + who * 64 * 128), pairs = tile_of(base + W_BYTES);                     \
            WGMMA_FENCE();                                                                                             \
            MULTIPLY(n, 0, step)                                                                                       \
            MULTIPLY(n, 2, 1)                                                                                          \
            MULTIPLY(n, 4, 1)                                                                                          \
            MULTIPLY(n, 6, 1)                                                                                          \
            WGMMA_COMMIT();                                                                                            \
            WGMMA_WAIT("1");                                                                                           \
            if (step && tells) mb_arrive(r->empty + 8 * previous);                                                     \
            previous = stage->at;                                                                                      \
            next_turn(stage, STAGES);                                                                                  \
        }                                                                                                              \
        WGMMA_WAIT("0");                                                                                               \
        if (tells) mb_arrive(r->empty + 8 * previous);                                                                 \
    }

#if TOKENS == 32
DEFINE_MULTIPLY_STEPS(32)
#else
DEFINE_MULTIPLY_STEPS(64)
#endif
#if TOKENS == 256
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(192)
DEFINE_MULTIPLY_STEPS(256)
#endif

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, uint who, uint pairs, float *sums) {
#if TOKENS == 256
    if (pairs > 192)
        multiply_steps_256(r, stage, steps, who, sums);
    else if (pairs > 128)
        multiply_steps_192(r, stage, steps, who, sums);
    else if (pairs > 64)
        multiply_steps_128(r, stage, steps, who, sums);
    else
        multiply_steps_64(r, stage, steps, who, sums);
#else
    CAT(multiply_steps_, TOKENS)(r, stage, steps, who, sums);
#endif
    HOLD(ALL_SUMS, sums);
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma(MATMUL_ARGS, global uchar *maps,
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

    const struct job j = {starts,       order + order_skip, gamma + gamma_skip, gamma_stride, pairs,
                          columns,      k,                  first,              count,        flags,
                          (uint)((depth + TK - 1) / TK)};
    if (lid == 0) init_barriers(&r);
    if (lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const bool up_first = GLU && v + v_skip < w + w_skip;
    if (lid < 32) {
        plan_tiles(&j, slots, r.told, r.heard, counters);
        return;
    }
    if (lid < 64) {
        const uint at = (uint)(size_t)map_words;
        global uchar *const own_maps = maps + maps_skip + get_group_id(0) * 256;
        if (lane == 0) {
            const ulong gate_at = (ulong)(w + w_skip), up_at = (ulong)(v + v_skip);
            map_w(at, up_first ? v + v_skip : w + w_skip, up_first ? gate_at - up_at : up_at - gate_at, w_column,
                  w_expert, depth, columns, count);
            if (CONTIGUOUS) map_x(at + 128, x + x_skip, x_stride * 2, depth, pairs);
        }
        publish_map(own_maps, at);
        if (CONTIGUOUS) publish_map(own_maps + 128, at + 128);
        if (lane == 0) fetch_boxes(&r, &j, slots, own_maps);
        return;
    }
    if (lid < 128) {
        if (!CONTIGUOUS) fetch_rows(&r, &j, slots, (const global uchar *)(x + x_skip), x_stride * 2, (uint)depth);
        return;
    }

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
        multiply_tile(&r, &stage, j.steps, who, pairs_of(rows), sums);
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            // Columns n and, without GLU, n + 8 of y are this work-item's.
            const long n0 = slot->column + block * BLOCK_N + who * GROUP_N;
            const long n = min(n0 + warp * (GROUP_N / 4) + lane / 4, columns - 1);
            const long n8 = GLU ? n : min(n + 8, columns - 1);
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
                            const int o = block * BLOCK_SUMS + (staged + eight) / 2 + (GLU ? 0 : 2 * (q & 1));
                            const float weight = slot->gamma[t], weight1 = slot->gamma[t + 1];
#if GLU
                            const float a = sums[o], a1 = sums[o + 1], b = sums[o + 2], b1 = sums[o + 3];
                            const float low = FINISH(up_first ? b : a, up_first ? a : b, bias_n, bias_n8, weight);
                            const float high = FINISH(up_first ? b1 : a1, up_first ? a1 : b1, bias_n, bias_n8, weight1);
                            packed[q] = pack_two(low, high);
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
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
