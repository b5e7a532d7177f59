// SPDX-License-Identifier: MIT
// Selecting in a work-group, for the rows that first reduce a row to few candidates. A candidate is one number,
//
//   pair = key << 32 | ~position        (never 0: a position has 31 bits; the larger pair comes first)
//
// so that the k best are the k largest of distinct numbers, whatever keys repeat.
#include "common/team.cl"
#include "topk/quick.cl"

#if KEY_BITS > 32
#error "pairs hold keys of 32 bits"
#endif
#ifndef CAP
#error "CAP: room for candidates in local memory, a power of two"
#endif

#define BINS 512
#define RANKED 512 // up to so many candidates are ranked by searching, more are sorted
#define REDUCED 256 // up to so many are sorted as they are, more are reduced before: less work for a full device

inline ulong pair_of(KEY_T key, uint position) { return (ulong)key << 32 | (uint)~position; }
inline uint pair_position(ulong pair) { return ~(uint)pair; }
inline KEY_T pair_key(ulong pair) { return (KEY_T)(pair >> 32); }

// What the functions below share; scratch has room for a number of each team and two more.
struct group {
    local ulong *swap, *scratch;
    local uint *bins, *counter;
};

// ---- sources of pairs: candidates in local or global memory, or the row itself ----

#define FROM_LOCAL 0
#define FROM_GLOBAL 1
#define FROM_ROW 2

struct source {
    int kind; // constant where used: what is not there is compiled away
    const local ulong *near;
    const global ulong *far;
    const struct row *row;
};

inline ulong source_pair(struct source s, uint i) {
    if (s.kind == FROM_LOCAL) return s.near[i];
    if (s.kind == FROM_GLOBAL) return s.far[i];
    return pair_of(quick_key(s.row->x[(long)i * s.row->step], s.row->rule), i);
}

// The smallest and largest of a number of each work-item.
inline void group_range(struct group g, ulong *low, ulong *high) {
    TEAM_UNROLL
    for (uint d = 1; d < TEAM; d *= 2) {
        *low = min(*low, team_xor64(g.swap, *low, d));
        *high = max(*high, team_xor64(g.swap, *high, d));
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == 0) g.scratch[team_index()] = *low;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint t = 0; t < TEAMS; t++)
        *low = min(*low, g.scratch[t]);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == 0) g.scratch[team_index()] = *high;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint t = 0; t < TEAMS; t++)
        *high = max(*high, g.scratch[t]);
}

// The bin, counted from the highest, in which the sum reaches `need` (1 <= need <= all): it, the sum before it, its
// count.
inline uint find_bin(struct group g, uint need, uint *before, uint *inside) {
    const uint each = BINS / LOCAL_SIZE > 0 ? BINS / LOCAL_SIZE : 1, first = get_local_id(0) * each;
    uint own = 0;
    for (uint i = 0; i < each && first + i < BINS; i++)
        own += g.bins[BINS - 1 - first - i];
    const uint prefix = team_prefix(g.swap, own);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == TEAM - 1) g.scratch[team_index()] = prefix;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint sum = prefix - own;
    for (uint t = 0; t < team_index(); t++)
        sum += (uint)g.scratch[t];
    for (uint i = 0; i < each && first + i < BINS; i++) {
        const uint count = g.bins[BINS - 1 - first - i];
        if (sum < need && need <= sum + count) {
            g.scratch[TEAMS] = (ulong)(BINS - 1 - first - i) << 32 | sum;
            g.scratch[TEAMS + 1] = count;
        }
        sum += count;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    *before = (uint)g.scratch[TEAMS];
    *inside = (uint)g.scratch[TEAMS + 1];
    return (uint)(g.scratch[TEAMS] >> 32);
}

// A number such that at least k and at most max(k, most) of the m pairs are not below it. Bins of equal width over the
// range of what is left, again and again; in the end they are one number wide, whatever the pairs are. 1 <= k <= m.
CALLABLE ulong find_cut(struct group g, struct source s, uint m, uint k, uint most) {
    const uint lid = get_local_id(0);
    ulong low = ~0ul, high = 0;
    for (uint i = lid; i < m; i += LOCAL_SIZE) {
        const ulong v = source_pair(s, i);
        low = min(low, v);
        high = max(high, v);
    }
    group_range(g, &low, &high);
    for (uint above = 0, inside = m; above + inside > max(k, most);) {
        const uint bits = 64 - (uint)clz(high - low), shift = bits > 9 ? bits - 9 : 0; // BINS = 2^9
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint b = lid; b < BINS; b += LOCAL_SIZE)
            g.bins[b] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = lid; i < m; i += LOCAL_SIZE) {
            const ulong v = source_pair(s, i);
            if (v >= low && v <= high) atomic_inc(&g.bins[(v - low) >> shift]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint before;
        const uint bin = find_bin(g, k - above, &before, &inside);
        above += before;
        low += (ulong)bin << shift;
        high = low + min(high - low, (1ul << shift) - 1ul); // the end of a bin may be past 2^64
    }
    return low;
}

