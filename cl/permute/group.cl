// SPDX-License-Identifier: MIT
// permute by one work-group in one launch: counts, starts, places. See sort.cl.
#include "permute/sort.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_group(
    const global int *ids, ulong ids_skip, long ids_stride, global int *counts, ulong counts_skip,
    global int *offsets, ulong offsets_skip, global int *order, ulong order_skip, int has_inverse,
    global int *inverse, ulong inverse_skip, int pairs, int k, int experts) {
    local int bucket[BUCKETS];
    local int tile[LOCAL_SIZE];
    const int lid = get_local_id(0);
    count_pairs(ids, ids_skip, ids_stride, k, experts, 0, pairs, bucket);
    for (int e = lid; e < experts; e += LOCAL_SIZE)
        counts[counts_skip + e] = bucket[e];
    LOCAL_BARRIER;
    counts_to_starts(bucket, experts + 1, tile);
    for (int b = lid; b <= experts; b += LOCAL_SIZE)
        offsets[offsets_skip + b] = bucket[b];
    LOCAL_BARRIER;
    place_pairs(ids, ids_skip, ids_stride, k, experts, 0, pairs, bucket, tile, order, order_skip, has_inverse,
                inverse, inverse_skip);
}
