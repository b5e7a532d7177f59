// SPDX-License-Identifier: MIT
// For many rows on sm_90a. Persistent: a work-group for each compute unit, three groups of four warps.
//
//   tile   256 rows of w x TOKENS pairs. The instruction's rows are those of w, its columns are pairs, so that no more
//          than 63 pairs are multiplied for nothing. With GLU these are the rows of 128 columns of y, by turns
//          8 of gate and the 8 of up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w by tensor copies, into a ring of STAGES stages; of x, too, where its rows are
//                   neighbours (CONTIGUOUS)
//   warps 2, 3      fetch the rows of x that the pairs name, by asynchronous copies of 16 bytes
//   warps 4 .. 11   multiply, 128 rows of w a group of four; then activation, gamma and rows of y
//
// Rows in local memory have 2 * TK bytes, their chunks of 16 bytes swizzled as the instruction wants it: SWIZZLED.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#define ACT_EXP(x) native_exp(x)
#define ACT_DIVIDE(a, b) native_divide(a, b)
#include "matmul/epilogue.cl"

#ifndef CONTIGUOUS
#error "CONTIGUOUS: whether the pair at position i has row i of x, 0 or 1"
#endif
#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef TK
#error "TK: steps of K of a stage, 32 or 64"
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

#define ROW (2 * TK) // bytes of a row in local memory
#define GROUP_N (GLU ? 64 : 128) // columns of y of a multiplying group
#define TN (2 * GROUP_N)
#if TK == 64
#define SWIZZLED(row, chunk) ((chunk) ^ ((row) & 7u))
#define MAP_SWIZZLE "3"
#define TILE_SWIZZLE 1ul
#else
#define SWIZZLED(row, chunk) ((chunk) ^ ((row) >> 1 & 3u))
#define MAP_SWIZZLE "2"
#define TILE_SWIZZLE 2ul
#endif

#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_maps.cl"
#include "matmul/wgmma_shapes.cl"
#include "matmul/wgmma_tiles.cl"

#define GROUP_BYTES (128 * ROW) // rows of w of a multiplying group, two blocks of 64
#define W_BYTES (2 * GROUP_BYTES)
#define BOX_PAIRS 32 // of x in a tensor copy
#define STAGE_BYTES (W_BYTES + TOKENS * ROW)

// Of y a group stages so many pairs at a time, in the tile's last stage; rows are apart so that eight begin in
// different banks.
#define STAGED_PAIRS (GLU || TOKENS <= 64 ? TOKENS : TOKENS / 2)
#define STAGED_ROW (GROUP_N * 2 + 16)
#define STAGED (STAGED_PAIRS * STAGED_ROW)

// In local memory: the ring, words of tensor maps, slots, barriers
#define MAPS_AT (STAGES * STAGE_BYTES)
#define SLOTS_AT (MAPS_AT + 256)

#define BOTH_BARRIER() asm volatile("bar.sync 3, 256;" : : : "memory") // 1 and 2 are the groups' own

#define X_FETCHERS 64
#define MULTIPLYING_WARPS 8

// Registers of a work-item once the groups have parted, no more in all than the 384 * 168 there are: sums alone take
// TOKENS, and copies of rows of x wait for one another where their addresses have to share registers.
#if TOKENS > 128
#if CONTIGUOUS
#define FETCHER_REGISTERS "40"
#define MULTIPLIER_REGISTERS "232"
#else
#define FETCHER_REGISTERS "88"
#define MULTIPLIER_REGISTERS "208"
#endif
#define SET_REGISTERS(how, n) asm volatile("//@@ setmaxnreg." how ".sync.aligned.u32 " n ";" : : : "memory")
#else
#define SET_REGISTERS(how, n)
#endif

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

