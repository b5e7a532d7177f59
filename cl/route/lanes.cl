// SPDX-License-Identifier: MIT
// route in one launch: LANES work-items a token, LOCAL_SIZE / LANES tokens a work-group. Lane i of a token has
// its experts i, i + LANES, ..; their keys lie in local memory, in one array that holds
//   the logits' keys -> the keys of s + bias -> KEY_NONE for the experts of dropped groups
// (a key gives its logit back, so the scores need no array of their own). Then either
//   BY_RANK    each lane counts, for each of its experts, those that come before it: a rank below k is the slot
//              (GROUP_EACH: those of its group)
//   otherwise  k rounds: each lane offers its best, the best of the lanes gets the slot and its lane looks again
//   GIVEN      the ids are an argument
// Gamma is computed again from the chosen logits.
//
// Reductions over lanes have two levels, of FAN lanes and of LANES / FAN blocks; each level is read by all who
// need it, which costs one barrier and no idle steps. Work-items of tokens past the end work on the last token
// and write nothing, so that all reach the barriers.
#include "route/score.cl"

#if !defined(LOCAL_SIZE) || !defined(LANES)
#error "LOCAL_SIZE: work-items of a work-group; LANES: of one token; powers of two, LANES <= LOCAL_SIZE"
#endif
#ifndef CAPACITY
#error "CAPACITY: experts a token has room for, a power of two"
#endif
#if !defined(BY_RANK) || !defined(GIVEN)
#error "BY_RANK: 1: choose by counting ranks, 0: in k rounds; GIVEN: 1: the ids are an argument"
#endif

#define TOKENS (LOCAL_SIZE / LANES)
#define ROW (CAPACITY + LANES) // the padding spreads the tokens over the banks
#define ROOM (CAPACITY < SUM_PARTS ? CAPACITY : SUM_PARTS) // for k, for groups, for partial sums
#if LANES >= 256
#define FAN 16
#elif LANES >= 64
#define FAN 8
#elif LANES >= 16
#define FAN 4
#elif LANES >= 4
#define FAN 2
#else
#define FAN 1
#endif
#define FANS (LANES / FAN)

#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)

// The largest of the lanes' values, for all lanes of the token. A second call needs no barrier in between:
// whoever writes `offers` again has passed the barrier that follows its last reading, and so with `blocks`.
inline ulong lanes_max(ulong mine, int lane, local ulong *offers, local ulong *blocks) {
    offers[lane] = mine;
    LOCAL_BARRIER;
    if (lane < FANS) {
        ulong best = offers[lane * FAN];
        for (int i = 1; i < FAN; i++)
            best = max(best, offers[lane * FAN + i]);
        blocks[lane] = best;
    }
    LOCAL_BARRIER;
    ulong best = blocks[0];
    for (int i = 1; i < FANS; i++)
        best = max(best, blocks[i]);
    return best;
}

// In the order of score.cl. `keys` are in step; `parts` is still being read when this returns.
inline float softmax_sum(const local uint *keys, int experts, float2 adjust, float largest, int lane,
                         local float *parts) {
    const int n = min(experts, SUM_PARTS);
    for (int v = lane; v < n; v += LANES) {
        float part = 0.0f;
        for (int e = v; e < experts; e += SUM_PARTS)
            part += softmax_term(value_of(key_value(keys[e]), adjust), largest);
        parts[v] = part;
    }
    LOCAL_BARRIER;
    for (int b = lane * SUM_BLOCK; b < n; b += LANES * SUM_BLOCK) {
        float block = parts[b];
        for (int v = b + 1; v < min(b + SUM_BLOCK, n); v++)
            block += parts[v];
        parts[b] = block;
    }
    LOCAL_BARRIER;
    float sum = 0.0f;
    for (int b = 0; b < n; b += SUM_BLOCK)
        sum += parts[b];
    return sum;
}

// Keys of dropped groups become KEY_NONE. One lane a group.
inline void drop_groups(local uint *keys, int size, int n_group, int topk_group, int lane, local uint *groups) {
    for (int g = lane; g < n_group; g += LANES) {
        uint first = KEY_NONE, second = KEY_NONE;
        for (int e = g * size; e < (g + 1) * size; e++) {
            second = max(second, min(first, keys[e]));
            first = max(first, keys[e]);
        }
        groups[g] = group_key(first, second);
    }
    LOCAL_BARRIER;
    for (int g = lane; g < n_group; g += LANES) {
        const uint key = groups[g];
        int rank = 0;
        for (int h = 0; h < n_group; h++)
            rank += groups[h] >= key + (h >= g);
        for (int e = g * size; rank >= topk_group && e < (g + 1) * size; e++)
            keys[e] = KEY_NONE;
    }
    LOCAL_BARRIER;
}

inline void choose_by_rank(const local uint *keys, int experts, int k, int lane, local int *chosen) {
    for (int e = lane; e < experts; e += LANES) {
        const uint key = keys[e];
        int rank = 0;
        for (int f = 0; f < experts; f++)
            rank += keys[f] >= key + (f >= e); // an equal key counts if it stands before
        if (rank < k) chosen[rank] = e;
    }
}

// `of_group` experts of each group of `size`, in the order of the groups.
inline void choose_in_groups(const local uint *keys, int experts, int size, int of_group, int lane,
                             local int *chosen) {
    for (int e = lane; e < experts; e += LANES) {
        const int group = e / size, first = group * size;
        const uint key = keys[e];
        int rank = 0;
        for (int f = first; f < first + size; f++)
            rank += keys[f] >= key + (f >= e);
        if (rank < of_group) chosen[group * of_group + rank] = e;
    }
}

