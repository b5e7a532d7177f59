// SPDX-License-Identifier: MIT
// For wgmma_coded.cl and mma_coded.cl: where rows of w and their scales are in global memory.

// ---- weights: where their bytes are ----

// Of gate and up: their rows and the scales of these, and bytes from row to row and expert to expert.
#define SIDES (GLU ? 2 : 1) // gate and up
#define SIDE_ROWS (W_ROWS / SIDES)

struct source {
    const global uchar *w, *scales;
    long expert, column, scales_expert, scales_column;
};

struct weights {
    struct source gate, up;
    uint row_bytes, blocks; // of a row
    long columns;
};

// Past the last column the last one again.
inline long column_of(uint at, uint side, long n0, long columns) { return min(n0 + at, columns - 1); }

inline struct source source_of(const struct weights *w, uint side) { return GLU && side ? w->up : w->gate; }

inline const global uchar *row_at(const struct weights *w, uint at, uint side, int expert, long n0) {
    const struct source s = source_of(w, side);
    return s.w + expert * s.expert + column_of(at, side, n0, w->columns) * s.column;
}

inline const global uchar *scales_at(const struct weights *w, uint at, uint side, int expert, long n0) {
    const struct source s = source_of(w, side);
    return s.scales + expert * s.scales_expert + column_of(at, side, n0, w->columns) * s.scales_column;
}

// Rows of w begin at whole blocks: what lies between two of them, in bytes.
#define TO_BYTES(stride) ((stride) / BLOCK(W_T) * (UNITS(W_T) * (long)sizeof(ELEM(W_T))))
#if SCALED
#define SCALES_OF(w) w##_scale + w##_scale_skip + w##_first * w##_scale_row
#else
#define SCALES_OF(w) 0
#endif
#define SOURCE_OF(w)                                                                                                   \
    {                                                                                                                  \
        (const global uchar *)(w + w##_skip), SCALES_OF(w), TO_BYTES(w##_expert), TO_BYTES(w##_column),                \
            w##_scale_expert, scale_step * w##_scale_row                                                               \
    }

// How both kernels begin, behind what they have in local memory: where that is, tiles to come, and weights.
#define CODED_BEGIN                                                                                                    \
    WHEN_SHOWN                                                                                                         \
    const uint lid = get_local_id(0), lane = lid & 31u;                                                                \
    const global int *const starts = offsets + offsets_skip;                                                           \
    struct ring r = {(uint)(size_t)memory, (uint)(size_t)barriers, 0, 0, 0};                                           \
    r.empty = r.full + 8 * STAGES, r.told = r.empty + 8 * STAGES, r.heard = r.told + 8 * SLOTS;                        \
    const struct job j = JOB;                                                                                          \
    const struct weights weights = {SOURCE_OF(w), SOURCE_OF(v), (uint)(depth / BLOCK_STEPS) * BLOCK_BYTES,             \
                                    (uint)(depth / BLOCK_STEPS), columns};
