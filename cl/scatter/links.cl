// SPDX-License-Identifier: MIT
// Many slots a row: three launches for each slab of rows and window of columns, with a number for each cell in the
// workspace, so that a slot costs the same however many there are.
//
// SET, MASK:  clear  head[cell] = -1                      one work-item a cell
//             join   head[cell] = max(head[cell], slot)   one a slot: the last slot wins
//             finish each cell is written once: from its slot, or as fill. y may be x.
// ADD,        clear  head[cell] = -1                      one work-item a slot: only named cells
// MULTIPLY:   join   next[slot] = head[cell], head[cell] = slot: a list of the slots of each cell, in any order
//             finish the slot at the head takes the cell through its list by ascending slots. y is changed in place.
// Of a list of m slots the next one is found by walking it, m * m steps in all; where that is more than the row's k
// slots, by looking at all of them in order. So a row takes less than k * sqrt(k) steps whatever repeats.
#include "scatter/row.cl"

// The slab: `rows` rows from `first` on, columns begin .. begin + window - 1. Work-items past `items` have nothing to
// do.
#define SLAB_PARAMS global int *workspace, ulong workspace_skip, long first, uint rows, long begin, uint window, uint items

// A work-item's row and what it takes of it, of `length`.
#define SLAB_ITEM(length)                                                                                              \
    const uint item = get_global_id(0);                                                                                \
    if (item >= items) return;                                                                                         \
    const bool rows_first = flags & ROWS_FIRST;                                                                        \
    const uint high = rows_first ? item / rows : item / (length);                                                      \
    const uint low = item - high * (rows_first ? rows : (length));                                                     \
    const uint slab_row = rows_first ? low : high, place = rows_first ? high : low;                                    \
    const long at = first + slab_row, b = B_OF(at);                                                                    \
    const struct row r = ROW_AT(b, A_OF(at, b))

#define HEAD(column) (workspace + workspace_skip + (rows_first ? (column)*rows + slab_row : slab_row * window + (column)))
#define NEXT (workspace + workspace_skip + (ulong)rows * window + (ulong)slab_row * k)

#if FOLD
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void links_clear(ROW_PARAMS, SLAB_PARAMS) {
    SLAB_ITEM(k);
    const uint id = id_at(&r, place), column = id - (uint)begin;
    if (id != NONE && column < window) *HEAD(column) = -1;
}
#else
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void links_clear(ROW_PARAMS, SLAB_PARAMS) {
    const uint item = get_global_id(0);
    if (item < items) workspace[workspace_skip + item] = -1;
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void links_join(ROW_PARAMS, SLAB_PARAMS) {
    SLAB_ITEM(k);
    const uint id = id_at(&r, place), column = id - (uint)begin;
    if (id == NONE || column >= window) return;
#if FOLD
    NEXT[place] = atomic_xchg(HEAD(column), (int)place);
#else
    atomic_max(HEAD(column), (int)place);
#endif
}

#if FOLD
// The cell through its `count` slots, the list of which begins at `head`.
inline float by_list(const struct row *r, const global int *next, int head, int count, float v, uint id) {
    int done = -1;
    for (int i = 0; i < count; i++) {
        int least = 0x7fffffff;
        for (int slot = head; slot >= 0; slot = next[slot])
            if (slot > done) least = min(least, slot);
        v = folded(r, v, (uint)least, id);
        done = least;
    }
    return v;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void links_finish(ROW_PARAMS, SLAB_PARAMS) {
    SLAB_ITEM(k);
    const uint id = id_at(&r, place), column = id - (uint)begin;
    if (id == NONE || column >= window || *HEAD(column) != (int)place) return;
    global CELL *const cell = r.y + (long)id * r.y_step;
    const global int *const next = NEXT;
    float v = load(cell);
    int count = 0;
    for (int slot = (int)place; slot >= 0; slot = next[slot])
        count++;
    if ((long)count * count <= k)
        v = by_list(&r, next, (int)place, count, v, id);
    else
        for (uint j = 0; j < k; j++)
            if (id_at(&r, j) == id) v = folded(&r, v, j, id);
    *cell = cell_of(v);
}
#else
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void links_finish(ROW_PARAMS, SLAB_PARAMS) {
    SLAB_ITEM(window);
    const int slot = *HEAD(place);
    const long column = begin + place;
    r.y[column * r.y_step] = slot >= 0 ? placed(&r, (uint)slot, (uint)column) : (CELL)fill;
}
#endif
