// SPDX-License-Identifier: MIT
// For MXFP4 weights and many rows on sm_90a: as wgmma.cl, but that weights go to the instruction from registers, where
// each multiplying work-item decodes what it holds of them. They are in local memory as they are in global memory.
//
//   tile   128 rows of w x TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of up: a work-item has both
//          sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warps 1 .. 3    fetch TK steps of w and x into a ring of STAGES stages, by asynchronous copies: of a row of w the
//                   16 bytes that lie around these steps, so that it may begin anywhere
//   warps 4 .. 11   multiply: 64 rows of w a group of four; then activation, gamma and rows of y
//
//   W_T   mxfp4: blocks of a scale and 16 bytes, elements j and j + 16 in byte j
//         f4_e2m1: 16 bytes, elements 2j and 2j + 1 in byte j, scales elsewhere
//
// In a step of 16 a work-item holds elements 2 * (lane % 4) and the next of two chunks of 8: in a block of mxfp4 those are
// in neighbouring bytes, twice two of them, and in f4_e2m1 in one byte of each word.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#define ACT_EXP(x) native_exp(x)
#define ACT_DIVIDE(a, b) native_divide(a, b)
#include "matmul/epilogue.cl"

#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef TK
#error "TK: steps of K of a stage, 64 or 128"
#endif
#define PACK_TWO "cvt.rn.bf16x2.f32"

#define TN (GLU ? 64 : 128) // columns of y, and those of one group
#define GROUP_N (TN / 2)
#define PTX 1
#include "matmul/coded.cl"
#define WGMMA_T "bf16.bf16"
#include "matmul/wgmma_held.cl"
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_tiles.cl"

// Of a row of w: bytes of a block of 32 elements; those of a stage, wherever they begin; rows lie PITCH apart, so that
// reading eight of them meets no bank twice.
#define BLOCK_BYTES (SCALED ? 16 : 17)
#define STEP_BYTES (TK / 32 * BLOCK_BYTES)
#define WINDOW (SCALED ? STEP_BYTES : (STEP_BYTES + 15 + 15) / 16 * 16)
#define PITCH (WINDOW + 16)
#define W_ROWS 128
#define PAIRS_STEP 64 // a group stages so many
#define X_BYTES (TOKENS * 2 * TK)
#define SCALES_AT (X_BYTES + W_ROWS * PITCH)
#define SCALES_PITCH 8
#define STAGE_BYTES (SCALES_AT + (SCALED ? W_ROWS * SCALES_PITCH : 0))
#define STAGED (PAIRS_STEP * GROUP_N * 2)

#define FETCHING_WARPS 3
#define MULTIPLYING_WARPS 8

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, FETCHING_WARPS * 32);
        mb_init(r->empty + 8 * i, MULTIPLYING_WARPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        mb_init(r->told + 8 * i, 1);
        mb_init(r->heard + 8 * i, MULTIPLYING_WARPS + FETCHING_WARPS);
    }
    ASYNC_FENCE();
}

// ---- weights: where their bytes are ----

// Of gate and up: their rows and the scales of these, and bytes from row to row and expert to expert.
struct source {
    const global uchar *w, *scales;
    long expert, column, scales_expert, scales_column;
};

struct weights {
    struct source gate, up;
    uint row_bytes, scale_bytes; // of a row
    long columns;
};

// Row `row` of a tile is column n0 + ... of y; past the last column the last one again.
inline long column_of(uint row, long n0, long columns) {
    const long n = n0 + (GLU ? row / 16 * 8 + (row & 7u) : row);
    return min(n, columns - 1);
}

inline const global uchar *row_at(const struct weights *w, uint row, int expert, long n0) {
    const long n = column_of(row, n0, w->columns);
    return GLU && row & 8u ? w->up.w + expert * w->up.expert + n * w->up.column
                           : w->gate.w + expert * w->gate.expert + n * w->gate.column;
}

inline const global uchar *scales_at(const struct weights *w, uint row, int expert, long n0) {
    const long n = column_of(row, n0, w->columns);
    return GLU && row & 8u ? w->up.scales + expert * w->up.scales_expert + n * w->up.scales_column
                           : w->gate.scales + expert * w->gate.scales_expert + n * w->gate.scales_column;
}

// ---- to local memory ----

#define W_LANES (WINDOW > 64 ? 8 : WINDOW > 32 ? 4 : 2) // of a row
#define W_EACH (FETCHING_WARPS * 32 / W_LANES)          // rows from copy to copy
#define W_COPIES ((W_ROWS + W_EACH - 1) / W_EACH)