// The least, over the first `teams` teams, of the r-th best key of their work-items, r = ceil(k / teams): at least k
// work-items have a key that is not below it.
inline KEY_T bound_of(struct group g, KEY_T best, uint k, uint teams) {
    const uint r = (k + teams - 1) / teams;
    const uint sorted = team_sort(g.swap, best);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (team_lane() == r - 1) g.scratch[team_index()] = sorted;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint bound = (uint)g.scratch[0];
    for (uint t = 1; t < teams; t++)
        bound = min(bound, (uint)g.scratch[t]);
    return (KEY_T)bound;
}

// A number as find_cut's for candidates in local memory, in one pass, but without an upper limit; 0 if k is too large.
inline ulong rough_cut(struct group g, const local ulong *candidates, uint m, uint k) {
    const uint teams = min(m / TEAM, (uint)TEAMS); // those of which every work-item has a candidate
    if (teams == 0 || k > teams * (TEAM / 2)) return 0;
    KEY_T best = 0;
    for (uint i = get_local_id(0); i < m; i += LOCAL_SIZE)
        best = max(best, pair_key(candidates[i]));
    return (ulong)bound_of(g, best, k, teams) << 32;
}

// Adds a candidate; the count goes on where there is no room.
inline void push(local ulong *candidates, local uint *count, ulong pair) {
    const uint at = atomic_inc(count);
    if (at < CAP) candidates[at] = pair;
}

// Those of the pairs that are not below the cut; returns how many. There is room for them.
inline uint gather(struct group g, struct source s, uint m, ulong cut, local ulong *candidates) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (get_local_id(0) == 0) *g.counter = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = get_local_id(0); i < m; i += LOCAL_SIZE) {
        const ulong v = source_pair(s, i);
        if (v >= cut) push(candidates, g.counter, v);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return *g.counter;
}

// The same in place: all are read before any is written.
inline uint keep(struct group g, local ulong *candidates, uint m, ulong cut) {
    ulong own[CAP / LOCAL_SIZE > 0 ? CAP / LOCAL_SIZE : 1];
    TEAM_UNROLL
    for (uint i = 0; i < sizeof own / sizeof *own; i++)
        own[i] = i * LOCAL_SIZE + get_local_id(0) < m ? candidates[i * LOCAL_SIZE + get_local_id(0)] : 0ul;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (get_local_id(0) == 0) *g.counter = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    TEAM_UNROLL
    for (uint i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] && own[i] >= cut) push(candidates, g.counter, own[i]);
    barrier(CLK_LOCAL_MEM_FENCE);
    return *g.counter;
}

// ---- sorting m <= CAP numbers, none of them 0, the largest first ----

