// SPDX-License-Identifier: MIT
// Short rows: LANES = 2^lane_bits work-items a row, LOCAL_SIZE / LANES rows a work-group; lane l has elements
// l + q * LANES for q < PER in private memory, so n <= PER * LANES.
//
//   1. candidates: all elements, or for k <= LANES those not after the k-th best of the LANES lane maxima. k lanes
//      have one, so these are at least k and at most PER * k, and every element before a candidate is a candidate.
//   2. rank of a candidate = candidates before it in the total order; rank < k: selected, and rank is its place.
//   3. rank k - 1 is the cut, which decides the rest: places by index, mask, bitmask, dense.
#include "topk/output.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, a power of two"
#endif
#ifndef PER
#error "PER: elements of a lane"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_lanes(X_PARAMS, LIST_PARAMS, CELL_PARAMS,
                                                                               long rows, int lane_bits) {
    local uint keys[(PER + 1) * LOCAL_SIZE]; // candidates of slot s from s * (PER * LANES + 1) on: no bank conflicts
    local ushort ids[(PER + 1) * LOCAL_SIZE];
    local uint best_key[LOCAL_SIZE]; // of each lane
    local ushort best_id[LOCAL_SIZE];
    local uint cut_key[LOCAL_SIZE]; // of each slot
    local int cut_id[LOCAL_SIZE], counts[LOCAL_SIZE];

    const int lanes = 1 << lane_bits;
    const int lane = (int)get_local_id(0) & (lanes - 1), slot = (int)get_local_id(0) >> lane_bits;
    const long wanted = (long)get_group_id(0) * (LOCAL_SIZE >> lane_bits) + slot;
    const bool active = wanted < rows; // the rest repeat the last row and write nothing
    const long row = active ? wanted : rows - 1;
    const global BITS(X_T) *const x_row = ROW(x, row);
    global BITS(X_T) *const values_row = ROW(values, row);
    global int *const indices_row = ROW(indices, row);
    const int base = slot * (PER * lanes + 1), first_lane = slot << lane_bits;
    const bool narrow = k <= lanes;

    uint own[PER], top_key = 0, top_id = (uint)lane;
    for (int q = 0; q < PER; q++) {
        const int i = lane + (q << lane_bits);
        own[q] = i < n ? key_at(x_row, i, flags) : 0u;
        if (i < n && own[q] > top_key) {
            top_key = own[q];
            top_id = (uint)i;
        }
    }
    best_key[first_lane + lane] = top_key;
    best_id[first_lane + lane] = (ushort)top_id;
    if (lane == 0) {
        counts[slot] = narrow ? 0 : n;
        cut_key[slot] = 0xffffffffu;
        cut_id[slot] = -1;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (narrow) {
        int rank = 0;
        for (int l = 0; l < lanes; l++)
            rank += key_before(best_key[first_lane + l], best_id[first_lane + l], top_key, top_id);
        if (rank == k - 1) {
            cut_key[slot] = top_key;
            cut_id[slot] = (int)top_id;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    uint kth = cut_key[slot];
    int cut = cut_id[slot];
    for (int q = 0; q < PER; q++) {
        const int i = lane + (q << lane_bits);
        if (i >= n || (narrow && !(own[q] > kth || (own[q] == kth && i <= cut)))) continue;
        const int at = base + (narrow ? atomic_inc(&counts[slot]) : i);
        keys[at] = own[q];
        ids[at] = (ushort)i;
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    const int count = counts[slot];
    for (int c = lane; c < count; c += lanes) {
        const uint key = keys[base + c], id = ids[base + c];
        int rank = 0;
        for (int d = 0; d < count; d++)
            rank += key_before(keys[base + d], ids[base + d], key, id);
        if (rank == k - 1) {
            cut_key[slot] = key;
            cut_id[slot] = (int)id;
        }
        if (active && rank < k && !(flags & BY_INDEX))
            put_selected(values_row, indices_row, x_row, flags, (uint)rank, id);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    kth = cut_key[slot];
    cut = cut_id[slot];
    if (!active) return;

    for (int c = lane; (flags & BY_INDEX) && c < count; c += lanes) {
        const uint key = keys[base + c], id = ids[base + c];
        if (key_before(kth, (uint)cut, key, id)) continue;
        uint place = 0;
        for (int d = 0; d < count; d++)
            place += ids[base + d] < id && !key_before(kth, (uint)cut, keys[base + d], ids[base + d]);
        put_selected(values_row, indices_row, x_row, flags, place, id);
    }
    if (flags & OUT_CELLS)
        put_cells(ROW(mask, row), ROW(bitmask, row), ROW(dense, row), x_row, n, flags, (BITS(X_T))fill, scale, kth, cut, lane,
                  lanes);
}
