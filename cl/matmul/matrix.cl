// SPDX-License-Identifier: MIT
// For many rows, on matrix instructions: a work-group computes TM rows of one expert times TN columns of y. x and w are
// of one dtype of 16 bits and stay in it; products are exact and sums fp32, in the instruction.
//
//   group = slot * column groups + column group        slot -> expert and rows: slot.cl
//
//   staged [2][TM rows of x, TN rows of w or, with GLU, TN of gate and TN of up][STRIDE]
//
// Rows have TK steps of K, and 8 elements against bank conflicts. While waves multiply from one buffer, each work-item
// holds what it has loaded for the other. A wave computes FRAGMENTS_M x FRAGMENTS_N results of the instruction; with
// GLU the first half of the latter is the gate, the second half the up sums of the same columns:
//
//   row of x in the tile = wave_m * FRAGMENTS_M * M + i * M + row in the fragment
//   column of y          = wave_n * COLUMNS_N * N + j * N + column in the fragment          j < COLUMNS_N
//
// What a lane holds of a fragment is in matrix_layout.cl; how it reads that, and the instruction, in a file for each
// vendor, which defines a_fragment, b_fragment (vectors of ushort), d_fragment (of float), read_a and read_b (`rows`:
// row 0 and step 0 of the fragment) and MULTIPLY_f16 and MULTIPLY_bf16; also WAVE, LANE and WAVE_SIZE if these are not
// those of consecutive work-items. With EMULATED the instruction is matrix_emulated.cl.
//
// Sums go to y by way of local memory, a row of fragments at a time: so there is one short loop for what follows a sum,
// and neighbours in y are neighbours among the lanes. Rows and columns past the end compute the last ones again, or
// zeros, and are not stored; K is filled up with zeros.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"

#include "matmul/matrix_layout.cl"
#ifndef LAYOUT
#error "LAYOUT: a name of matrix_layout.cl"
#endif
#ifndef EMULATED
#error "EMULATED: 1 to do without the instruction, else 0"
#endif
#if !defined(WAVES_M) || !defined(WAVES_N)
#error "WAVES_M, WAVES_N: waves of a work-group along rows and columns; their product is LOCAL_SIZE / lanes"
#endif
#if !defined(FRAGMENTS_M) || !defined(FRAGMENTS_N)
#error "FRAGMENTS_M, FRAGMENTS_N: fragments of a wave; the latter even with GLU"
#endif
#define TK 32
#define STRIDE (TK + 8)
#define COLUMNS_N (FRAGMENTS_N / (1 + GLU))
#define TM (WAVES_M * FRAGMENTS_M * LAYOUT_M(LAYOUT))
#define TN (WAVES_N * COLUMNS_N * LAYOUT_N(LAYOUT))
#define Y_COLUMNS (COLUMNS_N * LAYOUT_N(LAYOUT))      // of y in a wave
#define WAVE_COLUMNS (FRAGMENTS_N * LAYOUT_N(LAYOUT)) // of sums
#define BUFFERS 2
#define BUFFER ((TM + (1 + GLU) * TN) * STRIDE / 8)
#if LOCAL_SIZE / LAYOUT_LANES(LAYOUT) * LAYOUT_M(LAYOUT) * WAVE_COLUMNS * 4 > BUFFERS * BUFFER * 16
#error "the sums of a row of fragments do not fit into what x and w leave"
#endif
#include "matmul/slot.cl"

#include "matmul/matrix_mfma.cl"
#include "matmul/matrix_wmma.cl"
#include "matmul/matrix_dpas.cl"
#include "matmul/matrix_mma.cl"
#include "matmul/matrix_emulated.cl"

#ifndef WAVE
#define WAVE (get_local_id(0) / LAYOUT_LANES(LAYOUT))
#define LANE (get_local_id(0) % LAYOUT_LANES(LAYOUT))
#endif
#ifndef WAVE_SIZE
#define WAVE_SIZE
#endif

