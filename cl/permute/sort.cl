// SPDX-License-Identifier: MIT
// The parts of a stable counting sort by expert that a work-group does. Pair p = token * k + slot goes to bucket
// ids[token, slot]; ids outside [0, experts) go to bucket `experts`, the last one, which holds the skipped pairs.
//
// The buckets of the first HELD pairs are held in local memory, those of others read anew. Each team has a run of
// consecutive pairs and a row of `placed`, which goes through
//   count_runs    pairs of each bucket in the team's run
//   spread_runs   those in the runs before, so that a team's first pair of bucket b goes to start[b] + placed[b]
//   place_runs    counted up, 32 pairs at a time: among these a pair comes behind those of its bucket in lower lanes
//
// On a GPU each call finds the code in memory, not in a cache, and waits for it: loops stay loops here.
#include "common/team.cl"

#ifndef BUCKETS_LOG2
#error "BUCKETS_LOG2: experts + 2 <= 2^BUCKETS_LOG2"
#endif
#ifndef BUCKETS
#error "BUCKETS: how many there is room for, experts + 1 or more"
#endif
#ifndef HELD
#error "HELD: pairs whose buckets are held"
#endif

#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define IN_FLIGHT 4 // ids that a work-item has asked for
#define MATCHED 2   // pairs of a work-item that are compared with those of its team at a time
#define NO_BUCKET ((1u << BUCKETS_LOG2) - 1u)

// The pairs of a call, and where the sorted ones go.
struct pairs {
    const global int *ids;
    long stride; // of ids
    int k, experts;
    global int *order, *inverse; // inverse: NULL if not wanted
};

// The pairs begin .. begin + n - 1 of them; a team's run has `steps` times 32.
struct span {
    int begin, n, steps;
};

inline uint bucket_of(int id, int experts) { return id < 0 || id >= experts ? (uint)experts : (uint)id; }

inline int id_of_pair(const struct pairs *p, int pair) {
    if (p->stride == p->k) return p->ids[pair];
    const int token = pair / p->k;
    return p->ids[token * p->stride + (pair - token * p->k)];
}

inline struct span span_of(int begin, int n) {
    struct span s;
    s.begin = begin, s.n = n, s.steps = (n + LOCAL_SIZE - 1) / LOCAL_SIZE;
    return s;
}

inline void load_buckets(const struct pairs *p, struct span span, local ushort *bucket) {
    int at = get_local_id(0);
    const int n = min(span.n, HELD);
    const global int *const ids = p->ids + span.begin;
    TEAM_LOOP
    for (; p->stride == p->k && at + (IN_FLIGHT - 1) * LOCAL_SIZE < n; at += IN_FLIGHT * LOCAL_SIZE) {
        int id[IN_FLIGHT];
        TEAM_UNROLL
        for (int i = 0; i < IN_FLIGHT; i++)
            id[i] = ids[at + i * LOCAL_SIZE];
        TEAM_UNROLL
        for (int i = 0; i < IN_FLIGHT; i++)
            bucket[at + i * LOCAL_SIZE] = (ushort)bucket_of(id[i], p->experts);
    }
    TEAM_LOOP
    for (; at < n; at += LOCAL_SIZE)
        bucket[at] = (ushort)bucket_of(id_of_pair(p, span.begin + at), p->experts);
    LOCAL_BARRIER;
}

// The sum of the values of the work-items before this one.
inline int sum_before(int mine, local ulong *swap, local int *sums) {
    const uint own = team_prefix(swap, (uint)mine);
    if (team_lane() == TEAM - 1) sums[team_index()] = (int)own;
    LOCAL_BARRIER;
    const uint teams = team_prefix(swap, team_lane() < TEAMS ? (uint)sums[team_lane()] : 0u);
    const uint before = team_at(swap, teams, team_index() - 1u);
    LOCAL_BARRIER;
    return (int)(own + (team_index() ? before : 0u)) - mine;
}

