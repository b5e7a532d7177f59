// SPDX-License-Identifier: MIT
// For MXFP4 weights and few pairs of an expert on sm_90a: weights by tensor copies, products by mma.sync. What takes
// time here is decoding and waiting, so that each warp goes its own way: between what fetches and what multiplies there
// are the barriers of the ring, and else none.
//
//   tile            W_ROWS rows of w x at most TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of
//                   up: a work-item has both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warp 1          fetches TK steps of w and x into a ring of STAGES stages
//   warps 2 on      multiply WARP_ROWS rows of w each, of which WAYS of them take parts of K in turns. Then activation,
//                   gamma and elements of y
//
// Of a part of 128 steps work-item q of a quad takes all of block q, of two rows of 16: 16 bytes that lie together,
// with one scale. So what a product adds up are not neighbours in K, and of x it takes the same block, of pair
// lane / 4.
#include "matmul/coded_begin.cl"

#ifndef W_ROWS
#error "W_ROWS: rows of w of a tile, a multiple of 64"
#endif
#ifndef WARP_ROWS
#error "WARP_ROWS: rows of w of a warp, 16 or 32"
#endif
#define MULTIPLYING_WARPS (LOCAL_SIZE / 32 - 2)
#define SIXTEENS (WARP_ROWS / 16)
#define WARP_COLUMNS (GLU ? WARP_ROWS / 2 : WARP_ROWS) // of y
#define TEAMS (W_ROWS / WARP_ROWS)
#define WAYS (MULTIPLYING_WARPS / TEAMS)
#define TN (GLU ? W_ROWS / 2 : W_ROWS) // columns of y
#include "matmul/wgmma_tiles.cl"

#define PITCH WINDOW // of rows of w
// Of x blocks of 64 bytes, those of a pair side by side. The chunks of block n are exchanged as bits 1 and 2 of n say:
// the same chunk of eight blocks lies in all banks.
#define X_BLOCK 64
#define X_CHUNK(block, chunk) ((block) * X_BLOCK + ((chunk) ^ ((block) >> 1 & 3u)) * 16)
#define X_PART (TOKENS * 4 * X_BLOCK)
#define PARTS (TK / 128)
#define X_BYTES (PARTS * X_PART)
#define SCALES_AT (X_BYTES + W_ROWS * PITCH)
#define STAGE_BYTES (SCALES_AT + SCALE_BYTES)

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 32 + (SCALED ? 2 : 1));
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
#include "matmul/mma_coded_rows.cl"

// ---- all tiles to local memory ----