// What a work-item copies of w.
struct window {
    const global uchar *from[W_COPIES];
};

inline void copy_16(uint to, const global uchar *from, int bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
}

inline void copy_4(uint to, const global uchar *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
}

// The bytes of step `step`. Behind a row's last one zeros, which are codes of 0 with the smallest scale.
inline void fetch_weights(uint stage, const struct window *own, uint lid, uint step, uint row_bytes) {
    const uint lane = lid & (W_LANES - 1), row = lid / W_LANES, chunk = lane * 16;
    const bool last = (step + 1) * STEP_BYTES + 32 > row_bytes;
    const uint to = stage + X_BYTES + row * PITCH + chunk;
    if (WINDOW / 16 < W_LANES && chunk >= WINDOW) return;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = SCALED ? 0 : (uint)(ulong)own->from[i] & 15u, begin = before + step * STEP_BYTES;
        const uint at = (SCALED ? begin : begin & ~15u) + chunk, end = before + row_bytes;
        int bytes = 16;
        if (last) bytes = min(16, max(0, (int)end - (int)at));
        if (i * W_EACH + row < W_ROWS && at < begin + STEP_BYTES)
            copy_16(to + i * W_EACH * PITCH, own->from[i] - before + (bytes ? at : 0), bytes);
    }
}

// The scales of two rows of a work-item, of which there may be no second: two words around them.
inline void fetch_scales(uint stage, const global uchar *const *from, uint lid, uint step, uint scale_bytes) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint row = lid + i * FETCHING_WARPS * 32, before = (uint)(ulong)from[i] & 3u;
        const uint at = (before + step * (TK / 32)) & ~3u;
        if (row >= W_ROWS) return;
#pragma unroll
        for (int word = 0; word < 8; word += 4) {
            const int bytes = min(4, max(0, (int)(before + scale_bytes) - (int)(at + word)));
            copy_4(stage + SCALES_AT + row * SCALES_PITCH + word, from[i] - before + (bytes ? at + word : 0), bytes);
        }
    }
}

// Rows of x that the slot names. Behind the last pair what was there stays: sums of other pairs do not see it.
inline void fetch_rows(uint stage, const local struct slot *slot, int rows, const global uchar *x, long x_row_bytes,
                       uint lid, uint step, uint depth) {
    const uint chunk = lid & 7u, k = step * TK + chunk * 8;
    for (int t = (int)(lid / 8); t < rows; t += FETCHING_WARPS * 4) {
        const global uchar *const from = x + slot->x_row[t] * x_row_bytes;
        const uint to = stage + t * 128 + (chunk ^ (t & 7u)) * 16;
#pragma unroll
        for (int part = 0; part < TK / 64; part++) {
            const uint at = k + part * 64;
            copy_16(to + part * TOKENS * 128, from + (at < depth ? at * 2 : 0), at < depth ? 16 : 0);
        }
    }
}

// All tiles of this work-group.
inline void fetch_tiles(const struct ring *r, const struct job *j, const struct weights *w, const local struct slot *slots,
                        const global uchar *x, long x_row_bytes, uint depth) {
    const uint lid = get_local_id(0) - 32;
    struct turn stage = {0, 0}, turn = {0, 0};
    for (;;) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r->told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, expert = slot->expert, column = slot->column;
        if (rows == 0) return;
        struct window own;
#pragma unroll
        for (int i = 0; i < W_COPIES; i++)
            own.from[i] = row_at(w, min(lid / W_LANES + i * W_EACH, W_ROWS - 1u), expert, column);
        const global uchar *scales[2];
        for (int i = 0; SCALED && i < 2; i++)
            scales[i] = scales_at(w, min(lid + i * FETCHING_WARPS * 32, W_ROWS - 1u), expert, column);
        for (uint step = 0; step < j->steps; step++) {
            mb_wait(r->empty + 8 * stage.at, stage.phase ^ 1);
            const uint base = r->base + stage.at * STAGE_BYTES;
            fetch_weights(base, &own, lid, step, w->row_bytes);
            if (SCALED) fetch_scales(base, scales, lid, step, w->scale_bytes);
            fetch_rows(base, slot, rows, x, x_row_bytes, lid, step, depth);
            mb_arrive_copied(r->full + 8 * stage.at);
            next_turn(&stage, STAGES);
        }
        WARP_BARRIER();
        if ((lid & 31u) == 0) mb_arrive(r->heard + 8 * turn.at);
        next_turn(&turn, SLOTS);
    }
}

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

