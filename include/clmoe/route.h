/* SPDX-License-Identifier: MIT
 *
 * route: router logits -> the k experts of each token and their gate weights, gamma.
 *
 *   logits [T, E] (+ bias [E])  ->  ids [T, k], gamma [T, k]
 *
 * For each token, in fp32 whatever the dtype of the logits:
 *   1. score   s[e] = logit | softmax(logits)[e] | sigmoid(logit)
 *   2. key     q[e] = s[e] + bias[e] if a selection bias is given, else s[e]. The bias never enters gamma.
 *   3. groups  (n_group > 1) expert e is in group e / (E/n_group). A group scores the largest q in it, or the
 * sum of its two largest. The topk_group best groups stay; q = -inf elsewhere, so an expert of another group
 * is chosen only when the kept ones have fewer than k experts, which is an error of the params.
 *   4. select  the k largest q, best first; equal ones by lower id (equal groups by lower group).
 *   5. gamma   w[j] = s[ids[j]], from the unbiased score
 *   6. renorm  none | w[j] /= sum(w) + eps; a sum + eps of 0 leaves w as it is
 *   7. scale   w[j] *= scale
 *
 * Where the key is a monotone function of the logit (no bias; groups absent, all kept or scored by their
 * largest) the selection compares logits themselves, so scores that round to the same number make no ties
 * that the logits do not have, and ids have the same bits on every device.
 *
 * NaN and infinities: a NaN logit counts as -inf, a NaN bias as -inf for that expert's key, and so does any
 * other NaN that a key or a group's score would be (inf - inf). A +inf logit shares the softmax with the
 * other +inf ones; if all logits are -inf the softmax is uniform. ids are distinct and in [0, E) for any
 * input bits. (identity score: a chosen NaN or -inf logit gives gamma -inf.)
 *
 * Settings of known families (reference: their own code): Mixtral, Qwen3-MoE: softmax, renorm sum. OLMoE,
 * Qwen2-MoE: softmax. gpt-oss, Granite ("top-k, then softmax"): the same numbers as softmax, renorm sum.
 * DeepSeek-V2: softmax, groups by largest, scale. DeepSeek-V3, Kimi-K2, GLM-4.5: sigmoid, bias, groups by
 * top-2 sum, renorm sum with eps 1e-20, scale.
 */
#ifndef CLMOE_ROUTE_H
#define CLMOE_ROUTE_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_score {
    CLMOE_SCORE_SOFTMAX = 0,
    CLMOE_SCORE_SIGMOID,
    CLMOE_SCORE_IDENTITY,
};

enum clmoe_group_score {
    CLMOE_GROUP_MAX = 0,
    CLMOE_GROUP_TOP2_SUM, /* a group of one expert scores that expert's q */
};

enum clmoe_renorm {
    CLMOE_RENORM_NONE = 0,
    CLMOE_RENORM_SUM,
};

struct clmoe_route_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;            /* 0 <= T of a call <= max_tokens */
    int32_t experts;               /* 1 <= E <= 4096 */
    int32_t topk;                  /* 0 <= k <= min(E, 64) */
    enum clmoe_dtype logits_dtype; /* CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_score score;
    int bias;           /* 1: args.bias is given */
    int32_t n_group;    /* 0 or 1: no groups; else a divisor of E, at most 64 */
    int32_t topk_group; /* with groups: 1 <= topk_group <= n_group, and topk_group * E/n_group >= k */
    enum clmoe_group_score group_score;
    enum clmoe_renorm renorm;
    float renorm_eps; /* >= 0, finite */
    float scale;      /* 0 means 1; finite */
};

/* The last stride of every tensor must be 1. Outputs must not overlap inputs or each other. */
struct clmoe_route_args {
    struct clmoe_tensor logits; /* [T, E] logits_dtype */
    struct clmoe_tensor bias;   /* [E] CLMOE_F32 */
    struct clmoe_tensor ids;    /* [T, k] CLMOE_I32 */
    struct clmoe_tensor gamma;  /* [T, k] CLMOE_F32 */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above, another dtype, unknown enum values, eps or
 * scale that are not finite. */
CLMOE_API enum clmoe_status clmoe_route_plan(clmoe_context *ctx, const struct clmoe_route_params *params,
                                             clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_route_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                const struct clmoe_route_args *args, cl_uint n_wait,
                                                const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
