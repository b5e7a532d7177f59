// SPDX-License-Identifier: MIT
// The row of route that always fits: one work-item a token, global memory only. Scores are computed again
// whenever they are looked at; "the next one" is the best of those that come after the previous one in the
// order (key descending, index ascending). Kept groups are bits of a 64-bit mask.
#include "route/score.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif

struct token {
    const global ELEM(LOGIT_T) *logits;
    ulong at;
    const global float *bias; // from the first expert's
    int experts;
    float largest, sum;
};

inline float logit_of(const struct token *x, int e) { return nan_as_lowest(LOAD(LOGIT_T, x->logits, x->at + e)); }

inline uint key_of(const struct token *x, int e) {
    const float l = logit_of(x, e);
    if (ON_LOGITS) return key_nan_lowest(l);
    const float s = score_of(l, x->largest, x->sum);
    return HAS_BIAS ? biased_key(s, x->bias[e]) : key_nan_lowest(s);
}

inline void softmax_sum(struct token *x) {
    x->largest = -INFINITY;
    for (int e = 0; e < x->experts; e++)
        x->largest = fmax(x->largest, logit_of(x, e));
    x->sum = 0.0f;
    for (int b = 0; b < SUM_BLOCKS; b++) {
        float block = 0.0f;
        for (int v = b * SUM_BLOCK; v < (b + 1) * SUM_BLOCK; v++) {
            float part = 0.0f;
            for (int e = v; e < x->experts; e += SUM_PARTS)
                part += softmax_term(logit_of(x, e), x->largest);
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

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_ref(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias,
    ulong bias_skip, global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip,
    long gamma_stride, long tokens, int experts, int k, int n_group, int topk_group, int renorm, float eps,
    float scale) {
    const long t = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (t >= tokens) return;
    struct token x = {logits, logits_skip + t * logits_stride, bias + bias_skip, experts, 0.0f, 1.0f};
    if (SCORE == SCORE_SOFTMAX) softmax_sum(&x);
    const ulong kept = GROUP == GROUP_NONE ? 1ul : keep_groups(&x, n_group, topk_group);
    const int size = experts / n_group;

    global int *id = ids + ids_skip + t * ids_stride;
    global float *weight = gamma + gamma_skip + t * gamma_stride;
    ulong last = ~0ul;
    float sum = 0.0f;
    for (int j = 0; j < k; j++) {
        ulong next = 0;
        for (int e = 0; e < experts; e++) {
            if (GROUP != GROUP_NONE && !((kept >> (e / size)) & 1ul)) continue;
            const ulong pair = key_pair(key_of(&x, e), e);
            if (pair < last) next = max(next, pair);
        }
        last = next;
        id[j] = key_pair_index(next);
        weight[j] = score_of(logit_of(&x, id[j]), x.largest, x.sum);
        sum += weight[j];
    }
    const float total = sum + eps;
    for (int j = 0; j < k; j++)
        weight[j] = scale * (renorm ? renormed(weight[j], total) : weight[j]);
}
