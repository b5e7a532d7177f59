// SPDX-License-Identifier: MIT
// For MXFP4 weights and few pairs of an expert on sm_90a: weights by tensor copies, products by mma.sync. What takes
// time here is decoding and waiting, so that each warp goes its own way: between what fetches and what multiplies there
// are the barriers of the ring, and else none.
//
//   tile            W_ROWS rows of w x at most TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of
//                   up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w and x into a ring of STAGES stages
//   warps 2 .. 9    multiply 16 rows of w each; where there are fewer than 128, WAYS of them take parts of a stage in
//                   turns. Then activation, gamma and elements of y
//
// Of a part of 128 steps work-item q of a quad takes all of block q, of two rows: 16 bytes that lie together, with one
// scale. So what a product adds up are not neighbours in K, and of x it takes the same block, of pair lane / 4.
#include "matmul/coded_begin.cl"

#ifndef W_ROWS
#error "W_ROWS: rows of w of a tile, 64 or 128"
#endif
#define MULTIPLYING_WARPS 8
#define WAYS (16 * MULTIPLYING_WARPS / W_ROWS)
#define TN (GLU ? W_ROWS / 2 : W_ROWS) // columns of y
#include "matmul/wgmma_tiles.cl"

#define PITCH WINDOW // of rows of w
// Of x blocks of 64 bytes lie X_PITCH apart: 16 bytes of each of eight lie in all banks.
#define X_PITCH (64 + 16)
#define X_PART (TOKENS * 4 * X_PITCH)
#define PARTS (TK / 128)
#define OWN_PARTS (PARTS / WAYS) // of a warp
#define X_BYTES (PARTS * X_PART)
#define STAGE_BYTES (X_BYTES + W_ROWS * PITCH)

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 32 + 1);
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + 1);
    }
    ASYNC_FENCE();
}

#include "matmul/wgmma_coded_where.cl"
#include "matmul/coded_boxes.cl"
#include "matmul/coded_held.cl"

// ---- all tiles to local memory ----

// A work-item fetches 16 bytes of every second pair: half a warp what a part has of one.
#define EIGHTS (TOKENS / 8)
#define PART_CHUNKS (128 * 2 / 16)

struct rows {
    const global uchar *x;
    uint from[TOKENS / 2], to, chunk; // from, chunk: in chunks of 16 bytes
    int first, n;
};

inline void place_rows(struct rows *own, const local struct slot *slot, int rows, const global uchar *x,
                       uint x_row_chunks, uint lane) {
    own->x = x;
    own->chunk = lane % PART_CHUNKS;
    own->first = lane / PART_CHUNKS;
    own->to = (own->first * 4 + own->chunk / 4) * X_PITCH + own->chunk % 4 * 16;
    own->n = rows;
#pragma unroll
    for (int i = 0; i < TOKENS / 2; i++)
        own->from[i] = (uint)slot->x_row[min(2 * i + own->first, rows - 1)] * x_row_chunks + own->chunk;
}

// Behind the last column zeros.
inline void fetch_rows(uint stage, const struct rows *own, uint step, uint blocks) {
#pragma unroll
    for (int i = 0; i < TOKENS / 2; i++) {
        if (2 * i >= own->n) break;
        const global uchar *const from = own->x + (ulong)(own->from[i] + step * (PARTS * PART_CHUNKS)) * 16;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const bool there = (step * PARTS + part) * 4 + own->chunk / 4 < blocks;
            copy_16_below(stage + own->to + (part * X_PART + i * 8 * X_PITCH), from + part * (PART_CHUNKS * 16),
                          there ? 16 : 0, 2 * i + own->first, own->n);
        }
    }
}

