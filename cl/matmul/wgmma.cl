// SPDX-License-Identifier: MIT
// For many rows on sm_90a. Persistent: a work-group for each compute unit, three groups of four warps.
//
//   tile   TN columns of y (with GLU the gate and up rows of TILE_W columns, else two blocks of TILE_W) x TOKENS pairs
//   WIDE   0: weights are the instruction's 64 rows and pairs its columns, so that a tile may have as few pairs as an
//          expert has; 1: pairs are the rows and weights 256 columns, for which less of local memory is read
//   warps 0 .. 3    fetch: TK steps of w by tensor copies, of x by asynchronous copies of 16 bytes from the rows that
//                   the pairs name, into a ring of STAGES stages
//   warps 4 .. 11   multiply: 64 rows of either block each group, or 64 pairs; then activation, gamma and rows of y
//
// Tiles are dealt by a counter, experts in order; inside of one, bands of BAND tiles along the pairs. What a tile is
// (its expert, rows of y, gammas) goes to the multiplying warps through two slots of local memory.
//
// Rows in local memory have 128 bytes, their chunks of 16 bytes swizzled as the instruction wants it: chunk ^ row % 8.
// Lines behind "//@@ " are PTX that only sm_90a assembles: lib/device/ptx.h.
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#define ACT_EXP(x) native_exp(x)
#define ACT_DIVIDE(a, b) native_divide(a, b)
#include "matmul/epilogue.cl"

#ifndef WIDE
#error "WIDE: whether pairs are the rows of the instruction, 0 or 1"
#endif
#ifndef TOKENS
#error "TOKENS: pairs of a tile: 32 or 64, or 128 if WIDE"
#endif
#ifndef PLAN_FLAGS
#error "PLAN_FLAGS: the `flags` of all calls"
#endif
#ifndef LIMITED
#error "LIMITED: 1 where the activation's gate_max, up_max or act_max are given, else 0"
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
#include "matmul/wgmma_shapes.cl"

#define TK 64
#define TILE_W 128 // rows of w in a tensor copy
#define TN (GLU ? TILE_W : 2 * TILE_W)
#define BAND 16
#define W_BYTES (TILE_W * 2 * TK) // of one block
#define STAGE_BYTES (2 * W_BYTES + TOKENS * 2 * TK)
#define STAGED (WIDE ? 16 * 128 : TOKENS * 128) // bytes of y that a warp, or else a group, stages at a time
#define STAGING (WIDE ? 8 * STAGED : 2 * STAGED)
#define LAG (STAGES - 2) // stages from asking for x to telling that it is there: one is given back a step late

#define FETCHERS 128
#define MULTIPLIERS 256
#define BAR_FETCH 3 // and 1, 2 of the multiplying groups

// ---- barriers in local memory ----

inline void mb_init(uint at, uint arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(at), "r"(arrivals) : "memory");
}

inline void mb_expect(uint at, uint bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(at), "r"(bytes) : "memory");
}

inline void mb_arrive(uint at) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(at) : "memory"); }

inline void mb_wait(uint at, uint parity) {
    uint ready;
    do {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(ready)
                     : "r"(at), "r"(parity)
                     : "memory");
    } while (!ready);
}

#define GROUP_BARRIER(id) asm volatile("bar.sync %0, 128;" : : "r"(id) : "memory")
#define WARP_BARRIER() asm volatile("bar.warp.sync 0xffffffff;" : : : "memory")
#define ASYNC_FENCE() asm volatile("fence.proxy.async.shared::cta;" : : : "memory")

// ---- tensor maps ----

#define MAP_FIELD(field, type, constraint, value)                                                                      \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], %1;"                          \
                 :                                                                                                     \
                 : "r"(at), constraint(value)                                                                          \
                 : "memory")
#define MAP_FIELD_AT(field, index, type, constraint, value)                                                            \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024." type " [%0], " #index ", %1;"              \
                 :                                                                                                     \
                 : "r"(at), constraint(value)                                                                          \
                 : "memory")
#define MAP_SETTING(field, value)                                                                                      \
    asm volatile("//@@ tensormap.replace.tile." field ".shared::cta.b1024.b32 [%0], " value ";" : : "r"(at) : "memory")

