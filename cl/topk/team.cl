// SPDX-License-Identifier: MIT
// A row in the registers of a team: work-item l has positions l + 32 * q for q < PER, so that n <= 32 * PER; k <= 16.
//
//   1. bound: the k-th best of the 32 best keys of work-items.
//   2. candidates: the positions that are not below it, usually no more than 32, as topk/group.cl finds them.
//   3. the team sorts them. More than 32: the k best are picked one after another.
#define HOLDERS TEAM
#include "topk/held.cl"

// The position of the lane's rank, ranks below `rounds`: the best, the best behind it, and so on.
inline uint pick_in_turn(const KEY_T *element, const struct row *row, uint valid, uint rounds, local ulong *swap) {
    uint id = 0;
    ulong previous = ~0ul;
    for (uint slot = 0; slot < rounds; slot++) {
        ulong next = 0;
        TEAM_UNROLL
        for (uint q = 0; q < PER; q++) {
            const KEY_T key = quick_element_key(element[q], row->rule);
            const ulong pair = valid >> q & 1u ? pair_of(key, q * TEAM + team_lane()) : 0ul;
            if (slot == 0 || pair < previous) next = max(next, pair);
        }
        TEAM_UNROLL
        for (uint d = 1; d < TEAM; d *= 2)
            next = max(next, team_xor64(swap, next, d));
        if (slot == team_lane()) id = pair_position(next);
        previous = next;
    }
    return id;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_team(TOPK_PARAMS) {
    local ulong candidates[LOCAL_SIZE], swap[PTX ? 1 : LOCAL_SIZE];
    const uint lane = team_lane();
    const long wanted = (long)get_group_id(0) * TEAMS + team_index();
    const bool active = wanted < rows; // the rest repeat the last row and write nothing
    const struct row row = TOPK_ROW(active ? wanted : rows - 1);
    local ulong *const own_candidates = candidates + TEAM * team_index();

    KEY_T element[PER];
    held_load(&row, lane, element);
    const KEY_T best = held_best(element, &row);
    const uint valid = held_valid(&row, lane);
    const uint kth_best = team_at(swap, team_sort(swap, best), max(row.k, 1u) - 1);
    const KEY_T bound = row.n <= TEAM ? 0 : kth_best; // all of a row so short are candidates
    uint hits = held_hits(element, bound, valid);
    uint prefix = team_prefix(swap, popcount(hits));
    uint m = team_at(swap, prefix, TEAM - 1);

#if PTX
    if (m > TEAM) // all of the team, or none; elsewhere all teams go along, which drops nothing that is needed
#endif
    {
        const uint end = team_max(swap, held_first(element, &row, best, bound, lane));
        if (end > 0) hits = held_drop(element, &row, hits, bound, end, lane);
        prefix = team_prefix(swap, popcount(hits));
        m = team_at(swap, prefix, TEAM - 1);
    }

    uint id = 0;
    if (team_any(swap, m > TEAM)) {
        id = pick_in_turn(element, &row, valid, PTX ? row.k : 16u, swap);
    } else {
        held_put(&row, hits, lane, own_candidates + (prefix - popcount(hits)));
        team_fence();
        id = pair_position(team_sort64(swap, lane < m ? own_candidates[lane] : 0ul));
    }
    uint place = lane;
    if (row.flags & BY_INDEX) {
        place = 0;
        for (uint i = 0; i < 16; i++) {
            const uint other = team_at(swap, id, i);
            place += i < row.k && other < id;
        }
    }
    if (active && lane < row.k) put_selected(&row, place, id);
    const uint last_id = team_at(swap, id, max(row.k, 1u) - 1);
    if (!active) return;
    put_padding(&row, lane, TEAM);
    if (lane == 0) put_threshold(&row, last_id);
    if (row.flags & OUT_CELLS)
        put_cells(&row, row.k ? key_at(&row, last_id) : 0, last_id, lane, TEAM);
}