// The two rows of w that a work-item has codes of: where they lie in a stage, and how far into their window the first
// step begins.
struct held {
    uint row, before, before8, scale, scale8;
};

inline bool any_of_warp(bool is) {
    uint any;
    asm volatile("{ .reg .pred p, q; setp.ne.u32 p, %1, 0; vote.sync.any.pred q, p, 0xffffffff; selp.u32 %0, 1, 0, q; }"
                 : "=r"(any)
                 : "r"((uint)is));
    return any;
}

inline uint word_at(const local uchar *memory, uint at) { return *(const local uint *)(memory + at); }

// The codes of 32 steps of a row, not scaled: pairs of chunks 0 .. 3 to every other register.
#if SCALED
inline void hold_row(const local uchar *block, uint lane, uint *held) {
    const uint4 words = *(const local uint4 *)block;
    const uint select = (lane & 3u) * 0x1111u + 0x0040u;
    held[0] = top_codes(permute_bytes(words.s0, words.s0 << 4, select));
    held[2] = top_codes(permute_bytes(words.s1, words.s1 << 4, select));
    held[4] = top_codes(permute_bytes(words.s2, words.s2 << 4, select));
    held[6] = top_codes(permute_bytes(words.s3, words.s3 << 4, select));
}
#else
inline void hold_row(const local uchar *memory, uint block, uint lane, uint *held) {
    const uint at = block + 1 + 2 * (lane & 3u), from = at & ~3u, select = (at & 3u) * 0x1111u + 0x0100u;
    const uint first = permute_bytes(word_at(memory, from), word_at(memory, from + 4), select);
    const uint second = permute_bytes(word_at(memory, from + 8), word_at(memory, from + 12), select);
    held[0] = lower_codes(first);
    held[2] = lower_codes(second);
    held[4] = upper_codes(first);
    held[6] = upper_codes(second);
}
#endif

inline void scale_rows(uint *held, uint e, uint e8) {
    const uint factor = scale_factor(e), factor8 = scale_factor(e8);
#pragma unroll
    for (int i = 0; i < 8; i++)
        held[i] = multiply_two(held[i], i & 1 ? factor8 : factor);
    if (any_of_warp(max(e, e8) > LARGE_SCALE)) {
        const uint rest = scale_rest(e), rest8 = scale_rest(e8);
#pragma unroll
        for (int i = 0; i < 8; i++)
            held[i] = multiply_two(held[i], i & 1 ? rest8 : rest);
    }
}

