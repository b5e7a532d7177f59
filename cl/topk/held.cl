// SPDX-License-Identifier: MIT
// A row in the registers of HOLDERS work-items: holder l has positions l + q * HOLDERS for q < PER, read once, so that
// n <= PER * HOLDERS. Bit q of a mask stands for a holder's q-th position.
#include "topk/select.cl"

#ifndef HOLDERS
#error "HOLDERS: work-items of a row"
#endif
#ifndef PER
#error "PER: positions of a work-item, at most 32"
#endif

#define HELD_POSITION(q) ((uint)(q) * HOLDERS + holder)

inline void held_load(const struct row *row, uint holder, KEY_T *element) {
    const global BITS(X_T) *own = row->x + (long)holder * row->step;
    if (row->step == 1 && row->n == PER * HOLDERS) {
        OPAQUE(own);
        TEAM_UNROLL
        for (uint q = 0; q < PER; q++)
            element[q] = QUICK_OF(own[q * HOLDERS], row->rule);
    } else {
        TEAM_UNROLL
        for (uint q = 0; q < PER; q++)
            element[q] = HELD_POSITION(q) < row->n ? QUICK_OF(own[(long)(q * HOLDERS) * row->step], row->rule)
                                                   : quick_absent;
    }
}

// The key of a holder's best position.
inline KEY_T held_best(const KEY_T *element, const struct row *row) {
    KEY_T best = element[0];
    TEAM_UNROLL
    for (uint q = 1; q < PER; q++)
        best = quick_best(best, element[q]);
    return quick_element_key(best, row->rule);
}

// The positions that there are.
inline uint held_valid(const struct row *row, uint holder) {
    const uint filled = row->n > holder ? (row->n - holder + HOLDERS - 1) / HOLDERS : 0;
    return filled >= 32 ? 0xffffffffu : (1u << filled) - 1u;
}

// Those whose keys are not below the bound, and perhaps others (quick_passes).
inline uint held_hits(const KEY_T *element, KEY_T bound, uint valid) {
    const quick_bound quick = quick_bound_of(bound);
    uint hits = 0;
    TEAM_UNROLL
    for (uint q = 0; q < PER; q++)
        hits |= quick_passes(element[q], quick) ? 1u << q : 0u;
    return hits & valid;
}

// One past a holder's first position of the bound's key, if this is its best one; else 0.
inline uint held_first(const KEY_T *element, const struct row *row, KEY_T best, KEY_T bound, uint holder) {
    uint first = 0;
    TEAM_UNROLL
    for (int q = PER - 1; q >= 0; q--)
        if (best == bound && quick_element_key(element[q], row->rule) == bound) first = HELD_POSITION(q) + 1;
    return first;
}

// The hits without those of the bound's key from position `end` on.
inline uint held_drop(const KEY_T *element, const struct row *row, uint hits, KEY_T bound, uint end, uint holder) {
    TEAM_UNROLL
    for (uint q = 0; q < PER; q++)
        if (quick_element_key(element[q], row->rule) == bound && HELD_POSITION(q) >= end) hits &= ~(1u << q);
    return hits;
}

// Writes the pairs of the hits from `candidates` on.
inline void held_put(const struct row *row, uint hits, uint holder, local ulong *candidates) {
    while (hits) {
        const uint q = 31 - clz(hits), p = HELD_POSITION(q);
        hits ^= 1u << q;
        // Read again: a register cannot be indexed.
        *candidates++ = pair_of(quick_key(row->x[(long)p * row->step], row->rule), p);
    }
}
