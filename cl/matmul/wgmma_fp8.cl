// SPDX-License-Identifier: MIT
// For fp8 weights and many rows on sm_90a: as wgmma.cl, but that weights go to the instruction from registers, where
// each multiplying work-item widens its codes; scales follow in fp32, so that they round nothing but sums.
//
//   tile   two blocks of 128 rows of w x TOKENS pairs. With GLU a block holds 64 columns of y, by turns 8 of their gate
//          rows and the 8 up rows: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages; of x, too, where its rows are
//                   neighbours (CONTIGUOUS)
//   warps 2, 3      fetch scales, and the rows of x that the pairs name, by asynchronous copies
//   warps 4 .. 11   multiply: 64 rows of each block a group of four; then activation, gamma and rows of y
//
// The sums of a stage, over which each row of w has one scale, are apart from those of the stages before:
//
//   sums = fma(scale, sums of the stage, sums)
//
// Rows in local memory have 128 bytes, their chunks of 16 bytes swizzled as the instruction wants it: chunk ^ row % 8.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#ifndef CONTIGUOUS
#error "CONTIGUOUS: whether the pair at position i has row i of x, 0 or 1"
#endif
#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef IS_BF16
#error "IS_BF16: 1 where x and y are bf16, 0 where they are f16"
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

#define TK 128
#define BLOCKS 2
#define BLOCK_N (GLU ? 64 : 128) // columns of y of a block, and those of one group
#define GROUP_N (BLOCK_N / 2)
#define TN (BLOCKS * BLOCK_N)
#define MAP_SWIZZLE "3" // rows of 128 bytes
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_codes.cl"
#include "matmul/wgmma_maps.cl"
#include "matmul/wgmma_held.cl"
#include "matmul/wgmma_tiles.cl"

#define BLOCK_BYTES (128 * TK)
#define W_BYTES (BLOCKS * BLOCK_BYTES)
#define W_ROWS (BLOCKS * 128)
#define PAIRS_STEP (TOKENS < 64 ? TOKENS : 64) // a group stages so many
#define HALF_BYTES (TOKENS * TK)               // 64 steps of x
#define SCALES_AT (W_BYTES + 2 * HALF_BYTES)
#define STAGE_BYTES ((SCALES_AT + W_ROWS * 4 + 1023) / 1024 * 1024)
#define STAGED (PAIRS_STEP * GROUP_N * 2)

#define FETCHERS 64
#define MULTIPLYING_WARPS 8

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};

// One work-item makes the barriers.
inline void make_ring(struct ring *r, uint base, uint barriers) {
    r->base = base, r->full = barriers;
    r->empty = r->full + 8 * STAGES, r->told = r->empty + 8 * STAGES, r->heard = r->told + 8 * SLOTS;
    if (get_local_id(0) != 0) return;
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 1 + FETCHERS);
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + 1 + FETCHERS / 32);
    }
    ASYNC_FENCE();
}

// ---- to local memory ----

// A map of experts x columns x steps of K, in boxes of a tile. With GLU columns are split into eights, so that gate
// and up take turns: steps | 8 columns | gate, up | eights | experts. `first` is of what lies first in memory, the
// other one `other` bytes behind it.
inline void map_w(uint at, const global void *first, ulong other, long column, long expert, long depth, long columns,
                  int experts) {
    const long expert_bytes = experts > 1 ? expert : column;
    fill_map(at, first, GLU ? 5 : 3, depth, TK);
    MAP_OF_BYTES();
    MAP_STRIDE(0, column);
#if GLU
    MAP_DIMENSION(1, 8, 8);
    MAP_DIMENSION(2, 2, 2);
    MAP_DIMENSION(3, columns / 8, TN / 8);
    MAP_DIMENSION(4, experts, 1);
    MAP_STRIDE(1, other);
    MAP_STRIDE(2, column * 8);
    MAP_STRIDE(3, expert_bytes);
#else
    MAP_DIMENSION(1, columns, TN);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(1, expert_bytes);
#endif
}

inline void map_x(uint at, const global void *x, long row_bytes, long depth, long rows) {
    fill_map(at, x, 2, depth, TK / 2);
    MAP_DIMENSION(1, rows, PAIRS_STEP);
    MAP_STRIDE(0, row_bytes);
}

// Makes the maps of a work-group, of which those of x are behind those of w; `up` is of no meaning without GLU. By a
// warp.
inline void make_maps(global uchar *maps, uint at, const global uchar *gate, const global uchar *up, long column,
                      long expert, int experts, const global void *x, long x_row_bytes, long depth,
                      const struct job *j) {
    const bool up_first = GLU && up < gate;
    if ((get_local_id(0) & 31u) == 0) {
        map_w(at, up_first ? up : gate, up_first ? gate - up : up - gate, column, expert, depth, j->columns, experts);
        if (CONTIGUOUS) map_x(at + 128, x, x_row_bytes, depth, j->pairs);
    }
    publish_map(maps, at);
    if (CONTIGUOUS) publish_map(maps + 128, at + 128);
}

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
        const uint pairs = CONTIGUOUS ? (rows + PAIRS_STEP - 1) / PAIRS_STEP * PAIRS_STEP : 0;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            mb_expect(full, W_BYTES + pairs * 2 * TK);
