// SPDX-License-Identifier: MIT
// A work-group owns a tile of y: SEGMENT cells, `lines` of `length` = SEGMENT / lines cells that are neighbours in
// memory where anything is. A line is a part of a row, or, with ROWS_FIRST, the same column of neighbouring rows:
//   group = (b * row tiles + row tile) * column tiles + column tile,    cell e = line * length + place
//
//   1. last[] = -1
//   2. the work-items walk the ids of the tile's rows; last[cell] becomes the largest slot that names the cell. An
//      integer maximum has one result whatever the order, so the last slot wins on every device.
//   3. each cell is written once: from its slot, or as fill. Nobody else reads or writes it: y may be x.
// The ids of a row are read once for each of its tiles, and y is written once: 16 bytes at a time where lines have cells
// side by side and are aligned. With MAY_SHIFT, for single rows, the tile begins as many cells early as it takes.
#include "scatter/row.cl"

#ifndef SEGMENT
#error "SEGMENT: cells of y that a work-group owns, a power of two"
#endif
#define VEC (16 / CELL_BYTES)
#define PER_WORD (CELL_BYTES < 4 ? 4 / CELL_BYTES : 1) // cells of 4 bytes, or parts of a cell

struct tile {
    long b, a, begin; // first row and column; the column may be negative
    int rows;         // of the tile that are there
    int log_length, length;
    bool rows_first;
};

// `y_step` is the stride along a row, `corner` the first row of the tile.
inline struct tile tile_of(long a_count, long row_tiles, long column_tiles, int log_rows, int flags) {
    struct tile t;
    const long group = get_group_id(0), line = group / column_tiles;
    const int log_segment = 31 - clz(SEGMENT);
    t.b = line / row_tiles;
    t.a = (line - t.b * row_tiles) << log_rows;
    t.rows = (int)min(a_count - t.a, 1L << log_rows);
    t.begin = (group - line * column_tiles) << (log_segment - log_rows);
    t.rows_first = flags & ROWS_FIRST;
    t.log_length = t.rows_first ? log_rows : log_segment - log_rows;
    t.length = 1 << t.log_length;
    return t;
}

// Whether lines can move 16 bytes at a time. The tile of a single line is shifted so that they can.
inline bool align(struct tile *t, const global CELL *first, long row_step, long column_step, int log_rows, int flags) {
    const long step = t->rows_first ? row_step : column_step, between = t->rows_first ? column_step : row_step;
    if (step != 1 || t->length < VEC) return false;
    const int astray = (int)((size_t)first & 15u) / CELL_BYTES;
    if (flags & MAY_SHIFT) {
        t->begin -= astray;
        return true;
    }
    return astray == 0 && (log_rows == 0 || (between * CELL_BYTES & 15) == 0);
}

#define TILE_PARAMS long row_tiles, long column_tiles, int log_rows
// Row and column of cell e.
#define ROW_OF(t, e) ((t).rows_first ? (e) & ((t).length - 1) : (e) >> (t).log_length)
#define COLUMN_OF(t, e) ((t).begin + ((t).rows_first ? (e) >> (t).log_length : (e) & ((t).length - 1)))
#define INSIDE(t, row, column) ((row) < (t).rows && (column) >= 0 && (column) < n)

#if !FOLD
inline CELL cell_at(const struct row *r, int slot, long column, CELL filler) {
    return slot >= 0 ? placed(r, (uint)slot, (uint)column) : filler;
}

