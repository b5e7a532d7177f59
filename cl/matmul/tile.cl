// SPDX-License-Identifier: MIT
// For many rows: a work-group computes TM rows of one expert times TN columns, TK steps of K at a time through local
// memory; a work-item WM x WN elements, rows TM / WM and columns TN / WN apart.
//
//   group = slot * column groups + column group        slot -> expert and rows: slot.cl
//
//   xs [TK][TM + 1]   ws, vs [TK][TN + 1]   one more, against bank conflicts of the transposing stores
//
// Rows and columns past the end compute the last ones again and are not stored; K is filled up with zeros.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"

#if !defined(TN) || !defined(TK)
#error "TN, TK: columns of a tile and steps of K; powers of two"
#endif
#if IN_RUNS && TK != 16
#error "TK: 16 for weights with scales, of which a work-item decodes runs of 16 steps"
#endif
#if !defined(WM) || !defined(WN)
#error "WM, WN: rows and columns of a work-item; (TM / WM) * (TN / WN) == LOCAL_SIZE"
#endif
#include "matmul/slot.cl"

#define ITEMS_M (TM / WM)
#define ITEMS_N (TN / WN)

// TK steps from d0 on of the tile's columns of w or v, for work-item `id`: whole runs with one scale, if they are not cut
// short by the end of the row, or elements.
#if IN_RUNS
#define LOAD_COLUMNS(tile, id, w)                                                                                      \
    for (int n = id; n < TN; n += LOCAL_SIZE) {                                                                        \
        const long column = min(n0 + n, columns - 1);                                                                  \
        const global ELEM(S_T) *const scales = SCALE_ROW(w, expert, column);                                           \
        const ulong row = expert * w##_expert + column * w##_column;                                                   \
        float values[TK];                                                                                              \
        if (d0 + TK <= depth)                                                                                          \
            vstore16(LOAD16(W_T, ROW_AT(W_T, w + w##_skip, row), d0) * SCALE(w, scales, d0), 0, values);               \
        else                                                                                                           \
            for (int d = 0; d < TK; d++)                                                                               \
                values[d] = d0 + d < steps ? WEIGHT(w, expert, column, row, scales, d0 + d) : 0.0f;                    \
        for (int d = 0; d < TK; d++)                                                                                   \
            tile[d * (TN + 1) + n] = d0 + d < steps ? values[d] : 0.0f;                                                \
    }
#else
#define LOAD_COLUMNS(tile, id, w)                                                                                      \
    for (int at = id; at < TN * TK; at += LOCAL_SIZE) {                                                                \
        const int n = flags & K_FASTEST ? at / TK : at & (TN - 1);                                                     \
        const int d = flags & K_FASTEST ? at & (TK - 1) : at / TN;                                                     \
        const long column = min(n0 + n, columns - 1);                                                                  \
        const global ELEM(S_T) *const scales = SCALE_ROW(w, expert, column);                                           \
        const ulong row = expert * w##_expert + column_at(column, w##_column, panel);                                  \
        tile[d * (TN + 1) + n] = d0 + d < steps ? WEIGHT(w, expert, column, row, scales, d0 + d) : 0.0f;               \
    }
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_tile(MATMUL_ARGS) {
    local float xs[TK * (TM + 1)], ws[TK * (TN + 1)], vs[GLU ? TK * (TN + 1) : 1];
    local ulong x_at[TM];
    local long found[3];
    const int lid = get_local_id(0), item_m = lid / ITEMS_N, item_n = lid & (ITEMS_N - 1);
    const long column_groups = (columns + TN - 1) / TN;
    const long slot = (long)get_group_id(0) / column_groups;
    const long n0 = ((long)get_group_id(0) - slot * column_groups) * TN;

    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS];
    const long begin = found[TILE_BEGIN];
    const long steps =
        expert < count && rows > 0 ? steps_at(limits + limits_skip, first + expert, n0, depth, flags) : 0;
    for (int m = lid; rows > 0 && m < TM; m += LOCAL_SIZE) {
        const long i = begin + min(m, rows - 1), p = pair_at(i, order + order_skip, flags);
        x_at[m] = x_skip + x_row(i, p, p / k, flags) * x_stride;
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    float gate[WM][WN], up[WM][WN];
    for (int a = 0; a < WM; a++)
        for (int b = 0; b < WN; b++)
            gate[a][b] = up[a][b] = 0.0f;
    for (long d0 = 0; d0 < steps; d0 += TK) {
        for (int at = lid; at < TM * TK; at += LOCAL_SIZE) {
            const int m = at / TK, d = at & (TK - 1);
            xs[d * (TM + 1) + m] = d0 + d < steps ? LOAD(X_T, x, x_at[m] + d0 + d) : 0.0f;
        }
        LOAD_COLUMNS(ws, lid, w)
        if (GLU) {
            LOAD_COLUMNS(vs, (lid + TN) & (LOCAL_SIZE - 1), v)
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int d = 0; d < TK; d++) {
            float xd[WM], wd[WN], vd[WN];
            for (int a = 0; a < WM; a++)
                xd[a] = xs[d * (TM + 1) + item_m + a * ITEMS_M];
            for (int b = 0; b < WN; b++) {
                wd[b] = ws[d * (TN + 1) + item_n + b * ITEMS_N];
                vd[b] = GLU ? vs[d * (TN + 1) + item_n + b * ITEMS_N] : 0.0f;
            }
            for (int a = 0; a < WM; a++)
                for (int b = 0; b < WN; b++) {
                    gate[a][b] += xd[a] * wd[b];
                    if (GLU) up[a][b] += xd[a] * vd[b];
                }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    const int e = first + expert; // only meant where expert < count
    for (int a = 0; a < WM; a++) {
        const int m = item_m + a * ITEMS_M;
        if (m >= rows) continue;
        const long i = begin + m, p = pair_at(i, order + order_skip, flags);
        const ulong out = y_skip + y_row(i, p, flags) * y_stride;
        const float weight = expert < count ? PAIR_GAMMA(p, p / k) : 0.0f;
        const float scale = expert < count ? PAIR_SCALE(e) : 0.0f;
        for (int b = 0; b < WN; b++) {
            const long n = n0 + item_n + b * ITEMS_N;
            if (n >= columns) continue;
            float value = 0.0f;
            if (expert < count)
                value = finish(gate[a][b], up[a][b], BIAS_AT(e, n) + ADD_AT(p, n), BIAS_UP_AT(e, n) + ADD_UP_AT(p, n),
                               GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS);
            STORE(Y_T, y, out + n, value);
        }
    }
}