// A map of experts x columns x steps of K, in boxes of TILE_W x TK. By one work-item, over zeros.
inline void fill_map(uint at, const global void *w, long column, long expert, long depth, long columns, int experts) {
    MAP_FIELD("global_address", "b64", "l", w);
    MAP_FIELD("rank", "b32", "r", 2u); // less one
    MAP_FIELD_AT("box_dim", 0, "b32", "r", (uint)TK);
    MAP_FIELD_AT("box_dim", 1, "b32", "r", (uint)TILE_W);
    MAP_FIELD_AT("box_dim", 2, "b32", "r", 1u);
    MAP_FIELD_AT("global_dim", 0, "b32", "r", (uint)depth);
    MAP_FIELD_AT("global_dim", 1, "b32", "r", (uint)columns);
    MAP_FIELD_AT("global_dim", 2, "b32", "r", (uint)experts);
    MAP_FIELD_AT("global_stride", 0, "b64", "l", (ulong)column * 2);
    MAP_FIELD_AT("global_stride", 1, "b64", "l", (ulong)(experts > 1 ? expert : column) * 2);
    MAP_FIELD_AT("element_stride", 0, "b32", "r", 1u);
    MAP_FIELD_AT("element_stride", 1, "b32", "r", 1u);
    MAP_FIELD_AT("element_stride", 2, "b32", "r", 1u);
    MAP_SETTING("elemtype", MAP_TYPE);
    MAP_SETTING("interleave_layout", "0");
    MAP_SETTING("swizzle_mode", "3");
    MAP_SETTING("fill_mode", "0");
}

// From local memory to where tensor copies may read it. By a warp.
inline void publish_map(global uchar *map, uint from) {
    asm volatile("//@@ tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], "
                 "[%1], 128;"
                 :
                 : "l"(map), "r"(from)
                 : "memory");
}

inline void publish_maps(global uchar *maps, uint from) {
    WARP_BARRIER();
    publish_map(maps, from);
    publish_map(maps + 128, from + 128);
}

inline void acquire_map(const global uchar *map) {
    asm volatile("//@@ fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" : : "l"(map) : "memory");
}

inline void copy_box(uint to, const global uchar *map, uint step, uint column, uint expert, uint full) {
    asm volatile("//@@ cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3, %4}], [%5];"
                 :
                 : "r"(to), "l"(map), "r"(step), "r"(column), "r"(expert), "r"(full)
                 : "memory");
}

// ---- tiles ----

// Of a tile, in local memory; rows == 0: there are no more.
struct slot {
    int rows, expert, column, first;
    int y_row[TOKENS];
    float gamma[TOKENS];
};

// What is the same for all tiles.
struct job {
    const global int *starts, *order;
    const global float *gamma;
    long gamma_stride, pairs, columns;
    int k, first, count, flags;
    uint steps;
};

// Rows of skipped pairs, which lie behind those of experts.
inline void clear_skipped(const struct job *j, long begin, global ELEM(Y_T) *y, long y_stride) {
    for (long i = begin + (long)get_group_id(0); i < j->pairs; i += get_num_groups(0)) {
        const ulong out = y_row(i, pair_at(i, j->order, j->flags), j->flags) * y_stride;
        for (long n = get_local_id(0); n < j->columns; n += LOCAL_SIZE)
            STORE(Y_T, y, out + n, 0.0f);
    }
}

struct walk {
    int expert;    // of the part
    uint base;     // tiles of those before
    uint next;     // tile
    long row, end; // positions
    long column;
};

// Finds tile `next`, which only grows. Experts without pairs have no tiles.
inline bool seek(struct walk *w, const struct job *j) {
    const uint across = (uint)((j->columns + TN - 1) / TN);
    for (; w->expert < j->count; w->expert++) {
        const long begin = j->flags & DENSE ? 0 : j->starts[j->first + w->expert];
        const long end = j->flags & DENSE ? j->pairs : j->starts[j->first + w->expert + 1];
        const uint along = (uint)((end - begin + TOKENS - 1) / TOKENS), in_expert = w->next - w->base;
        if (in_expert < along * across) {
            const uint band = in_expert / (BAND * across), in_band = in_expert - band * BAND * across;
            const uint width = min((uint)BAND, along - band * BAND), n = in_band / width;
            w->row = begin + (long)(band * BAND + in_band - n * width) * TOKENS;
            w->end = end;
            w->column = (long)n * TN;
            return true;
        }
        w->base += along * across;
    }
    return false;
}

