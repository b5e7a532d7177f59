// SPDX-License-Identifier: MIT
// Any row, in several launches over a slab of rows, with a workspace:
//   begin   state and histograms of each row
//   count   histogram of the next digit of 8 bits, of the keys that match the digits so far   } for each digit,
//   pick    the digit of the k-th key; what is still to be found among its equals             } highest first
//   tally   per span: keys above and equal to the k-th key
//   scan    the same for all spans before
//   emit    everything by position: selected are the keys above and the first `rest` equal ones
//   finish  where mask, bitmask, dense, the threshold or padding is wanted
//   sort, step   only where values or indices are wanted best first: bitonic over the k pairs
//
// A row is cut into `spans` spans of `span` columns (a multiple of SPAN_TILE); the same cuts its positions, of which
// there may be fewer. group = row in slab * spans + span. Workspace, in uints, per row of the slab (s):
//   state     6     digits of the k-th key, high bits first (2); how many of its equals are selected; the position of
//                   the last of these; k of the row; unused
//   histogram 256   all zero between the launches of pick and count
//   tallies   2 * spans
//   pairs     keys, then in a part of their own positions: `pairs` of each, as many as can be selected
#include "topk/output.cl"
#define ID_T uint
#include "topk/sort.cl"

#ifndef PER
#error "PER: elements of a work-item in a tile, even"
#endif
#ifndef SORT_TILE
#error "SORT_TILE: pairs that a work-group sorts, a power of two"
#endif
#define SPAN_TILE (PER * LOCAL_SIZE)
#define ABOVE 1u
#define EQUAL 0x10000u // a tile counts both in one uint

#define WORK_PARAMS                                                                                                    \
    global uint *work, ulong state_skip, ulong histogram_skip, ulong tallies_skip, ulong keys_skip, ulong ids_skip
#define STATE(s) (work + state_skip + 6ul * (s))
#define STATE_KEY(s) (*(global KEY_T *)STATE(s))
#define STATE_REST(s) STATE(s)[2]
#define STATE_CUT(s) STATE(s)[3]
#define STATE_K(s) STATE(s)[4]
#define HISTOGRAM(s) (work + histogram_skip + 256ul * (s))
#define PAIR_KEYS(s) ((global KEY_T *)(work + keys_skip) + (ulong)pairs * (s))
#define PAIR_IDS(s) (work + ids_skip + (ulong)pairs * (s))

// The span of this group, and its row.
#define SPAN_OF_GROUP                                                                                                  \
    const uint lid = get_local_id(0), s = get_group_id(0) / (uint)spans, part = get_group_id(0) - s * (uint)spans;     \
    global uint *const tally = work + tallies_skip + 2ul * get_group_id(0)
