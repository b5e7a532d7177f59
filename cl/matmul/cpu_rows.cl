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

// Columns n .. n + 15 of a row of what the caller adds; the last one again past the end
static inline float16 add16(const global float *row, long step, long n, long columns) {
    float values[16];
    for (int c = 0; c < 16; c++)
        values[c] = row[min(n + c, columns - 1) * step];
    return vload16(0, values);
}

// Stores columns `from` .. `to` - 1 of 16 from y[at] on.
static inline void store16(global ELEM(Y_T) *y, ulong at, float16 value, int from, int to) {
    float values[16];
    vstore16(value, 0, values);
    for (int c = from; c < to; c++)
        STORE(Y_T, y, at + c, values[c]);
}