// Fills a slot, and the rows of x. By all that fetch; false after the last tile.
inline bool plan_tile(const struct job *j, struct walk *walk, local struct slot *slot, local int *x_rows,
                      global uint *counters) {
    const uint lid = get_local_id(0);
    if (lid == 0) {
        const bool more = seek(walk, j);
        slot->rows = more ? (int)min((long)TOKENS, walk->end - walk->row) : 0;
        slot->expert = walk->expert;
        slot->column = (int)walk->column;
        slot->first = (int)walk->row;
        if (more) walk->next = (uint)get_num_groups(0) + atomic_inc(counters);
    }
    GROUP_BARRIER(BAR_FETCH);
    const int rows = slot->rows, flags = j->flags, k = j->k;
    if (rows > 0 && lid < TOKENS) {
        const long position = slot->first + min((int)lid, rows - 1);
        const long p = pair_at(position, j->order, flags), token = p / k;
        const bool weighed = flags & (GAMMA_INPUT | GAMMA_OUTPUT);
        x_rows[lid] = (int)x_row(position, p, token, flags);
        slot->y_row[lid] = (int)y_row(position, p, flags);
        slot->gamma[lid] = weighed ? j->gamma[pair_element(p, token, k, j->gamma_stride)] : 1.0f;
    }
    GROUP_BARRIER(BAR_FETCH);
    return rows > 0;
}

// ---- the ring ----

// Addresses in local memory of the stages and of their barriers, of those of the slots; where one of its users is.
struct ring {
    uint base, full, empty, told, heard;
    uint stage, phase;
    uint asked, complete; // stages whose x is on its way; the one of which all of x is there next
};

inline void init_barriers(const struct ring *r) {
    for (int i = 0; i < STAGES; i++) {
        mb_init(r->full + 8 * i, 1 + FETCHERS / 32);
        mb_init(r->empty + 8 * i, MULTIPLIERS / 32);
    }
    for (int i = 0; i < 2; i++) {
        mb_init(r->told + 8 * i, FETCHERS);
        mb_init(r->heard + 8 * i, MULTIPLIERS / 32);
    }
    ASYNC_FENCE();
}

inline void next_stage(struct ring *r) {
    if (++r->stage == STAGES) r->stage = 0, r->phase ^= 1;
}

inline void tell_complete(struct ring *r) {
    ASYNC_FENCE();
    WARP_BARRIER();
    if ((get_local_id(0) & 31u) == 0) mb_arrive(r->full + 8 * r->complete);
    if (++r->complete == STAGES) r->complete = 0;
    r->asked--;
}

inline void tell_all(struct ring *r) {
    asm volatile("cp.async.wait_group 0;" : : : "memory");
    while (r->asked > 0)
        tell_complete(r);
}

// All steps of a tile.
inline void fetch_steps(struct ring *r, const struct job *j, const local struct slot *slot, const local int *x_rows,
                        const global uchar *x, long x_row_bytes, long depth, const global uchar *maps) {
    const uint lid = get_local_id(0), chunk = lid & 7u, column = (uint)slot->column, expert = (uint)slot->expert;
    const uint to = lid / 8 * 128 + (chunk ^ (lid / 8 & 7u)) * 16;
    const global uchar *from[TOKENS / 16];
#pragma unroll
    for (int i = 0; i < TOKENS / 16; i++)
        from[i] = x + x_rows[lid / 8 + 16 * i] * x_row_bytes + chunk * 16;
    for (uint step = 0; step < j->steps; step++) {
        mb_wait(r->empty + 8 * r->stage, r->phase ^ 1);
        const uint base = r->base + r->stage * STAGE_BYTES, full = r->full + 8 * r->stage;
        if (lid == 0) {
            mb_expect(full, 2 * W_BYTES);
            copy_box(base, maps, step * TK, column, expert, full);
            copy_box(base + W_BYTES, maps + (GLU ? 128 : 0), step * TK, column + (GLU ? 0 : TILE_W), expert, full);
        }
        const uint bytes = step * TK + chunk * 8 < (uint)depth ? 16 : 0; // past the end of a row: zeros
#pragma unroll
        for (int i = 0; i < TOKENS / 16; i++)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                         :
                         : "r"(base + 2 * W_BYTES + to + i * 2048), "l"(from[i] + step * 128), "r"(bytes)
                         : "memory");
        asm volatile("cp.async.commit_group;" : : : "memory");
        if (++r->asked > LAG) {
            asm volatile("cp.async.wait_group %0;" : : "n"(LAG) : "memory");
            tell_complete(r);
        }
        next_stage(r);
    }
    // The slot of the tile after the next is free once this tile is through: it must not wait for tiles to come.
    if (j->steps < LAG) tell_all(r);
}