// Local memory is filled in chunks of 8 elements that are neighbours in global memory.
#define CHUNKS_K (TK / 8)
#define CHUNKS_X (TM * CHUNKS_K)
#define CHUNKS_W (TN * CHUNKS_K) // of gate and of up columns
#define HELD_X ((CHUNKS_X + LOCAL_SIZE - 1) / LOCAL_SIZE)
#define HELD_W ((CHUNKS_W + LOCAL_SIZE - 1) / LOCAL_SIZE)

// Whether chunks begin at multiples of 16 bytes
static inline bool aligned16(const global ushort *p, long stride) {
    return ((ulong)p & 15) == 0 && (stride & 7) == 0;
}

static inline ushort8 load8(const global ushort *p, bool aligned) {
    return aligned ? *(const global ushort8 *)p : vload8(0, p);
}

// 8 elements that are `step` apart, zeros for those from `inside` on
static inline ushort8 load_apart(const global ushort *p, long step, long inside) {
    ushort v[8];
    UNROLL for (int j = 0; j < 8; j++, p += step) v[j] = j < inside ? *p : (ushort)0;
    return vload8(0, v);
}

static inline ushort8 load_chunk(const global ushort *p, long inside, bool aligned) {
    return inside >= 8 ? load8(p, aligned) : load_apart(p, 1, inside);
}

// What a work-item has of a tile of x on its way to local memory: chunks lid, lid + LOCAL_SIZE, ..
static inline void load_x(ushort8 held[HELD_X], const global ushort *x, const local ulong *x_at, bool aligned, long d0,
                          long steps) {
    UNROLL for (uint h = 0; h < HELD_X; h++) {
        const uint at = get_local_id(0) + h * LOCAL_SIZE;
        const long d = d0 + at % CHUNKS_K * 8;
        if (at < CHUNKS_X) held[h] = load_chunk(x + x_at[at / CHUNKS_K] + d, steps - d, aligned);
    }
}

static inline void store_x(local ushort8 *xs, const ushort8 held[HELD_X]) {
    UNROLL for (uint h = 0; h < HELD_X; h++) {
        const uint at = get_local_id(0) + h * LOCAL_SIZE;
        if (at < CHUNKS_X) xs[at / CHUNKS_K * (STRIDE / 8) + at % CHUNKS_K] = held[h];
    }
}

// The same of columns n0 .. of w, from[n * column + d * depth]: a chunk has 8 steps of a column where K is fastest,
// else 8 columns at one step. Where gate and up columns alternate, a load begins at a gate column (`second`: these are
// the up columns), so that it is aligned and ends with the last pair.
static inline void load_w(ushort8 held[HELD_W], const global ushort *from, long column, long depth, int second, long n0,
                          long d0, long columns, long steps, int flags) {
    const int odd = column == 2 ? second : 0;
    const bool aligned = aligned16(from - odd, flags & K_FASTEST ? column : depth);
    UNROLL for (uint h = 0; h < HELD_W; h++) {
        const uint at = get_local_id(0) + h * LOCAL_SIZE;
        if (at < CHUNKS_W && flags & K_FASTEST) {
            const long n = min(n0 + at / CHUNKS_K, columns - 1), d = d0 + at % CHUNKS_K * 8;
            held[h] = load_chunk(from + n * column + d, steps - d, aligned);
        } else if (at < CHUNKS_W) {
            const long n = n0 + at % (TN / 8) * 8, d = d0 + at / (TN / 8), inside = d < steps ? columns - n : 0;
            const global ushort *const p = from + n * column + d * depth;
            if (GLU && column == 2 && inside >= 8) {
                const ushort8 low = load8(p - odd, aligned), high = load8(p - odd + 8, aligned);
                held[h] = odd ? (ushort8)(low.odd, high.odd) : (ushort8)(low.even, high.even);
            } else {
                held[h] = inside >= 8 ? load8(p, aligned) : load_apart(p, column, inside);
            }
        }
    }
}