inline void fetch_tiles(const struct ring *r, const struct job *j, const struct weights *w,
                        const local struct slot *slots, const global uchar *x, uint x_row_chunks, uint map_words,
                        global uchar *maps) {
    const uint lane = get_local_id(0) & 31u;
    struct window own;
    make_maps(&own, w, map_words, maps, j->count, lane);
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        if (slot->rows == 0) return;
        place_window(&own, w, lane, slot->expert, slot->column);
        struct rows own_rows;
        place_rows(&own_rows, slot, slot->rows, x, x_row_chunks, lane);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            fetch_weights(base, full, &own, lane, step, w->row_bytes);
            fetch_rows(base, &own_rows, step, w->blocks);
            mb_arrive_copied(full);
            next_turn(&stage, STAGES);
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r->heard + 8 * turn.at);
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

#include "matmul/coded_words.cl"

// Of a block of x what meets words 2 * two and 2 * two + 1 of its codes: two registers for each of two products of
// either.
inline void load_x(uint *to, const local uchar *block, int two) {
    const local uint4 *const at = (const local uint4 *)block;
#if SCALED
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint4 v = at[2 * two + i];
        to[4 * i] = permute_bytes(v.s0, v.s2, 0x5410), to[4 * i + 1] = permute_bytes(v.s0, v.s2, 0x7632);
        to[4 * i + 2] = permute_bytes(v.s1, v.s3, 0x5410), to[4 * i + 3] = permute_bytes(v.s1, v.s3, 0x7632);
    }
#else
    const uint4 low = at[two], high = at[2 + two];
    to[0] = low.s0, to[1] = high.s0, to[2] = low.s1, to[3] = high.s1;
    to[4] = low.s2, to[5] = high.s2, to[6] = low.s3, to[7] = high.s3;
#endif
}

// Scales that lie apart are on their way while a stage is multiplied.
inline void ask_scales(uint *e, const struct held *h, uint part) {
#pragma unroll
    for (int i = 0; i < 2; i++)
        e[i] = SCALED ? scale_at(h, i, part * 4 + (get_local_id(0) & 3u)) : 0;
}

// A part of a stage, of at most 8 * eights pairs.
inline void multiply_part(const struct raw *raw, const local uchar *x, float *sums, const int eights) {
    const uint factor[2] = {scale_factor(raw->e[0]), scale_factor(raw->e[1])};
    const bool large = any_of_warp(max(raw->e[0], raw->e[1]) > LARGE_SCALE);
#pragma unroll
    for (int two = 0; two < 2; two++) {
        uint held[2][8];
#pragma unroll
        for (int i = 0; i < 2; i++)
            hold_word(raw, 2 * two + i, factor, held[i]);
        if (large) scale_held(raw->e, held[0]), scale_held(raw->e, held[1]);
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            if (e >= eights) break;
            uint xs[8];
            load_x(xs, x + e * 32 * X_PITCH, two);
#pragma unroll
            for (int i = 0; i < 4; i++)
                warp_multiply(sums + 4 * e, held[i / 2] + i % 2 * 4, xs + 2 * i);
        }
    }
}

// All steps of a tile, of which the warp takes every WAYS-th part.
inline void multiply_steps(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                           const struct held *h, uint way, float *sums, const int eights) {
    const uint lane = get_local_id(0) & 31u;
    uint ahead[OWN_PARTS][2];
#pragma unroll
    for (int i = 0; i < OWN_PARTS; i++)
        ask_scales(ahead[i], h, i * WAYS + way);
#pragma unroll
    for (int i = 0; i < 4 * EIGHTS; i++)
        sums[i] = 0.0f;
    for (uint step = 0; step < steps; step++) {
        const local uchar *const at = memory + stage->at * STAGE_BYTES;
        mb_wait(r->full + 8 * stage->at, stage->phase);
#pragma unroll
        for (int i = 0; i < OWN_PARTS; i++) {
            const uint part = i * WAYS + way, of_row = step * PARTS + part;
            if (of_row * 4 >= h->blocks) break;
            struct raw raw = {.e = {ahead[i][0], ahead[i][1]}};
            ask_scales(ahead[i], h, of_row + PARTS);
            load_block(&raw, at, h, step, part * 4 + (lane & 3u));
            multiply_part(&raw, at + part * X_PART + lane * X_PITCH, sums, eights);
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r->empty + 8 * stage->at);
        next_turn(stage, STAGES);
    }
}

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, uint way, int rows, float *sums) {
#if TOKENS > 8
    if (rows > 8) {
        multiply_steps(r, stage, steps, memory, h, way, sums, EIGHTS);
        return;
    }
#endif
    multiply_steps(r, stage, steps, memory, h, way, sums, 1);
}

