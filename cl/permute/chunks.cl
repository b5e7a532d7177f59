// SPDX-License-Identifier: MIT
// permute in two launches over chunks of `chunk` consecutive pairs, a work-group each; see sort.cl. The workspace holds
// table [chunks, ROOM]:
//   permute_count   table[c, e] = pairs of expert e in chunk c, 0 for those that are not there
//   permute_place   sums up all of the table: pairs of each expert, and those of the chunks before its own
// Where others have added up the table (route/packed.cl), which takes PTX, the work-group that is through last makes it
// 0 again: `clears`.
#include "permute/sort.cl"

#if PTX
#include "common/ticket.cl"
#define CLEARS_PARAMETERS , global int *cleared, global uint *tickets, int clears
#else
#define CLEARS_PARAMETERS
#endif

#ifndef COLUMNS
#error "COLUMNS: quarter rows of the table that are summed up side by side, a power of two up to LOCAL_SIZE"
#endif

#define ROOM (BUCKETS - 1)          // experts, a multiple of 4
#define PARTS (LOCAL_SIZE / COLUMNS) // of the rows
#define SUMS (COLUMNS < 32 ? TEAMS : PARTS)
#define ROWS_IN_FLIGHT 8

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_count(
    const global int *ids, ulong ids_skip, long ids_stride, global int *table, ulong table_skip, int pairs, int k,
    int experts, int chunk) {
    local int count[BUCKETS];
    const struct pairs p = {ids + ids_skip, ids_stride, k, experts, 0, 0};
    const int c = get_group_id(0);
    const int begin = c * chunk, end = begin + min(chunk, pairs - begin);
    clear(count, BUCKETS);
    LOCAL_BARRIER;
    TEAM_LOOP
    for (int pair = begin + get_local_id(0); pair < end; pair += LOCAL_SIZE)
        atomic_inc(&count[bucket_of(id_of_pair(&p, pair), experts)]);
    LOCAL_BARRIER;
    TEAM_LOOP
    for (int e = get_local_id(0); e < ROOM; e += LOCAL_SIZE)
        table[table_skip + (long)c * ROOM + e] = e < experts ? count[e] : 0;
}

// Adds up four columns of the table, of all chunks and of those before chunk c: rows part, part + PARTS ..
inline void sum_rows(const global int4 *table, int chunks, int c, int part, int *total, int *before) {
    TEAM_UNROLL
    for (int i = 0; i < 4; i++)
        total[i] = before[i] = 0;
    TEAM_LOOP
    for (int first = part; first < chunks; first += ROWS_IN_FLIGHT * PARTS) {
        int4 counts[ROWS_IN_FLIGHT];
        TEAM_UNROLL
        for (int i = 0; i < ROWS_IN_FLIGHT; i++)
            counts[i] = table[(long)min(first + i * PARTS, chunks - 1) * (ROOM / 4)];
        TEAM_UNROLL
        for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
            const int there = first + i * PARTS < chunks, earlier = first + i * PARTS < c;
            total[0] += there * counts[i].x, before[0] += earlier * counts[i].x;
            total[1] += there * counts[i].y, before[1] += earlier * counts[i].y;
            total[2] += there * counts[i].z, before[2] += earlier * counts[i].z;
            total[3] += there * counts[i].w, before[3] += earlier * counts[i].w;
        }
    }
}

// to[first ..] = sums of the four columns over the parts. rows: SUMS of them.
inline void add_parts(int *mine, int first, int column, int part, local int *rows, local int *to, local ulong *swap) {
    TEAM_LOOP
    for (uint d = COLUMNS; d < TEAM; d *= 2) {
        TEAM_UNROLL
        for (int i = 0; i < 4; i++)
            mine[i] += (int)team_xor(swap, (uint)mine[i], d);
    }
    LOCAL_BARRIER; // the rows have been read
    if (COLUMNS >= TEAM || team_lane() < COLUMNS) {
        TEAM_UNROLL
        for (int i = 0; i < 4; i++)
            rows[((COLUMNS >= TEAM ? part : (int)team_index()) * COLUMNS + column) * 4 + i] = mine[i];
    }
    LOCAL_BARRIER;
    TEAM_LOOP
    for (int i = get_local_id(0); i < 4 * COLUMNS && first + i < ROOM; i += LOCAL_SIZE) {
        int sum = 0;
        TEAM_LOOP
        for (int row = 0; row < SUMS; row++)
            sum += rows[row * 4 * COLUMNS + i];
        to[first + i] = sum;
    }
}

// total[e] and before[e]: pairs of expert e in all chunks, and in those before chunk c.
inline void sum_table(const global int *table, int chunks, int c, local int *rows, local int *total, local int *before,
                      local ulong *swap) {
    const int column = get_local_id(0) & (COLUMNS - 1), part = (int)get_local_id(0) / COLUMNS;
    TEAM_LOOP
    for (int first = 0; first < ROOM; first += 4 * COLUMNS) {
        const bool there = first + 4 * column < ROOM;
        int own_total[4], own_before[4];
        sum_rows((const global int4 *)table + first / 4 + column, there ? chunks : 0, c, part, own_total, own_before);
        add_parts(own_total, first, column, part, rows, total, swap);
        add_parts(own_before, first, column, part, rows, before, swap);
    }
    LOCAL_BARRIER;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void permute_place(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *table, ulong table_skip,
    global int *counts, ulong counts_skip, global int *offsets, ulong offsets_skip, global int *order,
    ulong order_skip, int has_inverse, global int *inverse, ulong inverse_skip, int pairs, int k, int experts,
    int chunk, int chunks CLEARS_PARAMETERS) {
    local int start[BUCKETS], before[BUCKETS], placed[TEAMS * BUCKETS], sums[TEAMS];
    local ushort bucket[HELD];
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    const struct pairs p = {
        ids + ids_skip, ids_stride, k, experts, order + order_skip, has_inverse ? inverse + inverse_skip : 0};
    const int lid = get_local_id(0), c = get_group_id(0);
    const struct span span = span_of(c * chunk, min(chunk, pairs - c * chunk));
    if (lid == 0) before[ROOM] = 0; // of the bucket behind the experts, as the columns that are not there
    sum_table(table + table_skip, chunks, c, placed, start, before, swap);
    int known = 0; // of the pairs before the chunk, those that have an expert
    TEAM_LOOP
    for (int e = lid; e < experts; e += LOCAL_SIZE) {
        if (c == 0) counts[counts_skip + e] = start[e];
        known += before[e];
    }
    atomic_sub(&before[experts], known);
    counts_to_starts(start, experts, swap, sums);
    TEAM_LOOP
    for (int b = lid; b <= experts; b += LOCAL_SIZE) {
        if (c == 0) offsets[offsets_skip + b] = start[b];
        start[b] += before[b] + (b == experts ? span.begin : 0);
    }
    load_buckets(&p, span, bucket);
    count_runs(&p, span, bucket, placed);
    spread_runs(experts, placed, 0);
    place_runs(&p, span, bucket, start, placed, swap);
#if PTX
    local uint last;
    if (!clears || !last_of(tickets, get_num_groups(0), &last)) return;
    TEAM_LOOP
    for (int i = lid; i < chunks * (ROOM / 4); i += LOCAL_SIZE)
        ((global int4 *)(cleared + table_skip))[i] = (int4)0;
    if (lid == 0) *tickets = 0;
#endif
}