inline ulong best_of_lane(const local uint *keys, int experts, int lane) {
    ulong best = 0;
    for (int e = lane; e < experts; e += LANES)
        best = max(best, key_pair(keys[e], e));
    return best;
}

inline void choose_in_rounds(local uint *keys, int experts, int k, int lane, local int *chosen,
                             local ulong *offers, local ulong *blocks) {
    ulong mine = best_of_lane(keys, experts, lane);
    for (int j = 0; j < k; j++) {
        const int e = key_pair_index(lanes_max(mine, lane, offers, blocks));
        if (lane == (e & (LANES - 1))) {
            chosen[j] = e;
            keys[e] = KEY_NONE; // only other experts of this lane are looked at again
            mine = best_of_lane(keys, experts, lane);
        }
    }
}

#if EXTRAS
inline void write_slots(const struct extras *x, long t, int k, int lane, const local int *chosen,
                        const local float *weights, float total, int renorm, float scale, global int *id,
                        global float *gamma) {
    const int valid = token_is_valid(x, t);
    for (int j = lane; j < k; j += LANES) {
        const int to = valid ? placed_id(x, chosen[j]) : -1;
        id[j] = to;
        gamma[j] = to < 0 ? 0.0f : final_gamma(x, chosen[j], weights[j], total, renorm, scale);
    }
    for (int s = lane; s < x->shared_slots; s += LANES)
        write_shared(x, s, valid, id + k, gamma + k);
    if (lane > 0 || !(x->options & OPTION_IDENTITY_GAMMA)) return;
    float identity = 0.0f;
    for (int j = 0; valid && j < k; j++)
        if (chosen[j] >= x->routed) identity += final_gamma(x, chosen[j], weights[j], total, renorm, scale);
    x->identity_gamma[t] = identity;
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_lanes(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias,
    ulong bias_skip, global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip,
    long gamma_stride, long tokens, int experts, int k, int n_group, int topk_group, int renorm, float eps,
    float scale EXTRAS_PARAMETERS) {
    local uint all_keys[TOKENS * ROW];
    local ulong all_offers[LOCAL_SIZE], all_blocks[LOCAL_SIZE];
    local float all_weights[TOKENS * ROOM];
    local int all_chosen[TOKENS * ROOM];
#if CHOOSE_GROUPS
    local uint all_groups[TOKENS * ROOM];
#endif
    const int lid = get_local_id(0), row = lid / LANES, lane = lid & (LANES - 1);
    local uint *keys = all_keys + row * ROW;
    local ulong *offers = all_offers + row * LANES, *blocks = all_blocks + row * LANES;
    local float *weights = all_weights + row * ROOM;
    local int *chosen = all_chosen + row * ROOM;

    const long group_t = (long)get_group_id(0) * TOKENS + row;
    const int live = group_t < tokens;
    const long t = live ? group_t : tokens - 1;
    const ulong logit_at = logits_skip + t * logits_stride;
    const float2 adjust = ADJUST;

    uint top = KEY_NONE;
    for (int e = lane; e < experts; e += LANES) {
        keys[e] = key_nan_lowest(nan_as_lowest(LOAD(LOGIT_T, logits, logit_at + e)));
        top = max(top, keys[e]);
    }
    float largest = 0.0f, sum = 1.0f;
#if SCORE == SCORE_SOFTMAX
    largest = value_of(key_value((uint)lanes_max(top, lane, offers, blocks)), adjust);
    sum = softmax_sum(keys, experts, adjust, largest, lane, weights);
#endif
#if !ON_LOGITS
    for (int e = lane; e < experts; e += LANES) {
        const float s = score_of(value_of(key_value(keys[e]), adjust), largest, sum);
        keys[e] = HAS_BIAS ? biased_key(s, bias[bias_skip + e]) : key_nan_lowest(s);
    }
#endif
    LOCAL_BARRIER;
#if CHOOSE_GROUPS
    drop_groups(keys, experts / n_group, n_group, topk_group, lane, all_groups + row * ROOM);
#endif
#if GIVEN
    for (int j = lane; j < k; j += LANES) {
        const int e = live ? given[given_skip + t * given_stride + j] : -1; // ids may be written over them
        chosen[j] = e >= 0 && e < experts ? e : -1;
    }
#elif GROUP == GROUP_EACH
    choose_in_groups(keys, experts, experts / n_group, k / n_group, lane, chosen);
#elif BY_RANK
    choose_by_rank(keys, experts, k, lane, chosen);
#else
    choose_in_rounds(keys, experts, k, lane, chosen, offers, blocks);
#endif
    LOCAL_BARRIER;

    for (int j = lane; j < k; j += LANES) {
#if SCORE == SCORE_SPARSEMIXER
        weights[j] = mixer_score(logits, logit_at, experts, chosen[j], mixer_margin, adjust);
#else
        const bool none = GIVEN && chosen[j] < 0;
        const float l = nan_as_lowest(LOAD(LOGIT_T, logits, logit_at + (none ? 0 : chosen[j])));
        weights[j] = none ? 0.0f : score_of(value_of(l, adjust), largest, sum);
#endif
    }
    LOCAL_BARRIER;
    float total = 0.0f;
    for (int j = 0; renorm && j < k; j++)
        total += weights[j];
    total = divisor(total, eps, renorm);
    global int *id = ids + ids_skip + t * ids_stride;
    global float *weight = gamma + gamma_skip + t * gamma_stride;
#if EXTRAS
    const struct extras extra = EXTRAS_ARGUMENTS;
    if (live) write_slots(&extra, t, k, lane, chosen, weights, total, renorm, scale, id, weight);
#else
    for (int j = lane; live && j < k; j += LANES) {
        id[j] = chosen[j];
        weight[j] = scale * (renorm ? renormed(weights[j], total) : weights[j]);
    }
#endif
}
