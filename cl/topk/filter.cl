// SPDX-License-Identifier: MIT
// Long rows, read once. A row is cut into pieces of `piece` positions, which `spans` groups take in turn, so that none
// gets all of the best where these are neighbours: group = row in slab * spans + span.
//
//   1. cut: from a sample of SAMPLES positions in runs of 8, spread over the row at places that jump about (so that no
//      period of the data is met), the one that is `rank`-th best or a little below. rank is far enough above the
//      k * SAMPLES / n of the sample that are expected among the k best that the row has less than k positions before
//      the cut about once in a million times. All groups of a row find the same cut. Being a pair, it splits equal
//      keys, too. Rows of at most CAP positions need none.
//   2. candidates: the positions of the span that are not behind the cut, in local memory, and what finds no room
//      there, or all of it if there are several spans, in `pairs` of the workspace, `room` for each row.
//   3. one group of the row: if the candidates are k to `room`, the k best are among them; else the whole row is read
//      again (find_cut). With one span it is the same group; with several, the one that takes the last ticket (TICKET,
//      where the order of memory across groups can be had), or a launch of its own (topk_filter_finish).
//
// Workspace of each row of the slab: `room` pairs. Counters of each row: tickets, candidates; 0 before, and with TICKET
// after, too.
#include "topk/select.cl"

#ifndef SPANNED
#error "SPANNED: 0 for one span a row, 1 for several"
#endif
#ifndef TICKET
#error "TICKET: 1: the last group of a row finishes it, 0: topk_filter_finish does"
#endif
#if TICKET
#include "common/ticket.cl"
#endif
#ifndef EACH
#error "EACH: positions of the sample of a work-item"
#endif
#ifndef LISTED
#error "LISTED: how many of the best of each team are looked at, a power of two up to 32"
#endif
#ifndef UNROLL
#error "UNROLL: loads in flight of a work-item"
#endif

#define SAMPLES (EACH * LOCAL_SIZE)
#define ENTRIES (LISTED * TEAMS)

#define FILTER_PARAMS                                                                                                  \
    long first_row, uint spans, ulong piece, uint room, global ulong *pairs, ulong pairs_skip, global uint *counters
#define COUNTER_STRIDE 32 // each row's on a line of its own
#define TICKETS(s) (counters + (s) * COUNTER_STRIDE)
#define FOUND(s) (counters + (s) * COUNTER_STRIDE + 1)

// Sample i of this work-item. Neighbouring runs go to different teams, since of each team only LISTED are looked at.
inline uint sample_position(uint i, uint n) {
    const uint run = i * (LOCAL_SIZE / 8) + (team_lane() >> 3) * TEAMS + team_index();
    const uint width = n / (SAMPLES / 8);
    const uint jump = width > 8 ? mul_hi(run * 2654435761u, width - 7) : 0u;
    return min(run * width + jump + (team_lane() & 7u), n - 1);
}