#if GLU
            copy_box_5(base, maps, full, step * TK, column / 8, expert);
#else
            copy_box_3(base, maps, full, step * TK, column, expert);
#endif
            for (uint p = 0; p < pairs; p += PAIRS_STEP) {
                const uint to = base + W_BYTES + p * 128;
                copy_box_2(to, maps + 128, full, step * TK, first + p);
                copy_box_2(to + HALF_BYTES, maps + 128, full, step * TK + TK / 2, first + p);
            }
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// Scales of gate and up, those first that lie first in memory: for row n of these, from `skip` on, expert * `expert` +
// (`first` + n * step) / rows * `row`, then the block of K.
struct scale_rows {
    const global float *skip;
    long expert, row;
    uint first;
};

struct scales {
    struct scale_rows before, behind;
    uint rows, step, columns;
    int shift;
};

// The scale row of row `row` of a tile; past the last column the last one again.
inline const global float *scales_at(const struct scales *s, uint row, uint expert, uint column) {
    const bool behind = GLU && row & 8u;
    const global float *const from =
        (behind ? s->behind.skip : s->before.skip) + expert * (behind ? s->behind.expert : s->before.expert);
    const uint n = min(column + (GLU ? row / 16 * 8 + (row & 7u) : row), s->columns - 1);
    const uint w_row = (behind ? s->behind.first : s->before.first) + n * s->step;
    return from + w_row / s->rows * (behind ? s->behind.row : s->before.row);
}

// Rows of x, by FETCHERS: each has one chunk of every eighth row. Behind the last pair there stays what was there: sums
// of other pairs do not see it. `from`: where its chunks are, in chunks of 16 bytes.
inline void fetch_rows(uint to, const uint *from, int rows, const global uchar *x, uint lid, uint step, uint depth) {
    const uint chunk = lid & 7u, row = lid / 8, at = to + row * 128 + (chunk ^ row) * 16, k = step * TK + chunk * 8;
    const uint bytes = k < depth ? 16 : 0, bytes2 = k + TK / 2 < depth ? 16 : 0; // past the end of a row: zeros
    const global uchar *const half1 = x + (bytes ? step * 2 * TK : 0);
    const global uchar *const half2 = x + (bytes2 ? step * 2 * TK + TK : 0);
#pragma unroll
    for (int i = 0; i < TOKENS / 8; i++) {
        copy_16_below(at + i * 1024, half1 + from[i] * 16ul, bytes, (int)row + 8 * i, rows);
        copy_16_below(at + HALF_BYTES + i * 1024, half2 + from[i] * 16ul, bytes2, (int)row + 8 * i, rows);
    }
}

