// SPDX-License-Identifier: MIT
// Short rows: LANES = 2^lane_bits work-items a row, LOCAL_SIZE / LANES rows a work-group; lane l has the positions
// l + q * LANES for q < PER in private memory, so n <= PER * LANES.
//
//   1. candidates: all positions, or for k <= LANES those not after the k-th best of the lanes' maxima. min(LANES, n)
//      lanes have one, so these are at least k and at most PER * k, and all before a candidate are candidates.
//   2. rank of a candidate = candidates before it in the total order; rank < k: selected, and rank is its place.
//   3. rank k - 1 is the cut, which decides the rest: places by index, mask, bitmask, dense.
#include "topk/output.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, a power of two"
#endif
#ifndef PER
#error "PER: elements of a lane"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_lanes(TOPK_PARAMS, int lane_bits) {
    local KEY_T keys[(PER + 1) * LOCAL_SIZE]; // candidates of slot s from s * (PER * LANES + 1) on: no bank conflicts
    local ushort ids[(PER + 1) * LOCAL_SIZE];
    local KEY_T best_key[LOCAL_SIZE]; // of each lane that has positions
    local ushort best_id[LOCAL_SIZE];
    local KEY_T cut_key[LOCAL_SIZE]; // of each slot
    local uint cut_id[LOCAL_SIZE], found[LOCAL_SIZE];

    const uint lanes = 1u << lane_bits;
    const uint lane = (uint)get_local_id(0) & (lanes - 1), slot = (uint)get_local_id(0) >> lane_bits;
    const long wanted = (long)get_group_id(0) * (LOCAL_SIZE >> lane_bits) + slot;
    const bool active = wanted < rows; // the rest repeat the last row and write nothing
    const long r = active ? wanted : rows - 1;

    uint n, k, top_id = lane;
    KEY_T own[PER], top_key = 0;
    {
        const struct row row = TOPK_ROW(r);
        n = row.n, k = row.k;
        for (uint q = 0; q < PER; q++) {
            const uint p = lane + (q << lane_bits);
            own[q] = p < n ? key_at(&row, p) : 0;
            if (p < n && own[q] > top_key) {
                top_key = own[q];
                top_id = p;
            }
        }
    }
    const uint base = slot * (PER * lanes + 1), first_lane = slot << lane_bits;
    const bool narrow = k <= lanes, any = lane < n;
    best_key[first_lane + lane] = top_key;
    best_id[first_lane + lane] = (ushort)top_id;
    if (lane == 0) found[slot] = narrow ? 0 : n;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (narrow && any) {
        uint rank = 0;
        for (uint l = 0; l < min(lanes, n); l++)
            rank += key_before(best_key[first_lane + l], best_id[first_lane + l], top_key, top_id);
        if (rank + 1 == k) {
            cut_key[slot] = top_key;
            cut_id[slot] = top_id;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (k > 0) {
        const KEY_T bound = narrow ? cut_key[slot] : 0;
        const uint bound_id = narrow ? cut_id[slot] : 0;
        for (uint q = 0; q < PER; q++) {
            const uint p = lane + (q << lane_bits);
            if (p >= n || (narrow && key_before(bound, bound_id, own[q], p))) continue;
            const uint at = base + (narrow ? atomic_inc(&found[slot]) : p);
            keys[at] = own[q];
            ids[at] = (ushort)p;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    const uint count = k > 0 ? found[slot] : 0;
    {
        const struct row row = TOPK_ROW(r);
        for (uint c = lane; c < count; c += lanes) {
            const KEY_T key = keys[base + c];
            const uint id = ids[base + c];
            uint rank = 0;
            for (uint d = 0; d < count; d++)
                rank += key_before(keys[base + d], ids[base + d], key, id);
            if (rank + 1 == k) {
                cut_key[slot] = key;
                cut_id[slot] = id;
            }
            if (active && rank < k && !(flags & BY_INDEX)) put_selected(&row, rank, id);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const KEY_T kth = k > 0 ? cut_key[slot] : 0;
    const uint last = k > 0 ? cut_id[slot] : 0;
    if (active) {
        const struct row row = TOPK_ROW(r);
        for (uint c = lane; (flags & BY_INDEX) && c < count; c += lanes) {
            const uint id = ids[base + c];
            if (key_before(kth, last, keys[base + c], id)) continue;
            uint place = 0;
            for (uint d = 0; d < count; d++)
                place += ids[base + d] < id && !key_before(kth, last, keys[base + d], ids[base + d]);
            put_selected(&row, place, id);
        }
        put_padding(&row, lane, lanes);
        if (lane == 0) put_threshold(&row, last);
    }
    if (active && (flags & OUT_CELLS)) {
        const struct row row = TOPK_ROW(r);
        put_cells(&row, kth, last, lane, lanes);
    }
}
