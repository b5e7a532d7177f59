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
#include "topk/select.cl"

#ifndef PER
#error "PER: positions of a work-item, at most 32"
#endif

// Positions of this work-item, of those of its bits, that equal the bound and are past `last`, are dropped.
inline uint drop_late(const KEY_T *key, uint hits, KEY_T bound, uint last) {
    TEAM_UNROLL
    for (uint q = 0; q < PER; q++)
        if (key[q] == bound && q * LOCAL_SIZE + get_local_id(0) > last) hits &= ~(1u << q);
    return hits;
}

// The last, over work-items, of the first position that is not below the bound, where that one equals it.
inline uint last_needed(struct group g, const KEY_T *key, KEY_T best, KEY_T bound) {
    uint first = 0;
    TEAM_UNROLL
    for (int q = PER - 1; q >= 0; q--)
        if (best == bound && key[q] == bound) first = q * LOCAL_SIZE + get_local_id(0) + 1;
    const uint last = team_max(g.swap, first);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == 0) g.scratch[team_index()] = last;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint most = 0;
    for (uint t = 0; t < TEAMS; t++)
        most = max(most, (uint)g.scratch[t]);
    return most ? most - 1 : 0;
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

    KEY_T key[PER], best = 0;
    const global BITS(X_T) *const own = row.x + (long)lid * row.step;
    const bool whole = row.n == PER * LOCAL_SIZE;
    if (row.step == 1 && whole) {
        TEAM_UNROLL
        for (uint q = 0; q < PER; q++)
            key[q] = own[q * LOCAL_SIZE];
    } else {
        TEAM_UNROLL
        for (uint q = 0; q < PER; q++)
            key[q] = q * LOCAL_SIZE + lid < row.n ? own[(long)(q * LOCAL_SIZE) * row.step] : 0;
    }
    TEAM_UNROLL
    for (uint q = 0; q < PER; q++) {
        key[q] = quick_key((BITS(X_T))key[q], row.rule);
        if (!whole && q * LOCAL_SIZE + lid >= row.n) key[q] = 0; // no hit, whatever the bound
        best = max(best, key[q]);
    }
    const uint filled = row.n > lid ? (row.n - lid + LOCAL_SIZE - 1) / LOCAL_SIZE : 0;
    const uint valid = filled >= 32 ? 0xffffffffu : (1u << filled) - 1u;

    // With so few positions all are candidates, and work-items may have none.
    const bool few = row.n <= CAP;
    const KEY_T bound = few ? 0 : bound_of(g, best, max(row.k, 1u), TEAMS);
    uint hits = 0;
    TEAM_UNROLL
    for (uint q = 0; q < PER; q++)
        hits |= key[q] >= bound ? 1u << q : 0u;
    hits &= valid;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint at = reserve(g, hits);
    barrier(CLK_LOCAL_MEM_FENCE);
    uint m = counter;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (m > CAP) {
        hits = drop_late(key, hits, bound, last_needed(g, key, best, bound));
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
    while (hits) {
        const uint q = 31 - clz(hits);
        hits ^= 1u << q;
        const uint p = q * LOCAL_SIZE + lid;
        candidates[at++] = pair_of(quick_key(row.x[(long)p * row.step], row.rule), p); // a register cannot be indexed
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    finish_row(&row, g, candidates, m, REDUCED);
}