// Up to RANKED: runs of 32 sorted by teams; the rank of a number is its place in its run and, found by bisection, the
// count of larger ones in each other run.
inline void rank_runs(struct group g, local ulong *a, uint m) {
    const uint runs = (m + 31) / 32, lane = team_lane();
    ulong own[(RANKED + LOCAL_SIZE - 1) / LOCAL_SIZE];
    uint rank[(RANKED + LOCAL_SIZE - 1) / LOCAL_SIZE];
    TEAM_UNROLL
    for (uint i = 0; i < sizeof own / sizeof *own; i++) {
        const uint c = i * TEAMS + team_index();
        if (i * TEAMS >= runs) break;
        own[i] = team_sort64(g.swap, c * 32 + lane < m ? a[c * 32 + lane] : 0ul);
        if (c < runs) a[c * 32 + lane] = own[i];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    TEAM_UNROLL
    for (uint i = 0; i < sizeof own / sizeof *own; i++) {
        const uint c = i * TEAMS + team_index();
        if (i * TEAMS >= runs) break;
        rank[i] = lane;
        for (uint o = 0; o < runs; o++) {
            if (o == c) continue;
            const local ulong *const run = a + o * 32;
            uint at = 0;
            TEAM_UNROLL
            for (uint s = 16; s > 0; s /= 2)
                at += run[at + s - 1] > own[i] ? s : 0u;
            rank[i] += at + (run[at] > own[i]);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    TEAM_UNROLL
    for (uint i = 0; i < sizeof own / sizeof *own; i++)
        if ((i * TEAMS + team_index()) * 32 + lane < runs * 32 && own[i]) a[rank[i]] = own[i];
    barrier(CLK_LOCAL_MEM_FENCE);
}

// One step of a bitonic merge at a distance of at least 32, over `size` numbers.
inline void merge_step(local ulong *a, uint size, uint distance, bool mirror) {
    for (uint t = get_local_id(0); t < size / 2; t += LOCAL_SIZE) {
        const uint low = 2 * t - (t & (distance - 1));
        const uint high = mirror ? low ^ (2 * distance - 1) : low + distance;
        const ulong x = a[low], y = a[high];
        if (y > x) a[low] = y, a[high] = x;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

// Any m: teams sort runs of 32, which are merged in local memory down to the distance 32, then by the teams again.
inline void merge_runs(struct group g, local ulong *a, uint m) {
    uint size = 32;
    while (size < m)
        size *= 2;
    for (uint i = m + get_local_id(0); i < size; i += LOCAL_SIZE)
        a[i] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint first = 0; first < size; first += LOCAL_SIZE) {
        const uint i = first + get_local_id(0);
        const ulong v = team_sort64(g.swap, i < size ? a[i] : 0ul);
        if (i < size) a[i] = v;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint run = 32; run < size; run *= 2) {
        merge_step(a, size, run, true);
        for (uint distance = run / 2; distance >= 32; distance /= 2)
            merge_step(a, size, distance, false);
        for (uint first = 0; first < size; first += LOCAL_SIZE) {
            const uint i = first + get_local_id(0);
            ulong v = i < size ? a[i] : 0ul;
            TEAM_UNROLL
            for (uint s = 16; s > 0; s /= 2) {
                const ulong other = team_xor64(g.swap, v, s);
                v = i & s ? min(v, other) : max(v, other);
            }
            if (i < size) a[i] = v;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

CALLABLE void sort_pairs(struct group g, local ulong *a, uint m) {
    if (m <= RANKED)
        rank_runs(g, a, m);
    else
        merge_runs(g, a, m);
}

// ---- the end of a row: its k best are among the m <= CAP candidates, k <= m; more than `reduced` are reduced ----

CALLABLE void finish_row(const struct row *row, struct group g, local ulong *candidates, uint m, uint reduced) {
    const uint lid = get_local_id(0), k = row->k;
    uint most = 128;
    while (most < k)
        most *= 2;
    if (k > 0) {
        if (m > max(most, reduced)) m = keep(g, candidates, m, rough_cut(g, candidates, m, k));
        if (m > max(most, (uint)RANKED)) {
            const struct source s = {FROM_LOCAL, candidates, 0, 0};
            m = keep(g, candidates, m, find_cut(g, s, m, k, most));
        }
        sort_pairs(g, candidates, m);
    }
    const ulong last = k > 0 ? candidates[k - 1] : 0ul;
    if (lid == 0) put_threshold(row, pair_position(last));
    if (row->flags & OUT_CELLS) put_cells(row, pair_key(last), pair_position(last), lid, LOCAL_SIZE);
    if ((row->flags & BY_INDEX) && k > 0) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = lid; i < k; i += LOCAL_SIZE) // the low half of a pair is larger for lower positions
            candidates[i] = (uint)candidates[i];
        barrier(CLK_LOCAL_MEM_FENCE);
        sort_pairs(g, candidates, k);
    }
    for (uint i = lid; i < k; i += LOCAL_SIZE)
        put_selected(row, i, pair_position(candidates[i]));
    put_padding(row, lid, LOCAL_SIZE);
}

// From any source, however many.
CALLABLE void finish_from(const struct row *row, struct group g, struct source s, uint m, local ulong *candidates) {
    uint most = 128;
    while (most < row->k)
        most *= 2;
    const ulong cut = row->k > 0 ? find_cut(g, s, m, row->k, most) : ~0ul;
    m = gather(g, s, m, cut, candidates);
    finish_row(row, g, candidates, m, REDUCED);
}
