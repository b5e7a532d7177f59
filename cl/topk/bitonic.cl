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
    {
        const struct row row = TOPK_ROW(get_group_id(0));
        const KEY_T kth = k > 0 ? keys[k - 1] : 0;
        const uint last = k > 0 ? ids[k - 1] : 0;
        if (lid == 0) put_threshold(&row, last);
        put_cells(&row, kth, last, lid, LOCAL_SIZE);
        put_padding(&row, lid, LOCAL_SIZE);
    }
    if (flags & BY_INDEX) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint p = lid; p < k; p += LOCAL_SIZE)
            keys[p] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        sort_pairs(keys, ids, k);
    }
    {
        const struct row row = TOPK_ROW(get_group_id(0));
        for (uint place = lid; place < k; place += LOCAL_SIZE)
            put_selected(&row, place, ids[place]);
    }
}
