// SPDX-License-Identifier: MIT
// A row in a work-group: group = row; candidates (key, position) in local memory, sorted, the first k are selected.
//
// FILTER 0: the candidates are the row; TILE >= n.
// FILTER 1: those not after the k-th best of the maxima of lanes (lane l has the positions l + q * LOCAL_SIZE, and
//           min(LOCAL_SIZE, n) lanes have some). k lanes have one, so there are at least k and at most
//           k * ceil(n / LOCAL_SIZE) <= TILE of them, usually little more than k. Needs k <= LOCAL_SIZE. Candidates
//           come in any order; the sort settles it.
#include "topk/output.cl"
#include "topk/sort.cl"

#ifndef TILE
#error "TILE: room for candidates, at least LOCAL_SIZE with FILTER"
#endif
#ifndef FILTER
#error "FILTER: 0 or 1"
#endif

// For places by index: marks the positions of the first k pairs; returns how many marks are before this work-item's
// run of positions. No barrier depends on an option: PoCL would copy all that follows one.
inline uint mark_selected(local KEY_T *keys, local ID_T *ids, uint count, uint k, uint begin, uint end) {
    const uint lid = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = lid; p < count; p += LOCAL_SIZE)
        keys[p] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint rank = lid; rank < k; rank += LOCAL_SIZE)
        keys[ids[rank]] = 1;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint own = 0, before = 0;
    for (uint p = begin; p < min(end, count); p++)
        own += (uint)keys[p];
    if (count > 0) ids[lid] = (ID_T)own;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint l = 0; count > 0 && l < lid; l++)
        before += ids[l];
    return before;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_bitonic(TOPK_PARAMS) {
    local KEY_T keys[TILE];
    local ID_T ids[TILE];
    const uint lid = get_local_id(0);
#if FILTER
    local KEY_T cut_key;
    local uint cut_id, found;
    uint n, k, top_id = lid;
    KEY_T top_key;
    {
        const struct row row = TOPK_ROW(get_group_id(0));
        n = row.n, k = row.k;
        top_key = lid < n ? key_at(&row, lid) : 0;
        for (uint p = lid + LOCAL_SIZE; p < n; p += LOCAL_SIZE) {
            const KEY_T key = key_at(&row, p);
            top_id = key > top_key ? p : top_id;
            top_key = max(top_key, key);
        }
    }
    keys[lid] = top_key;
    ids[lid] = (ID_T)top_id;
    if (lid == 0) found = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint rank = 0;
    for (uint l = 0; l < min((uint)LOCAL_SIZE, n); l++)
        rank += key_before(keys[l], ids[l], top_key, top_id);
    if (lid < n && rank + 1 == k) {
        cut_key = top_key;
        cut_id = top_id;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (k > 0) {
        const struct row row = TOPK_ROW(get_group_id(0));
        const KEY_T bound = cut_key;
        const uint bound_id = cut_id;
        for (uint p = lid; p < n; p += LOCAL_SIZE) {
            const KEY_T key = key_at(&row, p);
            if (key_before(bound, bound_id, key, p)) continue;
            const uint at = atomic_inc(&found);
            keys[at] = key;
            ids[at] = (ID_T)p;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint count = found;
#else
    uint k, count;
    {
        const struct row row = TOPK_ROW(get_group_id(0));
        k = row.k;
        count = k > 0 ? row.n : 0;
        for (uint p = lid; p < count; p += LOCAL_SIZE) {
            keys[p] = key_at(&row, p);
            ids[p] = (ID_T)p;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    sort_pairs(keys, ids, count);
    if (flags & OUT_CELLS) {
        const struct row row = TOPK_ROW(get_group_id(0));
        put_cells(&row, k > 0 ? keys[k - 1] : 0, k > 0 ? ids[k - 1] : 0, lid, LOCAL_SIZE);
    }
    const uint last = k > 0 ? ids[k - 1] : 0;
    const bool by_index = flags & BY_INDEX;
#if !FILTER
    const uint run = (count + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const uint begin = min(lid * run, count), end = min(begin + run, count);
    uint before = mark_selected(keys, ids, by_index ? count : 0, by_index ? k : 0, begin, end);
#endif
    const struct row row = TOPK_ROW(get_group_id(0));
#if !FILTER
    for (uint p = begin; by_index && p < end; p++)
        if (keys[p]) put_selected(&row, before++, p);
#endif
    for (uint rank = lid; (FILTER || !by_index) && rank < k; rank += LOCAL_SIZE) {
        const uint id = ids[rank];
        uint place = rank;
#if FILTER
        if (by_index) {
            place = 0;
            for (uint other = 0; other < k; other++)
                place += ids[other] < id;
        }
#endif
        put_selected(&row, place, id);
    }
    put_padding(&row, lid, LOCAL_SIZE);
    if (lid == 0) put_threshold(&row, last);
}
