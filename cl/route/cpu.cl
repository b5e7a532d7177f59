// SPDX-License-Identifier: MIT
// route on a CPU: a work-item takes one token after another; vectors of 16 keys, no local memory, no barrier. Item i of
// the work-groups takes tokens i * tokens / items on. A token's keys lie in a private array, filled up with KEY_NONE:
//   logits' keys -> keys of s + bias -> KEY_NONE for the experts of dropped groups
// The k best of them:
//   bound       vector v goes to the running maximum maxima[v % spread], 16 * spread >= 2 * k elements at different
//               places, so that the k-th largest of them is reached by k keys and few more
//   candidates  the keys from the bound on, in the order of their ids, of those that equal the bound k at most
//   rank        each candidate's is the number of those that come before it: below k it is the slot
//
// Scores that selection hangs on are computed as the other rows do, element by element. The softmax's sum for weights
// only is a sum of vectors' exp, which may differ in the last bit; it is left out where it cancels (SUM = 0: weights
// are renormalised and eps is nothing beside them).
#include "route/score.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: 1"
#endif
#ifndef CAPACITY
#error "CAPACITY: experts there is room for, a power of two from 16 on"
#endif
#if !defined(SUM) || !defined(GIVEN)
#error "SUM: 1 where weights need the softmax's sum over all experts; GIVEN: 1: the ids are an argument"
#endif

#define LANES 16
#define LANE_NUMBERS ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define ROOM (CAPACITY > 64 ? CAPACITY : 64) // for given ids, too
#define MOST_SPREAD 8

#define LOAD_LANES(p, i) CAT(load_lanes_, LOGIT_T)(p, i)
inline float16 load_lanes_f32(const global float *p, ulong i) { return vload16(0, p + i); }
inline float16 load_lanes_f16(const global ushort *p, ulong i) { return vload_half16(0, (const global half *)(p + i)); }
inline float16 load_lanes_bf16(const global ushort *p, ulong i) {
    return as_float16(convert_uint16(vload16(0, p + i)) << 16);
}

// key_nan_lowest(nan_as_lowest(logit)) of each lane.
inline uint16 keys_of(float16 logits) {
    uint16 u = as_uint16(logits);
    u = (u & 0x7fffffffu) > 0x7f800000u ? (uint16)(0xff800000u) : u;
    u = (u << 1) == 0u ? (uint16)(0u) : u;
    return u ^ (as_uint16(as_int16(u) >> 31) | 0x80000000u);
}

// The largest key.
inline uint load_keys(const global ELEM(LOGIT_T) *logits, ulong at, int experts, uint *keys) {
    uint16 top = KEY_NONE;
    int e = 0;
    for (; e + LANES <= experts; e += LANES) {
        const uint16 v = keys_of(LOAD_LANES(logits, at + e));
        vstore16(v, 0, keys + e);
        top = max(top, v);
    }
    if (e < experts) {
        vstore16((uint16)(KEY_NONE), 0, keys + e);
        for (int i = e; i < experts; i++)
            keys[i] = key_nan_lowest(nan_as_lowest(LOAD(LOGIT_T, logits, at + i)));
        top = max(top, vload16(0, keys + e));
    }
    uint lanes[LANES], largest = KEY_NONE;
    vstore16(top, 0, lanes);
    for (int i = 0; i < LANES; i++)
        largest = max(largest, lanes[i]);
    return largest;
}

inline float softmax_sum(const float *values, int experts, float largest) {
    float parts[SUM_PARTS];
    for (int v = 0; v < SUM_PARTS; v += LANES)
        vstore16((float16)(0.0f), 0, parts + v);
#if ON_LOGITS
    for (int e = 0; e < experts; e += LANES) {
        const float16 v = vload16(0, values + e);
        const float16 terms = v == largest ? (float16)(1.0f) : exp(v - largest);
        float *const part = parts + (e & (SUM_PARTS - 1));
        vstore16(vload16(0, part) + (LANE_NUMBERS < experts - e ? terms : (float16)(0.0f)), 0, part);
    }
#else
    for (int e = 0; e < experts; e++)
        parts[e & (SUM_PARTS - 1)] += softmax_term(values[e], largest);
#endif
    float sum = 0.0f;
    for (int b = 0; b < SUM_PARTS; b += SUM_BLOCK) {
        float block = 0.0f;
        for (int v = b; v < b + SUM_BLOCK; v++)
            block += parts[v];
        sum += block;
    }
    return sum;
}

