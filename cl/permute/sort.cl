// SPDX-License-Identifier: MIT
// The parts of a stable counting sort by expert that a work-group does. Pair p = token * k + slot goes to bucket
// ids[token, slot]; ids outside [0, experts) go to bucket `experts`, the last one, which holds the skipped pairs.
// buckets = experts + 1.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, a power of two"
#endif
#ifndef BUCKETS
#error "BUCKETS: how many there is room for, experts + 1 or more"
#endif

#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)

inline int bucket_of(const global int *ids, ulong ids_skip, long ids_stride, int k, int experts, int pair) {
    const int token = pair / k, e = ids[ids_skip + token * ids_stride + (pair - token * k)];
    return e < 0 || e >= experts ? experts : e;
}

inline void clear_buckets(local int *bucket, int buckets) {
    for (int b = get_local_id(0); b < buckets; b += LOCAL_SIZE)
        bucket[b] = 0;
    LOCAL_BARRIER;
}

// bucket[b] = pairs of bucket b among the pairs begin .. end - 1. Integer atomics: any order, one result.
inline void count_pairs(const global int *ids, ulong ids_skip, long ids_stride, int k, int experts, int begin,
                        int end, local int *bucket) {
    clear_buckets(bucket, experts + 1);
    for (long p = (long)begin + get_local_id(0); p < end; p += LOCAL_SIZE)
        atomic_inc(&bucket[bucket_of(ids, ids_skip, ids_stride, k, experts, (int)p)]);
    LOCAL_BARRIER;
}

// The sum of the values of the work-items before this one.
inline int sum_before(int mine, local int *sums) {
    const int lid = get_local_id(0);
    int sum = mine;
    for (int step = 1; step < LOCAL_SIZE; step *= 2) {
        sums[lid] = sum;
        LOCAL_BARRIER;
        if (lid >= step) sum += sums[lid - step];
        LOCAL_BARRIER;
    }
    return sum - mine;
}

// Counts become starts: bucket[b] = sum of bucket[0 .. b-1]. Each work-item sums a run of buckets.
inline void counts_to_starts(local int *bucket, int buckets, local int *sums) {
    const int run = (buckets + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const int begin = min((int)get_local_id(0) * run, buckets), end = min(begin + run, buckets);
    int total = 0;
    for (int b = begin; b < end; b++)
        total += bucket[b];
    int start = sum_before(total, sums);
    for (int b = begin; b < end; b++) {
        const int count = bucket[b];
        bucket[b] = start;
        start += count;
    }
    LOCAL_BARRIER;
}

// Places the pairs begin .. end - 1, whose first of bucket b goes to position bucket[b]. LOCAL_SIZE pairs at a
// time: a pair's place is the bucket's, plus the pairs of its bucket before it among these.
inline void place_pairs(const global int *ids, ulong ids_skip, long ids_stride, int k, int experts, int begin,
                        int end, local int *bucket, local int *tile, global int *order, ulong order_skip,
                        int has_inverse, global int *inverse, ulong inverse_skip) {
    const int lid = get_local_id(0);
    for (long first = begin; first < end; first += LOCAL_SIZE) {
        const int pair = (int)(first + lid), valid = first + lid < end;
        const int b = valid ? bucket_of(ids, ids_skip, ids_stride, k, experts, pair) : -1;
        tile[lid] = b;
        LOCAL_BARRIER;
        int before = 0;
        for (int i = 0; i < lid; i++)
            before += tile[i] == b;
        if (valid) {
            const int at = bucket[b] + before;
            order[order_skip + at] = pair;
            if (has_inverse) inverse[inverse_skip + pair] = at;
        }
        LOCAL_BARRIER;
        if (valid) atomic_inc(&bucket[b]);
    }
}
