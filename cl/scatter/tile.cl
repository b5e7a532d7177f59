// SPDX-License-Identifier: MIT
// A work-group owns a tile of y: SEGMENT cells, `lines` of `length` = SEGMENT / lines cells that are neighbours in
// memory where anything is. A line is a part of a row, or, with ROWS_FIRST, the same column of neighbouring rows:
//   group = (b * row tiles + row tile) * column tiles + column tile,    cell e = line * length + place
//
//   1. last[] = -1
//   2. the work-items walk the ids of the tile's rows; last[cell] becomes the largest slot that names the cell. An
//      integer maximum has one result whatever the order, so the last slot wins on every device.
//   3. each cell is written once: from its slot, or as fill. Nobody else reads or writes it: y may be x.
// The ids of a row are read once for each of its tiles, and y is written once: 16 bytes at a time where lines have
// cells side by side and are aligned. With MAY_SHIFT, for single rows, the tile begins as many cells early as it takes.
#include "scatter/row.cl"

#ifndef SEGMENT
#error "SEGMENT: cells of y that a work-group owns, a power of two"
#endif
#define VEC (16 / CELL_BYTES)
#define PER_WORD (CELL_BYTES < 4 ? 4 / CELL_BYTES : 1) // cells of 4 bytes, or parts of a cell

struct tile {
    long b, a, begin; // first row and column; the column may be negative
    int rows;         // of the tile that are there
    int from, to;     // columns of the tile that are there, counted from `begin`
    int log_length, mask;
    bool rows_first;
};

inline struct tile tile_of(long a_count, long n, long row_tiles, long column_tiles, int log_rows, int flags) {
    struct tile t;
    const long group = get_group_id(0), line = group / column_tiles;
    const int log_columns = 31 - clz(SEGMENT) - log_rows;
    t.b = line / row_tiles;
    t.a = (line - t.b * row_tiles) << log_rows;
    t.rows = (int)min(a_count - t.a, 1L << log_rows);
    t.begin = (group - line * column_tiles) << log_columns;
    t.from = 0;
    t.to = (int)min(n - t.begin, 1L << log_columns);
    t.rows_first = flags & ROWS_FIRST;
    t.log_length = t.rows_first ? log_rows : log_columns;
    t.mask = (1 << t.log_length) - 1;
    return t;
}

// Whether lines can move 16 bytes at a time. The tile of a single line is shifted so that they can.
inline bool align(struct tile *t, const global CELL *first, long row_step, long column_step, int log_rows, int flags,
                  long n) {
    const long step = t->rows_first ? row_step : column_step, between = t->rows_first ? column_step : row_step;
    if (step != 1 || t->mask < VEC - 1) return false;
    const int astray = (int)((size_t)first & 15u) / CELL_BYTES;
    if (flags & MAY_SHIFT) {
        t->begin -= astray;
        t->from = t->begin < 0 ? astray : 0;
        t->to = (int)min(n - t->begin, (long)SEGMENT);
        return true;
    }
    return astray == 0 && (log_rows == 0 || (between * CELL_BYTES & 15) == 0);
}

#define TILE_PARAMS long row_tiles, long column_tiles, int log_rows
// Row and column of cell e in its tile.
#define ROW_OF(t, e) ((t).rows_first ? (e) & (t).mask : (e) >> (t).log_length)
#define COLUMN_OF(t, e) ((t).rows_first ? (e) >> (t).log_length : (e) & (t).mask)
#define INSIDE(t, e) (ROW_OF(t, e) < (t).rows && COLUMN_OF(t, e) >= (t).from && COLUMN_OF(t, e) < (t).to)
// Where cell e lies, `corner` being the first: lines have cells side by side.
#define BLOCK_AT(t, corner, between, e) ((corner) + ((e) >> (t).log_length) * (between) + ((e) & (t).mask))

#if !FOLD
inline CELL cell_at(const struct row *r, int slot, long column, CELL filler) {
    return slot >= 0 ? placed(r, (uint)slot, (uint)column) : filler;
}

