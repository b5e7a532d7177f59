// SPDX-License-Identifier: MIT
// Bitonic sort of pairs (key, id) by key descending, then id ascending, in local memory. Of each compared pair the
// one before goes to the lower place: a block of `size` is merged by comparing place p with its mirror size - 1 - p,
// then at distances size/4, size/8 .. 1. A place at or past `count` would hold what comes after everything else, so
// it never moves: it is left out, and no padding exists that could leak.
#include "topk/key.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef ID_T
#error "ID_T: integer type of ids"
#endif

// Strides are powers of two. The t-th pair at distance `stride`, or of a mirror step over blocks of 2 * stride.
inline uint pair_low(uint t, uint stride) { return 2u * t - (t & (stride - 1u)); }
inline uint pair_high(uint low, uint stride, bool mirror) { return mirror ? low ^ (2u * stride - 1u) : low + stride; }

inline void sort_step(local KEY_T *keys, local ID_T *ids, uint count, uint stride, bool mirror) {
    for (uint t = get_local_id(0);; t += LOCAL_SIZE) {
        const uint low = pair_low(t, stride), high = pair_high(low, stride, mirror);
        if (low >= count) break;
        if (high >= count) continue;
        const KEY_T a = keys[low], b = keys[high];
        const ID_T i = ids[low], j = ids[high];
        if (!key_before(b, j, a, i)) continue;
        keys[low] = b, keys[high] = a;
        ids[low] = j, ids[high] = i;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

// From the distance `stride` down to 1. Every work-item calls, after a barrier.
inline void sort_merge(local KEY_T *keys, local ID_T *ids, uint count, uint stride) {
    for (; stride > 0u; stride /= 2u)
        sort_step(keys, ids, count, stride, false);
}

inline void sort_pairs(local KEY_T *keys, local ID_T *ids, uint count) {
    for (uint half_size = 1; half_size < count; half_size *= 2u) {
        sort_step(keys, ids, count, half_size, true);
        sort_merge(keys, ids, count, half_size / 2u);
    }
}
