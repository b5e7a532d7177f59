// SPDX-License-Identifier: MIT
// A row in the registers of a work-group: group = row, work-item l has positions l + q * LOCAL_SIZE for q < PER, read
// once. n <= PER * LOCAL_SIZE.
//
//   1. bound: the least, over teams, of the r-th best of its work-items' best keys, r = ceil(k / TEAMS). So at least k
//      work-items have a key that is not below the bound.
//   2. candidates: the positions that are not below it, typically twice k.
//      Too many (ties): the first such position of each work-item is among them, and those past the last of these
//      positions are not needed where they equal the bound. Still too many: find_cut over the row.
//   3. finish_row.
#define HOLDERS LOCAL_SIZE
#include "topk/held.cl"

// The end of the positions that are needed of those with the bound's key: past the first such one of every work-item
// whose best it is.
inline uint last_needed(struct group g, const KEY_T *element, const struct row *row, KEY_T best, KEY_T bound) {
    const uint end = team_max(g.swap, held_first(element, row, best, bound, get_local_id(0)));
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == 0) g.scratch[team_index()] = end;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint most = 0;
    for (uint t = 0; t < TEAMS; t++)
        most = max(most, (uint)g.scratch[t]);
    return most;
}

// Places for the hits of each work-item, counted in *g.counter, which is 0 before; returns this one's first.
inline uint reserve(struct group g, uint hits) {
    const uint own = popcount(hits), prefix = team_prefix(g.swap, own);
    uint base = 0;
    if (team_lane() == TEAM - 1) base = atomic_add(g.counter, prefix);
    return team_at(g.swap, base, TEAM - 1) + prefix - own;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_group(TOPK_PARAMS) {
    local ulong candidates[CAP], swap[PTX ? 1 : LOCAL_SIZE], scratch[TEAMS + 2];
    local uint bins[BINS], counter;
    const struct group g = {swap, scratch, bins, &counter};
    const struct row row = TOPK_ROW(get_group_id(0));
    const uint lid = get_local_id(0);
    if (lid == 0) counter = 0;

    KEY_T element[PER];
    held_load(&row, lid, element);
    const KEY_T best = held_best(element, &row);

    // With so few positions all are candidates, and work-items may have none.
    const bool few = row.n <= CAP;
    const KEY_T bound = few ? 0 : bound_of(g, best, max(row.k, 1u), TEAMS);
    uint hits = held_hits(element, bound, held_valid(&row, lid));
    barrier(CLK_LOCAL_MEM_FENCE);
    uint at = reserve(g, hits);
    barrier(CLK_LOCAL_MEM_FENCE);
    uint m = counter;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (m > CAP) {
        hits = held_drop(element, &row, hits, bound, last_needed(g, element, &row, best, bound), lid);
        if (lid == 0) counter = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        at = reserve(g, hits);
        barrier(CLK_LOCAL_MEM_FENCE);
        m = counter;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (m > CAP) {
        const struct source s = {FROM_ROW, 0, 0, &row};
        finish_from(&row, g, s, row.n, candidates);
        return;
    }
    held_put(&row, hits, lid, candidates + at);
    barrier(CLK_LOCAL_MEM_FENCE);
    finish_row(&row, g, candidates, m, REDUCED);
}
