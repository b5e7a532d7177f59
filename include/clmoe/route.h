/* SPDX-License-Identifier: MIT
 *
 * route: router logits -> the k experts of each token and their gate weights, gamma.
 *
 *   logits [T, R]  ->  ids [T, k + S], gamma [T, k + S]        R = E experts, then Z zero experts
 *
 * For each token, in fp32 whatever the dtype of the logits:
 *   1. value    v[e] = logit / temperature; with a cap, v = cap * tanh(v / cap)
 *   2. score    s[e] = softmax(v)[e] | sigmoid(v) | v | sqrt(log(1 + exp(v))) | sparsemixer (below)
 *   3. key      q[e] = s[e] + bias[e] if a selection bias is given, else s[e]. The bias never enters gamma.
 *   4. groups   (n_group > 1) expert e is in group e / (R/n_group). A group scores the largest q in
 *               it, or the sum of its two largest. The topk_group best groups stay; q = -inf elsewhere,
 *               so an expert of another group is chosen only when the kept ones have fewer than k
 *               experts, which is an error of the params. Or (EACH) there is no choice of groups: each
 *               brings its k/n_group best.
 *   5. select   the k largest q, best first; equal ones by lower id (equal groups by lower group). With
 *               EACH: those of group 0, best first, then those of group 1, ... With GIVEN: ids that the
 *               caller brings.
 *   6. gamma    w[j] = s[ids[j]], from the unbiased score
 *   7. capacity (capacity > 0) drops the pairs (token, slot) of an expert beyond its capacity (below)
 *   8. renorm   none | w[j] /= sum(w) + eps | w[j] /= max(sum(w), eps); where that divisor is 0, w stays as
 *               it is. The sum includes dropped pairs unless renorm_kept says otherwise.
 *   9. scale    w[j] *= scale, and *= expert_scale[ids[j]] where that is given and ids[j] < E
 *  10. zero     a slot of a zero expert (id >= E) becomes id -1
 *  11. map      ids become expert_map[id] where a map is given; a negative one is -1
 *  12. shared   slots k .. k+S-1: ids E .. E+S-1 (through the map), gamma shared_gamma
 *
 * A slot with id -1 has gamma 0, and all operations of this library skip it. Slots get id -1 if they are
 * dropped, of a zero expert, mapped to a negative id, given out of range, or of an invalid token: then all of
 * its slots, the shared ones included.
 *
 * Where the key is a monotone function of the logit (no bias; groups absent, all kept, EACH or scored by
 * their largest) the selection compares logits themselves, so scores that round to the same number make no
 * ties that the logits do not have, and ids have the same bits on every device.
 *
 * NaN and infinities: a NaN logit counts as -inf, a NaN bias as -inf for that expert's key, and so does any
 * other NaN that a key or a group's score would be (inf - inf). A +inf logit shares the softmax with the
 * other +inf ones; if all logits are -inf the softmax is uniform. Chosen ids are distinct and in range for
 * any input bits. (identity score: that of a chosen NaN or -inf logit is -inf. With a cap the value of -inf
 * is -cap, as the formula says: such an expert has a weight.)
 *
 * Sparsemixer: slot j's score is the softmax over those experts that come at or after it in the order of step
 * 5, without those of (v[ids[j]] - v[e]) / max(|v[e]|, v[ids[j]]) > 2 * mixer_eps, and so that of ids[j]
 * among them. No bias, no groups, no given ids.
 *
 * Zero experts have logits but no weights: they do nothing (zero), or add gamma * x (identity) or gamma times
 * a constant vector to the token's output. args.identity_gamma gets the sum of their gamma of each token, in
 * the order of slots, for who adds that.
 *
 * Capacity: of the pairs that chose an expert, the first `capacity` in the order capacity_order stay; with
 * capacity_tokens = n > 0, of each n tokens in a row (a sequence) by themselves. Pairs of zero experts and of
 * invalid tokens do not count. Three kernels instead of one.
 *
 * Sorting (permute_experts = n > 0): what clmoe_permute makes of the T * (k + S) pairs of ids as they come
 * out, with n experts, is made at once: where the device can do that (kernel route_packed, no capacity)
 * without a launch of its own up to 4096 pairs and by one for more, else by clmoe_permute's kernels. n is
 * E + S, say, or with a map the number of local experts.
 *
 * Settings of known families (reference: their own code):
 *   Mixtral, Qwen3-MoE, GroveMoE, DBRX   softmax, renorm sum
 *   OLMoE, Qwen2-MoE, Jamba              softmax
 *   gpt-oss, Granite, Aria               "top-k, then softmax": the same numbers as softmax, renorm sum
 *   Llama-4                              "top-k, then sigmoid": the same numbers as sigmoid
 *   DeepSeek-V2                          softmax, groups by largest, scale
 *   DeepSeek-V3, Kimi-K2, GLM-4.5        sigmoid, bias, groups by top-2 sum, renorm sum with eps 1e-20, scale
 *   DeepSeek-V4                          sqrt-softplus, bias (or given ids), renorm sum with eps 1e-20, scale
 *   ERNIE-4.5                            softmax, bias, renorm clamp with eps 1e-12
 *   Gemma-4; Pangu-Pro                   softmax, renorm sum; softmax, groups EACH; both with expert_scale
 *   Grok                                 softmax, cap 30
 *   Phi-3.5                              sparsemixer
 *   LongCat                              softmax, bias, scale, zero experts
 *   Switch; NLLB                         softmax with capacity; renorm clamp, renorm_kept, order SLOT(_BEST)
 *   X-LoRA                               identity, or softmax with temperature; renorm sum for its softmax
 *                                        over the kept ones
 * To select by one tensor and weigh by another, route the first, then the second with the ids given.
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
    CLMOE_SCORE_SQRT_SOFTPLUS,
    CLMOE_SCORE_SPARSEMIXER,
};

enum clmoe_group_score {
    CLMOE_GROUP_MAX = 0,
    CLMOE_GROUP_TOP2_SUM, /* a group of one expert scores that expert's q */
    CLMOE_GROUP_EACH,     /* no choice of groups: k/n_group experts of each */
};

