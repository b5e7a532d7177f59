// SPDX-License-Identifier: MIT
// Weights in the ring of mma.cl, behind TM rows of x: what a work-item copies of them, and where a lane reads them.
//
//   ENK   W_ROWS rows of TK steps: columns of w or, with GLU, TN of gate and TN of up
//         chunk c of row r is at r * CHUNKS + (c ^ SWIZZLE(r))
//   EKN   TK rows of W_ROWS columns: the same or, where gate and up columns alternate (`mixed`), so do they here
//         chunk c of row r is at r * W_CHUNKS + (c ^ r % 8)
#ifndef ENK
#error "ENK: 1 for weights of which neighbours are neighbours in K, 0 where they are neighbouring columns"
#endif
#define W_ROWS ((1 + GLU) * TN)
#define COPIES_W (W_ROWS * CHUNKS / LOCAL_SIZE)

// Of gate (w) and up (v) columns; `left` of them, or steps of K, from the first copy on.
struct weights {
    const global ushort *w, *v;
    long w_step, v_step; // from copy to copy
    long depth;          // from step to step of K
    int left, steps;
    uint to;
    bool mixed;
};

#if ENK
#define W_EACH (LOCAL_SIZE / CHUNKS) // rows from copy to copy
#if TN % W_EACH || W_EACH % 8
#error "work-items do not come out even"
#endif
#define READ_WEIGHTS READ_MATRICES

static inline void place_weights(struct weights *s, const global ushort *w, long w_column, long w_depth,
                                 const global ushort *v, long v_column, long v_depth, long n0, long columns,
                                 int steps) {
    const uint lid = get_local_id(0), row = lid / CHUNKS, chunk = lid & (CHUNKS - 1);
    s->w = w + (n0 + row) * w_column + chunk * 8;
    s->v = v + (n0 + row) * v_column + chunk * 8;
    s->w_step = W_EACH * w_column;
    s->v_step = W_EACH * v_column;
    s->depth = 1;
    s->left = (int)min(columns - n0, (long)TN) - (int)row;
    s->steps = steps - (int)chunk * 8;
    s->to = (TM + row) * CHUNKS + (chunk ^ SWIZZLE(row));
    s->mixed = false;
}

static inline void fetch_weights(struct copies *c, local uint4 *stage, const struct weights *s, int d,
                                 uint part) {
    const global ushort *w = s->w + d, *v = s->v + d;
    UNROLL for (int i = 0; i < COPIES_W; i++) {
        const int row = i % (TN / W_EACH) * W_EACH;
        if (IN_PART(i))
            copy_chunk(c, stage + s->to + i * LOCAL_SIZE, i < TN / W_EACH ? w : v, d < s->steps && row < s->left);
        if (i < TN / W_EACH) w += s->w_step;
        else v += s->v_step;
    }
}

// For a wave's first two fragments: row lane % 8 of the one that lane / 16 says, chunk lane / 8 % 2. From there
// WEIGHT_AT finds others, j and the next of the step.
static inline uint weight_place(uint wave_n, uint lane, bool mixed) {
    return (TM + wave_n + lane / 16 * 8 + lane % 8) * CHUNKS + (lane / 8 % 2 ^ SWIZZLE(lane % 8));
}
#define WEIGHT_FLIP(step, j, mixed) ((step)*2)
#define WEIGHT_AHEAD(step, j) (((j) % COLUMNS_N * 8 + (j) / COLUMNS_N * TN) * CHUNKS)

#else
#define W_CHUNKS (W_ROWS / 8)
#define W_EACH (LOCAL_SIZE / W_CHUNKS)
#if LOCAL_SIZE % W_CHUNKS || W_EACH % 8
#error "work-items do not come out even"
#endif
#define READ_WEIGHTS READ_ACROSS

static inline void place_weights(struct weights *s, const global ushort *w, long w_column, long w_depth,
                                 const global ushort *v, long v_column, long v_depth, long n0, long columns,
                                 int steps) {
    const uint lid = get_local_id(0), row = lid / W_CHUNKS, chunk = lid & (W_CHUNKS - 1);
    s->mixed = GLU && w_column == 2;
    const bool up = !s->mixed && chunk >= TN / 8;
    const long n = s->mixed ? 2 * n0 + chunk * 8 : n0 + chunk % (TN / 8) * 8;
    s->depth = up ? v_depth : w_depth;
    s->w = (up ? v : w) + n + row * s->depth;
    s->w_step = W_EACH * s->depth;
    s->steps = n < (s->mixed ? 2 * columns : columns) ? steps - (int)row : 0;
    s->to = TM * CHUNKS + row * W_CHUNKS + (chunk ^ (row & 7u));
}

static inline void fetch_weights(struct copies *c, local uint4 *stage, const struct weights *s, int d,
                                 uint part) {
    const global ushort *w = s->w + d * s->depth;
    UNROLL for (int i = 0; i < COPIES_W; i++, w += s->w_step)
        if (IN_PART(i)) copy_chunk(c, stage + s->to + i * LOCAL_SIZE, w, d + i * W_EACH < s->steps);
}

// The same: step lane % 16 of 16, the columns of the fragment that lane / 16 says. Chunks are numbered in powers of
// two.
static inline uint weight_place(uint wave_n, uint lane, bool mixed) {
    const uint chunk = (mixed ? wave_n / 4 : wave_n / 8) + lane / 16;
    return TM * CHUNKS + lane % 16 * W_CHUNKS + (chunk ^ (lane & 7u));
}
#define WEIGHT_FLIP(step, j, mixed) ((j) % COLUMNS_N + (j) / COLUMNS_N * (mixed ? COLUMNS_N : TN / 8))
#define WEIGHT_AHEAD(step, j) ((step)*16 * W_CHUNKS)
#endif
