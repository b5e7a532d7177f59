// SPDX-License-Identifier: MIT
// route with the k best of a token in registers (common/packed.cl), group = LOCAL_SIZE / LANES tokens. Keys are those
// of the logits, and become those that experts are chosen by: of the scores with their bias, none in groups that are
// dropped. The softmax's sum over all experts is left out where it cancels (SUM = 0: weights are renormalised and eps
// is nothing beside them).
//
// SORTS = 1: the pairs are sorted as permute does it. With sort_here by the work-group that is through last; its
// outputs follow the other arguments. Else they are counted for permute_place of permute/chunks.cl: table [chunks,
// ROOM], 0 at first, gets the pairs of each expert in each `chunk` pairs.
//
// The sum has another order than score.cl's: weights may differ from the other rows' in the last bits. Ids do not,
// since scores of softmax are not chosen by here.
#include "route/score.cl"

#define PACKED_BITS 32

#ifndef SORTS
#error "SORTS: 1 where the kernel can sort the pairs, too, else 0"
#endif
#ifndef SUM
#error "SUM: 1 where weights need the softmax's sum over all experts, else 0"
#endif

#if !ON_LOGITS && SCORE == SCORE_SOFTMAX
#error "SCORE: softmax is not chosen by"
#endif
#if CHOOSE_GROUPS && !defined(GROUP_SIZE)
#error "GROUP_SIZE: experts of a group, a multiple of 4 * LANES; rows are WHOLE"
#endif

#if EXTRAS
#define VALUE(logit) value_of(logit, ADJUST)
#define ADJUSTING , float temperature, float cap
#define ADJUSTED , temperature, cap
#else
#define VALUE(logit) logit
#define ADJUSTING
#define ADJUSTED
#endif

// What a token's keys are made of.
struct packed_source {
    const global ELEM(LOGIT_T) *logits;
    ulong skip;
    const global float *bias;
    float largest, sum; // of the softmax
#if EXTRAS
    float temperature, cap;
#endif
};

// key_nan_lowest(nan_as_lowest(logit)): adding +0 turns -0 into +0 and every NaN into one.
inline uint logit_key(float logit) {
#if PTX
    uint u;
    asm("add.f32 %0, %1, 0f00000000;" : "=r"(u) : "r"(as_uint(logit)));
    u = u == 0x7fffffffu ? 0xff800000u : u;
    return u ^ ((uint)((int)u >> 31) | 0x80000000u);
#else
    return key_nan_lowest(nan_as_lowest(logit));
#endif
}

// The key that expert e is chosen by, from that of its logit.
inline uint chosen_key(const struct packed_source *source, uint key, uint e) {
#if ON_LOGITS
    return key;
#else
#if EXTRAS
    const float temperature = source->temperature, cap = source->cap;
#endif
    const float score = score_of(VALUE(key_value(key)), source->largest, source->sum);
    return HAS_BIAS ? biased_key(score, source->bias[e]) : key_nan_lowest(score);
#endif
}

inline uint packed_key(const struct packed_source *source, uint position) {
    return chosen_key(source, logit_key(LOAD(LOGIT_T, source->logits, source->skip + position)), position);
}

#include "common/packed.cl"

#if SORTS
#include "common/ticket.cl"
#include "permute/sort.cl"

#define SORTS_PARAMETERS                                                                                               \
    , int sort_here, int slots, int buckets, global int *counts, ulong counts_skip, global int *offsets,               \
        ulong offsets_skip, global int *order, ulong order_skip, int has_inverse, global int *inverse,                 \
        ulong inverse_skip, global uint *tickets, global int *table, ulong table_skip, int chunk
#else
#define SORTS_PARAMETERS
#endif

inline float softmax_sum(const uint *key, uint experts, float largest, local ulong *swap ADJUSTING) {
    float sum = 0.0f;
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        if (THERE(q, experts)) sum += softmax_term(VALUE(key_value(key[q])), largest);
    TEAM_UNROLL
    for (uint d = 1; d < LANES; d *= 2)
        sum += as_float(team_xor(swap, as_uint(sum), d));
    return sum;
}