#define SPAN_ROW TOPK_ROW(first_row + (long)s)
// Positions of the span.
#define SPAN_BEGIN(row) (uint)min((ulong)part * span, (ulong)row.n)
#define SPAN_END(row) (uint)min((ulong)part * span + span, (ulong)row.n)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_begin(TOPK_PARAMS, WORK_PARAMS,
                                                                                long first_row) {
    const uint s = get_group_id(0);
    for (uint d = get_local_id(0); d < 256; d += LOCAL_SIZE)
        HISTOGRAM(s)[d] = 0;
    if (get_local_id(0) > 0) return;
    const struct row row = TOPK_ROW(first_row + (long)s);
    STATE_KEY(s) = row.k > 0 ? 0 : KEY_MAX; // above which there is nothing
    STATE_REST(s) = row.k;
    STATE_CUT(s) = 0;
    STATE_K(s) = row.k;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_count(TOPK_PARAMS, WORK_PARAMS,
                                                                                long first_row, int spans, ulong span,
                                                                                int shift) {
    local uint numbers[256];
    SPAN_OF_GROUP;
    (void)tally;
    for (uint d = lid; d < 256; d += LOCAL_SIZE)
        numbers[d] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const struct row row = SPAN_ROW;
    const uint begin = SPAN_BEGIN(row), end = SPAN_END(row);
    const KEY_T digits = STATE_KEY(s), matched = (KEY_T)(~255ul << shift);
    uint run = 0, last = 0; // equal digits in a row are counted before they are added: constant rows cost no more
    for (uint p = begin + lid; p < end; p += LOCAL_SIZE) {
        const KEY_T key = key_at(&row, p);
        const uint digit = (uint)(key >> shift) & 255u;
        if ((key ^ digits) & matched) continue;
        if (digit != last && run) {
            atomic_add(&numbers[last], run);
            run = 0;
        }
        last = digit;
        run++;
    }
    if (run) atomic_add(&numbers[last], run);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint d = lid; d < 256; d += LOCAL_SIZE)
        if (numbers[d]) atomic_add(&HISTOGRAM(s)[d], numbers[d]);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_pick(WORK_PARAMS, int shift) {
    local uint numbers[256];
    const uint s = get_group_id(0);
    const uint rest = STATE_REST(s);
    const KEY_T digits = STATE_KEY(s);
    for (uint d = get_local_id(0); d < 256; d += LOCAL_SIZE) {
        numbers[d] = HISTOGRAM(s)[d];
        HISTOGRAM(s)[d] = 0;
    }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (uint d = get_local_id(0); d < 256; d += LOCAL_SIZE) {
        uint above = 0;
        for (uint e = 255; e > d; e--)
            above += numbers[e];
        if (above < rest && rest - above <= numbers[d]) { // one digit, or none with k = 0: rest <= sum of the numbers
            STATE_KEY(s) = digits | (KEY_T)d << shift;
            STATE_REST(s) = rest - above;
        }
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_tally(TOPK_PARAMS, WORK_PARAMS,
                                                                                long first_row, int spans, ulong span) {
    local uint aboves[LOCAL_SIZE], equals[LOCAL_SIZE];
    SPAN_OF_GROUP;
    const struct row row = SPAN_ROW;
    const uint begin = SPAN_BEGIN(row), end = SPAN_END(row);
    const KEY_T kth = STATE_KEY(s);
    uint above = 0, equal = 0;
    for (uint p = begin + lid; p < end; p += LOCAL_SIZE) {
        const KEY_T key = key_at(&row, p);
        above += key > kth;
        equal += key == kth;
    }
    aboves[lid] = above;
    equals[lid] = equal;
    for (uint half_size = LOCAL_SIZE / 2; half_size > 0; half_size /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lid < half_size) {
            aboves[lid] += aboves[lid + half_size];
            equals[lid] += equals[lid + half_size];
        }
    }
    if (lid == 0) {
        tally[0] = aboves[0];
        tally[1] = equals[0];
    }
}

// Work-item l takes a run of spans; a sum of the runs before comes first.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_scan(WORK_PARAMS, int spans) {
    local uint aboves[LOCAL_SIZE], equals[LOCAL_SIZE];
    const int lid = get_local_id(0), each = (spans + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const int begin = min(lid * each, spans), end = min(begin + each, spans);
    global uint *const tallies = work + tallies_skip + 2ul * get_group_id(0) * (ulong)spans;
    uint above = 0, equal = 0;
    for (int i = begin; i < end; i++) {
        above += tallies[2 * i];
        equal += tallies[2 * i + 1];
    }
    aboves[lid] = above;
    equals[lid] = equal;
    barrier(CLK_LOCAL_MEM_FENCE);
    above = equal = 0;
    for (int l = 0; l < lid; l++) {
        above += aboves[l];
        equal += equals[l];
    }
    for (int i = begin; i < end; i++) {
        const uint own_above = tallies[2 * i], own_equal = tallies[2 * i + 1];
        tallies[2 * i] = above;
        tallies[2 * i + 1] = equal;
        above += own_above;
        equal += own_equal;
    }
}

// A tile of SPAN_TILE positions at a time: class of each key (loads side by side), sums of the PER keys in a row that a
// work-item decides on, their scan, then the outputs or the pairs to sort.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_emit(TOPK_PARAMS, WORK_PARAMS, long first_row,
                                                                               int spans, ulong span, int sorted) {
    local uchar classes[SPAN_TILE]; // 0, 1 above, 2 equal
    local uint sums[2][LOCAL_SIZE];
    SPAN_OF_GROUP;
    uint begin, end;
    {
        const struct row row = SPAN_ROW;
        begin = SPAN_BEGIN(row), end = SPAN_END(row);
    }
    const KEY_T kth = STATE_KEY(s);
    const uint rest = STATE_REST(s), pairs = min(slots, columns);
    uint above = tally[0], equal = tally[1]; // before the tile
    for (uint tile = begin; tile < end; tile += SPAN_TILE) {
        const uint filled = min(end - tile, (uint)SPAN_TILE);
        {
            const struct row row = SPAN_ROW;
            for (uint i = lid; i < SPAN_TILE; i += LOCAL_SIZE) {
                const KEY_T key = i < filled ? key_at(&row, tile + i) : 0;
                classes[i] = i >= filled ? 0 : key > kth ? 1 : key == kth ? 2 : 0;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint own = 0;
        for (uint q = 0; q < PER; q++) {
            const uint class = classes[lid * PER + q];
            own += class == 1 ? ABOVE : class == 2 ? EQUAL : 0u;
        }
        sums[0][lid] = own;
        barrier(CLK_LOCAL_MEM_FENCE);
        int side = 0;
        for (uint distance = 1; distance < LOCAL_SIZE; distance *= 2, side ^= 1) {
            sums[side ^ 1][lid] = sums[side][lid] + (lid >= distance ? sums[side][lid - distance] : 0u);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        const uint before_own = sums[side][lid] - own, total = sums[side][LOCAL_SIZE - 1];
        const struct row row = SPAN_ROW;
        uint n_above = above + before_own % EQUAL, n_equal = equal + before_own / EQUAL;
        for (uint q = 0; q < PER; q++) {
            const uint class = classes[lid * PER + q], p = tile + lid * PER + q;
            if (class == 1 || (class == 2 && n_equal < rest)) {
                const uint place = n_above + min(n_equal, rest);
                if (class == 2 && n_equal == rest - 1) STATE_CUT(s) = p;
                if (sorted) {
                    PAIR_KEYS(s)[place] = key_at(&row, p);
                    PAIR_IDS(s)[place] = p;
                } else {
                    put_selected(&row, place, p);
                }
            }
            n_above += class == 1;
            n_equal += class == 2;
        }
        above += total % EQUAL;
        equal += total / EQUAL;
        barrier(CLK_LOCAL_MEM_FENCE); // classes and sums are read before the next tile writes them
    }
}

// Columns of the span of this group.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_finish(TOPK_PARAMS, WORK_PARAMS,
                                                                                 long first_row, int spans,
                                                                                 ulong span) {
    SPAN_OF_GROUP;
    (void)tally;
    const struct row row = SPAN_ROW;
    const ulong begin = part * span;
    put_cells_between(&row, STATE_KEY(s), STATE_CUT(s), (uint)begin, (uint)min(begin + span, (ulong)columns), lid,
                      LOCAL_SIZE);
    if (part > 0) return;
    put_padding(&row, lid, LOCAL_SIZE);
    if (lid == 0) put_threshold(&row, STATE_CUT(s));
}

// Blocks of SORT_TILE pairs: sorts each (merge 0), or merges from the distance SORT_TILE / 2 down (merge 1). The last
// launch of a sort writes the outputs. A row may have fewer pairs than the launches are for.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_sort(TOPK_PARAMS, WORK_PARAMS, long first_row,
                                                                               int blocks, int merge, int last) {
    local KEY_T keys[SORT_TILE];
    local uint ids[SORT_TILE];
    const uint s = get_group_id(0) / (uint)blocks;
    const uint begin = (get_group_id(0) - s * (uint)blocks) * SORT_TILE, pairs = min(slots, columns);
    const uint k = STATE_K(s), count = begin < k ? min(k - begin, (uint)SORT_TILE) : 0;
    for (uint p = get_local_id(0); p < count; p += LOCAL_SIZE) {
        keys[p] = PAIR_KEYS(s)[begin + p];
        ids[p] = PAIR_IDS(s)[begin + p];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (merge)
        sort_merge(keys, ids, count, SORT_TILE / 2);
    else
        sort_pairs(keys, ids, count);
    const struct row row = TOPK_ROW(first_row + (long)s);
    for (uint p = get_local_id(0); p < count; p += LOCAL_SIZE) {
        if (last) {
            put_selected(&row, begin + p, ids[p]);
        } else {
            PAIR_KEYS(s)[begin + p] = keys[p];
            PAIR_IDS(s)[begin + p] = ids[p];
        }
    }
}

// One step of the sort over whole rows; group = row in slab * groups + part of the row's pairs.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_step(WORK_PARAMS, uint pairs, int groups,
                                                                               uint stride, int mirror) {
    const uint s = get_group_id(0) / (uint)groups;
    const uint t = (uint)(get_group_id(0) - s * (uint)groups) * LOCAL_SIZE + (uint)get_local_id(0);
    const uint low = pair_low(t, stride), high = pair_high(low, stride, mirror);
    if (high >= STATE_K(s)) return; // low < high
    global KEY_T *const keys = PAIR_KEYS(s);
    global uint *const ids = PAIR_IDS(s);
    const KEY_T a = keys[low], b = keys[high];
    const uint i = ids[low], j = ids[high];
    if (!key_before(b, j, a, i)) return;
    keys[low] = b, keys[high] = a;
    ids[low] = j, ids[high] = i;
}
