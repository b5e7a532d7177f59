// SPDX-License-Identifier: MIT
// What a work-item of tile.cl fetches of w and v for a stretch of TK steps, and where it puts that in local memory:
//
//   weights in runs    16 steps of a column, which have one scale: decoded at once
//   codes of 4 bits,   4 columns of a step, element by element, with their zeros
//   panels of blocks
//   others             4 neighbours as they lie (piece.cl): steps where K is fastest in w (by_k), else columns
//
// FETCH_W(to, f, next): fetch f of the stretch from step `next` on. It uses what tile.cl has in scope. PLACE_T,
// PLACE_D: the first of its columns in the tile, and of its steps.
#include "matmul/pair.cl"
#include "matmul/piece.cl"

#if IN_RUNS
#define RUN 16
#define PLACE_T(at) ((at) & (TN - 1))
#define PLACE_D(at) ((at) / TN * RUN)
typedef float16 fetched_w;
#else
#define RUN 4
#define PLACE_T(at) (by_k ? (at) / (TK / 4) : ((at) & (TN / 4 - 1)) * 4)
#define PLACE_D(at) (by_k ? ((at) & (TK / 4 - 1)) * 4 : (at) / (TN / 4))
#endif
#define W_FETCHES ((TN * TK / RUN + LOCAL_SIZE - 1) / LOCAL_SIZE)

// Column t of the tile stands for a column of y from n0 on, gate or up; beyond the last one for that one again.
#define SIDE (GLU ? TN / 2 : TN)
#define IS_UP(t) (GLU && (t) >= SIDE)
#define COLUMN(t) min(n0 + ((t) & (SIDE - 1)), columns - 1)

#if IN_RUNS
// Runs that the end of the row cuts short are loaded element by element.
#define FETCH_RUN(to, w, t, d)                                                                                         \
    {                                                                                                                  \
        const long column = COLUMN(t);                                                                                 \
        const global ELEM(S_T) *const scales = SCALE_ROW(w, expert, column);                                           \
        const ulong row = expert * w##_expert + column * w##_column;                                                   \
        float values[RUN];                                                                                             \
        if (d + RUN <= depth)                                                                                          \
            vstore16(LOAD16(W_T, ROW_AT(W_T, w + w##_skip, row), d) * SCALE(w, scales, d), 0, values);                 \
        else                                                                                                           \
            for (int j = 0; j < RUN; j++)                                                                              \
                values[j] = d + j < steps ? WEIGHT(w, expert, column, row, scales, d + j) : 0.0f;                      \
        UNROLL for (int j = 0; j < RUN; j++) values[j] = d + j < steps ? values[j] : 0.0f;                             \
        to = vload16(0, values);                                                                                       \
    }
#define FETCH_W(to, f, next)                                                                                           \
    {                                                                                                                  \
        const int at = lid + f * LOCAL_SIZE, t = PLACE_T(at);                                                          \
        const uint d = next + PLACE_D(at);                                                                             \
        if (at < TN * TK / RUN) {                                                                                      \
            if (IS_UP(t))                                                                                              \
                FETCH_RUN(to, v, t, d)                                                                                 \
            else                                                                                                       \
                FETCH_RUN(to, w, t, d)                                                                                 \
        }                                                                                                              \
    }
#elif !HAS_RUNS(W_T)
typedef float4 fetched_w;
#define FLOATS_W(fetched) (fetched)
#define FETCH_WORDS(to, w, t, d)                                                                                       \
    {                                                                                                                  \
        float values[RUN];                                                                                             \
        UNROLL for (int j = 0; j < RUN; j++) {                                                                         \
            const long column = COLUMN((t) + j);                                                                       \
            const global ELEM(S_T) *const scales = SCALE_ROW(w, expert, column);                                       \
            const ulong row = expert * w##_expert + column_at(column, w##_column, panel);                              \
            values[j] = d < steps ? WEIGHT(w, expert, column, row, scales, d) : 0.0f;                                  \
        }                                                                                                              \
        to = vload4(0, values);                                                                                        \
    }
#define FETCH_W(to, f, next)                                                                                           \
    {                                                                                                                  \
        const int at = lid + f * LOCAL_SIZE, t = PLACE_T(at);                                                          \
        const uint d = next + PLACE_D(at);                                                                             \
        if (IS_UP(t))                                                                                                  \
            FETCH_WORDS(to, v, t, d)                                                                                   \
        else                                                                                                           \
            FETCH_WORDS(to, w, t, d)                                                                                   \
    }
#else
typedef PIECE(W_T) fetched_w;
#define FLOATS_W(fetched) FLOATS4(W_T, fetched)
#define FETCH_W(to, f, next)                                                                                           \
    {                                                                                                                  \
        const int at = lid + f * LOCAL_SIZE, t = PLACE_T(at);                                                          \
        const uint d = next + PLACE_D(at);                                                                             \
        const int beside = (int)min(columns - n0, (long)SIDE) - (t & (SIDE - 1));                                      \
        const int left = by_k ? (int)(steps - d) : d < steps ? beside : 0;                                             \
        to = FETCH4(W_T, w_from[f] + next * (IS_UP(t) ? v_depth : w_depth), w_step, left, wide_w);                     \
    }
// The same where all of the stretch exists and can be loaded four elements at a time
#define FETCH_WHOLE_W(to, f, next)                                                                                     \
    to = FETCH4(W_T, w_from[f] + next * (IS_UP(PLACE_T(lid + f * LOCAL_SIZE)) ? v_depth : w_depth), 1, 4, 1);
// Where the element (t, d) of the tile lies in w or v, without the step of the stretch
#define FROM_W(w, t, d) (w + w##_skip + expert * w##_expert + column_at(COLUMN(t), w##_column, panel) + (d) * w##_depth)
// Strides that have to be multiples of 4 for wide loads, or-ed
#define W_STRIDES(w) (w##_expert | (by_k || panel ? w##_column : 0) | (by_k ? 0 : w##_depth))
#endif

#ifndef FETCH_WHOLE_W
#define FETCH_WHOLE_W FETCH_W
#endif

static inline void store_w(local float *ws, const fetched_w *fetched, int lid, int by_k) {
    UNROLL for (int f = 0; f < W_FETCHES; f++) {
        const int at = lid + f * LOCAL_SIZE, t = PLACE_T(at), d = PLACE_D(at);
        float v[RUN];
#if IN_RUNS
        vstore16(fetched[f], 0, v);
        UNROLL for (int j = 0; j < RUN; j++)
            if (at < TN * TK / RUN) ws[(d + j) * W_PITCH + t] = v[j];
#else
        const float4 four = FLOATS_W(fetched[f]);
        vstore4(four, 0, v);
        if (by_k) {
            UNROLL for (int j = 0; j < RUN; j++) ws[(d + j) * W_PITCH + t] = v[j];
        } else
            *(local float4 *)(ws + d * W_PITCH + t) = four;
#endif
    }
}
