// SPDX-License-Identifier: MIT
// What the rows of route share, so that they give the same bits: a logit's score, and the order of the
// softmax's sum.
//
//   softmax   s = p / sum of p,   p = 1 where l equals the largest logit, else exp(l - largest)
//             (the comparison keeps inf - inf out: equal infinities share)
//   sigmoid   s = (l < 0 ? z : 1) / (1 + z),   z = exp(-|l|)
//   identity  s = l
//
// The sum has SUM_PARTS partial sums, part v over the experts v, v + SUM_PARTS, ..; SUM_BLOCKS blocks of
// consecutive parts are added up, then the blocks.
#include "common/dtype.cl"
#include "common/key.cl"

#pragma OPENCL FP_CONTRACT OFF

#define SCORE_SOFTMAX 0
#define SCORE_SIGMOID 1
#define SCORE_IDENTITY 2
#define GROUP_NONE 0
#define GROUP_MAX 1
#define GROUP_TOP2_SUM 2

#ifndef LOGIT_T
#error "LOGIT_T: f32, f16 or bf16"
#endif
#if !defined(SCORE) || !defined(HAS_BIAS) || !defined(GROUP)
#error "SCORE: 0 softmax, 1 sigmoid, 2 identity; HAS_BIAS: 0 or 1; GROUP: 0 none, 1 by the largest, 2 by the top-2 sum"
#endif

// The key is a monotone function of the logit: compare logits, whose ties are real ones.
#define ON_LOGITS (!HAS_BIAS && GROUP != GROUP_TOP2_SUM)

#define SUM_PARTS 64
#define SUM_BLOCKS 8
#define SUM_BLOCK (SUM_PARTS / SUM_BLOCKS)

inline float nan_as_lowest(float v) { return key_bits_are_nan(as_uint(v)) ? -INFINITY : v; }

inline float softmax_term(float logit, float largest) { return logit == largest ? 1.0f : exp(logit - largest); }

inline float score_of(float logit, float largest, float sum) {
    if (SCORE == SCORE_SOFTMAX) return softmax_term(logit, largest) / sum;
    if (SCORE == SCORE_IDENTITY) return logit;
    const float z = exp(-fabs(logit));
    return (logit < 0.0f ? z : 1.0f) / (1.0f + z);
}

inline uint biased_key(float score, float bias) { return key_nan_lowest(nan_as_lowest(score + bias)); }

// Of a group whose two largest keys are these; `second` is KEY_NONE in a group of one.
inline uint group_key(uint first, uint second) {
    if (GROUP != GROUP_TOP2_SUM || second == KEY_NONE) return first;
    return key_nan_lowest(nan_as_lowest(key_value(first) + key_value(second)));
}

// A sum of nothing is no reason to divide: the weights stay as they are.
inline float renormed(float weight, float total) { return total == 0.0f ? weight : weight / total; }