// A work-item fetches 16 bytes of every second pair: half a warp what a part has of one.
#define EIGHTS (TOKENS / 8)
#define EIGHT_SUMS (4 * SIXTEENS) // of a work-item, of 8 pairs
#define SUMS (EIGHTS * EIGHT_SUMS)
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
    own->to = X_CHUNK(own->first * 4 + own->chunk / 4, own->chunk % 4);
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
            copy_16_below(stage + own->to + (part * X_PART + i * 8 * X_BLOCK), from + part * (PART_CHUNKS * 16),
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
#if SCALED
    struct window own_scales;
    make_boxes(&own_scales, w, true, SCALE_PERIOD, SCALE_PITCH, SCALES_AT, map_words + 256, maps + 256, j->count, lane);
#endif
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        if (slot->rows == 0) return;
        place_boxes(&own, PERIOD, slot->expert, slot->column);
        struct rows own_rows;
        place_rows(&own_rows, slot, slot->rows, x, x_row_chunks, lane);
#if SCALED
        place_boxes(&own_scales, SCALE_PERIOD, slot->expert, slot->column);
#endif
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES, full = r->full + 8 * stage.at;
            fetch_weights(base, full, &own, lane, step, w->row_bytes);
#if SCALED
            fetch_boxes(base, full, &own_scales, lane, step * (TK / 32), SCALE_BYTES);
#endif
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

// Of a work-item's block of x, of an eight of pairs, what meets word `word` of its codes: two registers for each of two
// products.
inline void load_x(uint *to, const local uchar *blocks, int word) {
    const uint lane = get_local_id(0) & 31u;
#define CHUNK_OF_X(chunk) (*(const local uint4 *)(blocks + X_CHUNK(lane, (uint)(chunk))))
#if SCALED
    const uint4 v = CHUNK_OF_X(word);
    to[0] = permute_bytes(v.s0, v.s2, 0x5410), to[1] = permute_bytes(v.s0, v.s2, 0x7632);
    to[2] = permute_bytes(v.s1, v.s3, 0x5410), to[3] = permute_bytes(v.s1, v.s3, 0x7632);
#else
    const uint4 low = CHUNK_OF_X(word / 2), high = CHUNK_OF_X(2 + word / 2);
    to[0] = word % 2 ? low.s2 : low.s0, to[1] = word % 2 ? low.s3 : low.s1;
    to[2] = word % 2 ? high.s2 : high.s0, to[3] = word % 2 ? high.s3 : high.s1;
#endif
}

// A part of at most 8 * eights pairs.
inline void multiply_part(const struct raw *raw, const local uchar *x, float *sums, const int eights,
                          const bool large) {
#pragma unroll
    for (int word = 0; word < 4; word++) {
        uint held[SIXTEENS][8];
#pragma unroll
        for (int i = 0; i < SIXTEENS; i++) {
            const uint factor[2] = {scale_factor(raw[i].e[0]), scale_factor(raw[i].e[1])};
            hold_word(&raw[i], word, factor, held[i]);
            if (large) scale_held(raw[i].e, held[i]);
        }
#pragma unroll
        for (int e = 0; e < eights; e++) {
            uint xs[4];
            load_x(xs, x + e * 32 * X_BLOCK, word);
#pragma unroll
            for (int i = 0; i < 2 * SIXTEENS; i++)
                warp_multiply(sums + 4 * (e * SIXTEENS + i % SIXTEENS), held[i % SIXTEENS] + i / SIXTEENS * 4,
                              xs + i / SIXTEENS * 2);
        }
    }
}

// All steps of a tile, of which the warp takes every WAYS-th part. Where scales are large is asked once for a part, so
// that what else there is to do stands in one piece.
inline void multiply_steps(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                           const struct share *h, uint blocks, uint way, float *sums, const int eights) {
    const uint lane = get_local_id(0) & 31u, parts = (blocks + 3) / 4;
    uint part = way;
#pragma unroll
    for (int i = 0; i < SUMS; i++)
        sums[i] = 0.0f;
    for (uint step = 0; step < steps; step++) {
        const local uchar *const at = memory + stage->at * STAGE_BYTES;
        const uint end = min((step + 1) * PARTS, parts);
        mb_wait(r->full + 8 * stage->at, stage->phase);
        for (; part < end; part += WAYS) {
            const uint of_stage = part - step * PARTS;
            struct raw raw[SIXTEENS];
            uint largest = 0;
#pragma unroll
            for (int i = 0; i < SIXTEENS; i++) {
                load_share(&raw[i], at, h, i, step, of_stage, part * 4 + (lane & 3u) < blocks);
                largest = max(largest, max(raw[i].e[0], raw[i].e[1]));
            }
            const local uchar *const x = at + of_stage * X_PART;
            if (any_of_warp(largest > LARGE_SCALE))
                multiply_part(raw, x, sums, eights, true);
            else
                multiply_part(raw, x, sums, eights, false);
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r->empty + 8 * stage->at);
        next_turn(stage, STAGES);
    }
}

// Tiles of fewer pairs do without products for more.
inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct share *h, uint blocks, uint way, int rows, float *sums) {
#if EIGHTS > 1
#define MULTIPLY_UP_TO(eights)                                                                                         \
    if (eights < EIGHTS && rows <= 8 * eights) {                                                                       \
        multiply_steps(r, stage, steps, memory, h, blocks, way, sums, eights);                                         \
        return;                                                                                                        \
    }
    MULTIPLY_UP_TO(1)
#if EIGHTS > 2
    MULTIPLY_UP_TO(2)
    MULTIPLY_UP_TO(3)
#endif
#endif
    multiply_steps(r, stage, steps, memory, h, blocks, way, sums, EIGHTS);
}