// What the first of the warps that share rows has then are the sums of all. Those that have given theirs may give more
// once it has read them.
inline void add_ways(local float *given, uint group, uint way, float *sums) {
#if WAYS > 1
    local float *const own = given + group * 32 + (get_local_id(0) & 31u);
    WARPS_BARRIER(1 + group);
#pragma unroll
    for (int i = 0; i < 4 * EIGHTS; i++)
        if (way) own[i * (W_ROWS / 16 * 32)] = sums[i];
    WARPS_BARRIER(1 + group);
#pragma unroll
    for (int i = 0; i < 4 * EIGHTS; i++)
        if (!way) sums[i] += own[i * (W_ROWS / 16 * 32)];
#endif
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_mma_coded(MATMUL_ARGS, global uchar *maps,
                                                                                     ulong maps_skip,
                                                                                     global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[STAGES * STAGE_BYTES] __attribute__((aligned(1024)));
    local uint map_words[2 * 32] __attribute__((aligned(128)));
    local ulong barriers[2 * STAGES + 2 * SLOTS];
    local struct slot slots[SLOTS];
    local float given[WAYS > 1 ? W_ROWS / 16 * 32 * 4 * EIGHTS : 1];
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
    if (lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 32) {
        plan_tiles(&j, slots, r.told, r.heard, counters);
        return;
    }
    if (lid < 64) {
        fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8),
                    (uint)(size_t)map_words, maps + maps_skip + get_group_id(0) * 256);
        return;
    }

    const uint warp = lid / 32 - 2, group = warp % (W_ROWS / 16), way = WAYS > 1 ? warp / (W_ROWS / 16) : 0;
    const uint column = group * (GLU ? 8 : 16) + lane / 4;
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[4 * EIGHTS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        const struct held held = held_of(&weights, slot->expert, slot->column, column, GLU ? column : column + 8);
        const long n = slot->column + column, n8 = GLU ? n : n + 8;
        const long n_in = min(n, columns - 1), n8_in = min(n8, columns - 1);
        const float bias_n = BIAS_AT(e, n_in), bias_n8 = GLU ? BIAS_UP_AT(e, n_in) : BIAS_AT(e, n8_in);
        multiply_tile(&r, &stage, j.steps, memory, &held, way, rows, sums);
        add_ways(given, group, way, sums);
        const int own_rows = way ? 0 : rows;
#pragma unroll
        for (int i = 0; i < 2 * EIGHTS; i++) {
            const int t = i / 2 * 8 + (int)(lane & 3u) * 2 + i % 2, sum = i / 2 * 4 + i % 2;
            if (t < own_rows) {
                const float weight = slot->gamma[t];
                const ulong to = y_skip + slot->y_row[t] * y_stride;
#if GLU
                if (n < columns) STORE(Y_T, y, to + n, FINISH(sums[sum], sums[sum + 2], bias_n, bias_n8, weight));
#else
                if (n < columns) STORE(Y_T, y, to + n, FINISH(sums[sum], 0.0f, bias_n, 0.0f, weight));
                if (n8 < columns) STORE(Y_T, y, to + n8, FINISH(sums[sum + 2], 0.0f, bias_n8, 0.0f, weight));
#endif
            }
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 64, LOCAL_SIZE - 64);
}