// Block `block` of a stage of both rows: registers of two products.
inline void hold_block(const local uchar *memory, uint stage, const struct held *h, uint step, int block, uint *held) {
    const uint lane = get_local_id(0) & 31u, row = stage + X_BYTES + h->row * PITCH;
#if SCALED
    const uint at = row + block * 16, scales = stage + SCALES_AT + h->row * SCALES_PITCH + block;
    hold_row(memory + at, lane, held);
    hold_row(memory + at + 8 * PITCH, lane, held + 1);
    scale_rows(held, memory[scales + ((h->scale + step * (TK / 32)) & 3u)],
               memory[scales + 8 * SCALES_PITCH + ((h->scale8 + step * (TK / 32)) & 3u)]);
#else
    const uint at = row + ((h->before + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES;
    const uint at8 = row + 8 * PITCH + ((h->before8 + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES;
    hold_row(memory, at, lane, held);
    hold_row(memory, at8, lane, held + 1);
    scale_rows(held, memory[at], memory[at8]);
#endif
}

// All steps of a tile of which n pairs are multiplied. Codes are decoded while the products before run.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, float *sums) {                \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        uint held[2][8], previous = 0;                                                                                 \
        for (uint step = 0; step < steps; step++) {                                                                    \
            mb_wait(r->full + 8 * stage->at, stage->phase);                                                            \
            ASYNC_FENCE();                                                                                             \
            const uint base = stage->at * STAGE_BYTES;                                                                 \
            const ulong pairs = tile_of(r->base + base);                                                               \
            _Pragma("unroll") for (int block = 0; block < TK / 32; block++) {                                          \
                const ulong at = pairs + block / 2 * (TOKENS * 128 >> 4) + block % 2 * 4;                              \
                hold_block(memory, base, h, step, block, held[block & 1]);                                             \
                WGMMA_FENCE();                                                                                         \
                HELD_WGMMA_##n(sums, held[block & 1], at, step + block);                                               \
                HELD_WGMMA_##n(sums, held[block & 1] + 4, at + 2, 1);                                                  \
                WGMMA_COMMIT();                                                                                        \
                WGMMA_WAIT("1");                                                                                       \
                if (block == 0 && step && tells) mb_arrive(r->empty + 8 * previous);                                   \
            }                                                                                                          \
            previous = stage->at;                                                                                      \
            next_turn(stage, STAGES);                                                                                  \
        }                                                                                                              \
        WGMMA_WAIT("0");                                                                                               \
        if (tells) mb_arrive(r->empty + 8 * previous);                                                                 \
    }

DEFINE_MULTIPLY_STEPS(64)
#if TOKENS == 256
#define ALL_SUMS 128 // as a number, for HOLD
DEFINE_MULTIPLY_STEPS(128)
DEFINE_MULTIPLY_STEPS(160)
DEFINE_MULTIPLY_STEPS(192)
DEFINE_MULTIPLY_STEPS(256)
#else
#define ALL_SUMS 32
DEFINE_MULTIPLY_STEPS(32)
#endif

inline void multiply_tile(const struct ring *r, struct turn *stage, uint steps, const local uchar *memory,
                          const struct held *h, int rows, float *sums) {
#if TOKENS == 256
    if (rows > 192)
        multiply_steps_256(r, stage, steps, memory, h, sums);
    else if (rows > 160)
        multiply_steps_192(r, stage, steps, memory, h, sums);
    else if (rows > 128)
        multiply_steps_160(r, stage, steps, memory, h, sums);
    else if (rows > 64)
        multiply_steps_128(r, stage, steps, memory, h, sums);
#else
    if (rows <= 32)
        multiply_steps_32(r, stage, steps, memory, h, sums);
#endif
    else
        multiply_steps_64(r, stage, steps, memory, h, sums);
    HOLD(ALL_SUMS, sums);
}

// ---- sums to y ----

#include "matmul/wgmma_y.cl"

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
            scale_step *w##_scale_row                                                                                  \
    }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_coded(MATMUL_ARGS,
                                                                                       global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[STAGES * STAGE_BYTES + 2 * STAGED] __attribute__((aligned(1024)));
    local ulong barriers[2 * STAGES + 2 * SLOTS];
    local struct slot slots[SLOTS];
    const uint lid = get_local_id(0), lane = lid & 31u;
    const global int *const starts = offsets + offsets_skip;
    struct ring r = {(uint)(size_t)memory, (uint)(size_t)barriers, 0, 0, 0};
    r.empty = r.full + 8 * STAGES, r.told = r.empty + 8 * STAGES, r.heard = r.told + 8 * SLOTS;

    const struct job j = {starts,       order + order_skip, gamma + gamma_skip, gamma_stride, pairs,
                          columns,      k,                  first,              count,        flags,
                          (uint)((depth + TK - 1) / TK)};
    const struct weights weights = {SOURCE_OF(w), SOURCE_OF(v),
                                    (uint)(depth / 32) * BLOCK_BYTES, (uint)(depth / 32), columns};
    if (lid == 0) init_barriers(&r);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 128) {
#if TOKENS == 256
        asm volatile("//@@ setmaxnreg.dec.sync.aligned.u32 56;" : : : "memory");
#endif
        if (lid < 32)
            plan_tiles(&j, slots, r.told, r.heard, counters);
        else
            fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), x_stride * 2, (uint)depth);
        return;
    }
#if TOKENS == 256 // more sums than a work-item has registers for if all have as many
    asm volatile("//@@ setmaxnreg.inc.sync.aligned.u32 224;" : : : "memory");
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
        const uint row = who * 64 + warp * 16 + lane / 4;
        const struct held held = {row, (uint)(ulong)row_at(&weights, row, slot->expert, slot->column) & 15u,
                                  (uint)(ulong)row_at(&weights, row + 8, slot->expert, slot->column) & 15u,
                                  (uint)(ulong)scales_at(&weights, row, slot->expert, slot->column) & 3u,
                                  (uint)(ulong)scales_at(&weights, row + 8, slot->expert, slot->column) & 3u};
        multiply_tile(&r, &stage, j.steps, memory, &held, rows, sums);
        // Columns n and, without GLU, n + 8 of y are this work-item's.
        const long n0 = slot->column + who * GROUP_N;
        const long n = min(n0 + warp * (GROUP_N / 4) + lane / 4, columns - 1), n8 = GLU ? n : min(n + 8, columns - 1);
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