inline uint4 fill_block(ulong fill) {
    if (CELL_BYTES == 8) return (uint4)((uint)fill, (uint)(fill >> 32), (uint)fill, (uint)(fill >> 32));
    return (uint4)((uint)fill * (CELL_BYTES == 1 ? 0x1010101u : CELL_BYTES == 2 ? 0x10001u : 1u));
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_tile(ROW_PARAMS, TILE_PARAMS) {
    local int last[SEGMENT];
    struct tile t = tile_of(a_count, row_tiles, column_tiles, log_rows, flags);
    const bool blocks = align(&t, y + START(y, t.b, t.a), y_at.s2, y_at.s3, log_rows, flags);
    const int lane = get_local_id(0);
    for (int e = lane * 4; e < SEGMENT; e += LOCAL_SIZE * 4)
        vstore4((int4)(-1), 0, last + e);
    barrier(CLK_LOCAL_MEM_FENCE);

    const uint columns = SEGMENT >> log_rows;
    for (uint q = lane; q < k << log_rows; q += LOCAL_SIZE) {
        const uint row = t.rows_first ? q & ((1u << log_rows) - 1u) : log_rows ? q / k : 0u;
        const uint j = t.rows_first ? q >> log_rows : q - row * k;
        if (row >= (uint)t.rows) continue;
        const struct row r = ROW_AT(t.b, t.a + row);
        const uint id = id_at(&r, j);
        const long column = (long)id - t.begin;
        if (id == NONE || column < 0 || column >= columns) continue;
        const uint e = t.rows_first ? (uint)column << log_rows | row : row << t.log_length | (uint)column;
        atomic_max(&last[e], (int)j);
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    if (!blocks) {
        for (int e = lane; e < SEGMENT; e += LOCAL_SIZE) {
            const int row = ROW_OF(t, e);
            const long column = COLUMN_OF(t, e);
            if (!INSIDE(t, row, column)) continue;
            const struct row r = ROW_AT(t.b, t.a + row);
            r.y[column * r.y_step] = cell_at(&r, last[e], column, (CELL)fill);
        }
        return;
    }
    const uint4 filler = fill_block(fill);
    for (int e = lane * VEC; e < SEGMENT; e += LOCAL_SIZE * VEC) {
        const long column = COLUMN_OF(t, e);
        const int row = ROW_OF(t, e), row_step = t.rows_first;
        const bool whole = INSIDE(t, row, column) && INSIDE(t, ROW_OF(t, e + VEC - 1), COLUMN_OF(t, e + VEC - 1));
        global CELL *const to = y + START(y, t.b, t.a + row) + column * y_at.s3;
        int named = -1;
        for (int v = 0; v < VEC; v++)
            named = max(named, last[e + v]);
        if (whole && named < 0) {
            *(global uint4 *)to = filler;
        } else if (whole && MOVES) {
            uint words[4];
#pragma unroll
            for (int w = 0; w < 4; w++) {
                words[w] = 0;
#pragma unroll
                for (int c = 0; c < PER_WORD; c++) {
                    const int v = w * 4 / CELL_BYTES + c;
                    const struct row r = ROW_AT(t.b, t.a + row + row_step * v);
                    const ulong cell = cell_at(&r, last[e + v], t.rows_first ? column : column + v, (CELL)fill);
                    words[w] |= (uint)(CELL_BYTES == 8 ? cell >> (w & 1) * 32 : cell << 8 * CELL_BYTES * c);
                }
            }
            *(global uint4 *)to = (uint4)(words[0], words[1], words[2], words[3]);
        } else {
            for (int v = 0; v < VEC; v++) {
                const long own = COLUMN_OF(t, e + v);
                const struct row r = ROW_AT(t.b, t.a + ROW_OF(t, e + v));
                if (INSIDE(t, ROW_OF(t, e + v), own)) to[v] = cell_at(&r, last[e + v], own, (CELL)fill);
            }
        }
    }
}
#endif

// y = x, by the same tiles.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_copy(const global CELL *x, long4 x_at,
                                                                                 global CELL *y, long4 y_at,
                                                                                 long a_count, long n, int flags,
                                                                                 TILE_PARAMS) {
    struct tile t = tile_of(a_count, row_tiles, column_tiles, log_rows, flags);
    bool blocks = align(&t, y + START(y, t.b, t.a), y_at.s2, y_at.s3, log_rows, flags);
    const long from_line = t.rows_first ? x_at.s3 : x_at.s2, from_step = t.rows_first ? x_at.s2 : x_at.s3;
    const long corner = START(x, t.b, t.a) + t.begin * x_at.s3;
    blocks = blocks && from_step == 1 && ((size_t)(x + corner) & 15u) == 0 &&
             (log_rows == 0 || (from_line * CELL_BYTES & 15) == 0);
    for (int e = (int)get_local_id(0) * VEC; blocks && e < SEGMENT; e += LOCAL_SIZE * VEC) {
        const long to = START(y, t.b, t.a + ROW_OF(t, e)) + COLUMN_OF(t, e) * y_at.s3;
        const long from = START(x, t.b, t.a + ROW_OF(t, e)) + COLUMN_OF(t, e) * x_at.s3;
        if (INSIDE(t, ROW_OF(t, e), COLUMN_OF(t, e)) &&
            INSIDE(t, ROW_OF(t, e + VEC - 1), COLUMN_OF(t, e + VEC - 1))) {
            *(global uint4 *)(y + to) = *(const global uint4 *)(x + from);
            continue;
        }
        for (int v = 0; v < VEC; v++)
            if (INSIDE(t, ROW_OF(t, e + v), COLUMN_OF(t, e + v))) y[to + v] = x[from + v];
    }
    for (int e = get_local_id(0); !blocks && e < SEGMENT; e += LOCAL_SIZE) {
        const int row = ROW_OF(t, e);
        const long column = COLUMN_OF(t, e);
        if (INSIDE(t, row, column))
            y[START(y, t.b, t.a + row) + column * y_at.s3] = x[START(x, t.b, t.a + row) + column * x_at.s3];
    }
}
