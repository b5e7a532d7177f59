// SPDX-License-Identifier: MIT
// Rows of codes in a ring in local memory by tensor copies: of each stage STEP_BYTES of a row, which lie in PITCH.
#define MAP_TYPE "0" // bytes
#define MAP_SWIZZLE "0"
#include "matmul/wgmma_maps.cl"

// Tensor copies begin at multiples of 16 bytes. Every PERIOD-th row begins at the same byte of 16, so those are one
// box: bytes of PERIOD rows | rows / PERIOD | experts. With GLU gate and up have a map each.
// Scales that lie apart are rows, too, of a period and a pitch of their own.
struct boxed {
    const global uchar *first;
    long column, expert;
    uint bytes; // of a row
};

inline struct boxed boxed_of(const struct weights *w, uint side, const bool scales) {
    const struct source s = source_of(w, side);
    if (scales) return (struct boxed){s.scales, s.scales_column, s.scales_expert, w->blocks};
    return (struct boxed){s.w, s.column, s.expert, w->row_bytes};
}

inline void map_rows(uint at, const struct boxed *b, const uint period, const uint pitch, long columns, int experts) {
    const uint before = (uint)(ulong)b->first & 15u;
    const long stride = period * b->column;
    fill_map(at, b->first - before, 3, before + stride - b->column + b->bytes, pitch);
    MAP_DIMENSION(1, columns / period, SIDE_ROWS / period);
    MAP_DIMENSION(2, experts, 1);
    MAP_STRIDE(0, stride);
    MAP_STRIDE(1, experts > 1 ? b->expert : stride);
}

// A work-item's box of each stage, of the first warp. `to`: in the stage; `from`: byte of the map's first dimension.
struct window {
    bool there;
    const global uchar *map;
    uint to, from;
    int expert, first; // of the second dimension
};

// Boxes lie one behind the other from `to` on.
inline void make_boxes(struct window *own, const struct weights *w, const bool scales, const uint period,
                       const uint pitch, uint to, uint words, global uchar *maps, int experts, uint lid) {
    own->there = lid < SIDES * period;
    if (lid >= 32) return;
    if (lid < SIDES) {
        const struct boxed b = boxed_of(w, lid, scales);
        map_rows(words + 128 * lid, &b, period, pitch, w->columns, experts);
    }
    for (uint i = 0; i < SIDES; i++)
        publish_map(maps + 128 * i, words + 128 * i);
    const uint side = lid / period;
    const struct boxed b = boxed_of(w, side, scales);
    own->map = maps + 128 * side;
    own->to = to + lid * (SIDE_ROWS / period * pitch);
    own->from = ((uint)(ulong)b.first & 15u) + lid % period * (uint)b.column;
}

inline void make_maps(struct window *own, const struct weights *w, uint words, global uchar *maps, int experts,
                      uint lid) {
    make_boxes(own, w, false, PERIOD, PITCH, X_BYTES, words, maps, experts, lid);
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

inline void place_boxes(struct window *own, const uint period, int expert, long column) {
    own->expert = expert, own->first = (int)column / period;
}

inline void place_window(struct window *own, const struct weights *w, uint lid, int expert, long column) {
    place_boxes(own, PERIOD, expert, column);
    if (SCALED && lid < 32) ask_for_scales(w, lid, expert, column);
}

// Of rows what is behind byte `behind`, or up to 15 before it; `bytes`: of all boxes.
inline void fetch_boxes(uint stage, uint full, const struct window *own, uint lid, uint behind, uint bytes) {
    if (lid == 0) mb_expect(full, bytes);
    WARP_BARRIER();
    if (own->there) copy_box_3(stage + own->to, own->map, full, (own->from + behind) & ~15u, own->first, own->expert);
}

inline void fetch_weights(uint stage, uint full, const struct window *own, uint lid, uint step, uint row_bytes) {
    if (lid < 32) fetch_boxes(stage, full, own, lid, step * STEP_BYTES, W_ROWS * PITCH);
}

// Of a row of gate or up, in a stage.
inline uint boxed_place(uint to, const uint period, const uint pitch, uint side, uint column) {
    return to + ((side * period + column % period) * (SIDE_ROWS / period) + column / period) * pitch;
}

inline uint row_place(uint side, uint column) { return boxed_place(X_BYTES, PERIOD, PITCH, side, column); }