// All tiles of this work-group.
inline void fetch_tiles(struct ring *r, const struct job *j, local struct slot *slots, local int *x_rows,
                        const global uchar *x, long x_row_bytes, long depth, const global uchar *maps,
                        global uint *counters) {
    struct walk walk = {0, 0, (uint)get_group_id(0), 0, 0, 0};
    if (get_local_id(0) == 0) acquire_map(maps);
    if (get_local_id(0) == 0) acquire_map(maps + 128);
    bool more = true;
    for (uint i = 0; more; i++) {
        mb_wait(r->heard + 8 * (i & 1), (i >> 1 & 1) ^ 1);
        more = plan_tile(j, &walk, &slots[i & 1], x_rows, counters);
        mb_arrive(r->told + 8 * (i & 1));
        if (more) fetch_steps(r, j, &slots[i & 1], x_rows, x, x_row_bytes, depth, maps);
    }
    tell_all(r);
    // The last work-group leaves the counters as it found them.
    if (get_local_id(0) == 0 && atomic_inc(counters + 1) == get_num_groups(0) - 1) counters[0] = counters[1] = 0;
}

// ---- sums ----

// Describes rows of 128 bytes in local memory, swizzled.
inline ulong tile_of(uint at) { return (ulong)((at & 0x3ffffu) >> 4) | 1ul << 16 | 64ul << 32 | 1ul << 62; }

// Both blocks of weights: the sums of the second are HALF behind those of the first.
#define HALF (WIDE ? 64 : TOKENS / 2)
#if WIDE
#define HOLD HOLD_256
#define MULTIPLY(at, keep) WGMMA_256(sums, pairs + (at), weights + (at), keep);
#else
#define HOLD CAT(HOLD_, TOKENS)
#define MULTIPLY(at, keep)                                                                                             \
    {                                                                                                                  \
        CAT(WGMMA_, TOKENS)(sums, weights + (at), pairs + (at), keep);                                                 \
        CAT(WGMMA_, TOKENS)(sums + HALF, weights + (W_BYTES >> 4) + (at), pairs + (at), keep);                         \
    }
#endif

inline void multiply_steps(struct ring *r, uint steps, uint who, float *sums) {
    const bool tells = (get_local_id(0) & 31u) == 0;
    uint previous = 0;
    for (uint step = 0; step < steps; step++) {
        mb_wait(r->full + 8 * r->stage, r->phase);
        const uint base = r->base + r->stage * STAGE_BYTES, own = who * 64 * 128;
        const ulong weights = tile_of(base + (WIDE ? 0 : own)), pairs = tile_of(base + 2 * W_BYTES + (WIDE ? own : 0));
        asm volatile("//@@ wgmma.fence.sync.aligned;" : : : "memory");
        MULTIPLY(0, step)
        MULTIPLY(2, 1)
        MULTIPLY(4, 1)
        MULTIPLY(6, 1)
        asm volatile("//@@ wgmma.commit_group.sync.aligned;" : : : "memory");
        asm volatile("//@@ wgmma.wait_group.sync.aligned 1;" : : : "memory");
        if (step && tells) mb_arrive(r->empty + 8 * previous);
        previous = r->stage;
        next_stage(r);
    }
    asm volatile("//@@ wgmma.wait_group.sync.aligned 0;" : : : "memory");
    if (tells) mb_arrive(r->empty + 8 * previous);
    HOLD(sums);
}

