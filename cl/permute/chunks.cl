// SPDX-License-Identifier: MIT
// permute in three launches over chunks of `chunk` consecutive pairs; see sort.cl. The workspace holds
// table [buckets, chunks]:
//   permute_count   a work-group a chunk:    table[b, c] = pairs of bucket b in chunk c
//   permute_scan    a work-group a bucket:   table[b, c] = pairs of bucket b in the chunks before c; counts[b]
//   permute_place   a work-group a chunk:    starts from counts, plus the table's row, then places
#include "permute/sort.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_count(
    const global int *ids, ulong ids_skip, long ids_stride, global int *table, ulong table_skip, int pairs, int k,
    int experts, int chunk, int chunks) {
    local int bucket[BUCKETS];
    const int c = get_group_id(0);
    const long begin = (long)c * chunk;
    count_pairs(ids, ids_skip, ids_stride, k, experts, (int)begin, (int)min(begin + chunk, (long)pairs), bucket);
    for (int b = get_local_id(0); b <= experts; b += LOCAL_SIZE)
        table[table_skip + (long)b * chunks + c] = bucket[b];
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_scan(
    global int *table, ulong table_skip, global int *counts, ulong counts_skip, int experts, int chunks) {
    local int sums[LOCAL_SIZE];
    const int b = get_group_id(0);
    global int *row = table + table_skip + (long)b * chunks;
    int carry = 0;
    for (int first = 0; first < chunks; first += LOCAL_SIZE) {
        const int c = first + (int)get_local_id(0);
        const int count = c < chunks ? row[c] : 0;
        const int before = sum_before(count, sums);
        if (c < chunks) row[c] = carry + before;
        if (get_local_id(0) == LOCAL_SIZE - 1) sums[0] = before + count;
        LOCAL_BARRIER;
        carry += sums[0];
        LOCAL_BARRIER;
    }
    if (get_local_id(0) == 0 && b < experts) counts[counts_skip + b] = carry;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_place(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *table, ulong table_skip,
    const global int *counts, ulong counts_skip, global int *offsets, ulong offsets_skip, global int *order,
    ulong order_skip, int has_inverse, global int *inverse, ulong inverse_skip, int pairs, int k, int experts,
    int chunk, int chunks) {
    local int bucket[BUCKETS];
    local int tile[LOCAL_SIZE];
    const int lid = get_local_id(0), c = get_group_id(0);
    for (int b = lid; b <= experts; b += LOCAL_SIZE)
        bucket[b] = b < experts ? counts[counts_skip + b] : 0;
    LOCAL_BARRIER;
    counts_to_starts(bucket, experts + 1, tile);
    for (int b = lid; b <= experts; b += LOCAL_SIZE) {
        if (c == 0) offsets[offsets_skip + b] = bucket[b];
        bucket[b] += table[table_skip + (long)b * chunks + c];
    }
    LOCAL_BARRIER;
    const long begin = (long)c * chunk;
    place_pairs(ids, ids_skip, ids_stride, k, experts, (int)begin, (int)min(begin + chunk, (long)pairs), bucket,
                tile, order, order_skip, has_inverse, inverse, inverse_skip);
}
