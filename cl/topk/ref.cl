// SPDX-License-Identifier: MIT
// One work-item a row: k times the next element after the previous one in the total order. Any n, any k, no memory
// of its own.
#include "topk/output.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_ref(X_PARAMS, LIST_PARAMS, CELL_PARAMS,
                                                                             long rows) {
    const long row = get_global_id(0);
    if (row >= rows) return;
    const global BITS(X_T) *const x_row = ROW(x, row);
    global BITS(X_T) *const values_row = ROW(values, row);
    global int *const indices_row = ROW(indices, row);

    uint kth = 0xffffffffu;
    int cut = -1; // before everything
    for (int r = 0; r < k; r++) {
        uint best = 0;
        int best_id = -1;
        for (long i = 0; i < n; i++) {
            const uint key = key_at(x_row, i, flags);
            if (key > kth || (key == kth && i <= cut)) continue;
            if (best_id < 0 || key > best) {
                best = key;
                best_id = (int)i;
            }
        }
        kth = best;
        cut = best_id;
        if (!(flags & BY_INDEX)) put_selected(values_row, indices_row, x_row, flags, (uint)r, (uint)cut);
    }
    uint place = 0;
    for (long i = 0; (flags & BY_INDEX) && i < n; i++) {
        const uint key = key_at(x_row, i, flags);
        if (key > kth || (key == kth && i <= cut))
            put_selected(values_row, indices_row, x_row, flags, place++, (uint)i);
    }
    if (flags & OUT_CELLS)
        put_cells(ROW(mask, row), ROW(bitmask, row), ROW(dense, row), x_row, n, flags, (BITS(X_T))fill, scale, kth, cut, 0, 1);
}
