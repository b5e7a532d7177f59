// SPDX-License-Identifier: MIT
// Capacity: which pairs of each expert stay. One work-group per expert and sequence of `sequence` tokens; its
// work-items go through the ids in blocks of LOCAL_SIZE tokens.
//
//   SLOT_MAJOR  one round a slot, all first choices before all second ones; else one round for all slots
//   KEYED       in a round the pairs of the largest keys stay: those of the token (its score in slot 0) or of the pair
//
// A round has room for as many pairs as the ones before it left. `least` is the key of the last that stays, found bit
// by bit from the count of keys that are not below; of those that equal it the first ones stay.
#include "common/dtype.cl"
#include "common/key.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef ORDER
#error "ORDER: 0 by token, 1 by slot, 2 by slot and the token's best score, 3 by the pair's score"
#endif

#define SLOT_MAJOR (ORDER == 1 || ORDER == 2)
#define KEYED (ORDER >= 2)
#define FAN (LOCAL_SIZE < 8 ? LOCAL_SIZE : 8)
#define FANS (LOCAL_SIZE / FAN)

struct pairs {
    const global int *ids; // of the sequence's first token
    const global float *scores;
    long ids_stride, scores_stride;
    int tokens; // of the sequence
    int expert, first_slot, end_slot;
};

inline uint key_at(const struct pairs *x, long t, int slot) {
    if (!KEYED) return 1u;
    return key_nan_lowest(x->scores[t * x->scores_stride + (ORDER == 2 ? 0 : slot)]);
}

// Of token t: how many pairs have at least this key.
inline int count_token(const struct pairs *x, long t, uint least) {
    int n = 0;
    for (int j = x->first_slot; j < x->end_slot; j++)
        n += x->ids[t * x->ids_stride + j] == x->expert && key_at(x, t, j) >= least;
    return n;
}

// The sum of the work-items' numbers, and of those before this one: running sums in blocks of FAN items, then over the
// blocks.
inline int sum_of_items(int mine, local int *swap, int *before) {
    const int lid = get_local_id(0), block = lid / FAN;
    local int *const blocks = swap + LOCAL_SIZE; // FANS sums of what is before them, and of all
    swap[lid] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid < FANS)
        for (int i = lid * FAN + 1; i < (lid + 1) * FAN; i++)
            swap[i] += swap[i - 1];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid == 0) {
        blocks[0] = 0;
        for (int b = 0; b < FANS; b++)
            blocks[b + 1] = blocks[b] + swap[b * FAN + FAN - 1];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const int sum = blocks[FANS];
    *before = blocks[block] + swap[lid] - mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    return sum;
}

inline int count_pairs(const struct pairs *x, uint least, local int *swap) {
    int mine = 0, before;
    for (long t = get_local_id(0); t < x->tokens; t += LOCAL_SIZE)
        mine += count_token(x, t, least);
    return sum_of_items(mine, swap, &before);
}

// The largest number that `room` keys reach; 0 if there are no more than these.
inline uint find_least(const struct pairs *x, int room, local int *swap) {
    uint least = 0;
    if (room == 0) return 0xffffffffu;
    if (count_pairs(x, 0, swap) <= room) return 0;
    for (uint bit = 1u << 31; bit; bit >>= 1)
        if (count_pairs(x, least | bit, swap) >= room) least |= bit;
    return least;
}

// Marks the pairs of one round; returns how many there were.
inline int mark_round(const struct pairs *x, int room, local int *swap, int k, global uchar *dropped) {
    uint least = 1u;
    int above = 0, equal = 0;
    if (KEYED) {
        least = find_least(x, room, swap);
        if (least != 0xffffffffu) above = count_pairs(x, least + 1, swap);
    }
    for (long block = 0; block < x->tokens; block += LOCAL_SIZE) {
        const long t = block + get_local_id(0);
        int mine = 0, before;
        for (int j = x->first_slot; t < x->tokens && j < x->end_slot; j++)
            mine += x->ids[t * x->ids_stride + j] == x->expert && key_at(x, t, j) == least;
        const int found = sum_of_items(mine, swap, &before);
        for (int j = x->first_slot; t < x->tokens && j < x->end_slot; j++) {
            if (x->ids[t * x->ids_stride + j] != x->expert) continue;
            const uint key = key_at(x, t, j);
            dropped[t * k + j] = key < least || (key == least && above + equal + before++ >= room);
        }
        equal += found;
    }
    return above + equal;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_capacity(
    const global int *ids, ulong ids_skip, long ids_stride, const global float *scores, ulong scores_skip,
    long scores_stride, global uchar *dropped, ulong dropped_skip, long tokens, long sequence, int routed, int k,
    int capacity) {
    local int swap[LOCAL_SIZE + FANS + 1];
    const long index = get_group_id(0) / routed, first = index * sequence;
    struct pairs x = {ids + ids_skip + first * ids_stride,
                      scores + scores_skip + first * scores_stride,
                      ids_stride,
                      scores_stride,
                      (int)min(sequence, tokens - first),
                      (int)((long)get_group_id(0) - index * routed),
                      0,
                      k};
    int room = capacity;
    for (int round = 0; round < (SLOT_MAJOR ? k : 1); round++) {
        if (SLOT_MAJOR) x.first_slot = round, x.end_slot = round + 1;
        room -= min(room, mark_round(&x, room, swap, k, dropped + dropped_skip + first * k));
    }
}