// Pairs of a tile that are multiplied.
inline uint pairs_of(int rows) { return TOKENS > 64 && rows <= 64 ? 64 : TOKENS > 128 && rows <= 128 ? 128 : TOKENS; }

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
            mb_expect(full, W_BYTES + pairs * ROW);
            for (uint who = 0; who < 2; who++) {
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
#define CHUNKS (TK / 8)
#define X_APART (X_FETCHERS / CHUNKS)
inline void fetch_rows(const struct ring *r, const struct job *j, const local struct slot *slots, const global uchar *x,
                       uint x_row_chunks, uint depth) {
    const uint lid = get_local_id(0) & (X_FETCHERS - 1), chunk = lid & (CHUNKS - 1), row = lid / CHUNKS;
    const uint to = W_BYTES + row * ROW + SWIZZLED(row, chunk) * 16;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows;
        uint from[TOKENS / X_APART];
#pragma unroll
        for (int i = 0; i < TOKENS / X_APART; i++)
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
            for (int i = 0; i < TOKENS / X_APART; i++)
                asm volatile("{ .reg .pred p; setp.lt.s32 p, %3, %4; @p cp.async.cg.shared.global [%0], [%1], 16, %2; }"
                             :
                             : "r"(base + i * X_APART * ROW), "l"(x_step + from[i] * 16ul), "r"(bytes),
                               "r"((int)row + X_APART * i), "r"(rows)
                             : "memory");
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

// Describes swizzled rows in local memory, in units of 16 bytes; from eight rows to the next is as far everywhere.
inline ulong tile_of(uint at) {
    return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | (8 * ROW / 16ul) << 32 | TILE_SWIZZLE << 62;
}

// Those of the second block of 64 rows are BLOCK_SUMS behind those of the first.
#define BLOCK_SUMS (TOKENS / 2)
#define MULTIPLY(n, at, keep)                                                                                          \
    WGMMA(n, sums, weights + (at), pairs + (at), keep);                                                                \
    WGMMA(n, sums + BLOCK_SUMS, weights + (GROUP_BYTES / 2 >> 4) + (at), pairs + (at), keep);

#if TK == 64
#define MULTIPLY_REST(n) MULTIPLY(n, 4, 1) MULTIPLY(n, 6, 1)
#else
#define MULTIPLY_REST(n)
#endif

// All steps of a tile of which n pairs are multiplied. Returns the last stage, which is still held.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline uint CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps, uint who, float *sums) { \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        uint previous = 0;                                                                                             \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            if (!CONTIGUOUS) ASYNC_FENCE();                                                                            \
            const uint base = r->base + stage->at * STAGE_BYTES;                                                       \
            const ulong weights = tile_of(base + who * GROUP_BYTES), pairs = tile_of(base + W_BYTES);                  \
            asm volatile("//@@ wgmma.fence.sync.aligned;" : : : "memory");                                             \
            MULTIPLY(n, 0, step)                                                                                       \
            MULTIPLY(n, 2, 1)                                                                                          \
            MULTIPLY_REST(n)                                                                                           \
            asm volatile("//@@ wgmma.commit_group.sync.aligned;" : : : "memory");                                      \
            asm volatile("//@@ wgmma.wait_group.sync.aligned 1;" : : : "memory");                                      \
            if (step && tells) mb_arrive(r->empty + 8 * previous);                                                     \
            previous = stage->at;                                                                                      \
            next_turn(stage, STAGES);                                                                                  \
        }                                                                                                              \
        asm volatile("//@@ wgmma.wait_group.sync.aligned 0;" : : : "memory");                                          \
        return previous;                                                                                               \
    }

DEFINE_MULTIPLY_STEPS(TOKENS)
#if TOKENS > 128
DEFINE_MULTIPLY_STEPS(64)
DEFINE_MULTIPLY_STEPS(128)
#endif

inline uint multiply_tile(const struct ring *r, struct turn *stage, uint steps, uint who, uint pairs, float *sums) {
    uint last;
#if TOKENS > 128
    if (pairs == 64)
        last = multiply_steps_64(r, stage, steps, who, sums);
    else if (pairs == 128)
        last = multiply_steps_128(r, stage, steps, who, sums);
    else
#endif
        last = CAT(multiply_steps_, TOKENS)(r, stage, steps, who, sums);
    HOLD(TOKENS, sums);
    return last;
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"

// Rows of staged pairs from `first` on to columns n0 .. of y, of which a row has y_row_chunks times 16 bytes. By a
// group.
inline void store_rows(const local uchar *from, const local struct slot *slot, int first, int rows, global ushort *y,
                       uint y_row_chunks, long n0, long columns) {
    const uint chunks = GROUP_N / 8, lid = get_local_id(0) & 127u, c = lid & (chunks - 1);
    const int end = n0 + c * 8 < columns ? rows - first : 0;
    global ushort *const to = y + n0 + c * 8;
#pragma unroll
    for (uint i = 0; i < STAGED_PAIRS * chunks / 128; i += 2) { // two at a time, so that both loads are on their way
        uint4 v[2];
        global ushort *row[2];
        const int t = lid / chunks + i * (128 / chunks), t1 = t + 128 / chunks;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            v[k] = *(const local uint4 *)(from + (k ? t1 : t) * STAGED_ROW + c * 16);
            row[k] = to + (uint)slot->y_row[first + (k ? t1 : t)] * y_row_chunks * 8ul; // past the end: nowhere
        }
        asm volatile("{ .reg .pred p, q; setp.lt.s32 p, %0, %2; setp.lt.s32 q, %1, %2; "
                     "@p st.global.v4.u32 [%3], {%4, %5, %6, %7}; @q st.global.v4.u32 [%8], {%9, %10, %11, %12}; }"
                     :
                     : "r"(t), "r"(t1), "r"(end), "l"(row[0]), "r"(v[0].x), "r"(v[0].y), "r"(v[0].z), "r"(v[0].w),
                       "l"(row[1]), "r"(v[1].x), "r"(v[1].y), "r"(v[1].z), "r"(v[1].w));
    }
}

