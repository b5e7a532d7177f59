// SPDX-License-Identifier: MIT
// Rows on a CPU: a work-item takes one row after another, or one part of a row; vectors of LANES keys in registers, no
// local memory, no barrier. Keys are signed and fill their type here: cpu_vector.cl.
//
// The candidates of a row are kept in the order of their positions, so that of equal keys the first ones win by place.
//   bound      what is below it is no candidate; at least k elements of the row are not below it
//   maxima     vector v of the row goes to the running maximum maxima[v % spread]: LANES * spread elements at different
//              positions, so the k-th largest of them is a bound. Strided, so that a sorted row has a good bound too
//   peaks      of a chunk, the maximum of every `group` vectors, to pass over what has no candidate
//   take_chunk appends what is not below the bound; the second read of the chunk comes from the cache
//   compress   where there is no room: the k best candidates stay, and later equals of the k-th are out
// At the end the candidates are ranked against each other (few) or compressed and sorted by digits.
//
//   topk_cpu        whole rows: item i of the work-groups takes rows i * rows / items on
//   topk_cpu_part   part i % parts of row i / parts: its k best candidates go to the list of this part
//   topk_cpu_merge  a row from the lists of its parts
//
// Workspace, in bytes from work_skip on: `item_size` for each work-group (struct scratch), then from lists_skip on the
// lists of all parts: k keys of SKEY_T, k positions of uint, one count (at the head, LIST_HEAD bytes).
#include "topk/output.cl"

#include "topk/cpu_vector.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: 1"
#endif

// More candidates than this are sorted by digits instead of being ranked against each other.
#define RANK_MOST 192
#define LIST_HEAD 64

struct scratch {
    global SKEY_T *keys; // of the candidates, and their positions
    global uint *places;
    global SKEY_T *keys2; // of k: the other side of the sort
    global uint *places2;
    global SKEY_T *maxima; // spread vectors
    global SKEY_T *peaks;  // one vector a group of a chunk
    uint room;             // for candidates; LANES more may be written past it
    uint spread, group, chunk; // vectors of maxima, of a peak, of a chunk
};

#define SCRATCH_PARAMS                                                                                                 \
    global uchar *work, ulong work_skip, ulong item_size, uint most_k, uint room, uint spread, uint group, uint chunk
#define SCRATCH scratch_of(work, work_skip, item_size, most_k, room, spread, group, chunk)

static inline struct scratch scratch_of(SCRATCH_PARAMS) { // not FORCE: see row_of
    struct scratch w;
    w.keys = (global SKEY_T *)(work + work_skip + get_group_id(0) * item_size);
    w.keys2 = w.keys + room + LANES;
    w.maxima = w.keys2 + most_k;
    w.peaks = w.maxima + LANES * spread;
    w.places = (global uint *)(w.peaks + (spread ? LANES * (chunk / group) : 0));
    w.places2 = w.places + room + LANES;
    w.room = room;
    w.spread = spread;
    w.group = group;
    w.chunk = chunk;
    return w;
}

struct state {
    uint count;   // of candidates
    SKEY_T bound; // of later ones
    bool closed;  // no later element is a candidate
};

// Of keys[0 .. LANES * vectors - 1], how many are not below `least`.
FORCE uint count_from(const global SKEY_T *keys, uint vectors, SKEY_T least) {
    uint count = 0;
    for (uint v = 0; v < vectors; v++)
        count += popcount(mask_from(LOAD_KEYS(keys + LANES * v), least));
    return count;
}

struct range {
    SKEY_T low, high;
};

static inline struct range range_of(const global SKEY_T *keys, uint vectors) { // not FORCE: see row_of
    SKEYS_T low = SKEY_MAX, high = SKEY_MIN;
    for (uint v = 0; v < vectors; v++) {
        low = min(low, LOAD_KEYS(keys + LANES * v));
        high = max(high, LOAD_KEYS(keys + LANES * v));
    }
    const struct range r = {~max_lanes(~low), max_lanes(high)};
    return r;
}

// Rounded up, so that it is above low.
FORCE SKEY_T middle(SKEY_T low, SKEY_T high) { return low + (SKEY_T)(((USKEY_T)high - (USKEY_T)low) / 2 + 1); }

