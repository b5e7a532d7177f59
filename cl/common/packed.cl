// SPDX-License-Identifier: MIT
// The best few of a short row, in registers: LANES work-items of a team a row, each with PER positions, four and four
// side by side (POSITION), so that n <= PER * LANES. A key and its position share one number,
//
//   packed = (key at the top of 32 bits, its low ID_BITS bits cut off) | (2^ID_BITS - 1 - position)
//
// and the KMAX largest are found by sorting networks, first of each work-item, then between them. That is the right
// order unless keys differ only in what was cut off, among the selected ones or across the last of them: then those
// that equal the last one as far as packed are gone through one after another, and all ranked by their full keys.
//
// Who includes this has defined what a row is read from and the key of one of its positions, at the top of 32 bits:
//   struct packed_source { .. };   uint packed_key(const struct packed_source *source, uint position);
#include "common/team.cl"

#ifndef LANES
#error "LANES: work-items of a row, a power of two up to 32"
#endif
#ifndef PER
#error "PER: positions of a work-item, a multiple of KMAX and of 4"
#endif
#ifndef KMAX_LOG2
#error "KMAX_LOG2: k <= KMAX = 2^KMAX_LOG2"
#endif
#ifndef ID_BITS
#error "ID_BITS: n <= 2^ID_BITS"
#endif
#ifndef WHOLE
#error "WHOLE: 1 where all rows have PER * LANES positions"
#endif
#ifndef PACKED_BITS
#error "PACKED_BITS: of a key, at the top of 32"
#endif

#define KMAX (1 << KMAX_LOG2)
#define ID_MASK ((1u << ID_BITS) - 1u)
#define POSITION(q) ((uint)((q) / 4 * 4 * LANES + (q) % 4) + 4u * packed_lane())
#define THERE(q, n) (WHOLE || POSITION(q) < (n))
#define SLOTS ((KMAX + LANES - 1) / LANES) // of a work-item: slot h * LANES + packed_lane()

#define ORDER(a, i, j)                                                                                                 \
    {                                                                                                                  \
        const uint larger = max(a[i], a[j]), smaller = min(a[i], a[j]);                                                \
        a[i] = larger, a[j] = smaller;                                                                                 \
    }

// Batcher's merge exchange, the largest first; the loops have constant bounds, so that they are unrolled.
inline void sort_own(uint *a) {
    TEAM_UNROLL
    for (int s = 0; s < KMAX_LOG2; s++) {
        TEAM_UNROLL
        for (int t = 0; t < KMAX_LOG2; t++) {
            if (t > s) continue;
            const int p = KMAX >> (s + 1), distance = t ? (KMAX >> t) - p : p, odd = t ? p : 0;
            TEAM_UNROLL
            for (int i = 0; i < KMAX; i++)
                if (i + distance < KMAX && (i & p) == odd) ORDER(a, i, i + distance)
        }
    }
}

// `a` becomes the best of both; `reversed` is sorted the other way round.
inline void merge_own(uint *a, const uint *reversed) {
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++)
        a[i] = max(a[i], reversed[i]);
    TEAM_UNROLL
    for (int s = 0; s < KMAX_LOG2; s++) {
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++)
            if (!(i & (KMAX >> (s + 1)))) ORDER(a, i, i + (KMAX >> (s + 1)))
    }
}

inline uint packed_lane(void) { return (uint)get_local_id(0) & (LANES - 1u); }

// The lane of the team that is lane `lane` of this row.
inline uint row_lane(uint lane) { return (team_lane() & ~(LANES - 1u)) + (lane & (LANES - 1u)); }

// The elements of a work-item, 32 bits each, of a row that is WHOLE and begins at a multiple of 16 bytes.
inline void packed_load(const global uint *row, uint *element) {
    const global uint4 *own = (const global uint4 *)row + packed_lane();
    OPAQUE(own);
    TEAM_UNROLL
    for (int q = 0; q < PER; q += 4) {
        const uint4 four = team_load4(own + q / 4 * LANES);
        element[q] = four.x, element[q + 1] = four.y, element[q + 2] = four.z, element[q + 3] = four.w;
    }
}

inline bool packed_can_load(const global void *row) { return WHOLE && ((ulong)row & 15) == 0; }

// The packed numbers of the KMAX best, the same for all work-items of the row.
inline void packed_best(const uint *key, uint n, local ulong *swap, uint *top) {
    TEAM_UNROLL
    for (int first = 0; first < PER; first += KMAX) {
        uint a[KMAX], reversed[KMAX];
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++)
            a[i] = THERE(first + i, n) ? (key[first + i] & ~ID_MASK) | (ID_MASK - POSITION(first + i)) : 0u;
        sort_own(a);
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++)
            reversed[i] = a[KMAX - 1 - i];
        if (first == 0) {
            TEAM_UNROLL
            for (int i = 0; i < KMAX; i++)
                top[i] = a[i];
        } else {
            merge_own(top, reversed);
        }
    }
    TEAM_UNROLL
    for (uint d = 1; d < LANES; d *= 2) {
        uint reversed[KMAX];
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++)
            reversed[i] = team_xor(swap, top[KMAX - 1 - i], d);
        merge_own(top, reversed);
    }
}

