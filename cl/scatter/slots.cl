// SPDX-License-Identifier: MIT
// ADD and MULTIPLY on y in place, one work-item a slot, slots of all rows side by side:  work-item = row * k + j.
//
// The first slot of a row that names an element takes it through all slots that name it, in order; the others find it
// before them and stop. Only named elements of y are touched; the k ids of a row are read k times, by neighbours at the
// same time, from a cache.
#include "scatter/row.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_slots(ROW_PARAMS, ulong slots) {
    const ulong item = get_global_id(0);
    if (item >= slots) return;
    const long at = (long)(item / k), b = B_OF(at);
    const uint own = (uint)(item - (ulong)at * k);
    const struct row r = ROW_AT(b, A_OF(at, b));
    const uint id = id_at(&r, own);
    if (id == NONE) return;
    for (uint j = 0; j < own; j++)
        if (id_at(&r, j) == id) return;
    global CELL *const cell = r.y + (long)id * r.y_step;
    float v = folded(&r, load(cell), own, id);
    for (uint j = own + 1; j < k; j++)
        if (id_at(&r, j) == id) v = folded(&r, v, j, id);
    *cell = cell_of(v);
}
