// SPDX-License-Identifier: MIT
// What products take for the ids of pairs, where experts lie in slots.
//
//   numbers[p] = map[ids[t,j]], or -1 where the pair has no expert (< 0 or >= E)
//
// One work-item a pair: p = t*k + j.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, any number"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void offload_numbers(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *map, ulong map_skip, global int *numbers,
    ulong numbers_skip, long pairs, int k, int experts) {
    const long p = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (p >= pairs) return;
    const long t = p / k;
    const int e = ids[ids_skip + t * ids_stride + (p - t * k)];
    numbers[numbers_skip + p] = e >= 0 && e < experts ? map[map_skip + e] : -1;
}
