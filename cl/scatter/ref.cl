// SPDX-License-Identifier: MIT
// The formulas of include/clmoe/scatter.h, one work-item an element of y, all slots of its row in order:
//   group = row * column_groups + column group; a group takes LOCAL_SIZE columns of one row.
// What is added or multiplied is in y already.
#include "scatter/row.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_ref(ROW_PARAMS) {
    const long column_groups = (n + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const long at = (long)get_group_id(0) / column_groups;
    const long i = ((long)get_group_id(0) - at * column_groups) * LOCAL_SIZE + get_local_id(0);
    if (i >= n) return;

    const long b = B_OF(at);
    const struct row r = ROW_AT(b, A_OF(at, b));
    global CELL *const cell = r.y + i * r.y_step;
#if FOLD
    bool named = false;
    float v = load(cell);
    for (uint j = 0; j < k; j++) {
        if (id_at(&r, j) != i) continue;
        v = folded(&r, v, j, (uint)i);
        named = true;
    }
    if (named) *cell = cell_of(v);
#else
    CELL v = (CELL)fill;
    bool named = false;
    uint last = 0;
    for (uint j = 0; j < k; j++) {
        if (id_at(&r, j) != i) continue;
        last = j;
        named = true;
    }
    if (named) v = placed(&r, last, (uint)i);
    *cell = v;
#endif
}