// Whether the order of the slots, or the choice at the last of them, may hang on what was cut off. last: its full key.
inline bool packed_doubt(const uint *key, uint n, uint k, local ulong *swap, const uint *full, uint *last) {
    bool doubt = false;
    uint least = ~0u; // difference from the last key, less one: the key itself wraps around to the largest number
    *last = 0;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint at_last = team_at(swap, full[h], row_lane(k - 1));
        if ((k - 1) / LANES == h) *last = at_last;
        uint next = team_at(swap, full[h], row_lane(packed_lane() + 1));
        const uint further = team_at(swap, full[h + 1 < SLOTS ? h + 1 : h], row_lane(0));
        if (packed_lane() == LANES - 1) next = further;
        const uint difference = full[h] ^ next;
        doubt |= h * LANES + packed_lane() + 1 < k && difference != 0 && difference <= ID_MASK;
    }
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        if (THERE(q, n)) least = min(least, (key[q] ^ *last) - 1u);
    return (doubt || least < ID_MASK) && k > 0;
}

// Fills the slots whose packed keys equal the last one's again, by full keys.
inline void packed_refill(const uint *key, uint n, uint k, local ulong *swap, const uint *top, uint last, uint *id,
                          uint *full) {
    uint above = 0, previous_key = 0, previous = 0;
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++)
        above += i < k && (top[i] & ~ID_MASK) > (last & ~ID_MASK);
    for (uint round = 0; round < KMAX; round++) { // exchanges are in step for all rows
        const uint slot = above + round;
#if PTX
        if (!team_ballot(swap, slot < k)) break;
#endif
        uint best_key = 0, best = ~0u;
        TEAM_UNROLL
        for (int q = 0; q < PER; q++) {
            const bool after =
                round == 0 || key[q] < previous_key || (key[q] == previous_key && POSITION(q) > previous);
            const bool equal = THERE(q, n) && ((key[q] ^ last) & ~ID_MASK) == 0u;
            if (equal && after && (best == ~0u || key[q] > best_key)) best_key = key[q], best = POSITION(q);
        }
        TEAM_UNROLL
        for (uint d = 1; d < LANES; d *= 2) {
            const uint other_key = team_xor(swap, best_key, d), other = team_xor(swap, best, d);
            if (other != ~0u && (best == ~0u || other_key > best_key || (other_key == best_key && other < best)))
                best_key = other_key, best = other;
        }
        previous_key = best_key, previous = best;
        TEAM_UNROLL
        for (int h = 0; h < SLOTS; h++)
            if (h * LANES + packed_lane() == slot && slot < k) full[h] = best_key, id[h] = best;
    }
}

// Puts the slots below k in order.
inline void packed_reorder(uint k, local ulong *swap, uint *id, uint *full) {
    uint rank[SLOTS], new_id[SLOTS], new_full[SLOTS];
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        rank[h] = 0;
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++) {
            const uint other_key = team_at(swap, full[i / LANES], row_lane(i));
            const uint other = team_at(swap, id[i / LANES], row_lane(i));
            rank[h] += i < k && (other_key > full[h] || (other_key == full[h] && other < id[h]));
        }
    }
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++) {
        const uint at = team_at(swap, rank[i / LANES], row_lane(i));
        const uint other_key = team_at(swap, full[i / LANES], row_lane(i));
        const uint other = team_at(swap, id[i / LANES], row_lane(i));
        TEAM_UNROLL
        for (int h = 0; h < SLOTS; h++)
            if (i < k && at == h * LANES + packed_lane()) new_full[h] = other_key, new_id[h] = other;
    }
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++)
        if (h * LANES + packed_lane() < k) full[h] = new_full[h], id[h] = new_id[h];
}

// The k best positions of the row, best first: slot h * LANES + packed_lane() is id[h], full[h] its key.
inline void packed_select(const struct packed_source *source, const uint *key, uint n, uint k, local ulong *swap,
                          uint *id, uint *full) {
    uint top[KMAX];
    packed_best(key, n, swap, top);
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        uint mine = 0;
        TEAM_UNROLL
        for (int i = 0; i < KMAX; i++)
            if (i / LANES == h && (i & (LANES - 1)) == packed_lane()) mine = top[i];
        id[h] = ID_MASK - (mine & ID_MASK);
        full[h] = h * LANES + packed_lane() < k ? packed_key(source, id[h]) : 0u; // a register cannot be indexed
    }
#if PACKED_BITS + ID_BITS > 32
    uint last;
    const bool doubt = packed_doubt(key, n, k, swap, full, &last);
    if (team_any(swap, doubt)) {
        packed_refill(key, n, k, swap, top, last, id, full);
        packed_reorder(k, swap, id, full);
    }
#endif
}
