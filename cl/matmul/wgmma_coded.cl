// SPDX-License-Identifier: MIT
// For coded weights and many rows on sm_90a: as wgmma.cl, but that weights go to the instruction from registers, where
// each multiplying work-item decodes what it holds of them. They are in local memory as they are in global memory.
//
//   tile   128 rows of w x TOKENS pairs. With GLU these rows are by turns 8 of gate and the 8 of up: a work-item has
//          both sums of an element of y.
//   warp 0          plans tiles (wgmma_tiles.cl)
//   warps 1 .. 3    fetch TK steps of w and x into a ring of STAGES stages
//   warps 4 .. 11   multiply: 64 rows of w a group of four; then activation, gamma and rows of y
//
// How they do it is in wgmma_coded_few.cl where tiles have few pairs, else in wgmma_coded_many.cl; where scales go to
// sums in wgmma_coded_apart.cl, and where these are of blocks of 256 steps in wgmma_coded_k.cl.
#include "matmul/coded_begin.cl"

#define TN (GLU ? 64 : 128) // columns of y, and those of one group
#define GROUP_N (TN / 2)
#define STAGED_N GROUP_N
#include "matmul/wgmma_held.cl"
#include "matmul/wgmma_tiles.cl"

#define FEW (TOKENS < 256 && !APART)

// Rows of w lie PITCH apart, so that reading those of eight rows meets few banks twice. Many pairs: none where rows in
// global memory are a multiple of 16 bytes apart, or 10 more (gpt-oss). Few: none.
#define ODD_CHUNKS(bytes) (((bytes) / 16 | 1) * 16)
#define PITCH (FEW ? WINDOW : APART ? ODD_CHUNKS(WINDOW) : SCALED ? WINDOW + 16 : WINDOW + 80)
#define W_ROWS 128
#define PAIRS_STEP (TOKENS < 64 ? TOKENS : 64) // a group stages so many
#define X_BYTES (TOKENS * 2 * TK)
#define W_BYTES (W_ROWS * PITCH)
#if SUPER
// Blocks of 256 steps of w, and sums of x, lie behind the stages, which have x alone: one of them while the ring goes
// around once. Who may fill its first stage again may fill the place of the block before last, too.
#if STAGES * TK != 256
#error "the ring has 256 steps"
#endif
#define STAGE_BYTES X_BYTES
#define W_BEGIN (STAGES * STAGE_BYTES) // from the ring's begin on, or from a stage's
#define SUMS_BEGIN (W_BEGIN + 2 * W_BYTES) // of x
#define RING_BYTES (SUMS_BEGIN + (APART == 6 ? 0 : 2 * X_BYTES))
#else
#define STAGE_BYTES (X_BYTES + W_BYTES)
#define W_BEGIN X_BYTES
#define RING_BYTES (STAGES * STAGE_BYTES)
#endif
#define STAGED (PAIRS_STEP * GROUP_N * 2)

#define FETCHING_WARPS 3
#define MULTIPLYING_WARPS 8
#if FEW // of a work-item
#define FETCHING_REGISTERS "64"
#define MULTIPLYING_REGISTERS "88"
#elif SUPER
#define FETCHING_REGISTERS "88"
#define MULTIPLYING_REGISTERS "208"
#elif APART && TOKENS <= 128
#define FETCHING_REGISTERS "104"
#define MULTIPLYING_REGISTERS "200"
#else
#define FETCHING_REGISTERS "72"
#define MULTIPLYING_REGISTERS "216"
#endif

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

#if FEW
#include "matmul/coded_boxes.cl"
#else
inline uint row_place(uint side, uint column) {
    const uint second = GLU ? side : column >> 3 & 1u, row = GLU ? column : column / 16 * 8 + (column & 7u);
    return W_BEGIN + (row + W_ROWS / 2 * second) * PITCH;
}
#endif
#include "matmul/coded_held.cl"
#include "matmul/wgmma_two.cl"

#if FEW
#include "matmul/wgmma_coded_few.cl"
#else
#include "matmul/wgmma_windows_x.cl"
#if SUPER
#include "matmul/wgmma_coded_k.cl"
#else
#include "matmul/wgmma_windows.cl"
#if APART
#include "matmul/wgmma_coded_apart.cl"
#else
#include "matmul/wgmma_coded_many.cl"
#endif
#endif
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
#if SUPER
            if (stage.at == 0) {
                const uint block = step / STAGES;
                fetch_block(r->base + W_BEGIN + stage.phase * W_BYTES, &own, lid, block);
#if HAS_MIN
                fetch_sums(r->base + SUMS_BEGIN + stage.phase * X_BYTES, slot, rows, maps, block, w->blocks, lid);
#endif
            }
#else
            fetch_weights(base, r->full + 8 * stage.at, &own, lid, step, w->row_bytes);
#endif
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

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma_coded(MATMUL_ARGS, global uchar *maps,
                                                                                       ulong maps_skip,
                                                                                       global uint *counters) {
    MATMUL_NUMBERS
    local uchar memory[RING_BYTES + 2 * STAGED] __attribute__((aligned(1024)));
    local uint map_words[2 * 32] __attribute__((aligned(128)));
    local ulong barriers[2 * STAGES + 2 * SLOTS];
    local struct slot slots[SLOTS];
    CODED_BEGIN
    if (lid == 0) init_barriers(&r);
    if (FEW && lid < 64) map_words[lid] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 128) {
        CHANGE_REGISTERS("dec", FETCHING_REGISTERS);
        if (lid < 32)
            plan_tiles(&j, slots, r.told, r.heard, counters);
        else
            fetch_tiles(&r, &j, &weights, slots, (const global uchar *)(x + x_skip), (uint)(x_stride / 8), (uint)depth,
                        (uint)(size_t)map_words, maps + maps_skip + (FEW ? get_group_id(0) * 256 : 0));
        return;
    }
    // More than a work-item has registers for if all have as many.
    CHANGE_REGISTERS("inc", MULTIPLYING_REGISTERS);

    const uint who = lid / 128 - 1, warp = lid / 32 & 3u;
    local uchar *const staging = memory + RING_BYTES + who * STAGED;
    const bool aligned = (((ulong)(y + y_skip) | (ulong)y_stride * 2) & 15) == 0;
    const bool up_first = false; // gate rows come first
    struct turn stage = {0, 0}, turn = {0, 0};
    float sums[ALL_SUMS];
    for (;; next_turn(&turn, SLOTS)) {
        const local struct slot *const slot = &slots[turn.at];
        mb_wait(r.told + 8 * turn.at, turn.phase);
        const int rows = slot->rows, e = first + slot->expert;
        if (rows == 0) break;
        const float scale = PAIR_SCALE(e);
        const uint column = who * GROUP_N + (GLU ? warp : 2 * warp) * 8 + lane / 4;
        const struct held held = held_of(&weights, slot->expert, slot->column, column, GLU ? column : column + 8);
        multiply_tile(&r, &stage, j.steps, memory, &held, rows, sums);
        const long n0 = slot->column + who * GROUP_N;
        const float *const block_sums = sums;
#include "matmul/wgmma_staged_sums.cl"
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * turn.at);
    }
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride, lid - 128, 256);
}
