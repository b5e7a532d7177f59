// SPDX-License-Identifier: MIT
// The parts of a stable counting sort by expert that a work-group does. Pair p = token * k + slot goes to bucket
// ids[token, slot]; ids outside [0, experts) go to bucket `experts`, the last one, which holds the skipped pairs.
//
// Each team has a run of consecutive pairs and a row of `placed`, which goes through
//   count_runs    pairs of each bucket in the team's run
//   spread_runs   those in the runs before, so that a team's first pair of bucket b goes to start[b] + placed[b]
//   place_runs    counted up, 32 pairs at a time: among these a pair comes behind those of its bucket in lower lanes
#include "common/team.cl"

#ifndef BUCKETS_LOG2
#error "BUCKETS_LOG2: experts + 2 <= 2^BUCKETS_LOG2"
#endif
#ifndef BUCKETS
#error "BUCKETS: how many there is room for, experts + 1 or more"
#endif

#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define IN_FLIGHT 4 // pairs that a work-item has loaded
#define NO_BUCKET ((1u << BUCKETS_LOG2) - 1u)

// The pairs of a call, and where the sorted ones go.
struct pairs {
    const global int *ids;
    long stride; // of ids
    int k, experts;
    global int *order, *inverse; // inverse: NULL if not wanted
};

// A team's run: pairs begin .. end - 1, `steps` times 32 at most, the same for all teams.
struct run {
    long begin, end;
    int steps;
};

inline uint bucket_of(const struct pairs *p, long pair) {
    long at = pair;
    if (p->stride != p->k) {
        const int token = (int)pair / p->k;
        at = token * p->stride + ((int)pair - token * p->k);
    }
    const int e = p->ids[at];
    return e < 0 || e >= p->experts ? (uint)p->experts : (uint)e;
}

inline struct run team_run(long begin, long end) {
    struct run r;
    r.steps = (int)((end - begin + LOCAL_SIZE - 1) / LOCAL_SIZE);
    r.begin = begin + (long)r.steps * TEAM * team_index();
    r.end = min(end, r.begin + (long)r.steps * TEAM);
    return r;
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
    for (int b = begin; b < end; b++)
        total += start[b];
    int at = sum_before(total, swap, sums);
    for (int b = begin; b < end; b++) {
        const int count = start[b];
        start[b] = at;
        at += count;
    }
    if (get_local_id(0) == LOCAL_SIZE - 1) start[experts] = at;
    LOCAL_BARRIER;
}

inline void clear(local int *numbers, int n) {
    for (int i = get_local_id(0); i < n; i += LOCAL_SIZE)
        numbers[i] = 0;
}

inline void count_runs(const struct pairs *p, struct run r, local int *placed) {
    clear(placed, TEAMS * BUCKETS);
    LOCAL_BARRIER;
    local int *const own = placed + team_index() * BUCKETS;
    for (long pair = r.begin + team_lane(); pair < r.end; pair += TEAM)
        atomic_inc(&own[bucket_of(p, pair)]);
    LOCAL_BARRIER;
}

// total, if it is wanted, gets the pairs of each bucket but the last in all runs.
inline void spread_runs(int experts, local int *placed, local int *total) {
    for (int b = get_local_id(0); b <= experts; b += LOCAL_SIZE) {
        int before = 0;
        for (int t = 0; t < TEAMS; t++) {
            const int count = placed[t * BUCKETS + b];
            placed[t * BUCKETS + b] = before;
            before += count;
        }
        if (total && b < experts) total[b] = before;
    }
    LOCAL_BARRIER;
}

inline void place_runs(const struct pairs *p, struct run r, const local int *start, local int *placed,
                       local ulong *swap) {
    local int *const own = placed + team_index() * BUCKETS;
    for (int step = 0; step < r.steps; step += IN_FLIGHT) {
        uint buckets[IN_FLIGHT];
        TEAM_UNROLL
        for (int i = 0; i < IN_FLIGHT; i++) {
            const long pair = r.begin + (long)(step + i) * TEAM + team_lane();
            buckets[i] = pair < r.end ? bucket_of(p, pair) : NO_BUCKET;
        }
        TEAM_UNROLL
        for (int i = 0; i < IN_FLIGHT; i++) {
            const long pair = r.begin + (long)(step + i) * TEAM + team_lane();
            const uint b = buckets[i], same = team_match(swap, b, BUCKETS_LOG2);
            const int before = (int)popcount(same & ((1u << team_lane()) - 1u));
            const int first = b != NO_BUCKET ? own[b] : 0;
            team_fence();
            if (b != NO_BUCKET) {
                const int at = start[b] + first + before;
                if (before == 0) own[b] = first + (int)popcount(same);
                p->order[at] = (int)pair;
                if (p->inverse) p->inverse[pair] = at;
            }
            team_fence();
        }
    }
}

// All of permute for the pairs 0 .. n - 1, by this work-group.
inline void permute_pairs(const struct pairs *p, int n, global int *counts, global int *offsets, local int *start,
                          local int *placed, local int *sums, local ulong *swap) {
    const struct run r = team_run(0, n);
    count_runs(p, r, placed);
    spread_runs(p->experts, placed, start);
    for (int e = get_local_id(0); e < p->experts; e += LOCAL_SIZE)
        counts[e] = start[e];
    counts_to_starts(start, p->experts, swap, sums);
    for (int b = get_local_id(0); b <= p->experts; b += LOCAL_SIZE)
        offsets[b] = start[b];
    place_runs(p, r, start, placed, swap);
}