static inline void store_w(local ushort8 *ws, const ushort8 held[HELD_W], int flags) {
    UNROLL for (uint h = 0; h < HELD_W; h++) {
        const uint at = get_local_id(0) + h * LOCAL_SIZE;
        const ushort8 v = held[h];
        if (at < CHUNKS_W && flags & K_FASTEST) {
            ws[at / CHUNKS_K * (STRIDE / 8) + at % CHUNKS_K] = v;
        } else if (at < CHUNKS_W) {
            local ushort *const to = (local ushort *)ws + at % (TN / 8) * 8 * STRIDE + at / (TN / 8);
            to[0 * STRIDE] = v.s0, to[1 * STRIDE] = v.s1, to[2 * STRIDE] = v.s2, to[3 * STRIDE] = v.s3;
            to[4 * STRIDE] = v.s4, to[5 * STRIDE] = v.s5, to[6 * STRIDE] = v.s6, to[7 * STRIDE] = v.s7;
        }
    }
}

// sums += what the TK steps in a buffer give.
static inline void multiply_step(d_fragment sums[FRAGMENTS_M][FRAGMENTS_N], const local ushort8 *buffer, uint wave_m,
                                 uint wave_n, local float *scratch, uint lane) {
    const local ushort *const xs = (const local ushort *)buffer + wave_m * STRIDE;
    const local ushort *const ws = (const local ushort *)buffer + (TM + wave_n) * STRIDE;
    ROLL for (int d = 0; d < TK; d += LAYOUT_K(LAYOUT)) {
        a_fragment a[FRAGMENTS_M];
        b_fragment b[FRAGMENTS_N];
        UNROLL for (int i = 0; i < FRAGMENTS_M; i++) a[i] = read_a(xs + i * LAYOUT_M(LAYOUT) * STRIDE + d, lane);
        UNROLL for (uint j = 0; j < FRAGMENTS_N; j++) {
            const uint row = j % COLUMNS_N * LAYOUT_N(LAYOUT) + j / COLUMNS_N * TN;
            b[j] = read_b(ws + row * STRIDE + d, lane);
        }
        UNROLL for (int i = 0; i < FRAGMENTS_M; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++)
            ACCUMULATE(sums[i][j], a[i], b[j]);
    }
}

