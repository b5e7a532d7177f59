// SPDX-License-Identifier: MIT
// To local memory, for wgmma_coded.cl where pairs are many: weights by asynchronous copies of 16 bytes. Of a row of w
// these are the bytes around a stage's steps, so that it may begin anywhere.

#define W_LANES (WINDOW > 64 ? 8 : WINDOW > 32 ? 4 : 2) // of a row
#define W_EACH (HALF_FETCHERS / W_LANES)
#define W_COPIES ((HALF_ROWS + W_EACH - 1) / W_EACH)

struct window {
    const global uchar *w; // of the expert, at a multiple of 16 bytes
    uint from[W_COPIES];   // from there on, a multiple of 16 as well
    ulong before;          // how far behind it that row begins: 4 bits each
};

#define BEFORE(own, i) ((uint)((own)->before >> 4 * (i)) & 15u)

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS;
    const struct source source = source_of(w, side);
    const global uchar *const first = source.w + expert * source.expert;
    const uint off = (uint)(ulong)first & 15u;
    own->w = first - off;
    own->before = 0;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint row = min(l / W_LANES + i * W_EACH, HALF_ROWS - 1u), more = (l & (W_LANES - 1)) * 16;
        const uint at = GLU ? row : row / 8 * 16 + side * 8 + (row & 7u);
        const uint begin = off + (uint)(column_of(at, side, column, w->columns) * source.column);
        own->from[i] = (begin & ~15u) + more;
        own->before |= (ulong)(begin & 15u) << 4 * i;
    }
}

// What lies in a stage of which rows do not end.
inline void fetch_middle(uint to, const struct window *own, uint l, uint begin) {
    const uint row = l / W_LANES, chunk = (l & (W_LANES - 1)) * 16;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = BEFORE(own, i), from = (before + begin) & ~15u;
        const bool there = chunk < before + begin - from + STEP_BYTES &&
                           ((i + 1) * W_EACH <= HALF_ROWS || i * W_EACH + row < HALF_ROWS);
        copy_16_if(there, to + row * PITCH + chunk + i * W_EACH * PITCH, own->w + from + own->from[i]);
    }
}

// The same where they end: behind a row's last byte come zeros, which are codes of 0 with the smallest scale.
inline void fetch_end(uint to, const struct window *own, uint l, uint begin, uint row_bytes) {
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        const uint before = BEFORE(own, i), from = (before + begin) & ~15u;
        const uint row = l / W_LANES + i * W_EACH, more = (l & (W_LANES - 1)) * 16;
        const int bytes = at_most((int)(before + row_bytes) - (int)(from + more), 16);
        copy_some_of_16_if(row < HALF_ROWS && more < WINDOW, to + row * PITCH + more,
                           bytes ? own->w + from + own->from[i] : own->w, bytes);
    }
}

inline void fetch_weights(uint stage, uint full, const struct window *own, uint lid, uint step, uint row_bytes) {
    const uint side = lid >= HALF_FETCHERS, l = lid - side * HALF_FETCHERS, begin = step * STEP_BYTES;
    const uint to = stage + X_BYTES + side * HALF_ROWS * PITCH;
    if (begin + STEP_BYTES + 32 <= row_bytes)
        fetch_middle(to, own, l, begin);
    else
        fetch_end(to, own, l, begin, row_bytes);
}