enum clmoe_select {
    CLMOE_SELECT_TOPK = 0,
    CLMOE_SELECT_GIVEN, /* args.given */
};

enum clmoe_renorm {
    CLMOE_RENORM_NONE = 0,
    CLMOE_RENORM_SUM,   /* by the sum + eps */
    CLMOE_RENORM_CLAMP, /* by the sum, or eps if that is larger */
};

/* Which pairs of an expert come first; ties by token, then by slot. */
enum clmoe_capacity_order {
    CLMOE_CAPACITY_TOKEN = 0, /* by token, then by slot (Switch) */
    CLMOE_CAPACITY_SLOT,      /* by slot: all first choices before all second ones (GShard, NLLB) */
    CLMOE_CAPACITY_SLOT_BEST, /* by slot, then tokens of the largest score s of slot 0 first (NLLB's
                                 batch_prioritized_routing) */
    CLMOE_CAPACITY_SCORE,     /* pairs of the largest score s first */
};

struct clmoe_route_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;            /* 0 <= T of a call <= max_tokens */
    int32_t experts;               /* E; 1 <= E, E + Z <= 4096 */
    int32_t topk;                  /* 0 <= k <= min(E + Z, 64) */
    enum clmoe_dtype logits_dtype; /* CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_score score;
    int bias;           /* 1: args.bias is given */
    int32_t n_group;    /* 0 or 1: no groups; else a divisor of E + Z, at most 64 */
    int32_t topk_group; /* with groups: 1 <= topk_group <= n_group, topk_group * R/n_group >= k */
    enum clmoe_group_score group_score; /* EACH: n_group divides k, topk_group is 0 */
    enum clmoe_renorm renorm;
    float renorm_eps; /* >= 0, finite */
    float scale;      /* 0 means 1; finite */

    float temperature;        /* 0 means 1; > 0, finite */
    float logit_cap;          /* 0: none; > 0, finite */
    float mixer_eps;          /* of sparsemixer; 0 means 0.01; > 0, finite */
    enum clmoe_select select; /* GIVEN: no bias, no groups, not sparsemixer; k may exceed E + Z */
    int32_t zero_experts;     /* Z */
    int32_t shared_slots;     /* S; 0 <= S <= 64 */
    float shared_gamma;       /* 0 means 1; finite */
    int expert_scale;         /* 1: args.expert_scale is given */
    int expert_map;           /* 1: args.expert_map is given */
    int valid_tokens;         /* 1: args.valid_tokens is given */
    int token_mask;           /* 1: args.token_mask is given */

    int32_t capacity; /* 0: none; else max_tokens * k < 2^31 */
    enum clmoe_capacity_order capacity_order;
    int64_t capacity_tokens; /* 0: all of a call; else so many make a sequence of its own capacity */
    int renorm_kept;         /* 1: the sum of step 8 is of the pairs that were not dropped */
    int pass_dropped;        /* 1: gamma of dropped pairs is added to args.identity_gamma (old Switch) */

    int32_t permute_experts; /* 0: none; else the pairs of ids are sorted by so many experts (below) */
};

/* The last stride of every tensor must be 1. Outputs must not overlap inputs or each other, but ids may be
 * the same view as given. */
struct clmoe_route_args {
    struct clmoe_tensor logits; /* [T, E + Z] logits_dtype */
    struct clmoe_tensor bias;   /* [E + Z] CLMOE_F32 */
    struct clmoe_tensor ids;    /* [T, k + S] CLMOE_I32 */
    struct clmoe_tensor gamma;  /* [T, k + S] CLMOE_F32 */

    struct clmoe_tensor given;          /* [T, k] CLMOE_I32; may repeat; -1 and what is not in [0, E + Z): no
                                           expert, not in the sum of step 8 */
    struct clmoe_tensor expert_scale;   /* [E] CLMOE_F32 */
    struct clmoe_tensor expert_map;     /* [E + S] CLMOE_I32 */
    struct clmoe_tensor valid_tokens;   /* [1] CLMOE_I32: tokens from this one on are invalid (padding) */
    struct clmoe_tensor token_mask;     /* [T] CLMOE_U8: tokens of 0 are invalid */
    struct clmoe_tensor identity_gamma; /* optional output [T] CLMOE_F32: see above; plans with zero_experts
                                           or pass_dropped */
    int32_t capacity;                   /* of this call; 0: the plan's */

    struct clmoe_tensor counts, offsets, order, inverse; /* outputs of clmoe_permute_args, with
                                                            permute_experts; inverse is optional */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above, another dtype, unknown enum values, numbers
 * that are not finite or negative, options of groups, given ids, sparsemixer or capacity that do not go
 * together; with permute_experts as for clmoe_permute. */
CLMOE_API enum clmoe_status clmoe_route_plan(clmoe_context *ctx, const struct clmoe_route_params *params,
                                             clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_route_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                const struct clmoe_route_args *args, cl_uint n_wait,
                                                const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