#define BIAS_OF(n) BIAS_AT(e, min((long)(n), columns - 1))
#define BIAS_UP_OF(n) BIAS_UP_AT(e, min((long)(n), columns - 1))

// The element of y of sum o + i of a block: of pair t + i, in the first or, if q is odd and there is no GLU, the second
// column.
#if GLU
#define ELEMENT(o, block, q, i)                                                                                        \
    FINISH(one_of(up_first, sums[(o) + 2 + (i)], sums[(o) + (i)]),                                                     \
           one_of(up_first, sums[(o) + (i)], sums[(o) + 2 + (i)]), bias_n[block], bias_n8[block], weight[q][i])
#else
#define ELEMENT(o, block, q, i)                                                                                        \
    FINISH(sums[(o) + (i)], 0.0f, (q) & 1 ? bias_n8[block] : bias_n[block], 0.0f, weight[q][i])
#endif

// By value: a choice between elements of `sums` would put these into memory.
inline float one_of(bool first, float a, float b) { return first ? a : b; }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma(MATMUL_ARGS, global uchar *maps,
                                                                                 ulong maps_skip,
                                                                                 global uint *counters) {
    MATMUL_NUMBERS
    // One array, which begins as the ring wants it: apart they would be padded, and there is no room for that.
    local uchar memory[SLOTS_AT + SLOTS * sizeof(struct slot) + 16 * (STAGES + SLOTS)] __attribute__((aligned(1024)));
    local struct slot *const slots = (local struct slot *)(memory + SLOTS_AT);
    WHEN_SHOWN
    const uint lid = get_local_id(0), lane = lid & 31u;
    const global int *const starts = offsets + offsets_skip;
    struct ring r = {(uint)(size_t)memory, (uint)(size_t)(slots + SLOTS), 0, 0, 0};
    r.empty = r.full + 8 * STAGES, r.told = r.empty + 8 * STAGES, r.heard = r.told + 8 * SLOTS;

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
        } else if (!CONTIGUOUS) {
            fetch_rows(&r, &j, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth);
        }
        return;
    }

    SET_REGISTERS("inc", MULTIPLIER_REGISTERS);
    const uint who = lid / 128 - 1, warp = lid / 32 & 3u;
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[TOKENS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        const uint last = multiply_tile(&r, &stage, j.steps, who, pairs_of(rows), sums);
        const uint staging = last * STAGE_BYTES + who * STAGED;
        BOTH_BARRIER(); // the last stage has been read
        // Of each block columns n and, without GLU, n + 8 of y are this work-item's.
        const long n0 = slot->column + who * GROUP_N;
        float bias_n[2], bias_n8[2];
        for (int block = 0; block < 2; block++) {
            const long n = n0 + block * (GROUP_N / 2) + warp * (GROUP_N / 8) + lane / 4;
            bias_n[block] = BIAS_OF(n);
            bias_n8[block] = GLU ? BIAS_UP_OF(n) : BIAS_OF(n + 8);
        }
#pragma unroll
        for (int staged = 0; staged < TOKENS; staged += STAGED_PAIRS) {
            if (staged < rows) {
                if (staged) GROUP_BARRIER(1 + who); // what was staged before has been read
#pragma unroll
                for (int t8 = 0; t8 < STAGED_PAIRS; t8 += GLU ? 32 : 16) {
                    float weight[4][2]; // of pairs t and t + 1
#pragma unroll
                    for (int q = 0; q < 4; q++) {
                        const int t = staged + t8 + 8 * (GLU ? q : q / 2) + 2 * (int)(lane & 3u);
                        weight[q][0] = slot->gamma[t], weight[q][1] = slot->gamma[t + 1];
                    }
#pragma unroll
                    for (int block = 0; block < 2; block++) {
                        uint packed[4];
#pragma unroll
                        for (int q = 0; q < 4; q++) {
                            const int eight = (staged + t8) / 8 + (GLU ? q : q / 2);
                            const int o = block * BLOCK_SUMS + 4 * eight + (GLU ? 0 : 2 * (q & 1));
                            packed[q] = pack_two(ELEMENT(o, block, q, 0), ELEMENT(o, block, q, 1));
                        }
                        const uint t = t8 + (GLU ? lane : (lane >> 4) * 8 + (lane & 7u));
                        const uint chunk = block * (GROUP_N / 16) + (GLU ? warp : warp * 2 + (lane >> 3 & 1u));
                        store_matrices(r.base + staging + t * STAGED_ROW + chunk * 16, packed);
                    }
                }
                GROUP_BARRIER(1 + who);
                store_rows(memory + staging, slot, staged, rows, (global ushort *)y + y_skip, (uint)(y_stride / 8), n0,
                           columns);
            }
        }
        ASYNC_FENCE(); // copies may follow
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.empty + 8 * last);
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