// What the first of the warps that share rows has then are the sums of all, by eights of pairs. Those that have given
// theirs may give more once it has read them.
inline void add_ways(local float *given, uint team, uint way, int rows, float *sums) {
#if WAYS > 1
    local float *const own = given + (team * (WAYS - 1) * EIGHT_SUMS) * 32 + (get_local_id(0) & 31u);
#pragma unroll
    for (int e = 0; e < EIGHTS; e++) {
        if (8 * e >= rows) break;
        WARPS_BARRIER(1 + team, WAYS * 32);
        if (way) {
#pragma unroll
            for (int i = 0; i < EIGHT_SUMS; i++)
                own[((way - 1) * EIGHT_SUMS + i) * 32] = sums[e * EIGHT_SUMS + i];
        }
        WARPS_BARRIER(1 + team, WAYS * 32);
        if (!way) {
#pragma unroll
            for (int i = 0; i < EIGHT_SUMS * (WAYS - 1); i++)
                sums[e * EIGHT_SUMS + i % EIGHT_SUMS] += own[i * 32];
        }
    }
#endif
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_mma_coded(MATMUL_ARGS, global uchar *maps,
                                                                                     ulong maps_skip,
                                                                                     global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[STAGES * STAGE_BYTES] __attribute__((aligned(1024)));
    local uint map_words[4 * 32] __attribute__((aligned(128)));
    local ulong barriers[2 * STAGES + 2 * SLOTS];
    local struct slot slots[SLOTS];
    local float given[WAYS > 1 ? TEAMS * (WAYS - 1) * EIGHT_SUMS * 32 : 1];
    CODED_BEGIN
    if (lid == 0) init_barriers(&r);
    if (lid < 128) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 32) {
        plan_tiles(&j, slots, r.told, r.heard, counters);
        return;
    }
    if (lid < 64) {
        fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8),
                    (uint)(size_t)map_words, maps + maps_skip + get_group_id(0) * 512);
        return;
    }

    const uint warp = lid / 32 - 2, team = warp % TEAMS, way = WAYS > 1 ? warp / TEAMS : 0;
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[SUMS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        float biases[SIXTEENS][2];
        const struct share share =
            share_of(&weights, slot->expert, slot->column, team * WARP_COLUMNS + lane / 4, lane & 3u);
#pragma unroll
        for (int i = 0; i < SIXTEENS; i++) {
            const uint column = team * WARP_COLUMNS + i * SIXTEEN_COLUMNS + lane / 4, next = GLU ? column : column + 8;
            if (way) continue;
            const long n = column_of(column, 0, slot->column, columns), n8 = column_of(next, 0, slot->column, columns);
            biases[i][0] = BIAS_AT(e, n), biases[i][1] = GLU ? BIAS_UP_AT(e, n) : BIAS_AT(e, n8);
        }
        multiply_tile(&r, &stage, j.steps, memory, &share, weights.blocks, way, rows, sums);
        add_ways(given, team, way, rows, sums);
        const int own_rows = way ? 0 : rows;
        const long n0 = slot->column + team * WARP_COLUMNS + lane / 4;
#pragma unroll
        for (int i = 0; i < 2 * EIGHTS; i++) {
            const int t = i / 2 * 8 + (int)(lane & 3u) * 2 + i % 2;
            if (t >= own_rows) continue;
            const float weight = slot->gamma[t];
            const ulong to = y_skip + slot->y_row[t] * y_stride;
#pragma unroll
            for (int s = 0; s < SIXTEENS; s++) {
                const float *const own = sums + i / 2 * EIGHT_SUMS + s * 4 + i % 2, *const bias_n = biases[s];
                const long n = n0 + s * SIXTEEN_COLUMNS;
#if GLU
                if (n < columns) STORE(Y_T, y, to + n, FINISH(own[0], own[2], bias_n[0], bias_n[1], weight));
#else
                if (n < columns) STORE(Y_T, y, to + n, FINISH(own[0], 0.0f, bias_n[0], 0.0f, weight));
                if (n + 8 < columns) STORE(Y_T, y, to + n + 8, FINISH(own[2], 0.0f, bias_n[1], 0.0f, weight));
#endif
            }
        }
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 64, LOCAL_SIZE - 64);
}
