// SPDX-License-Identifier: MIT
// For wgmma_coded.cl: where rows of w and their scales are, in global memory and in a stage.

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
    uint row_bytes, scale_bytes; // of a row
    long columns;
};

// The column, of the GROUP_N of a group, of which a work-item with lane / 4 == i holds row j of 8, or with GLU both rows
// of 4: so that the rows that a warp reads at a time lie in local memory one behind the other.
inline uint held_column(uint i, uint j) {
    const uint together = min(PERIOD, GROUP_N / 8);
    return j / together * 8 * together + i * together + j % together;
}

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

// ---- scales to local memory ----

// Of 4 bytes as many, and zeros for the rest.
inline void copy_some_of_4(uint to, const global uchar *from, int bytes) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
}

inline int at_most(int bytes, int most) { return min(most, max(0, bytes)); }

// The scales of two rows of a work-item, of which there may be no second: two words around them.
inline void fetch_scales(uint stage, const global uchar *const *from, uint lid, uint step, uint scale_bytes) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint row = lid + i * FETCHING_WARPS * 32, before = (uint)(ulong)from[i] & 3u;
        const uint at = (before + step * (TK / 32)) & ~3u;
        if (row >= W_ROWS) return;
#pragma unroll
        for (int word = 0; word < 8; word += 4) {
            const int bytes = at_most((int)(before + scale_bytes) - (int)(at + word), 4);
            copy_some_of_4(stage + SCALES_AT + row * SCALES_PITCH + word, from[i] - before + (bytes ? at + word : 0),
                           bytes);
        }
    }
}