// A fragment of sums to rows of WAVE_COLUMNS. Registers have their names here: by an index that only unrolling makes a
// constant, IGC leaves the sums in memory.
static inline void store_sums(local float *to, d_fragment sums, uint lane) {
#define STORE_SUM(r, name)                                                                                             \
    to[layout_d_row(LAYOUT, lane, r) * WAVE_COLUMNS + layout_d_column(LAYOUT, lane, r)] = sums.s##name;
    STORE_SUM(0, 0) STORE_SUM(1, 1) STORE_SUM(2, 2) STORE_SUM(3, 3)
#if LAYOUT_D(LAYOUT) >= 8
    STORE_SUM(4, 4) STORE_SUM(5, 5) STORE_SUM(6, 6) STORE_SUM(7, 7)
#endif
#if LAYOUT_D(LAYOUT) >= 16
    STORE_SUM(8, 8) STORE_SUM(9, 9) STORE_SUM(10, a) STORE_SUM(11, b)
    STORE_SUM(12, c) STORE_SUM(13, d) STORE_SUM(14, e) STORE_SUM(15, f)
#endif
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) WAVE_SIZE void matmul_matrix(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local ushort8 staged[BUFFERS * BUFFER];
    local ulong x_at[TM];
    local long found[3];
    local float scratch[LOCAL_SIZE / LAYOUT_LANES(LAYOUT) * SCRATCH];
    const uint lid = get_local_id(0), wave = WAVE, lane = LANE;
    const uint wave_m = wave / WAVES_N * FRAGMENTS_M * LAYOUT_M(LAYOUT);
    const uint wave_n = wave % WAVES_N * COLUMNS_N * LAYOUT_N(LAYOUT);
    const long column_groups = (columns + TN - 1) / TN;
    const long slot = (long)get_group_id(0) / column_groups;
    const long n0 = ((long)get_group_id(0) - slot * column_groups) * TN;

    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS];
    const long begin = found[TILE_BEGIN];
    const bool computes = expert < count && rows > 0;
    const long steps = computes ? steps_at(limits + limits_skip, first + expert, n0, depth, flags) : 0;
    for (int m = lid; rows > 0 && m < TM; m += LOCAL_SIZE) {
        const long i = begin + min(m, rows - 1), p = pair_at(i, order + order_skip, flags);
        x_at[m] = x_skip + x_row(i, p, p / k, flags) * x_stride;
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    const bool x_aligned = aligned16(x + x_skip, x_stride);
    const global ushort *const gates = w + w_skip + expert * w_expert, *const ups = v + v_skip + expert * v_expert;
    d_fragment sums[FRAGMENTS_M][FRAGMENTS_N];
    UNROLL for (int i = 0; i < FRAGMENTS_M; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++) sums[i][j] = 0.0f;
    // One pass more than there are pieces of K: each loads a piece and multiplies the one before.
    for (long d0 = 0; steps > 0 && d0 < steps + TK; d0 += TK) {
        ushort8 held_x[HELD_X], held_w[HELD_W], held_v[HELD_W];
        const int buffer = d0 & TK ? 1 : 0;
        if (d0 < steps) {
            load_x(held_x, x, x_at, x_aligned, d0, steps);
            load_w(held_w, gates, w_column, w_depth, 0, n0, d0, columns, steps, flags);
            if (GLU) load_w(held_v, ups, v_column, v_depth, 1, n0, d0, columns, steps, flags);
        }
        if (d0 > 0) multiply_step(sums, staged + (buffer ^ 1) * BUFFER, wave_m, wave_n, scratch + wave * SCRATCH, lane);
        if (d0 < steps) {
            local ushort8 *const to = staged + buffer * BUFFER;
            store_x(to, held_x);
            store_w(to + TM * STRIDE / 8, held_w, flags);
            if (GLU) store_w(to + (TM + TN) * STRIDE / 8, held_v, flags);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    const int e = first + expert; // only meant where expert < count
    const float scale = computes ? PAIR_SCALE(e) : 0.0f;
    local float *const mine = (local float *)staged + wave * (LAYOUT_M(LAYOUT) * WAVE_COLUMNS);
    UNROLL for (int i = 0; i < FRAGMENTS_M; i++) {
        UNROLL for (int j = 0; j < FRAGMENTS_N; j++) store_sums(mine + j * LAYOUT_N(LAYOUT), sums[i][j], lane);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint at = lane; at < LAYOUT_M(LAYOUT) * Y_COLUMNS; at += LAYOUT_LANES(LAYOUT)) {
            const int m = wave_m + i * LAYOUT_M(LAYOUT) + at / Y_COLUMNS;
            const long n = n0 + wave_n + at % Y_COLUMNS;
            if (m >= rows || n >= columns) continue;
            const local float *const sum = mine + at / Y_COLUMNS * WAVE_COLUMNS + at % Y_COLUMNS;
            const long p = pair_at(begin + m, order + order_skip, flags);
            const float weight = computes ? PAIR_GAMMA(p, p / k) : 0.0f;
            float value = 0.0f;
            if (computes)
                value = finish(sum[0], sum[GLU * Y_COLUMNS], BIAS_AT(e, n) + ADD_AT(p, n),
                               BIAS_UP_AT(e, n) + ADD_UP_AT(p, n), GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS);
            STORE(Y_T, y, y_skip + y_row(begin + m, p, flags) * y_stride + n, value);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
