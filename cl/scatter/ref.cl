// SPDX-License-Identifier: MIT
// The formulas of include/clmoe/scatter.h, one work-item an element of y, all slots of its row in order:
//   group = row * column_groups + column group; a group takes LOCAL_SIZE columns of one row.
#include "scatter/slots.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_ref(ROW_PARAMS) {
    const long column_groups = (n + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const long at = (long)get_group_id(0) / column_groups;
    const long i = ((long)get_group_id(0) - at * column_groups) * LOCAL_SIZE + get_local_id(0);
    if (i >= n) return;

    const struct row r = ROW_AT(at);
    long first = -1, last = -1;
    for (long j = 0; j < k; j++) {
        if (r.indices[j] != i) continue;
        if (first < 0) first = j;
        last = j;
    }
#if MODE == MODE_ADD
    if (last >= 0) add(&r, (uint)first, (uint)last, i);
#else
    if (last >= 0)
        put(&r, (uint)last, i);
    else
        STORE(X_T, r.y, i, fill);
#endif
}
