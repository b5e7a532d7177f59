// SPDX-License-Identifier: MIT
// Any row, in several launches over a slab of rows, with a workspace:
//   begin   state and histograms of each row
//   count   histogram of the next digit of 8 bits, of the elements that match the digits so far   } for each digit,
//   pick    the digit of the k-th key; what is still to be found among its equals                  } highest first
//   tally   per span: elements above and equal to the k-th key (its digits; the rest of a key is determined by them)
//   scan    the same for all spans before
//   emit    everything in index order: selected are the elements above and the first `rest` equal ones
//   sort, step   only where values or indices are wanted best first: bitonic over the k pairs
//
// A row is cut into `spans` spans of `span` elements (a multiple of SPAN_TILE): group = row in slab * spans + span.
// Workspace, in uints, per row of the slab (s):
//   state     2     the digits of the k-th key, high bits first; how many of their equals are selected
//   histogram 256   all zero between the launches of pick and count
//   tallies   2 * spans
//   pairs     2 * k   keys, then indices
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

#define WORK_PARAMS global uint *work, ulong state_skip, ulong histogram_skip, ulong tallies_skip, ulong pairs_skip
#define STATE(s) (work + state_skip + 2ul * (s))
#define HISTOGRAM(s) (work + histogram_skip + 256ul * (s))
#define PAIR_KEYS(s) (work + pairs_skip + 2ul * (ulong)k * (s))
#define PAIR_IDS(s) (PAIR_KEYS(s) + k)