// The pair of the sample that has `rank` - 1 before it in the lists of the teams.
CALLABLE ulong sample_cut(const struct row *row, struct group g, local uint *lists, uint rank) {
    KEY_T best = 0;
    uint best_position = 0;
    BITS(X_T) bits[EACH];
    TEAM_UNROLL
    for (uint i = 0; i < EACH; i++)
        bits[i] = row->x[(long)sample_position(i, row->n) * row->step];
    TEAM_UNROLL
    for (uint i = 0; i < EACH; i++) {
        const KEY_T key = quick_key(bits[i], row->rule);
        if (i == 0 || key > best) {
            best = key;
            best_position = i;
        }
    }
    best_position = sample_position(best_position, row->n);
    const uint sorted = team_sort(g.swap, best);
    if (team_lane() < LISTED) lists[team_index() * LISTED + team_lane()] = sorted;
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint lanes = TEAM / LISTED, e = get_local_id(0) / lanes, part = get_local_id(0) & (lanes - 1); // of an entry
    const uint own = lists[e];
    uint before = 0;
    TEAM_UNROLL
    for (uint i = 0; i < ENTRIES / lanes; i++) {
        const uint o = i * lanes + part, other = lists[o];
        before += other > own || (other == own && o < e);
    }
    for (uint d = 1; d < lanes; d *= 2)
        before += team_xor(g.swap, before, d);
    if (part == 0 && before == rank - 1) g.scratch[TEAMS] = (ulong)own << 32 | e;
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint entry = (uint)g.scratch[TEAMS], key = (uint)(g.scratch[TEAMS] >> 32);
    // Which lane of its team that is: of equal keys the lower lane came first.
    const uint larger = popcount(team_ballot(g.swap, best > key)), equal = team_ballot(g.swap, best == key);
    const uint place = larger + popcount(equal & ((1u << team_lane()) - 1u));
    if (best == key && team_index() == entry / LISTED && place == entry % LISTED)
        g.scratch[TEAMS + 1] = pair_of(best, best_position);
    barrier(CLK_LOCAL_MEM_FENCE);
    return g.scratch[TEAMS + 1];
}

// Where candidates of a span go.
struct sink {
    local ulong *near;
    local uint *count;
    global ulong *far; // of the row, with SPANNED
    global uint *found;
    uint room;
};

inline void offer(struct sink sink, ulong pair) {
    const uint at = atomic_inc(sink.count);
    if (at < CAP) {
        sink.near[at] = pair;
    } else if (SPANNED) {
        const uint far = atomic_inc(sink.found);
        if (far < sink.room) sink.far[far] = pair;
    }
}

// Offers the elements of a batch, UNROLL at distances of LOCAL_SIZE from position p on, that are not behind the cut;
// most batches have none. own: the element of position p.
inline void collect_batch(const global BITS(X_T) *own, long step, uint p, const struct row *row, ulong cut,
                          quick_bound bound, struct sink sink) {
    KEY_T element[UNROLL];
    TEAM_UNROLL
    for (uint u = 0; u < UNROLL; u++)
        element[u] = QUICK_OF(own[(long)(u * LOCAL_SIZE) * step], row->rule);
    bool any = false;
    TEAM_UNROLL
    for (uint u = 0; u < UNROLL; u++)
        any |= quick_passes(element[u], bound);
    if (!any) return;
    uint hits = 0;
    TEAM_UNROLL
    for (uint u = 0; u < UNROLL; u++)
        hits |= quick_passes(element[u], bound) ? 1u << u : 0u;
    while (hits) {
        const uint u = 31 - clz(hits);
        hits ^= 1u << u;
        // Read again: a register cannot be indexed.
        const ulong pair = pair_of(quick_key(own[(long)(u * LOCAL_SIZE) * step], row->rule), p + u * LOCAL_SIZE);
        if (pair >= cut) offer(sink, pair);
    }
}

CALLABLE void collect(const struct row *row, ulong cut, uint begin, uint end, struct sink sink) {
    const uint lid = get_local_id(0), cut_position = pair_position(cut);
    const KEY_T cut_key = pair_key(cut);
    quick_bound bound = quick_bound_of(cut_key);
    bool behind = false; // the cut, where equal keys are, too
    uint p = begin + lid;
    for (; end - begin >= UNROLL * LOCAL_SIZE && p - lid <= end - UNROLL * LOCAL_SIZE; p += UNROLL * LOCAL_SIZE) {
        if (p - lid > cut_position && !behind) {
            if (cut_key == KEY_MAX) return;
            bound = quick_bound_of(cut_key + 1);
            behind = true;
        }
        const global BITS(X_T) *own = row->x + (long)p * row->step;
        if (row->step == 1) {
            OPAQUE(own);
            collect_batch(own, 1, p, row, cut, bound, sink);
        } else {
            collect_batch(own, row->step, p, row, cut, bound, sink);
        }
    }
    for (; p < end; p += LOCAL_SIZE) {
        const ulong pair = pair_of(quick_key(row->x[(long)p * row->step], row->rule), p);
        if (pair >= cut) offer(sink, pair);
    }
}

