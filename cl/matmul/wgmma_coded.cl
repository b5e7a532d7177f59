// SPDX-License-Identifier: MIT
// For MXFP4 weights and many rows on sm_90a: as wgmma.cl, but that weights go to the instruction from registers, where
// each multiplying work-item decodes what it holds of them. They are in local memory as they are in global memory.
//
//   tile   128 rows of w x TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of up: a work-item has
//          both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warps 1 .. 3    fetch TK steps of w and x into a ring of STAGES stages, by asynchronous copies: of a row of w the
//                   words, or 16 bytes, that lie around these steps, so that it may begin anywhere
//   warps 4 .. 11   multiply: 64 rows of w a group of four; then activation, gamma and rows of y
//
//   W_T   mxfp4: blocks of a scale and 16 bytes, elements j and j + 16 in byte j
//         f4_e2m1: 16 bytes, elements 2j and 2j + 1 in byte j, scales elsewhere
//
// In a step of 16 a work-item holds elements 2 * (lane % 4) and the next of two chunks of 8: in a block of mxfp4 those
// are in neighbouring bytes, twice two of them, and in f4_e2m1 in one byte of each word.
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

// Of a row of w: bytes of a block of 32 elements; those of a stage, wherever they begin. Rows lie PITCH apart, so that
// reading bytes of eight rows meets few banks twice: none where rows in global memory are a multiple of 16 bytes apart,
// or 10 more (gpt-oss). Blocks of mxfp4 begin anywhere. Where pairs are few the rows are copied by words, which leaves
// them 0 .. 3 bytes away from their place: they meet no bank twice then.
#define BLOCK_BYTES (SCALED ? 16 : 17)
#define STEP_BYTES (TK / 32 * BLOCK_BYTES)
#define BY_WORDS (!SCALED && TK == 128)
#define UNIT (BY_WORDS ? 4 : 16) // bytes of a copy
#define WINDOW (SCALED ? STEP_BYTES : BY_WORDS ? 80 : (STEP_BYTES + 15 + 15) / 16 * 16)
#define PITCH (BY_WORDS ? WINDOW : SCALED ? WINDOW + 16 : WINDOW + 80)
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

#include "matmul/wgmma_coded_fetch.cl"

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

// The two rows of w that a work-item has codes of, eight apart: where they lie in a stage, and the bytes from there, or
// from a multiple of 16 or of 4 before, to their first step and to its scale.
struct held {
    uint row, before, before8, scale, scale8;
};

inline struct held held_of(const struct weights *w, uint row, int expert, long n0) {
    struct held h = {row, 0, 0, 0, 0};
#if SCALED
    h.scale = (uint)(ulong)scales_at(w, row, 0, expert, n0) & 3u;
    h.scale8 = (uint)(ulong)scales_at(w, row, 1, expert, n0) & 3u;
#else
    h.before = (uint)(ulong)row_at(w, row, 0, expert, n0) & (UNIT - 1u);
    h.before8 = (uint)(ulong)row_at(w, row, 1, expert, n0) & (UNIT - 1u);
#endif
    return h;
}

inline bool any_of_warp(bool is) {
    uint any;
    asm volatile("{ .reg .pred p, q; setp.ne.u32 p, %1, 0; vote.sync.any.pred q, p, 0xffffffff; selp.u32 %0, 1, 0, q; }"
                 : "=r"(any)
                 : "r"((uint)is));
    return any;
}

// Of a block of either row, as they are in memory: what the work-item needs of its codes; its scale.
struct raw {
    uint codes[2][4], e[2];
};

// Block `block` of a stage.
inline void load_block(struct raw *raw, const local uchar *memory, uint stage, const struct held *h, uint step,
                       int block) {
    const uint lane = get_local_id(0) & 31u;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint row = stage + X_BYTES + (h->row + HALF_ROWS * i) * PITCH, before = i ? h->before8 : h->before;
#if SCALED
        const uint scale = ((i ? h->scale8 : h->scale) + step * (TK / 32)) & 3u;
        const uint4 words = *(const local uint4 *)(memory + row + block * 16);
        raw->codes[i][0] = words.s0, raw->codes[i][1] = words.s1, raw->codes[i][2] = words.s2,
        raw->codes[i][3] = words.s3;
        raw->e[i] = memory[stage + SCALES_AT + (h->row + HALF_ROWS * i) * SCALES_PITCH + scale + block];
#else
        const local uchar *const at =
            memory + row + (BY_WORDS ? before : (before + step * STEP_BYTES) & 15u) + block * BLOCK_BYTES;
        const local uchar *const own = at + 2 * (lane & 3u);
        raw->e[i] = at[0];
        raw->codes[i][0] = own[1], raw->codes[i][1] = own[2], raw->codes[i][2] = own[9], raw->codes[i][3] = own[10];
#endif
    }
}