// start[b] holds the pairs of bucket b, of all but the last one; becomes where bucket b starts.
inline void counts_to_starts(local int *start, int experts, local ulong *swap, local int *sums) {
    const int run = (experts + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const int begin = min((int)get_local_id(0) * run, experts), end = min(begin + run, experts);
    int total = 0;
    TEAM_LOOP
    for (int b = begin; b < end; b++)
        total += start[b];
    int at = sum_before(total, swap, sums);
    TEAM_LOOP
    for (int b = begin; b < end; b++) {
        const int count = start[b];
        start[b] = at;
        at += count;
    }
    if (get_local_id(0) == LOCAL_SIZE - 1) start[experts] = at;
    LOCAL_BARRIER;
}

inline void clear(local int *numbers, int n) {
    TEAM_LOOP
    for (int i = get_local_id(0); i < n; i += LOCAL_SIZE)
        numbers[i] = 0;
}

// Which pair of the span this work-item has in a step.
inline int pair_of_step(struct span span, int step) {
    return ((int)team_index() * span.steps + step) * (int)TEAM + (int)team_lane();
}

inline uint bucket_at(const struct pairs *p, struct span span, const local ushort *bucket, int at) {
    if (at >= span.n) return NO_BUCKET;
    return at < HELD ? bucket[at] : bucket_of(id_of_pair(p, span.begin + at), p->experts);
}

inline void count_runs(const struct pairs *p, struct span span, const local ushort *bucket, local int *placed) {
    clear(placed, TEAMS * BUCKETS);
    LOCAL_BARRIER;
    local int *const own = placed + team_index() * BUCKETS;
    TEAM_LOOP
    for (int step = 0; step < span.steps; step++) {
        const uint b = bucket_at(p, span, bucket, pair_of_step(span, step));
        if (b != NO_BUCKET) atomic_inc(&own[b]);
    }
    LOCAL_BARRIER;
}

// total, if it is wanted, gets the pairs of each bucket but the last in all runs.
inline void spread_runs(int experts, local int *placed, local int *total) {
    TEAM_LOOP
    for (int b = get_local_id(0); b <= experts; b += LOCAL_SIZE) {
        int before = 0;
        TEAM_LOOP
        for (int t = 0; t < TEAMS; t++) {
            const int count = placed[t * BUCKETS + b];
            placed[t * BUCKETS + b] = before;
            before += count;
        }
        if (total && b < experts) total[b] = before;
    }
    LOCAL_BARRIER;
}

inline void place_runs(const struct pairs *p, struct span span, const local ushort *bucket, const local int *start,
                       local int *placed, local ulong *swap) {
    local int *const own = placed + team_index() * BUCKETS;
    TEAM_LOOP
    for (int step = 0; step < span.steps; step += MATCHED) {
        uint bucket_of_step[MATCHED], same_of_step[MATCHED];
        TEAM_UNROLL
        for (int i = 0; i < MATCHED; i++) {
            const int at = pair_of_step(span, step + i);
            bucket_of_step[i] = step + i < span.steps ? bucket_at(p, span, bucket, at) : NO_BUCKET;
            same_of_step[i] = team_match(swap, bucket_of_step[i], BUCKETS_LOG2);
        }
        TEAM_UNROLL
        for (int i = 0; i < MATCHED; i++) {
            const int at = pair_of_step(span, step + i);
            const uint b = bucket_of_step[i], same = same_of_step[i];
            const int before = (int)popcount(same & ((1u << team_lane()) - 1u));
            const int first = b != NO_BUCKET ? own[b] : 0;
            team_fence();
            if (b != NO_BUCKET) {
                const int to = start[b] + first + before;
                if (before == 0) own[b] = first + (int)popcount(same);
                p->order[to] = span.begin + at;
                if (p->inverse) p->inverse[span.begin + at] = to;
            }
            team_fence();
        }
    }
}

// All of permute for the pairs 0 .. n - 1, by this work-group.
inline void permute_pairs(const struct pairs *p, int n, global int *counts, global int *offsets, local ushort *bucket,
                          local int *start, local int *placed, local int *sums, local ulong *swap) {
    const struct span span = span_of(0, n);
    load_buckets(p, span, bucket);
    count_runs(p, span, bucket, placed);
    spread_runs(p->experts, placed, start);
    TEAM_LOOP
    for (int e = get_local_id(0); e < p->experts; e += LOCAL_SIZE)
        counts[e] = start[e];
    counts_to_starts(start, p->experts, swap, sums);
    TEAM_LOOP
    for (int b = get_local_id(0); b <= p->experts; b += LOCAL_SIZE)
        offsets[b] = start[b];
    place_runs(p, span, bucket, start, placed, swap);
}
