// SPDX-License-Identifier: MIT
// What the kernels for CPU devices share: pieces of x, and the rows of a work-group.
#include "matmul/pair.cl"

#define VALUE float16
#include "matmul/epilogue.cl"

#ifndef TK
#error "TK: steps of K in a piece, a multiple of 32"
#endif
#include "matmul/slot.cl"
#include "matmul/sum.cl"

// That memory will be read soon, where compilers have a way to say so: OpenCL's own, prefetch(), does nothing in PoCL.
#if defined(__x86_64__) || defined(__aarch64__)
#define SOON(p) __builtin_prefetch((const void *)(ulong)(p))
#else
#define SOON(p)
#endif

// A piece of a row of x as floats: as it lies where it is f32, else widened into `room`, which has TK of them.
#define LIES_AS_FLOATS_f32 1
#define LIES_AS_FLOATS_f16 0
#define LIES_AS_FLOATS_bf16 0
#if CAT(LIES_AS_FLOATS_, X_T)
typedef const global float *floats;
static inline floats piece_of_x(const global float *x, float *room, int n) { return x; }
#else
typedef const float *floats;
static inline floats piece_of_x(const global ELEM(X_T) *x, float *room, int n) {
    int d = 0;
    for (; d + 16 <= n; d += 16)
        vstore16(LOAD16(X_T, x, d), 0, room + d);
    for (; d < n; d++)
        room[d] = LOAD(X_T, x, d);
    return room;
}
#endif

// Positions begin .. begin + rows - 1 of a slot, and their expert; E for skipped pairs, whose rows become zero. Where
// there are fewer pairs than slots of slot.cl, each position is a slot, which takes all rows of a tile if it is its
// first one.
static inline int find_rows(long slot, long *begin, int *rows, const global int *starts, const global int *ids,
                            long ids_stride, long pairs, int k, int experts, int first, int count, int flags) {
    if (flags & DENSE) {
        *begin = slot * TM;
        *rows = tile_rows(*begin, pairs);
        return 0;
    }
    *begin = slot;
    if (!(flags & SORTED)) {
        const int e = ids[pair_element(slot, slot / k, k, ids_stride)];
        const int task = pair_task(e, experts, first, count);
        *rows = task != PAIR_NOTHING;
        return task == PAIR_ZERO ? experts : e;
    }
    const bool by_position = pairs <= pairs / TM + count + (first == 0);
    const long behind = slot - (by_position ? starts[experts] : slot_of(starts, first, count));
    if (behind >= 0) {
        if (!by_position) *begin = starts[experts] + behind * TM;
        *rows = first != 0 ? 0 : by_position ? 1 : tile_rows(*begin, pairs);
        return experts;
    }
    int low = 0, high = count;
    while (high - low > 1) {
        const int v = (low + high) / 2;
        if ((by_position ? starts[first + v] : slot_of(starts, first, v)) <= slot)
            low = v;
        else
            high = v;
    }
    const int start = starts[first + low], end = starts[first + low + 1];
    if (!by_position) *begin = tile_begin(starts, first, low, slot);
    *rows = by_position && (slot < start || (slot - start) % TM) ? 0 : tile_rows(*begin, end);
    return first + low;
}

// What a work-group takes, of `lanes` columns of y from n0 on: positions begin .. begin + rows - 1, of expert e. It is
// done if they are none, or rows that become zero.
#define GROUP_ROWS(lanes)                                                                                              \
    const long column_groups = (columns + (lanes) - 1) / (lanes);                                                      \
    const long slot = (long)get_group_id(0) / column_groups;                                                           \
    const long n0 = ((long)get_group_id(0) - slot * column_groups) * (lanes);                                          \
    long begin;                                                                                                        \
    int rows;                                                                                                          \
    const int e = find_rows(slot, &begin, &rows, offsets + offsets_skip, ids + ids_skip, ids_stride, pairs, k,         \
                            experts, first, count, flags);                                                             \
    for (int r = 0; e == experts && r < rows; r++) {                                                                   \
        const long i = begin + r;                                                                                      \
        const ulong out = y_skip + y_row(i, pair_at(i, order + order_skip, flags), flags) * y_stride;                  \
        for (long n = n0; n < min(n0 + (lanes), columns); n++)                                                         \
            STORE(Y_T, y, out + n, 0.0f);                                                                              \
    }                                                                                                                  \
    if (e == experts || rows <= 0) return;

