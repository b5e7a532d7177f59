// SPDX-License-Identifier: MIT
// permute in two launches over chunks of `chunk` consecutive pairs, a work-group each; see sort.cl. The workspace holds
// table [chunks, experts]:
//   permute_count   table[c, e] = pairs of expert e in chunk c
//   permute_place   sums up all of the table: pairs of each expert, and those of the chunks before its own
#include "permute/sort.cl"

#ifndef COLUMNS
#error "COLUMNS: of the table that are summed up side by side, a power of two up to LOCAL_SIZE"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_count(
    const global int *ids, ulong ids_skip, long ids_stride, global int *table, ulong table_skip, int pairs, int k,
    int experts, int chunk) {
    local int count[BUCKETS];
    const struct pairs p = {ids + ids_skip, ids_stride, k, experts, 0, 0};
    const int c = get_group_id(0);
    const long begin = (long)c * chunk, end = min(begin + chunk, (long)pairs);
    clear(count, BUCKETS);
    LOCAL_BARRIER;
    for (long pair = begin + get_local_id(0); pair < end; pair += LOCAL_SIZE)
        atomic_inc(&count[bucket_of(&p, pair)]);
    LOCAL_BARRIER;
    for (int e = get_local_id(0); e < experts; e += LOCAL_SIZE)
        table[table_skip + (long)c * experts + e] = count[e];
}

// total[e] and before[e]: pairs of expert e in all chunks, and in those before chunk c.
inline void sum_table(const global int *table, int experts, int chunks, int c, local int *total, local int *before) {
    clear(total, experts + 1);
    clear(before, experts + 1);
    LOCAL_BARRIER;
    const int column = get_local_id(0) & (COLUMNS - 1), part = (int)get_local_id(0) / COLUMNS;
    for (int e = column; e < experts; e += COLUMNS) {
        int sum = 0, sum_before = 0;
        for (int i = part; i < chunks; i += LOCAL_SIZE / COLUMNS) {
            const int count = table[(long)i * experts + e];
            sum += count;
            sum_before += i < c ? count : 0;
        }
        atomic_add(&total[e], sum);
        atomic_add(&before[e], sum_before);
    }
    LOCAL_BARRIER;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_place(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *table, ulong table_skip,
    global int *counts, ulong counts_skip, global int *offsets, ulong offsets_skip, global int *order,
    ulong order_skip, int has_inverse, global int *inverse, ulong inverse_skip, int pairs, int k, int experts,
    int chunk, int chunks) {
    local int start[BUCKETS], placed[TEAMS * BUCKETS], sums[TEAMS];
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    local int *const before = placed; // until the runs are counted
    const struct pairs p = {
        ids + ids_skip, ids_stride, k, experts, order + order_skip, has_inverse ? inverse + inverse_skip : 0};
    const int lid = get_local_id(0), c = get_group_id(0);
    const long begin = (long)c * chunk;
    const struct run r = team_run(begin, min(begin + chunk, (long)pairs));
    sum_table(table + table_skip, experts, chunks, c, start, before);
    for (int e = lid; c == 0 && e < experts; e += LOCAL_SIZE)
        counts[counts_skip + e] = start[e];
    int known = 0; // of the pairs before the chunk, those that have an expert
    for (int e = lid; e < experts; e += LOCAL_SIZE)
        known += before[e];
    atomic_sub(&before[experts], known);
    counts_to_starts(start, experts, swap, sums);
    for (int b = lid; b <= experts; b += LOCAL_SIZE) {
        if (c == 0) offsets[offsets_skip + b] = start[b];
        start[b] += before[b] + (b == experts ? (int)begin : 0);
    }
    LOCAL_BARRIER;
    count_runs(&p, r, placed);
    spread_runs(experts, placed, 0);
    place_runs(&p, r, start, placed, swap);
}