inline uint key_of_group(const uint *keys, int size) {
    uint firsts[LANES], seconds[LANES], first = KEY_NONE, second = KEY_NONE;
    uint16 a = KEY_NONE, b = KEY_NONE;
    int e = 0;
    for (; e + LANES <= size; e += LANES) {
        const uint16 v = vload16(0, keys + e);
        b = max(b, min(a, v));
        a = max(a, v);
    }
    vstore16(a, 0, firsts);
    vstore16(b, 0, seconds);
    for (int i = 0; i < LANES; i++) {
        second = max(max(second, seconds[i]), min(first, firsts[i]));
        first = max(first, firsts[i]);
    }
    for (; e < size; e++) {
        second = max(second, min(first, keys[e]));
        first = max(first, keys[e]);
    }
    return group_key(first, second);
}

inline void drop_groups(uint *keys, int size, int n_group, int topk_group) {
    uint groups[64];
    for (int g = 0; g < n_group; g++)
        groups[g] = key_of_group(keys + g * size, size);
    for (int g = 0; g < n_group; g++) {
        int rank = 0;
        for (int h = 0; h < n_group; h++)
            rank += groups[h] >= groups[g] + (h >= g);
        for (int e = g * size; rank >= topk_group && e < (g + 1) * size; e++)
            keys[e] = KEY_NONE;
    }
}

// At least k keys of experts are not below it, or all of them are not.
inline uint bound_of(const uint *keys, int experts, int k) {
    int spread = 1;
    while (spread * LANES < 2 * k)
        spread *= 2;
    if (experts < 2 * spread * LANES) return KEY_NONE + 1;
    uint maxima[MOST_SPREAD * LANES];
    for (int v = 0; v < spread * LANES; v += LANES)
        vstore16((uint16)(KEY_NONE), 0, maxima + v);
    for (int e = 0; e < experts; e += LANES) {
        uint *const place = maxima + (e & (spread * LANES - 1));
        vstore16(max(vload16(0, place), vload16(0, keys + e)), 0, place);
    }
    uint16 least = 0xffffffffu;
    for (int v = 0; v < spread * LANES; v += LANES) {
        const uint16 own = vload16(0, maxima + v);
        int16 rank = 0; // less than 0: a compare gives -1
        for (int i = 0; i < spread * LANES; i++)
            rank += own < (uint16)(maxima[i]);
        least = min(least, rank > -k ? own : (uint16)(0xffffffffu));
    }
    uint lanes[LANES], bound = 0xffffffffu;
    vstore16(least, 0, lanes);
    for (int i = 0; i < LANES; i++)
        bound = min(bound, lanes[i]);
    return max(bound, KEY_NONE + 1); // of groups that were dropped nothing stays
}

struct candidates {
    uint keys[CAPACITY + LANES];
    int ids[CAPACITY + LANES];
};

// The number of them.
inline int find_candidates(const uint *keys, int experts, int k, struct candidates *found) {
    const uint bound = bound_of(keys, experts, k);
    int n = 0, equal = 0;
    for (int e = 0; e < experts; e += LANES) {
        // bytes of a lane's own bit each; the product adds them up in the highest byte
        const int16 reached = vload16(0, keys + e) >= (uint16)(bound);
        const ulong2 bits = as_ulong2(convert_char16(reached)) & 0x8040201008040201ul;
        uint mask = (uint)(bits.x * 0x0101010101010101ul >> 56) | (uint)(bits.y * 0x0101010101010101ul >> 56) << 8;
        for (; mask; mask &= mask - 1) {
            const int i = e + (int)popcount((mask & -mask) - 1);
            found->keys[n] = keys[i];
            found->ids[n] = i;
            equal += keys[i] == bound;
            n += keys[i] != bound || equal <= k;
        }
    }
    return n;
}