inline float packed_largest(const uint *key, uint experts, local ulong *swap ADJUSTING) {
    uint largest = KEY_NONE;
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        if (THERE(q, experts)) largest = max(largest, key[q]);
    TEAM_UNROLL
    for (uint d = 1; d < LANES; d *= 2)
        largest = max(largest, team_xor(swap, largest, d));
    return VALUE(key_value(largest));
}

#if CHOOSE_GROUPS
#define GROUP_KEYS (GROUP_SIZE / LANES) // of a work-item: those side by side in `key`
#define GROUPS (PER / GROUP_KEYS)

inline void packed_drop_groups(uint *key, int topk_group, local ulong *swap) {
    uint groups[GROUPS];
    TEAM_UNROLL
    for (int g = 0; g < GROUPS; g++) {
        uint first = KEY_NONE, second = KEY_NONE;
        TEAM_UNROLL
        for (int i = 0; i < GROUP_KEYS; i++) {
            second = max(second, min(first, key[g * GROUP_KEYS + i]));
            first = max(first, key[g * GROUP_KEYS + i]);
        }
        TEAM_UNROLL
        for (uint d = 1; d < LANES; d *= 2) {
            const uint other = team_xor(swap, first, d);
            if (GROUP == GROUP_TOP2_SUM) second = max(min(first, other), max(second, team_xor(swap, second, d)));
            first = max(first, other);
        }
        groups[g] = group_key(first, second);
    }
    TEAM_UNROLL
    for (int g = 0; g < GROUPS; g++) {
        int rank = 0;
        TEAM_UNROLL
        for (int h = 0; h < GROUPS; h++)
            rank += groups[h] >= groups[g] + (h >= g);
        TEAM_UNROLL
        for (int i = 0; i < GROUP_KEYS; i++)
            if (rank >= topk_group) key[g * GROUP_KEYS + i] = KEY_NONE;
    }
}
#endif

