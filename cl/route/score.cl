// SPDX-License-Identifier: MIT
// What the rows of route share, so that they give the same bits: a logit's score, and the order of the
// softmax's sum.
//
//   softmax   s = p / sum of p,   p = 1 where l equals the largest logit, else exp(l - largest)
//             (the comparison keeps inf - inf out: equal infinities share)
//   sigmoid   s = (l < 0 ? z : 1) / (1 + z),   z = exp(-|l|)
//   identity  s = l
//   sqrt-softplus  s = sqrt(log(1 + exp(l))); where 1 + exp(l) would round, the limits sqrt(l) and exp(l / 2)
//   sparsemixer    mixer_score
// where l is the value of a logit (value_of).
//
// The sum has SUM_PARTS partial sums, part v over the experts v, v + SUM_PARTS, ..; SUM_BLOCKS blocks of
// consecutive parts are added up, then the blocks.
#include "common/dtype.cl"
#include "common/key.cl"
#include "route/extras.cl"

#define SCORE_SOFTMAX 0
#define SCORE_SIGMOID 1
#define SCORE_IDENTITY 2
#define SCORE_SQRT_SOFTPLUS 3
#define SCORE_SPARSEMIXER 4
#define GROUP_NONE 0
#define GROUP_MAX 1
#define GROUP_TOP2_SUM 2
#define GROUP_EACH 3

#ifndef LOGIT_T
#error "LOGIT_T: f32, f16 or bf16"
#endif
#if !defined(SCORE) || !defined(HAS_BIAS) || !defined(GROUP)
#error "SCORE: as above; HAS_BIAS: 0 or 1; GROUP: 0 none, 1 by the largest, 2 by the top-2 sum, 3 some of each"
#endif

// The key is a monotone function of the logit: compare logits, whose ties are real ones.
#define ON_LOGITS (!HAS_BIAS && GROUP != GROUP_TOP2_SUM)

#define CHOOSE_GROUPS (GROUP == GROUP_MAX || GROUP == GROUP_TOP2_SUM)

#define SUM_PARTS 64
#define SUM_BLOCKS 8
#define SUM_BLOCK (SUM_PARTS / SUM_BLOCKS)

inline float nan_as_lowest(float v) { return key_bits_are_nan(as_uint(v)) ? -INFINITY : v; }

inline float softmax_term(float logit, float largest) { return logit == largest ? 1.0f : exp(logit - largest); }

inline float score_of(float logit, float largest, float sum) {
    if (SCORE == SCORE_SOFTMAX) return softmax_term(logit, largest) / sum;
    if (SCORE == SCORE_IDENTITY) return logit;
#if SCORE == SCORE_SQRT_SOFTPLUS
    if (logit < -20.0f) return exp(0.5f * logit);
    return sqrt(logit > 20.0f ? logit : log1p(exp(logit)));
#endif
    const float z = exp(-fabs(logit));
    return (logit < 0.0f ? z : 1.0f) / (1.0f + z);
}

inline uint biased_key(float score, float bias) { return key_nan_lowest(nan_as_lowest(score + bias)); }

// Of a group whose two largest keys are these; `second` is KEY_NONE in a group of one.
inline uint group_key(uint first, uint second) {
    if (GROUP != GROUP_TOP2_SUM || second == KEY_NONE) return first;
    return key_nan_lowest(nan_as_lowest(key_value(first) + key_value(second)));
}

#if SCORE == SCORE_SPARSEMIXER
// 1 / the sum of exp(v - best) over the experts from `chosen` on, in the order of selection, that are near enough.
inline float mixer_score(const global ELEM(LOGIT_T) *logits, ulong at, int experts, int chosen, float margin,
                         float2 adjust) {
    const float logit = nan_as_lowest(LOAD(LOGIT_T, logits, at + chosen)), best = value_of(logit, adjust);
    const ulong first = key_pair(key_nan_lowest(logit), chosen);
    float sum = 0.0f;
    for (int e = 0; e < experts; e++) {
        const float l = nan_as_lowest(LOAD(LOGIT_T, logits, at + e)), v = value_of(l, adjust);
        const bool far = (best - v) / fmax(fabs(v), best) > margin;
        if (!far && key_pair(key_nan_lowest(l), e) <= first) sum += softmax_term(v, best);
    }
    return 1.0f / sum;
}
#endif