inline void choose_best(const uint *keys, int experts, int k, int *chosen) {
    struct candidates found;
    const int n = find_candidates(keys, experts, k, &found);
    for (int b = 0; b < n; b += LANES) {
        const uint16 own = vload16(0, found.keys + b);
        int16 rank = 0; // less than 0, as above
        for (int j = 0; j < n; j++) {
            const uint16 other = found.keys[j];
            rank += (other > own) | ((other == own) & (LANE_NUMBERS > (int16)(j - b)));
        }
        int ranks[LANES];
        vstore16(rank, 0, ranks);
        for (int j = b; j < min(b + LANES, n); j++)
            if (-ranks[j - b] < k) chosen[-ranks[j - b]] = found.ids[j];
    }
}

// `of_group` experts of each group of `size`, in the order of the groups.
inline void choose_in_groups(uint *keys, int size, int n_group, int of_group, int *chosen) {
    for (int g = 0; g < n_group; g++) {
        for (int j = 0; j < of_group; j++) {
            int best = g * size;
            for (int e = g * size + 1; e < (g + 1) * size; e++)
                if (keys[e] > keys[best]) best = e;
            chosen[g * of_group + j] = best;
            keys[best] = KEY_NONE;
        }
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_cpu(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias,
    ulong bias_skip, global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip,
    long gamma_stride, long tokens, int experts, int k, int n_group, int topk_group, int renorm, float eps,
    float scale EXTRAS_PARAMETERS) {
    const long item = get_group_id(0), items = get_num_groups(0), end = (item + 1) * tokens / items;
    const float2 adjust = ADJUST;
    uint keys[CAPACITY];
    for (long t = item * tokens / items; t < end; t++) {
        const ulong logit_at = logits_skip + t * logits_stride;
        const uint top = load_keys(logits, logit_at, experts, keys);
        float largest = 0.0f, sum = 1.0f;
#if SCORE == SCORE_SOFTMAX
        largest = value_of(key_value(top), adjust);
#endif
#if (SCORE == SCORE_SOFTMAX && SUM) || !ON_LOGITS
        float values[CAPACITY];
        for (int e = 0; e < (experts + LANES - 1) / LANES * LANES; e++)
            values[e] = value_of(key_value(keys[e]), adjust);
#endif
#if SCORE == SCORE_SOFTMAX && SUM
        sum = softmax_sum(values, experts, largest);
#endif
#if !ON_LOGITS
        for (int e = 0; e < experts; e++) {
            const float s = score_of(values[e], largest, sum);
            keys[e] = HAS_BIAS ? biased_key(s, bias[bias_skip + e]) : key_nan_lowest(s);
        }
#endif
#if CHOOSE_GROUPS
        drop_groups(keys, experts / n_group, n_group, topk_group);
#endif
        int chosen[ROOM];
#if GIVEN
        for (int j = 0; j < k; j++) {
            const int e = given[given_skip + t * given_stride + j];
            chosen[j] = e >= 0 && e < experts ? e : -1;
        }
#elif GROUP == GROUP_EACH
        choose_in_groups(keys, experts / n_group, n_group, k / n_group, chosen);
#else
        choose_best(keys, experts, k, chosen);
#endif
        global int *id = ids + ids_skip + t * ids_stride;
        global float *weight = gamma + gamma_skip + t * gamma_stride;
        for (int j = 0; j < k; j++) {
            const bool none = GIVEN && chosen[j] < 0;
#if SCORE == SCORE_SPARSEMIXER
            weight[j] = mixer_score(logits, logit_at, experts, chosen[j], mixer_margin, adjust);
#else
            const float l = nan_as_lowest(LOAD(LOGIT_T, logits, logit_at + (none ? 0 : chosen[j])));
            weight[j] = none ? 0.0f : score_of(value_of(l, adjust), largest, sum);
#endif
            id[j] = chosen[j];
        }
#if EXTRAS
        const struct extras extra = EXTRAS_ARGUMENTS;
        finish_token(&extra, t, token_is_valid(&extra, t), k, 0, renorm, eps, scale, id, weight);
#else
        finish_weights(k, renorm, eps, scale, weight);
#endif
    }
}