// Scales and rows of x of all tiles, by FETCHERS.
inline void fetch_others(const struct ring *r, const struct job *j, const local struct slot *slots,
                         const struct scales *s, const global uchar *x, uint x_row_chunks, uint depth) {
    const uint lid = get_local_id(0) & (FETCHERS - 1);
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        const global float *scales[W_ROWS / FETCHERS];
#pragma unroll
        for (int i = 0; i < W_ROWS / FETCHERS; i++)
            scales[i] = scales_at(s, lid + i * FETCHERS, slot->expert, slot->column);
        uint from[TOKENS / 8];
#pragma unroll
        for (int i = 0; i < TOKENS / 8; i++)
            if (!CONTIGUOUS)
                from[i] = (uint)slot->x_row[min((int)lid / 8 + 8 * i, max(rows, 1) - 1)] * x_row_chunks + (lid & 7u);
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        if (rows == 0) return;
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES;
#pragma unroll
            for (int i = 0; i < W_ROWS / FETCHERS; i++)
                copy_scale(base + SCALES_AT + (lid + i * FETCHERS) * 4, scales[i] + (step * TK >> s->shift));
            if (!CONTIGUOUS) fetch_rows(base + W_BYTES, from, rows, x, lid, step, depth);
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

inline ushort codes_at(const local uchar *memory, uint at) { return *(const local ushort *)(memory + at); }

#define BLOCK_SUMS (TOKENS / 2) // those of the second block are behind those of the first
#define ALL_SUMS (BLOCKS * BLOCK_SUMS)

// For products of a number of pairs: sums of a work-item, and HOLD of these.
#define HALF_32 16
#define HALF_64 32
#define HALF_96 48
#define HALF_128 64
#define HOLD_32(d) HOLD(16, d)
#define HOLD_64(d) HOLD(32, d)
#define HOLD_96(d) HOLD(48, d)
#define HOLD_128(d) HOLD(64, d)

// Codes of 16 steps, a chunk of two rows that are eight rows apart.
inline void load_codes(const local uchar *rows, uint chunk, uint lane, ushort *codes) {
    const uint at = ((chunk ^ (lane / 4)) & 7u) * 16;
    codes[0] = codes_at(rows, at);
    codes[1] = codes_at(rows, at + 1024);
    codes[2] = codes_at(rows, at + 8);
    codes[3] = codes_at(rows, at + 1024 + 8);
}

// All steps of a tile of which n pairs are multiplied. Codes are widened while the products before run.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, uint row, float *sums) {                            \
        const uint lane = get_local_id(0) & 31u;                                                                       \
        float now[CAT(HALF_, n)];                                                                                      \
        uint held[2][4];                                                                                               \
        ushort codes[4];                                                                                               \
        _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++) now[i] = 0.0f;                                       \
        _Pragma("unroll") for (int i = 0; i < ALL_SUMS; i++) sums[i] = 0.0f;                                           \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            if (!CONTIGUOUS) ASYNC_FENCE();                                                                            \
            const uint base = stage->at * STAGE_BYTES;                                                                 \
            const ulong pairs = tile_of(r->base + base + W_BYTES);                                                     \
            _Pragma("unroll") for (int block = 0; block < BLOCKS; block++) {                                           \
                const local uchar *const rows = memory + base + block * BLOCK_BYTES + row * TK + (lane & 3u) * 2;      \
                load_codes(rows, 0, lane, codes);                                                                      \
                _Pragma("unroll") for (int part = 0; part < TK / 16; part++) {                                         \
                    const ulong at = pairs + part / 4 * (HALF_BYTES >> 4) + part % 4 * 2;                              \
                    _Pragma("unroll") for (int i = 0; i < 4; i++) held[part & 1][i] = widen(codes[i]);                 \
                    if (part < TK / 16 - 1) load_codes(rows, part + 1, lane, codes);                                   \
                    WGMMA_FENCE();                                                                                     \
                    HELD_WGMMA_##n(now, held[part & 1], at, part);                                                     \
                    WGMMA_COMMIT();                                                                                    \
                    if (part < TK / 16 - 1)                                                                            \
                        WGMMA_WAIT("1");                                                                               \
                    else                                                                                               \
                        WGMMA_WAIT("0");                                                                               \
                }                                                                                                      \
                CAT(HOLD_, n)(now);                                                                                    \
                const local float *const scales =                                                                      \
                    (const local float *)(memory + base + SCALES_AT) + block * 128 + row;                              \
                const float scale = scales[0], scale8 = scales[8];                                                     \
                _Pragma("unroll") for (int i = 0; i < CAT(HALF_, n); i++) {                                            \
                    float *const sum = &sums[block * BLOCK_SUMS + i];                                                  \
                    *sum = fma(i & 2 ? scale8 : scale, now[i], *sum);                                                  \
                }                                                                                                      \
            }                                                                                                          \
            WARP_BARRIER();                                                                                            \
            if (lane == 0) mb_arrive(r->empty + 8 * stage->at);                                                        \
            next_turn(stage, STAGES);                                                                                  \
        }                                                                                                              \
    }

DEFINE_MULTIPLY_STEPS(32)
#if TOKENS > 32
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(96)
DEFINE_MULTIPLY_STEPS(128)
#endif

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory, uint row,
                          int rows, float *sums) {
#if TOKENS > 32
    if (rows > 96)
        multiply_steps_128(r, stage, steps, memory, row, sums);
    else if (rows > 64)
        multiply_steps_96(r, stage, steps, memory, row, sums);
    else if (rows > 32)
        multiply_steps_64(r, stage, steps, memory, row, sums);
    else
#endif
        multiply_steps_32(r, stage, steps, memory, row, sums);
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"
#include "matmul/wgmma_staged.cl"

#define SCALE_ROWS_OF(w)                                                                                               \
    { w##_scale + w##_scale_skip, w##_scale_expert, w##_scale_row, (uint)w##_first }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_fp8(MATMUL_ARGS, global uchar *maps,
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
    struct ring r;
    make_ring(&r, (uint)(size_t)memory, (uint)(size_t)barriers);
    const struct job j = {starts,       order + order_skip, gamma + gamma_skip, gamma_stride, pairs,
                          columns,      k,                  first,              count,        flags,
                          (uint)((depth + TK - 1) / TK)};
    if (lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const bool up_first = GLU && v + v_skip < w + w_skip;
    if (lid < 128) {
#if TOKENS > 32 // more sums than a work-item has registers for if all have as many
        CHANGE_REGISTERS("dec", "56");
#endif
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
            fetch_others(&r, &j, slots, &scales, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth);
        }
        return;
    }
#if TOKENS > 32
    CHANGE_REGISTERS("inc", "224");
#endif

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
        multiply_tile(&r, &stage, j.steps, memory, who * 64 + warp * 16 + lane / 4, rows, sums);
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
