// SPDX-License-Identifier: MIT
// permute in two launches over chunks, as chunks.cl does it, where a work-group is one work-item: it goes through its
// chunk one pair after another, so that the sort is stable by itself.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: 1"
#endif
#ifndef BUCKETS
#error "BUCKETS: how many there is room for, experts + 1 or more"
#endif

// Calls DO(pair, bucket) for the pairs begin .. end - 1.
#define FOR_PAIRS(DO)                                                                                                  \
    for (int pair = (int)begin, token = pair / k, slot = pair - token * k; pair < end; pair++) {                       \
        const int e = ids[ids_skip + token * ids_stride + slot];                                                       \
        const int bucket = e < 0 || e >= experts ? experts : e;                                                        \
        DO(pair, bucket)                                                                                               \
        if (++slot == k) slot = 0, token++;                                                                            \
    }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_cpu_count(
    const global int *ids, ulong ids_skip, long ids_stride, global int *table, ulong table_skip, int pairs, int k,
    int experts, int chunk) {
    local int count[BUCKETS];
    const int c = get_group_id(0);
    const long begin = (long)c * chunk, end = min(begin + chunk, (long)pairs);
    for (int b = 0; b <= experts; b++)
        count[b] = 0;
#define COUNT(pair, bucket) count[bucket]++;
    FOR_PAIRS(COUNT)
    for (int e = 0; e < experts; e++)
        table[table_skip + (long)c * experts + e] = count[e];
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_cpu_place(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *table, ulong table_skip,
    global int *counts, ulong counts_skip, global int *offsets, ulong offsets_skip, global int *order,
    ulong order_skip, int has_inverse, global int *inverse, ulong inverse_skip, int pairs, int k, int experts,
    int chunk, int chunks) {
    local int at[BUCKETS];
    const int c = get_group_id(0);
    const long begin = (long)c * chunk, end = min(begin + chunk, (long)pairs);
    int start = 0, known = 0;
    for (int e = 0; e < experts; e++) {
        int total = 0, before = 0;
        for (int i = 0; i < chunks; i++) {
            if (i == c) before = total;
            total += table[table_skip + (long)i * experts + e];
        }
        at[e] = start + before;
        known += before;
        if (c == 0) {
            counts[counts_skip + e] = total;
            offsets[offsets_skip + e] = start;
        }
        start += total;
    }
    if (c == 0) offsets[offsets_skip + experts] = start;
    at[experts] = start + (int)begin - known;
#define PLACE(pair, bucket)                                                                                            \
    const int to = at[bucket]++;                                                                                       \
    order[order_skip + to] = pair;                                                                                     \
    if (has_inverse) inverse[inverse_skip + pair] = to;
    FOR_PAIRS(PLACE)
}
