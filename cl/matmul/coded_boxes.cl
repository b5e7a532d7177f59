// SPDX-License-Identifier: MIT
// Rows of codes in a ring in local memory by tensor copies: of each stage STEP_BYTES of a row, which lie in PITCH.
#define MAP_TYPE "0" // bytes
#define MAP_SWIZZLE "0"
#include "matmul/wgmma_maps.cl"

// Tensor copies begin at multiples of 16 bytes. Every PERIOD-th row begins at the same byte of 16, so those are one
// box: bytes of PERIOD rows | rows / PERIOD | experts. With GLU gate and up have a map each.
#define BOX_ROWS (SIDE_ROWS / PERIOD)
#define BOX_BYTES (BOX_ROWS * PITCH)

inline void map_rows(uint at, const struct source *s, const struct weights *w, int experts) {
    const uint before = (uint)(ulong)s->w & 15u;
    const long period = PERIOD * s->column;
    fill_map(at, s->w - before, 3, before + period - s->column + w->row_bytes, PITCH);
    MAP_DIMENSION(1, w->columns / PERIOD, BOX_ROWS);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(0, period);
    MAP_STRIDE(1, experts > 1 ? s->expert : period);
}

// A work-item's box of each stage, of the first warp. `to`: in the stage; `from`: byte of the map's first dimension.
struct window {
    bool there;
    const global uchar *map;
    uint to, from;
    int expert, first; // of the second dimension
};

inline void make_maps(struct window *own, const struct weights *w, uint words, global uchar *maps, int experts,
                      uint lid) {
    const uint side = lid / PERIOD;
    own->there = lid < SIDES * PERIOD;
    if (lid >= 32) return;
    if (lid < SIDES) {
        const struct source s = source_of(w, lid);
        map_rows(words + 128 * lid, &s, w, experts);
    }
    for (uint i = 0; i < SIDES; i++)
        publish_map(maps + 128 * i, words + 128 * i);
    const struct source s = source_of(w, side);
    own->map = maps + 128 * side;
    own->to = X_BYTES + lid * BOX_BYTES;
    own->from = ((uint)(ulong)s.w & 15u) + lid % PERIOD * (uint)s.column;
}

// Scales of a tile's rows that lie apart: who multiplies reads them as it goes, and would wait for memory at the
// beginning of each tile. By the first warp.
inline void ask_for_scales(const struct weights *w, uint lane, int expert, long column) {
    for (uint row = lane; row < W_ROWS; row += 32) {
        const global uchar *const scales = scales_at(w, row % SIDE_ROWS, row / SIDE_ROWS, expert, column);
        for (uint block = 0; block < w->blocks + 31; block += 32)
            ask_for(scales + min(block, w->blocks - 1));
    }
}

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    own->expert = expert, own->first = (int)column / PERIOD;
    if (SCALED && lid < 32) ask_for_scales(w, lid, expert, column);
}

inline void fetch_weights(uint stage, uint full, const struct window *own, uint lid, uint step, uint row_bytes) {
    if (lid >= 32) return;
    if (lid == 0) mb_expect(full, W_ROWS * PITCH);
    WARP_BARRIER();
    const uint from = (own->from + step * STEP_BYTES) & ~15u;
    if (own->there) copy_box_3(stage + own->to, own->map, full, from, own->first, own->expert);
}

// Of a row of gate or up, in a stage.
inline uint row_place(uint side, uint column) {
    return X_BYTES + ((side * PERIOD + column % PERIOD) * BOX_ROWS + column / PERIOD) * PITCH;
}
