// SPDX-License-Identifier: MIT
// A row in a work-group: group = row; candidates (key, index) in local memory, sorted, the first k are selected.
//
// FILTER 0: the candidates are the row; TILE >= n.
// FILTER 1: those not after the k-th best of the LOCAL_SIZE maxima of lanes (lane l has elements l + q * LOCAL_SIZE).
//           k lanes have one, so there are at least k and at most k * ceil(n / LOCAL_SIZE) <= TILE of them, usually
//           little more than k. Needs 1 <= k <= LOCAL_SIZE <= n. Candidates come in any order; the sort settles it.
#include "topk/output.cl"
#include "topk/sort.cl"

#ifndef TILE
#error "TILE: room for candidates, at least LOCAL_SIZE with FILTER"
#endif
#ifndef FILTER
#error "FILTER: 0 or 1"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_bitonic(X_PARAMS, LIST_PARAMS, CELL_PARAMS) {
    local uint keys[TILE];
    local ID_T ids[TILE];
    const long row = get_group_id(0);
    const int lid = get_local_id(0);
    const global BITS(X_T) *const x_row = ROW(x, row);
#if FILTER
    local uint cut_key, cut_id, found;
    uint top_key = key_at(x_row, lid, flags), top_id = (uint)lid;
    for (long i = lid + LOCAL_SIZE; i < n; i += LOCAL_SIZE) {
        const uint key = key_at(x_row, i, flags);
        top_id = key > top_key ? (uint)i : top_id;
        top_key = max(top_key, key);
    }
    keys[lid] = top_key;
    ids[lid] = (ID_T)top_id;
    if (lid == 0) found = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    int rank = 0;
    for (int l = 0; l < LOCAL_SIZE; l++)
        rank += key_before(keys[l], ids[l], top_key, top_id);
    if (rank == k - 1) {
        cut_key = top_key;
        cut_id = top_id;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint bound = cut_key, bound_id = cut_id;
    for (long i = lid; i < n; i += LOCAL_SIZE) {
        const uint key = key_at(x_row, i, flags);
        if (key_before(bound, bound_id, key, (uint)i)) continue;
        const uint at = atomic_inc(&found);
        keys[at] = key;
        ids[at] = (ID_T)i;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint count = found;
#else
    const uint count = k > 0 ? (uint)n : 0u;
    for (uint i = lid; i < count; i += LOCAL_SIZE) {
        keys[i] = key_at(x_row, i, flags);
        ids[i] = (ID_T)i;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    sort_pairs(keys, ids, count);
    const uint kth = k > 0 ? keys[k - 1] : 0xffffffffu;
    const int cut = k > 0 ? (int)ids[k - 1] : -1;
    if (flags & OUT_CELLS)
        put_cells(ROW(mask, row), ROW(bitmask, row), ROW(dense, row), x_row, n, flags, (BITS(X_T))fill, scale, kth, cut, lid,
                  LOCAL_SIZE);
    if (flags & BY_INDEX) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int p = lid; p < k; p += LOCAL_SIZE)
            keys[p] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        sort_pairs(keys, ids, (uint)k);
    }
    for (int p = lid; p < k; p += LOCAL_SIZE)
        put_selected(ROW(values, row), ROW(indices, row), x_row, flags, (uint)p, ids[p]);
}