// xs: pieces of x from step d0 on, of the rows from r0 on, `most` of them or what there is (`some`)
#define PIECES_OF_X(most, r0, d0, steps)                                                                               \
    float room[most][TK];                                                                                              \
    floats xs[most];                                                                                                   \
    const int some = min(most, rows - (r0));                                                                           \
    for (int r = 0; r < some; r++) {                                                                                   \
        const long i = begin + (r0) + r, p = pair_at(i, order + order_skip, flags);                                    \
        xs[r] = piece_of_x(x + x_skip + x_row(i, p, p / k, flags) * x_stride + (d0), room[r], steps);                  \
    }

// Columns n .. n + 15 of a row; the last one again past the end
static inline float16 add16(const global float *row, long step, long n, long columns) {
    float values[16];
    for (int c = 0; c < 16; c++)
        values[c] = row[min(n + c, columns - 1) * step];
    return vload16(0, values);
}
static inline float16 bias16(const global ELEM(BIAS_T) *row, long step, long n, long columns) {
    float values[16];
    for (int c = 0; c < 16; c++)
        values[c] = LOAD(BIAS_T, row, min(n + c, columns - 1) * step);
    return vload16(0, values);
}

// The biases of columns n .. n + 15, and what the caller adds to those of pair p; zeros where there is none
#define BIAS16(n)                                                                                                      \
    (flags & HAS_BIAS ? bias16(bias + bias_skip + e * bias_expert, bias_column, n, columns) : (float16)(0.0f))
#define BIAS16_UP(n)                                                                                                   \
    (flags & HAS_BIAS ? bias16(bias_up + bias_up_skip + e * bias_up_expert, bias_up_column, n, columns)                \
                      : (float16)(0.0f))
#define ADD16(p, n) add16(add + add_skip + (p) * add_pair, add_column, n, columns)
#define ADD16_UP(p, n) add16(add_up + add_up_skip + (p) * add_up_pair, add_up_column, n, columns)

// Stores columns `from` .. `to` - 1 of 16 from y[at] on.
static inline void store16(global ELEM(Y_T) *y, ulong at, float16 value, int from, int to) {
    float values[16];
    vstore16(value, 0, values);
    for (int c = from; c < to; c++)
        STORE(Y_T, y, at + c, values[c]);
}

// Finishes 16 columns from n on, and stores `from` .. `to` - 1 of them: of every row r with sums gate16(r), up16(r)
#define FINISH16(n, from, to, gate16, up16)                                                                            \
    {                                                                                                                  \
        const float16 bias_gate = BIAS16(n), bias_up16 = GLU ? BIAS16_UP(n) : bias_gate;                               \
        const float scale = PAIR_SCALE(e);                                                                             \
        for (int r = 0; r < rows; r++) {                                                                               \
            const long i = begin + r, p = pair_at(i, order + order_skip, flags);                                       \
            const float weight = PAIR_GAMMA(p, p / k);                                                                 \
            float16 bias0 = bias_gate, bias1 = bias_up16;                                                              \
            if (flags & HAS_ADD) {                                                                                     \
                bias0 += ADD16(p, n);                                                                                  \
                if (GLU) bias1 += ADD16_UP(p, n);                                                                      \
            }                                                                                                          \
            store16(y, y_skip + y_row(i, p, flags) * y_stride + (n),                                                   \
                    finish(gate16(r), up16(r), bias0, bias1, GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS),    \
                    from, to);                                                                                         \
        }                                                                                                              \
    }