// Of a tile without pairs for this group: the ring goes on.
inline void skip_steps(struct ring *r, uint steps) {
    for (uint step = 0; step < steps; step++) {
        mb_wait(r->full + 8 * r->stage, r->phase);
        if ((get_local_id(0) & 31u) == 0) mb_arrive(r->empty + 8 * r->stage);
        next_stage(r);
    }
}

// ---- sums to y ----

inline uint pack_two(float low, float high) {
    uint r;
    asm(PACK_TWO " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

#define STORE_MATRICES(kind, at, v)                                                                                    \
    asm volatile("stmatrix.sync.aligned.m8n8.x4" kind ".shared.b16 [%0], {%1, %2, %3, %4};"                            \
                 :                                                                                                     \
                 : "r"(at), "r"((v)[0]), "r"((v)[1]), "r"((v)[2]), "r"((v)[3])                                         \
                 : "memory")

// `n` pairs from `first` on that are staged at `from`, rows of 128 bytes: columns n0 .. n0 + 63 of y. By work-items lid
// of `items`.
inline void store_rows(const local uchar *from, const local struct slot *slot, int first, int n, uint lid, uint items,
                       global ushort *y, long y_stride, long n0, long columns) {
    for (uint q = lid; q < (uint)n * 8; q += items) {
        const uint t = q / 8, c = q & 7u;
        const long column = n0 + c * 8;
        if (first + (int)t >= slot->rows || column >= columns) continue;
        const local ushort *const value = (const local ushort *)(from + t * 128 + (c ^ (t & 7u)) * 16);
        global ushort *const to = y + slot->y_row[first + t] * y_stride + column;
        if (((ulong)to & 15) == 0 && column + 8 <= columns)
            *(global uint4 *)to = *(const local uint4 *)value;
        else
            for (int s = 0; s < 8 && column + s < columns; s++)
                to[s] = value[s];
    }
}

#if LIMITED
#define LIMITS_ARGS ACT_ARGS
#else
#define LIMITS_ARGS alpha, 0.0f, 0.0f, up_add, 0.0f, gate_tanh, up_tanh
#endif
#define flags PLAN_FLAGS // as what comes from epilogue.cl names them

// A sum's element of y, in column n, for a pair of this gamma.
#define BIAS_OF(n) BIAS_AT(e, min((long)(n), columns - 1))
#define BIAS_UP_OF(n) BIAS_UP_AT(e, min((long)(n), columns - 1))
#define FINISH(gate, up, n, weight)                                                                                    \
    finish(gate, up, BIAS_OF(n), BIAS_UP_OF(n), GAMMA_IN(weight), scale, GAMMA_OUT(weight), LIMITS_ARGS)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_wgmma(MATMUL_ARGS, global uchar *maps,
                                                                                 ulong maps_skip,
                                                                                 global uint *counters) {
    local uchar memory[STAGES * STAGE_BYTES + STAGING] __attribute__((aligned(1024)));
    local uint map_words[2 * 32] __attribute__((aligned(128)));
    local ulong barriers[2 * STAGES + 4];
    local struct slot slots[2];
    local int x_rows[TOKENS];
    const uint lid = get_local_id(0);
    const global int *const starts = offsets + offsets_skip;
    global uchar *const own_maps = maps + maps_skip + get_group_id(0) * 256;
    struct ring r = {(uint)(size_t)memory, (uint)(size_t)barriers, 0, 0, 0, 0, 0, 0, 0};
    r.empty = r.full + 8 * STAGES, r.told = r.empty + 8 * STAGES, r.heard = r.told + 16;

    if (lid < 64) map_words[lid] = 0;
    if (lid == 0) init_barriers(&r);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < 32) {
        const uint at = (uint)(size_t)map_words;
        if (lid == 0) fill_map(at, w + w_skip, w_column, w_expert, depth, columns, count);
        if (lid == 0 && GLU) fill_map(at + 128, v + v_skip, v_column, v_expert, depth, columns, count);
        publish_maps(own_maps, at);
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    const struct job j = {starts,       order + order_skip, gamma + gamma_skip, gamma_stride, pairs,
                          columns,      k,                  first,              count,        flags,
                          (uint)((depth + TK - 1) / TK)};
    const bool routed = !(flags & DENSE);
    if (first == 0 && routed) clear_skipped(&j, starts[experts], y + y_skip, y_stride);
    if (lid < FETCHERS) {
        fetch_tiles(&r, &j, slots, x_rows, (const global uchar *)(x + x_skip), x_stride * 2, depth, own_maps, counters);
        return;
    }

    const uint who = lid / 128 - 1, warp = lid / 32 & 3u, lane = lid & 31u;
    const uint staged_at = STAGES * STAGE_BYTES + (WIDE ? lid / 32 - 4 : who) * STAGED;
    float sums[2 * HALF];
    for (uint i = 0;; i++) {
        const local struct slot *const slot = &slots[i & 1];
        mb_wait(r.told + 8 * (i & 1), i >> 1 & 1);
        if (slot->rows == 0) return;
        const int e = first + slot->expert;
        const float scale = PAIR_SCALE(e);
#if WIDE
        if (slot->rows <= (int)who * 64) {
            skip_steps(&r, j.steps);
        } else {
            multiply_steps(&r, j.steps, who, sums);
            const int own = who * 64 + warp * 16;
            const float weight[2] = {slot->gamma[own + lane / 4], slot->gamma[own + 8 + lane / 4]};
#pragma unroll
            for (int piece = 0; piece < TN / 64; piece++) {
                WARP_BARRIER(); // what was staged before is in y
#pragma unroll
                for (int c = 0; c < 8; c += 2) {
                    uint packed[4];
#pragma unroll
                    for (int q = 0; q < 4; q++) { // 8 columns c + q / 2 of 8 pairs q % 2
                        const int o = 4 * (8 * piece + c + q / 2) + 2 * (q & 1);
                        const long n = slot->column + 64 * piece + 8 * (c + q / 2) + 2 * (lane & 3u);
                        const float gamma_of = weight[q & 1];
                        packed[q] = pack_two(FINISH(sums[o], GLU ? sums[HALF + o] : 0.0f, n, gamma_of),
                                             FINISH(sums[o + 1], GLU ? sums[HALF + o + 1] : 0.0f, n + 1, gamma_of));
                    }
                    const uint row = lane & 15u, chunk = c + lane / 16;
                    STORE_MATRICES("", r.base + staged_at + row * 128 + (chunk ^ (row & 7u)) * 16, packed);
                }
                WARP_BARRIER();
                store_rows(memory + staged_at, slot, own, 16, lane, 32, (global ushort *)y + y_skip, y_stride,
                           slot->column + 64 * piece, columns);
            }
        }
#else
        multiply_steps(&r, j.steps, who, sums);
#pragma unroll
        for (int block = 0; block < (GLU ? 1 : 2); block++) {
            const long n0 = slot->column + block * TILE_W + who * 64, n = n0 + warp * 16 + lane / 4;
            GROUP_BARRIER(1 + who); // what was staged before is in y
#pragma unroll
            for (int t8 = 0; t8 < TOKENS / 8; t8 += 2) {
                uint packed[4];
#pragma unroll
                for (int q = 0; q < 4; q++) { // 8 pairs t8 + q / 2 of 8 columns q % 2
                    const int o = HALF * block + 4 * (t8 + q / 2) + 2 * (q & 1);
                    const int t = 8 * (t8 + q / 2) + 2 * (int)(lane & 3u);
                    packed[q] = pack_two(FINISH(sums[o], GLU ? sums[HALF + o] : 0.0f, n + 8 * (q & 1), slot->gamma[t]),
                                         FINISH(sums[o + 1], GLU ? sums[HALF + o + 1] : 0.0f, n + 8 * (q & 1),
                                                slot->gamma[t + 1]));
                }
                const uint t = 8 * t8 + (lane >> 4) * 8 + (lane & 7u), chunk = warp * 2 + (lane >> 3 & 1u);
                STORE_MATRICES(".trans", r.base + staged_at + t * 128 + (chunk ^ (t & 7u)) * 16, packed);
            }
            GROUP_BARRIER(1 + who);
            store_rows(memory + staged_at, slot, 0, TOKENS, lid & 127u, 128, (global ushort *)y + y_skip, y_stride,
                       n0, columns);
        }
#endif
        WARP_BARRIER();
        if (lane == 0) mb_arrive(r.heard + 8 * (i & 1));
    }
}
