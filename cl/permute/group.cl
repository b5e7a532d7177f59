// SPDX-License-Identifier: MIT
// permute by one work-group in one launch; see sort.cl.
#include "permute/sort.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_group(
    const global int *ids, ulong ids_skip, long ids_stride, global int *counts, ulong counts_skip,
    global int *offsets, ulong offsets_skip, global int *order, ulong order_skip, int has_inverse,
    global int *inverse, ulong inverse_skip, int pairs, int k, int experts) {
    local int start[BUCKETS], placed[TEAMS * BUCKETS], sums[TEAMS];
    local ushort bucket[HELD];
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    const struct pairs p = {
        ids + ids_skip, ids_stride, k, experts, order + order_skip, has_inverse ? inverse + inverse_skip : 0};
    permute_pairs(&p, pairs, counts + counts_skip, offsets + offsets_skip, bucket, start, placed, sums, swap);
}