inline ulong cut_of(const struct row *row, struct group g, local uint *lists) {
    if (row->k == 0) return ~0ul; // no pair is: positions have 31 bits
    if (row->n <= CAP) return 0;
    const float expected = (float)row->k * (float)SAMPLES / (float)row->n;
    const uint rank = min((uint)(expected + 4.0f * sqrt(expected) + 4.5f), (uint)ENTRIES);
    return sample_cut(row, g, lists, rank);
}

// The candidates of a row with several spans are in the workspace.
CALLABLE void finish_spans(const struct row *row, struct group g, const global ulong *far, uint found, uint room,
                           local ulong *candidates) {
    const bool whole = found < row->k || found > room;
    if (whole) {
        const struct source s = {FROM_ROW, 0, 0, row};
        finish_from(row, g, s, row->n, candidates);
    } else if (found > CAP) {
        const struct source s = {FROM_GLOBAL, 0, far, 0};
        finish_from(row, g, s, found, candidates);
    } else {
        for (uint i = get_local_id(0); i < found; i += LOCAL_SIZE)
            candidates[i] = far[i];
        barrier(CLK_LOCAL_MEM_FENCE);
        finish_row(row, g, candidates, found, RANKED); // alone: the shortest way to the end
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_filter(TOPK_PARAMS, FILTER_PARAMS) {
    local ulong candidates[CAP], swap[PTX ? 1 : LOCAL_SIZE], scratch[TEAMS + 2];
    local uint bins[BINS], lists[ENTRIES], counter, base;
    const struct group g = {swap, scratch, bins, &counter};
    const uint s = (uint)get_group_id(0) / spans, part = (uint)get_group_id(0) - s * spans;
    const struct row row = TOPK_ROW(first_row + (long)s);
    global ulong *const far = pairs + pairs_skip + (ulong)s * room;
    const struct sink sink = {candidates, &counter, far, FOUND(s), room};
    if (get_local_id(0) == 0) counter = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const ulong limit = cut_of(&row, g, lists);
    for (ulong begin = part * piece; begin < row.n; begin += spans * piece)
        collect(&row, limit, (uint)begin, (uint)min(begin + piece, (ulong)row.n), sink);
    barrier(CLK_LOCAL_MEM_FENCE);
    uint m = counter;
    barrier(CLK_LOCAL_MEM_FENCE);
#if SPANNED
    m = min(m, (uint)CAP);
    if (get_local_id(0) == 0 && m > 0) base = atomic_add(sink.found, m);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = get_local_id(0); i < m; i += LOCAL_SIZE)
        if (base + i < room) far[base + i] = candidates[i];
#if TICKET
    if (!last_of(TICKETS(s), spans, &base)) return;
    const uint found = *FOUND(s);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (get_local_id(0) == 0) *TICKETS(s) = *FOUND(s) = 0;
    finish_spans(&row, g, far, found, room, candidates);
#endif
#else
    if (m < row.k || m > CAP) {
        const struct source source = {FROM_ROW, 0, 0, &row};
        finish_from(&row, g, source, row.n, candidates);
    } else {
        finish_row(&row, g, candidates, m, REDUCED);
    }
#endif
}

#if SPANNED && !TICKET
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_filter_finish(TOPK_PARAMS, FILTER_PARAMS) {
    local ulong candidates[CAP], swap[PTX ? 1 : LOCAL_SIZE], scratch[TEAMS + 2];
    local uint bins[BINS], counter;
    const struct group g = {swap, scratch, bins, &counter};
    const uint s = (uint)get_group_id(0);
    const struct row row = TOPK_ROW(first_row + (long)s);
    finish_spans(&row, g, pairs + pairs_skip + (ulong)s * room, *FOUND(s), room, candidates);
}
#endif