// A bound not below `bound`: at least k maxima are not below it, and few more than k.
static SKEY_T raw_bound(const struct scratch *w, uint k, SKEY_T bound) {
    if (w->spread == 1) {
        const SKEYS_T maxima = LOAD_KEYS(w->maxima);
        SKEYS_T rank = 0; // less than 0, as below
        for (uint l = 0; l < LANES; l++)
            rank += maxima < (SKEYS_T)(w->maxima[l]);
        return max(bound, ~max_lanes(rank > (SKEYS_T)(-(SKEY_T)k) ? ~maxima : (SKEYS_T)(SKEY_MIN)));
    }
    const uint enough = k + k / 4;
    if (count_from(w->maxima, w->spread, bound) <= enough) return bound;
    struct range r = range_of(w->maxima, w->spread);
    r.low = max(r.low, bound);
    while (r.low < r.high) {
        const SKEY_T at = middle(r.low, r.high);
        const uint count = count_from(w->maxima, w->spread, at);
        if (count < k) {
            r.high = at - 1;
        } else {
            r.low = at;
            if (count <= enough) break;
        }
    }
    return r.low;
}

FORCE SKEY_T raise_bound(const struct skey_rule *rule, const struct scratch *w, uint k, SKEY_T bound) {
    return settled_key(raw_bound(w, k, bound), rule);
}

FORCE void settle(const struct skey_rule *rule, const struct scratch *w, uint count) {
    if (!rule->classes) return;
    STORE_KEYS(w->keys + count, (SKEYS_T)(SKEY_MIN)); // the rest of the last vector
    for (uint i = 0; i < count; i += LANES)
        STORE_KEYS(w->keys + i, settled(LOAD_KEYS(w->keys + i), rule));
}

// The k best candidates stay, of more. The last vector is filled up with the best of keys, so that vectors are whole:
// as many more of them are looked for.
static void compress(const struct skey_rule *rule, const struct scratch *w, struct state *t, uint k) {
    settle(rule, w, t->count);
    const uint vectors = (t->count + LANES - 1) / LANES, fill = vectors * LANES - t->count;
    STORE_KEYS(w->keys + t->count, (SKEYS_T)(SKEY_MAX));
    struct range r = range_of(w->keys, vectors);
    for (uint from_low = vectors * LANES; r.low < r.high && from_low > k + fill;) {
        const SKEY_T at = middle(r.low, r.high);
        const uint from = count_from(w->keys, vectors, at);
        if (from < k + fill) {
            r.high = at - 1;
        } else {
            r.low = at;
            from_low = from;
        }
    }
    // all above low, and of those equal to it the first ones
    const bool top = r.low == SKEY_MAX;
    uint equals = top ? k : k + fill - count_from(w->keys, vectors, r.low + 1), kept = 0;
    for (uint v = 0; v < vectors; v++) {
        const SKEYS_T keys = LOAD_KEYS(w->keys + LANES * v);
        const uint valid = v == vectors - 1 ? ALL_LANES >> fill : ALL_LANES;
        const uint above = top ? 0 : mask_from(keys, r.low + 1) & valid;
        uint equal = equals ? mask_from(keys, r.low) & valid & ~above : 0;
        while (popcount(equal) > equals)
            equal &= ~(0x80000000u >> clz(equal));
        equals -= popcount(equal);
        kept += append(w->keys + kept, w->places + kept, keys, LOAD_PLACES(w->places + LANES * v), above | equal);
    }
    t->count = kept;
    // Nothing later is better than those that stay if it is not above low.
    const SKEY_T end = class_end(r.low, rule);
    t->closed = end == SKEY_MAX;
    t->bound = t->closed ? SKEY_MAX : end + 1;
}

FORCE void make_room(const struct skey_rule *rule, const struct scratch *w, struct state *t, uint k) {
    if (t->count + LANES > w->room) compress(rule, w, t, k);
}

FORCE uint append_from(const struct scratch *w, uint count, SKEY_T bound, SKEYS_T keys, uint p, uint lanes) {
    return append(w->keys + count, w->places + count, keys, (PLACES_T)(p) + LANE_NUMBERS, mask_from(keys, bound) & lanes);
}

// Vectors from position p on. Where there is room for all of them nothing is in the way of the loop.
FORCE void collect(const struct row *row, const struct skey_rule *rule, const struct scratch *w, struct state *t, uint k,
                   uint p, uint vectors, bool dense) {
    const uint end = p + LANES * vectors;
    if (t->count + LANES * vectors <= w->room) {
        uint count = t->count;
        for (const SKEY_T bound = t->bound; p < end; p += LANES)
            count += append_from(w, count, bound, skeys_at(row, rule, p, dense), p, ALL_LANES);
        t->count = count;
        return;
    }
    for (; p < end; p += LANES) {
        make_room(rule, w, t, k);
        if (t->closed) return;
        t->count += append_from(w, t->count, t->bound, skeys_at(row, rule, p, dense), p, ALL_LANES);
    }
}