// Registers of two products: of chunks 0 .. 3 those of the first row, each followed by the second row's.
inline void hold_block(const struct raw *raw, uint *held) {
    const uint factor[2] = {scale_factor(raw->e[0]), scale_factor(raw->e[1])};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint *const codes = raw->codes[i];
#if SCALED
        const uint select = (get_local_id(0) & 3u) * 0x1111u + 0x0040u;
#pragma unroll
        for (int c = 0; c < 4; c++)
            held[2 * c + i] = top_codes(permute_bytes(codes[c], codes[c] << 4, select));
#else
        const uint first = codes[0] | codes[1] << 16, second = codes[2] | codes[3] << 16;
        held[i] = lower_codes(first), held[2 + i] = lower_codes(second);
        held[4 + i] = upper_codes(first), held[6 + i] = upper_codes(second);
#endif
    }
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], factor[n & 1]);
}

// What is left to multiply with where scales are large, which they hardly ever are.
inline void scale_block(const struct raw *raw, uint *held) {
    const uint rest[2] = {scale_rest(raw->e[0]), scale_rest(raw->e[1])};
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], rest[n & 1]);
}

#define AT_ONCE (TOKENS == 256 ? 1 : 2) // blocks that are decoded at a time: registers are what limits them
#define TIMES (TK / 32 / AT_ONCE)       // a stage

inline void load_blocks(struct raw *raw, const local uchar *memory, uint stage, const struct held *h, uint step,
                        int first) {
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        load_block(&raw[i], memory, stage, h, step, first + i);
}

inline void hold_blocks(const struct raw *raw, uint *held) {
    uint largest = 0;
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++) {
        hold_block(&raw[i], held + 8 * i);
        largest = max(largest, max(raw[i].e[0], raw[i].e[1]));
    }
    if (!any_of_warp(largest > LARGE_SCALE)) return;
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        scale_block(&raw[i], held + 8 * i);
}

// All steps of a tile of which n pairs are multiplied. While products run, codes of the next blocks are read and
// decoded.
#define DEFINE_MULTIPLY_STEPS(n)                                                                                       \
    inline void CAT(multiply_steps_, n)(const struct ring *r, struct turn *stage, uint steps,                          \
                                        const local uchar *memory, const struct held *h, float *sums) {                \
        const bool tells = (get_local_id(0) & 31u) == 0;                                                               \
        struct raw raw[AT_ONCE];                                                                                       \
        uint held[2][8 * AT_ONCE], previous = 0;                                                                       \
        mb_wait(r->full + 8 * stage->at, stage->phase);                                                                \
        load_blocks(raw, memory, stage->at * STAGE_BYTES, h, 0, 0);                                                    \
        for (uint step = 0; step < steps; step++) {                                                                    \
            const uint base = stage->at * STAGE_BYTES, own = stage->at;                                                \
            const ulong pairs = tile_of(r->base + base);                                                               \
            ASYNC_FENCE();                                                                                             \
            _Pragma("unroll") for (int time = 0; time < TIMES; time++) {                                               \
                hold_blocks(raw, held[time & 1]);                                                                      \
                WGMMA_FENCE();                                                                                         \
                _Pragma("unroll") for (int i = 0; i < 2 * AT_ONCE; i++) {                                              \
                    const int k16 = 2 * AT_ONCE * time + i;                                                            \
                    HELD_WGMMA_##n(sums, held[time & 1] + 4 * i, pairs + k16 / 4 * (TOKENS * 128 >> 4) + k16 % 4 * 2,  \
                                   step + k16);                                                                        \
                }                                                                                                      \
                WGMMA_COMMIT();                                                                                        \
                if (time + 1 < TIMES) {                                                                                \
                    load_blocks(raw, memory, base, h, step, AT_ONCE * (time + 1));                                     \
                } else {                                                                                               \
                    next_turn(stage, STAGES);                                                                          \
                    if (step + 1 < steps) {                                                                            \
                        mb_wait(r->full + 8 * stage->at, stage->phase);                                                \
                        load_blocks(raw, memory, stage->at * STAGE_BYTES, h, step + 1, 0);                             \
                    }                                                                                                  \
                }                                                                                                      \
                WGMMA_WAIT("1");                                                                                       \
                if (time == 0 && step && tells) mb_arrive(r->empty + 8 * previous);                                    \
            }                                                                                                          \
            previous = own;                                                                                            \
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
DEFINE_MULTIPLY_STEPS(8)
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
    if (rows <= 8)
        multiply_steps_8(r, stage, steps, memory, h, sums);
    else if (rows <= 32)
        multiply_steps_32(r, stage, steps, memory, h, sums);
#endif
    else
        multiply_steps_64(r, stage, steps, memory, h, sums);
    HOLD(ALL_SUMS, sums);
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

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_coded(MATMUL_ARGS,
                                                                                       global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[STAGES * STAGE_BYTES + 2 * STAGED] __attribute__((aligned(1024)));
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
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 128) {
#if TOKENS == 256
        asm volatile("//@@ setmaxnreg.dec.sync.aligned.u32 72;" : : : "memory");
#endif
        if (lid < 32)
            plan_tiles(&j, slots, r.told, r.heard, counters);
        else
            fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth);
        return;
    }
#if TOKENS == 256 // more sums than a work-item has registers for if all have as many
    asm volatile("//@@ setmaxnreg.inc.sync.aligned.u32 216;" : : : "memory");
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
        const struct held held = held_of(&weights, who * 32 + warp * 8 + lane / 4, slot->expert, slot->column);
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