inline uint4 fill_block(ulong fill) {
    if (CELL_BYTES == 8) return (uint4)((uint)fill, (uint)(fill >> 32), (uint)fill, (uint)(fill >> 32));
    return (uint4)((uint)fill * (CELL_BYTES == 1 ? 0x1010101u : CELL_BYTES == 2 ? 0x10001u : 1u));
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_tile(ROW_PARAMS, TILE_PARAMS) {
    local int last[SEGMENT] __attribute__((aligned(16)));
    struct tile t = tile_of(a_count, n, row_tiles, column_tiles, log_rows, flags);
    const bool blocks = align(&t, y + START(y, t.b, t.a), y_at.s2, y_at.s3, log_rows, flags, n);
    const int lane = get_local_id(0);
    for (int e = lane * 4; e < SEGMENT; e += LOCAL_SIZE * 4)
        *(local int4 *)(last + e) = (int4)(-1);
    barrier(CLK_LOCAL_MEM_FENCE);

    for (uint q = lane; q < k << log_rows; q += LOCAL_SIZE) {
        const uint row = t.rows_first ? q & (uint)t.mask : log_rows ? q / k : 0u;
        const uint j = t.rows_first ? q >> log_rows : q - row * k;
        if (row >= (uint)t.rows) continue;
        const struct row r = ROW_AT(t.b, t.a + row);
        const uint id = id_at(&r, j);
        const long column = (long)id - t.begin;
        if (id == NONE || column < t.from || column >= t.to) continue;
        const uint e = t.rows_first ? (uint)column << log_rows | row : row << t.log_length | (uint)column;
        atomic_max(&last[e], (int)j);
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    if (!blocks) {
        for (int e = lane; e < SEGMENT; e += LOCAL_SIZE) {
            if (!INSIDE(t, e)) continue;
            const struct row r = ROW_AT(t.b, t.a + ROW_OF(t, e));
            const long column = t.begin + COLUMN_OF(t, e);
            r.y[column * r.y_step] = cell_at(&r, last[e], column, (CELL)fill);
        }
        return;
    }
    const uint4 filler = fill_block(fill);
    const long between = t.rows_first ? y_at.s3 : y_at.s2;
    global CELL *const corner = y + START(y, t.b, t.a) + t.begin * y_at.s3;
    for (int e = lane * VEC; e < SEGMENT; e += LOCAL_SIZE * VEC) {
        const bool whole = INSIDE(t, e) && INSIDE(t, e + VEC - 1);
        global CELL *const to = BLOCK_AT(t, corner, between, e);
        int2 named = -1;
        for (int v = 0; v < VEC; v += 2)
            named = max(named, *(const local int2 *)(last + e + v));
        if (whole && max(named.x, named.y) < 0) {
            *(global uint4 *)to = filler;
        } else if (whole && MOVES) {
            uint words[4];
#pragma unroll
            for (int w = 0; w < 4; w++) {
                words[w] = 0;
#pragma unroll
                for (int c = 0; c < PER_WORD; c++) {
                    const int at = e + w * 4 / CELL_BYTES + c;
                    const struct row r = ROW_AT(t.b, t.a + ROW_OF(t, at));
                    const ulong cell = cell_at(&r, last[at], t.begin + COLUMN_OF(t, at), (CELL)fill);
                    words[w] |= (uint)(CELL_BYTES == 8 ? cell >> (w & 1) * 32 : cell << 8 * CELL_BYTES * c);
                }
            }
            *(global uint4 *)to = (uint4)(words[0], words[1], words[2], words[3]);
        } else {
            for (int v = 0; v < VEC; v++) {
                if (!INSIDE(t, e + v)) continue;
                const struct row r = ROW_AT(t.b, t.a + ROW_OF(t, e + v));
                to[v] = cell_at(&r, last[e + v], t.begin + COLUMN_OF(t, e + v), (CELL)fill);
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
    struct tile t = tile_of(a_count, n, row_tiles, column_tiles, log_rows, flags);
    bool blocks = align(&t, y + START(y, t.b, t.a), y_at.s2, y_at.s3, log_rows, flags, n);
    const long from_step = t.rows_first ? x_at.s2 : x_at.s3, from_between = t.rows_first ? x_at.s3 : x_at.s2;
    const long between = t.rows_first ? y_at.s3 : y_at.s2;
    const global CELL *const from_corner = x + START(x, t.b, t.a) + t.begin * x_at.s3;
    global CELL *const corner = y + START(y, t.b, t.a) + t.begin * y_at.s3;
    blocks = blocks && from_step == 1 && ((size_t)from_corner & 15u) == 0 &&
             (log_rows == 0 || (from_between * CELL_BYTES & 15) == 0);
    for (int e = (int)get_local_id(0) * VEC; blocks && e < SEGMENT; e += LOCAL_SIZE * VEC) {
        global CELL *const to = BLOCK_AT(t, corner, between, e);
        const global CELL *const from = BLOCK_AT(t, from_corner, from_between, e);
        if (INSIDE(t, e) && INSIDE(t, e + VEC - 1))
            *(global uint4 *)to = *(const global uint4 *)from;
        else
            for (int v = 0; v < VEC; v++)
                if (INSIDE(t, e + v)) to[v] = from[v];
    }
    for (int e = get_local_id(0); !blocks && e < SEGMENT; e += LOCAL_SIZE) {
        const int row = ROW_OF(t, e), column = COLUMN_OF(t, e);
        if (INSIDE(t, e)) corner[row * y_at.s2 + column * y_at.s3] = from_corner[row * x_at.s2 + column * x_at.s3];
    }
}
