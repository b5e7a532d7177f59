// SPDX-License-Identifier: MIT
// The two rows of w that a work-item has codes of: where they lie in a stage, how many bytes behind a multiple of 16
// they begin in global memory, and there their scales.
struct held {
    uint row[2], before[2];
    const global uchar *scales[2];
    uint blocks; // of a row
};

// Those of columns of a tile: with GLU of gate and up, which have the same.
inline struct held held_of(const struct weights *w, int expert, long n0, uint column, uint next) {
    struct held h;
    h.blocks = w->blocks;
#pragma unroll
    for (uint second = 0; second < 2; second++) {
        const uint side = GLU ? second : 0, at = second ? next : column;
        h.row[second] = row_place(side, at);
        h.before[second] = (uint)(ulong)row_at(w, at, side, expert, n0) & 15u;
        h.scales[second] = scales_at(w, at, side, expert, n0);
    }
    return h;
}

// Of f4_e2m1: of a block, or of none.
inline uint scale_at(const struct held *h, int second, uint block) {
    return block < h->blocks ? h->scales[second][block] : 0;
}

// What is left to multiply registers of both rows with where scales are large, which they hardly ever are.
inline void scale_held(const uint *e, uint *held) {
    uint rest[2] = {e[0], e[1]};
    COMPUTED_HERE(rest[0], rest[1]);
    rest[0] = scale_rest(rest[0]), rest[1] = scale_rest(rest[1]);
#pragma unroll
    for (int n = 0; n < 8; n++)
        held[n] = multiply_two(held[n], rest[n & 1]);
}