// Span of this group.
#define SPAN_BOUNDS                                                                                                    \
    const ulong s = get_group_id(0) / (uint)spans, part = get_group_id(0) - s * (uint)spans;                           \
    const long begin = (long)part * span, end = min(begin + span, (long)n);                                            \
    const global BITS(X_T) *const x_row = ROW(x, first_row + (long)s);                                                 \
    global uint *const tally = work + tallies_skip + 2ul * get_group_id(0);                                            \
    const int lid = get_local_id(0)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_begin(WORK_PARAMS, int k) {
    const ulong s = get_group_id(0);
    for (int d = get_local_id(0); d < 256; d += LOCAL_SIZE)
        HISTOGRAM(s)[d] = 0;
    if (get_local_id(0) == 0) {
        STATE(s)[0] = k > 0 ? 0u : 0xffffffffu; // above which there is nothing
        STATE(s)[1] = (uint)k;
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_count(X_PARAMS, WORK_PARAMS, long first_row,
                                                                                int spans, long span, int shift) {
    local uint counts[256];
    SPAN_BOUNDS;
    (void)tally;
    for (int d = lid; d < 256; d += LOCAL_SIZE)
        counts[d] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint digits = STATE(s)[0], mask = (uint)(0xffffff00ul << shift);
    uint run = 0, last = 0; // equal digits in a row are counted before they are added: constant rows cost no more
    for (long i = begin + lid; i < end; i += LOCAL_SIZE) {
        const uint key = key_at(x_row, i, flags), digit = (key >> shift) & 255u;
        if ((key ^ digits) & mask) continue;
        if (digit != last && run) {
            atomic_add(&counts[last], run);
            run = 0;
        }
        last = digit;
        run++;
    }
    if (run) atomic_add(&counts[last], run);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int d = lid; d < 256; d += LOCAL_SIZE)
        if (counts[d]) atomic_add(&HISTOGRAM(s)[d], counts[d]);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_pick(WORK_PARAMS, int k, int shift) {
    local uint counts[256];
    const ulong s = get_group_id(0);
    const uint rest = STATE(s)[1], digits = STATE(s)[0];
    for (int d = get_local_id(0); d < 256; d += LOCAL_SIZE) {
        counts[d] = HISTOGRAM(s)[d];
        HISTOGRAM(s)[d] = 0;
    }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (int d = get_local_id(0); d < 256; d += LOCAL_SIZE) {
        uint above = 0;
        for (int e = 255; e > d; e--)
            above += counts[e];
        if (above < rest && rest - above <= counts[d]) { // one digit: 1 <= rest <= sum of the counts
            STATE(s)[0] = digits | (uint)d << shift;
            STATE(s)[1] = rest - above;
        }
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_tally(X_PARAMS, WORK_PARAMS, long first_row,
                                                                                int spans, long span, int shift) {
    local uint aboves[LOCAL_SIZE], equals[LOCAL_SIZE];
    SPAN_BOUNDS;
    const uint kth = STATE(s)[0] >> shift;
    uint above = 0, equal = 0;
    for (long i = begin + lid; i < end; i += LOCAL_SIZE) {
        const uint key = key_at(x_row, i, flags) >> shift;
        above += key > kth;
        equal += key == kth;
    }
    aboves[lid] = above;
    equals[lid] = equal;
    for (int half_size = LOCAL_SIZE / 2; half_size > 0; half_size /= 2) {
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

// A tile of SPAN_TILE elements at a time: class of each element (loads side by side), sums of the PER elements in a
// row that a work-item decides on, their scan, then the outputs (stores side by side again).
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_emit(X_PARAMS, LIST_PARAMS, CELL_PARAMS,
                                                                               WORK_PARAMS, long first_row, int spans,
                                                                               long span, int shift, int sorted) {
    local uchar classes[SPAN_TILE]; // 0, 1 above, 2 equal; then 1 where selected
    local uint sums[2][LOCAL_SIZE];
    SPAN_BOUNDS;
    const long row = first_row + (long)s;
    const uint kth = STATE(s)[0] >> shift, rest = STATE(s)[1];
    const BITS(X_T) rounded_fill = (BITS(X_T))fill;
    uint above = tally[0], equal = tally[1]; // before the tile
    for (long tile = begin; tile < end; tile += SPAN_TILE) {
        const int filled = (int)min(end - tile, (long)SPAN_TILE);
        for (int i = lid; i < SPAN_TILE; i += LOCAL_SIZE) {
            const uint key = i < filled ? key_at(x_row, tile + i, flags) >> shift : 0u;
            classes[i] = i >= filled ? 0 : key > kth ? 1 : key == kth ? 2 : 0;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint own = 0;
        for (int q = 0; q < PER; q++) {
            const uint class = classes[lid * PER + q];
            own += class == 1 ? ABOVE : class == 2 ? EQUAL : 0u;
        }
        sums[0][lid] = own;
        barrier(CLK_LOCAL_MEM_FENCE);
        int side = 0;
        for (int distance = 1; distance < LOCAL_SIZE; distance *= 2, side ^= 1) {
            sums[side ^ 1][lid] = sums[side][lid] + (lid >= distance ? sums[side][lid - distance] : 0u);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        const uint before_own = sums[side][lid] - own, total = sums[side][LOCAL_SIZE - 1];
        uint n_above = above + before_own % EQUAL, n_equal = equal + before_own / EQUAL;
        for (int q = 0; q < PER; q++) {
            const int i = lid * PER + q;
            const uint class = classes[i];
            const bool selected = class == 1 || (class == 2 && n_equal < rest);
            if (selected) {
                const uint place = n_above + min(n_equal, rest), id = (uint)(tile + i);
                if (sorted) {
                    PAIR_KEYS(s)[place] = key_at(x_row, id, flags);
                    PAIR_IDS(s)[place] = id;
                } else {
                    put_selected(ROW(values, row), ROW(indices, row), x_row, flags, place, id);
                }
            }
            n_above += class == 1;
            n_equal += class == 2;
            classes[i] = selected;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = lid; i < filled; i += LOCAL_SIZE)
            put_cell(ROW(mask, row), ROW(dense, row), x_row, flags, rounded_fill, scale, (uint)(tile + i), classes[i]);
        for (int w = lid; (flags & OUT_BITMASK) && 32 * w < filled; w += LOCAL_SIZE) {
            uint word = 0;
            for (int i = 0; i < 32; i++)
                word |= (uint)classes[32 * w + i] << i; // past the end of the row: 0
            ROW(bitmask, row)[tile / 32 + w] = word;
        }
        above += total % EQUAL;
        equal += total / EQUAL;
        barrier(CLK_LOCAL_MEM_FENCE); // classes and sums are read before the next tile writes them
    }
}

// Blocks of SORT_TILE pairs: sorts each (merge 0), or merges from the distance SORT_TILE / 2 down (merge 1). The last
// launch of a sort writes the outputs.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_sort(X_PARAMS, LIST_PARAMS, WORK_PARAMS,
                                                                               long first_row, int blocks, int merge,
                                                                               int last) {
    local uint keys[SORT_TILE], ids[SORT_TILE];
    const ulong s = get_group_id(0) / (uint)blocks;
    const uint begin = (uint)(get_group_id(0) - s * (uint)blocks) * SORT_TILE, count = min((uint)k - begin, (uint)SORT_TILE);
    const long row = first_row + (long)s;
    for (uint p = get_local_id(0); p < count; p += LOCAL_SIZE) {
        keys[p] = PAIR_KEYS(s)[begin + p];
        ids[p] = PAIR_IDS(s)[begin + p];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (merge)
        sort_merge(keys, ids, count, SORT_TILE / 2);
    else
        sort_pairs(keys, ids, count);
    for (uint p = get_local_id(0); p < count; p += LOCAL_SIZE) {
        if (last) {
            put_selected(ROW(values, row), ROW(indices, row), ROW(x, row), flags, begin + p, ids[p]);
        } else {
            PAIR_KEYS(s)[begin + p] = keys[p];
            PAIR_IDS(s)[begin + p] = ids[p];
        }
    }
}

// One step of the sort over whole rows; group = row in slab * groups + part of the row's pairs.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void radix_step(WORK_PARAMS, int k, int groups,
                                                                               uint stride, int mirror) {
    const ulong s = get_group_id(0) / (uint)groups;
    const uint t = (uint)(get_group_id(0) - s * (uint)groups) * LOCAL_SIZE + (uint)get_local_id(0);
    const uint low = pair_low(t, stride), high = pair_high(low, stride, mirror);
    if (high >= (uint)k) return; // low < high
    global uint *const keys = PAIR_KEYS(s), *const ids = PAIR_IDS(s);
    const uint a = keys[low], b = keys[high], i = ids[low], j = ids[high];
    if (!key_before(b, j, a, i)) return;
    keys[low] = b, keys[high] = a;
    ids[low] = j, ids[high] = i;
}
