// SPDX-License-Identifier: MIT
// For many rows: a work-group computes TM rows of one expert times TN columns, TK steps of K at a time through local
// memory; a work-item WM x WN elements in registers. With GLU half of the columns are gate columns, the others the up
// columns that belong to them: the sums are the same, and only the end tells them apart.
//
//   group = slot * column groups + column group        slot -> expert and rows: slot.cl
//
//   xs [TK][TM + 4]   ws [TK][TN + 4]   BUFFERS times; 4 more, against bank conflicts of the transposing stores
//   quad q of a work-item: 4 rows from (q * ITEMS_M + item_m) * 4 on, or columns likewise, read as a float4
//
// While one stretch of K is multiplied the next one is on its way into registers. Every sum is one chain of fma in the
// order of K, whatever the tile. Rows past the end compute the last one again, columns past the end 0 or the last one
// again, and neither is stored; K is filled up with zeros.
#ifndef PLAN_FLAGS
#error "PLAN_FLAGS: the `flags` of all calls, or -1 where each brings its own"
#endif

// Where a plan has this kernel beside a better one, for operands that are hardly ever seen, what a driver takes to
// compile it counts for more than its speed.
#if PLAN_FLAGS < 0
#define UNROLL_STEPS _Pragma("unroll 8")
#else
#define MATMUL_FLAGS_ARG any_flags
#define UNROLL_STEPS _Pragma("unroll 2")
#endif
#include "matmul/pair.cl"
#include "matmul/piece.cl"

#define VALUE float4
#include "matmul/epilogue.cl"

#if !defined(TM) || !defined(TN) || !defined(TK)
#error "TM, TN, TK: rows and columns of a tile and steps of K; powers of two, TK 16 or more for weights in runs"
#endif
#if !defined(WM) || !defined(WN)
#error "WM, WN: rows and columns of a work-item, multiples of 4, WN of 8 with GLU; (TM / WM) * (TN / WN) == LOCAL_SIZE"
#endif
#ifndef BUFFERS
#error "BUFFERS: 2 to store a stretch of K while the one before is read, 1 for half of the local memory"
#endif
#include "matmul/slot.cl"

#define UNROLL _Pragma("unroll")
#define ROLL _Pragma("unroll 1")

#define ITEMS_M (TM / WM)
#define ITEMS_N (TN / WN)
#define W_QUADS (WN / 4)
#define Y_QUADS (GLU ? W_QUADS / 2 : W_QUADS)
#define X_PITCH (TM + 4)
#define W_PITCH (TN + 4)
#define X_SIZE (TK * X_PITCH)
#define W_SIZE (TK * W_PITCH)
#define X_FETCHES (TM * TK / 4 / LOCAL_SIZE)

// Lanes of hardware that run together stand 4 x 8, where that goes: they read few different quads. Neighbours are in
// different rows, so that they read the same quad of columns, and every second of them the same of rows: NVIDIA's
// chips then serve 16 lanes at a time, else 8.
#define BY (ITEMS_N < 8 ? ITEMS_N : 8)
#define ITEM_N(lid) (((lid) / 2 & (BY - 1)) + ((lid) / (4 * BY) & (ITEMS_N / BY - 1)) * BY)
#define ITEM_M(lid) (((lid)&1) + ((lid) / (2 * BY) & 1) * 2 + (lid) / (4 * ITEMS_N) * 4)

#include "matmul/tile_fetch.cl"

static inline void store_x(local float *xs, const PIECE(X_T) *fetched, int lid) {
    UNROLL for (int f = 0; f < X_FETCHES; f++) {
        const int at = lid + f * LOCAL_SIZE, m = at / (TK / 4), d = (at & (TK / 4 - 1)) * 4;
        float v[4];
        vstore4(FLOATS4(X_T, fetched[f]), 0, v);
        UNROLL for (int j = 0; j < 4; j++) xs[(d + j) * X_PITCH + m] = v[j];
    }
}

// A stretch of K, from the first quads of the work-item
static inline void multiply(const local float4 *xs, const local float4 *ws, float4 sums[WM][W_QUADS]) {
    UNROLL_STEPS for (int d = 0; d < TK; d++) {
        float xd[WM];
        float4 wd[W_QUADS];
        UNROLL for (int q = 0; q < WM / 4; q++) vstore4(xs[d * (X_PITCH / 4) + q * ITEMS_M], q, xd);
        UNROLL for (int q = 0; q < W_QUADS; q++) wd[q] = ws[d * (W_PITCH / 4) + q * ITEMS_N];
        UNROLL for (int a = 0; a < WM; a++)
            UNROLL for (int q = 0; q < W_QUADS; q++) sums[a][q] = fma((float4)(xd[a]), wd[q], sums[a][q]);
    }
}

// sums[a]: registers cannot be indexed.
static inline void take_row(const float4 sums[WM][W_QUADS], int a, float4 *row) {
    UNROLL for (int b = 0; b < WM; b++)
        UNROLL for (int q = 0; q < W_QUADS; q++) row[q] = b == 0 || b == a ? sums[b][q] : row[q];
}

