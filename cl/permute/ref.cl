// SPDX-License-Identifier: MIT
// The row of permute that always fits: one work-item, a counting sort in the outputs themselves. `counts` is
// filled twice: first to find the offsets, then as the number of pairs already placed.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: 1"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_ref(
    const global int *ids, ulong ids_skip, long ids_stride, global int *counts, ulong counts_skip,
    global int *offsets, ulong offsets_skip, global int *order, ulong order_skip, int has_inverse,
    global int *inverse, ulong inverse_skip, int pairs, int k, int experts) {
    counts += counts_skip;
    offsets += offsets_skip;
    for (int e = 0; e < experts; e++)
        counts[e] = 0;
    for (int p = 0; p < pairs; p++) {
        const int token = p / k, e = ids[ids_skip + token * ids_stride + (p - token * k)];
        if (e >= 0 && e < experts) counts[e]++;
    }
    int start = 0;
    for (int e = 0; e < experts; e++) {
        offsets[e] = start;
        start += counts[e];
        counts[e] = 0;
    }
    offsets[experts] = start;
    int skipped = start;
    for (int p = 0; p < pairs; p++) {
        const int token = p / k, e = ids[ids_skip + token * ids_stride + (p - token * k)];
        const int at = e >= 0 && e < experts ? offsets[e] + counts[e]++ : skipped++;
        order[order_skip + at] = p;
        if (has_inverse) inverse[inverse_skip + p] = at;
    }
}