#if EXTRAS
// Slot h * LANES + lane has id[h] and the score weight[h].
inline void write_slots(const struct extras *x, long t, bool active, uint k, local ulong *swap, const uint *id,
                        float *weight, float total, int renorm, float scale, global int *to_id, global float *to_gamma) {
    const uint lane = packed_lane();
    const int valid = token_is_valid(x, t);
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++)
        weight[h] = final_gamma(x, h * LANES + lane < k ? (int)id[h] : -1, weight[h], total, renorm, scale);
    float identity = 0.0f;
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++) {
        const float other = as_float(team_at(swap, as_uint(weight[i / LANES]), row_lane(i)));
        const int other_id = (int)team_at(swap, id[i / LANES], row_lane(i));
        if (i < k && valid && other_id >= x->routed) identity += other;
    }
    if (!active) return;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint slot = h * LANES + lane;
        if (slot >= k) continue;
        const int to = valid ? placed_id(x, (int)id[h]) : -1;
        to_id[slot] = to;
        to_gamma[slot] = to < 0 ? 0.0f : weight[h];
    }
    for (int s = lane; s < x->shared_slots; s += LANES)
        write_shared(x, s, valid, to_id + k, to_gamma + k);
    if (lane == 0 && (x->options & OPTION_IDENTITY_GAMMA)) x->identity_gamma[t] = identity;
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_packed(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias, ulong bias_skip,
    global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip, long gamma_stride,
    long tokens, int experts, int topk, int n_group, int topk_group, int renorm, float eps, float scale
    EXTRAS_PARAMETERS SORTS_PARAMETERS) {
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    const uint k = (uint)topk, n = (uint)experts, lane = packed_lane();
    const long wanted = (long)get_group_id(0) * (LOCAL_SIZE / LANES) + get_local_id(0) / LANES;
    const bool active = wanted < tokens; // the rest repeat the last token and write nothing
    const long t = active ? wanted : tokens - 1;
    struct packed_source source;
    source.logits = logits, source.skip = logits_skip + (ulong)(t * logits_stride);
    source.bias = bias + bias_skip, source.largest = 0.0f, source.sum = 1.0f;
#if EXTRAS
    source.temperature = temperature, source.cap = cap;
#endif

    uint key[PER], id[SLOTS], full[SLOTS];
    if (sizeof(ELEM(LOGIT_T)) == 4 && packed_can_load(logits + source.skip)) {
        packed_load((const global uint *)(logits + source.skip), key);
    } else {
        TEAM_UNROLL
        for (int q = 0; q < PER; q++)
            key[q] = THERE(q, n) ? as_uint(LOAD(LOGIT_T, logits, source.skip + POSITION(q))) : 0u;
    }
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        key[q] = logit_key(as_float(key[q]));
#if CHOOSE_GROUPS
    if (SCORE == SCORE_SOFTMAX) source.largest = packed_largest(key, n, swap ADJUSTED);
    if (SCORE == SCORE_SOFTMAX && SUM) source.sum = softmax_sum(key, n, source.largest, swap ADJUSTED);
#endif
#if !ON_LOGITS
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        if (THERE(q, n)) key[q] = chosen_key(&source, key[q], POSITION(q));
#endif
#if CHOOSE_GROUPS
    packed_drop_groups(key, topk_group, swap);
#endif
    packed_select(&source, key, n, k, swap, id, full);
#if !CHOOSE_GROUPS
    source.largest = VALUE(key_value(team_at(swap, full[0], row_lane(0))));
    if (SCORE == SCORE_SOFTMAX && SUM) source.sum = softmax_sum(key, n, source.largest, swap ADJUSTED);
#endif
    float weight[SLOTS], total = 0.0f;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        float logit = key_value(full[h]); // but for the sign of a zero
#if SCORE == SCORE_IDENTITY || !ON_LOGITS
        if (h * LANES + lane < k) logit = nan_as_lowest(LOAD(LOGIT_T, logits, source.skip + id[h]));
#endif
        weight[h] = score_of(VALUE(logit), source.largest, source.sum);
    }
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++) {
        const float other = as_float(team_at(swap, as_uint(weight[i / LANES]), row_lane(i)));
        if (i < k) total += other;
    }
#if EXTRAS
    const struct extras extra = EXTRAS_ARGUMENTS;
    total = divisor(total, eps, renorm);
    write_slots(&extra, t, active, k, swap, id, weight, total, renorm, scale, ids + ids_skip + t * ids_stride,
                gamma + gamma_skip + t * gamma_stride);
#else
    total += eps;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint slot = h * LANES + lane;
        if (!active || slot >= k) continue;
        ids[ids_skip + t * ids_stride + slot] = (int)id[h];
        gamma[gamma_skip + t * gamma_stride + slot] = scale * (renorm ? renormed(weight[h], total) : weight[h]);
    }
#endif
#if SORTS
    local uint last;
    local int start[BUCKETS], placed[TEAMS * BUCKETS], sums[TEAMS];
    local ushort bucket[HELD];
    if (!sort_here) {
        if (!chunk) return;
        team_fence(); // other lanes have written ids of this token
        const global int *const own = ids + ids_skip + t * ids_stride;
        for (uint slot = lane; active && slot < slots; slot += LANES) {
            const uint e = (uint)own[slot];
            const int in_chunk = ((int)t * slots + (int)slot) / chunk;
            if (e < buckets) atomic_inc(&table[table_skip + (long)in_chunk * (BUCKETS - 1) + e]);
        }
        return;
    }
    if (!last_of(tickets, get_num_groups(0), &last)) return;
    if (get_local_id(0) == 0) *tickets = 0;
    const struct pairs p = {ids + ids_skip, ids_stride, slots, buckets, order + order_skip,
                            has_inverse ? inverse + inverse_skip : 0};
    permute_pairs(&p, (int)tokens * slots, counts + counts_skip, offsets + offsets_skip, bucket, start, placed, sums,
                  swap);
#endif
}
