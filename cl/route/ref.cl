// SPDX-License-Identifier: MIT
// The row of route that always fits: one work-item a token, global memory only. Scores are computed again
// whenever they are looked at; "the next one" is the best of those that come after the previous one in the
// order (key descending, index ascending). Kept groups are bits of a 64-bit mask.
#include "route/score.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef GIVEN
#error "GIVEN: 1 where the ids are an argument, else 0"
#endif

struct token {
    const global ELEM(LOGIT_T) *logits;
    ulong at;
    const global float *bias; // from the first expert's
    int experts;
    float2 adjust;
    float largest, sum;
};

inline float logit_of(const struct token *x, int e) { return nan_as_lowest(LOAD(LOGIT_T, x->logits, x->at + e)); }

inline float value(const struct token *x, int e) { return value_of(logit_of(x, e), x->adjust); }

inline uint key_of(const struct token *x, int e) {
    if (ON_LOGITS) return key_nan_lowest(logit_of(x, e));
    const float s = score_of(value(x, e), x->largest, x->sum);
    return HAS_BIAS ? biased_key(s, x->bias[e]) : key_nan_lowest(s);
}

inline void softmax_sum(struct token *x) {
    x->largest = -INFINITY;
    for (int e = 0; e < x->experts; e++)
        x->largest = fmax(x->largest, logit_of(x, e));
    x->largest = value_of(x->largest, x->adjust);
    x->sum = 0.0f;
    for (int b = 0; b < SUM_BLOCKS; b++) {
        float block = 0.0f;
        for (int v = b * SUM_BLOCK; v < (b + 1) * SUM_BLOCK; v++) {
            float part = 0.0f;
            for (int e = v; e < x->experts; e += SUM_PARTS)
                part += softmax_term(value(x, e), x->largest);
            block += part;
        }
        x->sum += block;
    }
}

inline uint key_of_group(const struct token *x, int group, int size) {
    uint first = KEY_NONE, second = KEY_NONE;
    for (int e = group * size; e < (group + 1) * size; e++) {
        const uint key = key_of(x, e);
        second = max(second, min(first, key));
        first = max(first, key);
    }
    return group_key(first, second);
}

inline ulong keep_groups(const struct token *x, int n_group, int topk_group) {
    ulong kept = 0, last = ~0ul;
    for (int i = 0; i < topk_group; i++) {
        ulong next = 0;
        for (int g = 0; g < n_group; g++) {
            const ulong pair = key_pair(key_of_group(x, g, x->experts / n_group), g);
            if (pair < last) next = max(next, pair);
        }
        kept |= 1ul << key_pair_index(next);
        last = next;
    }
    return kept;
}

// The best of the experts first .. first + n - 1 that come after `last`.
inline ulong best_after(const struct token *x, ulong last, int first, int n, ulong kept, int size) {
    ulong next = 0;
    for (int e = first; e < first + n; e++) {
        if (CHOOSE_GROUPS && !((kept >> (e / size)) & 1ul)) continue;
        const ulong pair = key_pair(key_of(x, e), e);
        if (pair < last) next = max(next, pair);
    }
    return next;
}

inline void choose(const struct token *x, int k, int n_group, int topk_group, global int *id) {
    const ulong kept = CHOOSE_GROUPS ? keep_groups(x, n_group, topk_group) : 1ul;
    const int size = x->experts / n_group, parts = GROUP == GROUP_EACH ? n_group : 1, of_part = k / parts;
    for (int part = 0; part < parts; part++) {
        ulong last = ~0ul;
        for (int j = 0; j < of_part; j++) {
            last = best_after(x, last, part * size, GROUP == GROUP_EACH ? size : x->experts, kept, size);
            id[part * of_part + j] = key_pair_index(last);
        }
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_ref(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias,
    ulong bias_skip, global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip,
    long gamma_stride, long tokens, int experts, int k, int n_group, int topk_group, int renorm, float eps,
    float scale EXTRAS_PARAMETERS) {
    const long t = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (t >= tokens) return;
    struct token x = {logits, logits_skip + t * logits_stride, bias + bias_skip, experts, ADJUST, 0.0f, 1.0f};
    if (SCORE == SCORE_SOFTMAX) softmax_sum(&x);
    global int *id = ids + ids_skip + t * ids_stride;
    global float *weight = gamma + gamma_skip + t * gamma_stride;
#if GIVEN
    for (int j = 0; j < k; j++) {
        const int e = given[given_skip + t * given_stride + j];
        id[j] = e >= 0 && e < experts ? e : -1;
    }
#else
    choose(&x, k, n_group, topk_group, id);
#endif
    for (int j = 0; j < k; j++) {
#if SCORE == SCORE_SPARSEMIXER
        weight[j] = mixer_score(logits, x.at, experts, id[j], mixer_margin, x.adjust);
#else
        weight[j] = GIVEN && id[j] < 0 ? 0.0f : score_of(value(&x, id[j]), x.largest, x.sum);
#endif
    }
#if EXTRAS
    const struct extras extra = EXTRAS_ARGUMENTS;
    finish_token(&extra, t, token_is_valid(&extra, t), k, 0, renorm, eps, scale, id, weight);
#else
    finish_weights(k, renorm, eps, scale, weight);
#endif
}