// Maxima and peaks of vectors from position p on.
FORCE void survey(const struct row *row, const struct skey_rule *rule, const struct scratch *w, uint p, uint vectors,
                  bool dense) {
    global SKEY_T *peaks = w->peaks;
    for (uint left = vectors; left > 0; peaks += LANES) {
        const uint many = min(w->group, left);
        const uint end = p + LANES * many;
        SKEYS_T peak = SKEY_MIN;
        if (w->spread == 1) {
            for (; p < end; p += LANES) {
                if (dense) FETCH_AHEAD(row, p);
                peak = max(peak, skeys_at(row, rule, p, dense));
            }
            STORE_KEYS(w->maxima, max(LOAD_KEYS(w->maxima), peak));
        } else { // a group is `spread` vectors
            for (global SKEY_T *maxima = w->maxima; p < end; p += LANES, maxima += LANES) {
                if (dense) FETCH_AHEAD(row, p);
                const SKEYS_T keys = skeys_at(row, rule, p, dense);
                peak = max(peak, keys);
                STORE_KEYS(maxima, max(LOAD_KEYS(maxima), keys));
            }
        }
        STORE_KEYS(peaks, peak);
        left -= many;
    }
}

// Candidates of whole vectors from position p on, at most a chunk.
FORCE void take_chunk(const struct row *row, const struct skey_rule *rule, const struct scratch *w, struct state *t,
                      uint k, uint p, uint vectors, bool dense) {
    if (w->spread == 0) {
        collect(row, rule, w, t, k, p, vectors, dense);
        return;
    }
    survey(row, rule, w, p, vectors, dense);
    t->bound = raise_bound(rule, w, k, t->bound);
    const global SKEY_T *peaks = w->peaks;
    for (uint left = vectors; left > 0 && !t->closed; peaks += LANES) {
        const uint many = min(w->group, left);
        if (mask_from(LOAD_KEYS(peaks), t->bound)) collect(row, rule, w, t, k, p, many, dense);
        p += LANES * many;
        left -= many;
    }
}

// Candidates of the positions begin .. end - 1: the min(k, end - begin) best of them, and perhaps more.
FORCE void select_range(const struct row *row, const struct skey_rule *rule, const struct scratch *w, struct state *t,
                        uint begin, uint end, bool dense) {
    const uint k = row->k;
    uint p = begin;
    t->count = 0;
    t->bound = SKEY_MIN;
    t->closed = k == 0;
    for (uint i = 0; i < w->spread; i++)
        STORE_KEYS(w->maxima + LANES * i, (SKEYS_T)(SKEY_MIN));
    while (end - p >= LANES && !t->closed) {
        const uint vectors = min(w->chunk, (end - p) / LANES);
        take_chunk(row, rule, w, t, k, p, vectors, dense);
        p += LANES * vectors;
    }
    if (p == end || t->closed) return;
    make_room(rule, w, t, k);
    if (t->closed) return;
    if (end - begin >= LANES) { // a whole vector that ends at the end; its first lanes have been taken
        const uint taken = LANES - (end - p);
        p = end - LANES;
        t->count += append_from(w, t->count, t->bound, skeys_at(row, rule, p, dense), p, ALL_LANES & ALL_LANES << taken);
        return;
    }
    for (; p < end; p++) {
        const SKEY_T key = skey_at(row, rule, p);
        w->keys[t->count] = key;
        w->places[t->count] = p;
        t->count += key >= t->bound;
    }
}

FORCE void select_from(const struct row *row, const struct skey_rule *rule, const struct scratch *w, struct state *t,
                       uint begin, uint end) {
    if (row->step == 1)
        select_range(row, rule, w, t, begin, end, true);
    else
        select_range(row, rule, w, t, begin, end, false);
}

// Of the candidates that equal the least one only the first k can be among the k best: drops the others, returns how
// many are left. Without it a short row of equal keys is ranked as a whole.
FORCE uint drop_ties(const struct scratch *w, uint count, uint k) {
    SKEYS_T same = LANE_SKEYS == LANE_SKEYS;
    uint b = 0;
    for (; b + LANES <= count; b += LANES)
        same &= LOAD_KEYS(w->keys + b) == (SKEYS_T)(w->keys[0]);
    bool equals = all(same);
    for (; b < count; b++)
        equals &= w->keys[b] == w->keys[0];
    if (equals) return min(count, k);
    SKEY_T least = w->keys[0];
    for (uint i = 1; i < count; i++)
        least = min(least, w->keys[i]);
    uint kept = 0, equal = 0;
    for (uint i = 0; i < count; i++) {
        const SKEY_T key = w->keys[i];
        const uint place = w->places[i];
        w->keys[kept] = key;
        w->places[kept] = place;
        equal += key == least;
        kept += key != least || equal <= k;
    }
    return kept;
}

