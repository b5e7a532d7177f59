// SPDX-License-Identifier: MIT
// One work-item a row: k times the next position after the previous one in the total order. Any n, any k, no memory
// of its own.
#include "topk/output.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_ref(TOPK_PARAMS) {
    const long r = get_global_id(0);
    if (r >= rows) return;
    const struct row row = TOPK_ROW(r);

    KEY_T kth = 0;
    uint last = 0; // position of the one before, if there is one
    for (uint rank = 0; rank < row.k; rank++) {
        KEY_T best = 0;
        uint best_position = 0;
        bool found = false;
        for (uint p = 0; p < row.n; p++) {
            const KEY_T key = key_at(&row, p);
            if (rank > 0 && (key > kth || (key == kth && p <= last))) continue;
            if (!found || key > best) {
                best = key;
                best_position = p;
                found = true;
            }
        }
        kth = best;
        last = best_position;
        if (!(flags & BY_INDEX)) put_selected(&row, rank, last);
    }
    uint place = 0;
    for (uint p = 0; (flags & BY_INDEX) && place < row.k; p++) {
        const KEY_T key = key_at(&row, p);
        if (key > kth || (key == kth && p <= last)) put_selected(&row, place++, p);
    }
    put_padding(&row, 0, 1);
    put_threshold(&row, last);
    put_cells(&row, kth, last, 0, 1);
}