#if PLAN_FLAGS >= 0
#define flags PLAN_FLAGS
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_tile(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local float4 xs[BUFFERS * X_SIZE / 4], ws[BUFFERS * W_SIZE / 4];
    local long found[3];
    const int lid = get_local_id(0), item_m = ITEM_M(lid), item_n = ITEM_N(lid);
    const long column_groups = (columns + SIDE - 1) / SIDE;
    const uint group = (uint)get_group_id(0), slot = group / (uint)column_groups; // 64 bits take long to divide
    const long n0 = (long)(group - slot * (uint)column_groups) * SIDE;
    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS];
    const long begin = found[TILE_BEGIN];
    const uint steps =
        expert < count && rows > 0 ? (uint)steps_at(limits + limits_skip, first + expert, n0, depth, flags) : 0;

    const global ELEM(X_T) *x_from[X_FETCHES];
    UNROLL for (int f = 0; f < X_FETCHES; f++) {
        const int at = lid + f * LOCAL_SIZE;
        const long i = begin + min(at / (TK / 4), rows - 1);
        const long p = steps > 0 ? pair_at(i, order + order_skip, flags) : 0;
        x_from[f] = x + x_skip + x_row(i, p, p / k, flags) * x_stride + (at & (TK / 4 - 1)) * 4;
    }
    const int wide_x = ALIGNED4(X_T, x + x_skip, x_stride), by_k = (flags & K_FASTEST) != 0;
    int whole_w = 0;
#ifdef FROM_W
    const global ELEM(W_T) *w_from[W_FETCHES];
    UNROLL for (int f = 0; f < W_FETCHES; f++) {
        const int at = lid + f * LOCAL_SIZE, t = PLACE_T(at), d = PLACE_D(at);
        w_from[f] = IS_UP(t) ? FROM_W(v, t, d) : FROM_W(w, t, d);
    }
    const long w_step = by_k ? w_depth : panel ? 1 : w_column;
    int wide_w = w_step == 1 && ALIGNED4(W_T, w + w_skip, W_STRIDES(w));
    if (GLU) wide_w = wide_w && ALIGNED4(W_T, v + v_skip, W_STRIDES(v));
    if (by_k || n0 + SIDE <= columns) whole_w = wide_w;
#endif

    float4 sums[WM][W_QUADS];
    UNROLL for (int a = 0; a < WM; a++)
        UNROLL for (int q = 0; q < W_QUADS; q++) sums[a][q] = (float4)(0.0f);
    PIECE(X_T) x_fetched[X_FETCHES];
    fetched_w w_fetched[W_FETCHES];
    int buffer = 0;
    for (uint next = 0; next < steps + TK; next += TK) { // the first round only fetches
        if (next + TK <= steps && wide_x) {
            UNROLL for (int f = 0; f < X_FETCHES; f++) x_fetched[f] = FETCH4(X_T, x_from[f] + next, 1, 4, 1);
        } else if (next < steps) {
            UNROLL for (int f = 0; f < X_FETCHES; f++) {
                const int d = ((lid + f * LOCAL_SIZE) & (TK / 4 - 1)) * 4;
                x_fetched[f] = FETCH4(X_T, x_from[f] + next, 1, (int)(steps - next) - d, wide_x);
            }
        }
        if (next + TK <= steps && whole_w) {
            UNROLL for (int f = 0; f < W_FETCHES; f++) FETCH_WHOLE_W(w_fetched[f], f, next)
        } else if (next < steps) {
            UNROLL for (int f = 0; f < W_FETCHES; f++) FETCH_W(w_fetched[f], f, next)
        }
        if (next > 0) {
            multiply(xs + buffer * (X_SIZE / 4) + item_m, ws + buffer * (W_SIZE / 4) + item_n, sums);
            if (BUFFERS == 1) barrier(CLK_LOCAL_MEM_FENCE);
            buffer ^= BUFFERS - 1;
        }
        if (next < steps) {
            store_x((local float *)(xs + buffer * (X_SIZE / 4)), x_fetched, lid);
            store_w((local float *)(ws + buffer * (W_SIZE / 4)), w_fetched, lid, by_k);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    const int e = first + expert; // only meant where expert < count
    const int wide_y = ALIGNED4(Y_T, y + y_skip, y_stride);
    ROLL for (int a = 0; a < WM; a++) {
        const int m = (a / 4 * ITEMS_M + item_m) * 4 + (a & 3);
        if (m >= rows) continue;
        const long i = begin + m, p = pair_at(i, order + order_skip, flags);
        const ulong out = y_skip + y_row(i, p, flags) * y_stride;
        const float weight = expert < count ? PAIR_GAMMA(p, p / k) : 0.0f;
        const float scale = expert < count ? PAIR_SCALE(e) : 0.0f;
        float4 row[W_QUADS];
        take_row(sums, a, row);
        UNROLL for (int q = 0; q < Y_QUADS; q++) {
            const long n = n0 + (q * ITEMS_N + item_n) * 4, left = columns - n;
            float values[4], bias_of[4], bias_up_of[4];
            UNROLL for (int j = 0; j < 4; j++) {
                const int known = expert < count && j < left;
                bias_of[j] = known ? BIAS_AT(e, n + j) + ADD_AT(p, n + j) : 0.0f;
                bias_up_of[j] = known ? BIAS_UP_AT(e, n + j) + ADD_UP_AT(p, n + j) : 0.0f;
            }
            float4 value = (float4)(0.0f);
            if (expert < count)
                value = finish(row[q], row[GLU ? q + Y_QUADS : 0], vload4(0, bias_of), vload4(0, bias_up_of),
                               GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS);
            vstore4(value, 0, values);
            if (wide_y && left >= 4)
                STORE4(Y_T, y, out + n, value);
            else
                UNROLL for (int j = 0; j < 4; j++)
                    if (j < left) STORE(Y_T, y, out + n + j, values[j]);
        }
    }
}