// places2[r] = position of the candidate of rank r, for r < k. Compares add -1 for each that is before: subtracting
// them would be adding a bit of each, of which oclgrind makes 255.
FORCE void rank_all(const struct scratch *w, uint count, uint k) {
    for (uint b = 0; b < count; b += LANES) {
        const SKEYS_T keys = LOAD_KEYS(w->keys + b);
        const uint own = min(b + LANES, count);
        SKEYS_T rank = 0;
        uint j = 0;
        for (; j < b; j++)
            rank += (SKEYS_T)(w->keys[j]) >= keys;
        for (; j < own; j++) {
            const SKEYS_T other = w->keys[j];
            rank += (other > keys) | ((other == keys) & (LANE_SKEYS > (SKEYS_T)(j - b)));
        }
        for (; j < count; j++)
            rank += (SKEYS_T)(w->keys[j]) > keys;
        SKEY_T ranks[LANES];
        CAT(vstore, LANES)(rank, 0, ranks);
        for (j = b; j < own; j++)
            if (-ranks[j - b] < (SKEY_T)k) w->places2[-ranks[j - b]] = w->places[j];
    }
}

// Sorts the k candidates by key descending, equal ones as they are, by digits of 8 bits; the positions go to places2.
static void sort_digits(const struct scratch *w, uint k) {
    uint ends[SKEY_DIGITS][256];
    for (uint d = 0; d < SKEY_DIGITS; d++)
        for (uint b = 0; b < 256; b++)
            ends[d][b] = 0;
    for (uint i = 0; i < k; i++) {
        const USKEY_T key = ~((USKEY_T)w->keys[i] ^ (USKEY_T)SKEY_MIN);
        for (uint d = 0; d < SKEY_DIGITS; d++)
            ends[d][key >> 8 * d & 255u]++;
    }
    global SKEY_T *keys = w->keys, *to_keys = w->keys2;
    global uint *places = w->places, *to_places = w->places2;
    for (uint d = 0; d < SKEY_DIGITS; d++) {
        if (ends[d][~((USKEY_T)keys[0] ^ (USKEY_T)SKEY_MIN) >> 8 * d & 255u] == k) continue; // all the same
        uint before = 0;
        for (uint b = 0; b < 256; b++) {
            const uint many = ends[d][b];
            ends[d][b] = before;
            before += many;
        }
        for (uint i = 0; i < k; i++) {
            const SKEY_T key = keys[i];
            const uint at = ends[d][~((USKEY_T)key ^ (USKEY_T)SKEY_MIN) >> 8 * d & 255u]++;
            to_keys[at] = key;
            to_places[at] = places[i];
        }
        global SKEY_T *const swap_keys = keys;
        global uint *const swap_places = places;
        keys = to_keys, places = to_places;
        to_keys = swap_keys, to_places = swap_places;
    }
    for (uint i = 0; places != w->places2 && i < k; i++)
        w->places2[i] = places[i];
}

// The last of the candidates in the total order.
FORCE uint last_of(const struct scratch *w, uint count) {
    uint last = 0;
    for (uint i = 1; i < count; i++)
        if (w->keys[i] <= w->keys[last]) last = i;
    return w->places[last];
}

// Nothing is selected in the cells of a row.
FORCE void clear_cells(const struct row *row) {
    if (row->flags & OUT_MASK) {
        global uchar *const mask = row->mask + view_at(row, row->mask_view, 0);
        if (row->mask_view.w == 1)
            for (uint c = 0; c < row->columns; c++)
                mask[c] = 0;
        else
            for (uint c = 0; c < row->columns; c++)
                mask[c * row->mask_view.w] = 0;
    }
    if (row->flags & OUT_BITMASK)
        for (uint i = 0; i < row->columns / 32 + (row->columns % 32 != 0); i++)
            row->bitmask[view_at(row, row->bitmask_view, i)] = 0;
    if (row->flags & OUT_DENSE) {
        global BITS(X_T) *const dense = row->dense + view_at(row, row->dense_view, 0);
        const BITS(X_T) fill = (BITS(X_T))row->fill;
        if (row->dense_view.w == 1)
            for (uint c = 0; c < row->columns; c++)
                dense[c] = fill;
        else
            for (uint c = 0; c < row->columns; c++)
                dense[c * row->dense_view.w] = fill;
    }
}

FORCE void set_cell(const struct row *row, uint p) {
    const uint column = row_column(row, p);
    put_cell(row, column, p, true);
    if (row->flags & OUT_BITMASK) row->bitmask[view_at(row, row->bitmask_view, column / 32)] |= 1u << column % 32;
}

// All outputs of a row from its candidates, at least k.
FORCE void finish(const struct row *row, const struct skey_rule *rule, const struct scratch *w, struct state *t) {
    const int flags = row->flags;
    const uint k = row->k;
    const global uint *list = w->places2; // selected positions
    uint last = 0;
    settle(rule, w, t->count);
    if (k > 0 && !(flags & BY_INDEX) && (flags & (OUT_VALUES | OUT_INDICES))) {
        if (t->count <= RANK_MOST) {
            if (t->count > 2 * k + 2 * LANES) t->count = drop_ties(w, t->count, k);
            rank_all(w, t->count, k);
        } else {
            if (t->count > k) compress(rule, w, t, k);
            sort_digits(w, k);
        }
        last = list[k - 1];
    } else if (k > 0) {
        if (t->count > k) compress(rule, w, t, k);
        list = w->places;
        if (flags & OUT_THRESHOLD) last = last_of(w, k);
    }
    if (flags & (OUT_VALUES | OUT_INDICES | OUT_COUNTS))
        for (uint j = 0; j < k; j++)
            put_selected(row, j, list[j]);
    put_padding(row, 0, 1);
    put_threshold(row, last);
    if (!(flags & OUT_CELLS)) return;
    clear_cells(row);
    for (uint j = 0; j < k; j++)
        set_cell(row, list[j]);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_cpu(TOPK_PARAMS, SCRATCH_PARAMS) {
    const struct scratch w = SCRATCH;
    const struct skey_rule rule = skey_rule_of(flags);
    const long item = get_group_id(0), items = get_num_groups(0), end = (item + 1) * rows / items;
    for (long r = item * rows / items; r < end; r++) {
        const struct row row = TOPK_ROW(r);
        struct state t;
        select_from(&row, &rule, &w, &t, 0, row.n);
        finish(&row, &rule, &w, &t);
    }
}

#define LIST_PARAMS ulong lists_skip, uint parts
#define LIST_SIZE ((ulong)LIST_HEAD + (ulong)most_k * (sizeof(SKEY_T) + 4))
#define LIST(r, part) (work + lists_skip + ((ulong)(r) * parts + (part)) * LIST_SIZE)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_cpu_part(TOPK_PARAMS, SCRATCH_PARAMS,
                                                                                  LIST_PARAMS) {
    const struct scratch w = SCRATCH;
    const struct skey_rule rule = skey_rule_of(flags);
    const ulong r = get_group_id(0) / parts, part = get_group_id(0) - r * parts;
    const struct row row = TOPK_ROW((long)r);
    global uchar *const list = LIST(r, part);
    struct state t;
    select_from(&row, &rule, &w, &t, (uint)(part * row.n / parts), (uint)((part + 1) * row.n / parts));
    if (t.count > row.k) compress(&rule, &w, &t, row.k);
    global SKEY_T *const keys = (global SKEY_T *)(list + LIST_HEAD);
    global uint *const places = (global uint *)(keys + most_k);
    *(global uint *)list = t.count;
    for (uint i = 0; i < t.count; i++) {
        keys[i] = w.keys[i];
        places[i] = w.places[i];
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_cpu_merge(TOPK_PARAMS, SCRATCH_PARAMS,
                                                                                   LIST_PARAMS) {
    const struct scratch w = SCRATCH;
    const struct skey_rule rule = skey_rule_of(flags);
    const ulong r = get_group_id(0);
    const struct row row = TOPK_ROW((long)r);
    struct state t = {0, SKEY_MIN, false};
    for (uint part = 0; part < parts && !t.closed; part++) {
        const global uchar *const list = LIST(r, part);
        const global SKEY_T *const keys = (const global SKEY_T *)(list + LIST_HEAD);
        const global uint *const places = (const global uint *)(keys + most_k);
        const uint count = *(const global uint *)list;
        for (uint i = 0; i < count && !t.closed; i++) {
            make_room(&rule, &w, &t, row.k);
            w.keys[t.count] = keys[i];
            w.places[t.count] = places[i];
            t.count += keys[i] >= t.bound && !t.closed;
        }
    }
    finish(&row, &rule, &w, &t);
}
