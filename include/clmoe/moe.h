/* SPDX-License-Identifier: MIT
 *
 * moe: a whole mixture-of-experts layer.
 *
 *   x [T, H]  ->  y [T, H]
 *
 *   logits = x . router^T                        [T, E]   (or given)
 *   ids, gamma = route(logits)                   [T, k]   (or given)
 *   l = x . down^T                               [T, Z]   with a latent size, else l is x and Z is H
 *   h = act(l . w1[e] + bias1[e])                [T*k, I]
 *   o = gamma * (h . w2[e] + bias2[e])           [T*k, Z]
 *   s = out_scale * sum over k of o              [T, Z]
 *   y = residual + sum_scale * (s . up^T + shared)        s alone without a latent size
 *
 * With gamma_on_input it is h that has gamma * l for l, and o has no gamma (Llama-4).
 *
 * `shared` is given, or made from x by experts that every token uses:
 *
 *   shared = sigmoid(x . shared_gate^T) * act(x . shared_w1^T) . shared_w2^T      the first factor if there
 *                                                                                 is a gate (Qwen2-MoE)
 *
 * Zero experts of the router and pairs over its capacity have no o. With `identity` they pass x on instead,
 * the latter with route.pass_dropped: s gets out_scale * identity_gamma * x, with the sum of their weights
 * that route makes (or that is given).
 *
 * It is a composition of clmoe_route, clmoe_permute, clmoe_matmul and clmoe_combine; their pages define each
 * step. What passes between the stages is kept in mid_dtype: l, h, o and the sum over k before `up`; all
 * other sums stay in fp32. All device-side: T*k pairs per expert are never known to the host. A plan holds a
 * path for few rows and one for many and takes the one that fits T of the call.
 *
 * With route.shared_slots = S the weights are those of E + S experts, and a token has k + S slots: read k + S
 * for k in the shapes of this page.
 *
 * With `unreduced` y is o, [T*k, H] with row p of pair p = token * k + slot; rows of skipped pairs are zero.
 *
 * Adapters on experts (LoRA): a token t may have one adapter a = adapter_ids[t]; for its pairs
 *
 *   h = act(l . w1[e] + bias1[e] + c * B1[v] A1[v] l)         v = a*W + e, c = adapter_scale[a] or 1
 *   o = gamma * (h . w2[e] + bias2[e] + c * B2[v] A2[v] h)
 *
 * where w1 holds W experts. Tokens with an id < 0 or >= L have none. Virtual experts v that no pair uses cost
 * next to nothing.
 *
 * With `offload` the weights and biases of the experts (not of shared ones) stay in host memory: offload.h.
 */
#ifndef CLMOE_MOE_H
#define CLMOE_MOE_H

#include "route.h"
#include "matmul.h"
#include "combine.h"
#include "offload.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the caller brings. */
enum clmoe_moe_source {
    CLMOE_MOE_ROUTER = 0, /* args.router [E, H] (and args.router_bias): the layer computes the logits */
    CLMOE_MOE_LOGITS,     /* args.logits [T, E] */
    CLMOE_MOE_IDS,        /* args.ids and args.gamma [T, k]: routing done elsewhere */
};

/* Experts that every token uses, made by the layer. */
struct clmoe_moe_shared {
    int64_t inter;               /* S: their width together, 1 <= S < 2^30; 0: none */
    enum clmoe_glu glu;          /* layout of shared_w1 */
    struct clmoe_activation act; /* kind CLMOE_ACT_NONE: that of the other experts */
    int gate;                    /* 1: args.shared_gate is given */
};

/* Adapters on experts. */
struct clmoe_moe_adapters {
    int32_t count;          /* L: 0 for none; L * W <= 4096 */
    int64_t rank;           /* r: 1 <= r < 2^30; smaller ranks: pad with zero rows */
    enum clmoe_dtype dtype; /* of A and B: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    /* Layout of b1, whatever that of w1 is. CLMOE_GLU_APART: gate and up have A and B of their own, the up
     * ones in a1_up and b1_up. CLMOE_GLU_NONE if and only if the layer has no up rows. */
    enum clmoe_glu glu;
    int scale; /* 1: args.adapter_scale is given */
};

struct clmoe_moe_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;    /* 0 <= T of a call <= max_tokens; max_tokens * topk < 2^31 */
    int32_t experts, topk; /* E and k as in route.h (k >= 1) */
    int32_t local_experts; /* with route.expert_map: experts that w1 and w2 hold; 0: E + route.shared_slots */
    int64_t hidden, inter; /* H and I, limits as in matmul.h */
    int64_t latent;        /* Z < 2^30: size that the experts work in (Nemotron-3-Super, Kimi-K3); 0: H */
    enum clmoe_dtype
        x_dtype; /* of x, y, residual, shared, router and logits: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype w_dtype;     /* of w1 and w2: the same, a block format or scaled codes */
    int mixed;                    /* 1: w_dtype is that of w1 alone, as in most GGUF files */
    enum clmoe_dtype w2_dtype;    /* of w2 where mixed, else 0 */
    struct clmoe_w_scale w_scale; /* of w1 and w2, as in scale.h: of those that are scaled codes */
    enum clmoe_dtype mid_dtype;   /* of what passes between stages; CLMOE_F32 by default */
    enum clmoe_dtype bias_dtype;  /* of bias1, bias2 and router_bias */
    enum clmoe_dtype dense_dtype; /* of down, up, shared_w1, shared_w2 and shared_gate: as x_dtype */
    enum clmoe_moe_source source;
    /* As in route.h, but plan, max_tokens, experts, topk, logits_dtype and permute_experts are the layer's
     * own and must be 0 here. Unused with CLMOE_MOE_IDS. */
    struct clmoe_route_params route;
    enum clmoe_w_order w_order; /* of w1 and w2 */
    enum clmoe_glu glu;         /* layout of w1 */
    struct clmoe_activation act;
    struct clmoe_moe_shared shared_experts;
    struct clmoe_moe_adapters adapters;
    int identity;         /* 1: see above; not with a latent size */
    int gamma_on_input;   /* 0: gamma on the output of an expert, 1: on its input (Llama-4) */
    int bias1, bias2;     /* 1: args.bias1 (and bias1_up), args.bias2 are given */
    int router_bias;      /* 1: args.router_bias is given (a bias of the logits, unlike route.bias) */
    int residual, shared; /* 1: args.residual, args.shared are given; not shared and shared_experts */
    int unreduced;        /* 1: y is o; without residual, shared, latent, identity and the scales */
    float out_scale;      /* factor on the sum over experts; 0 means 1 */
    float sum_scale;      /* factor on that sum and shared together (Cohere2, Grok-2); 0 means 1. The product
                             of the two must be finite and not 0 */
    int offload;          /* 1: args.offload is given; not with adapters, and for 2048 experts at most */
};

/* Strides and overlap as on the pages of the stages; y may be residual or shared, not x; out_ids
 * must not be given, unlike route's ids. */
struct clmoe_moe_args {
    struct clmoe_tensor x;                   /* [T, H] x_dtype */
    struct clmoe_tensor router, router_bias; /* [R, H] x_dtype, [R] bias_dtype: source ROUTER; R = E + Z */
    struct clmoe_tensor logits;              /* [T, R] x_dtype: source LOGITS */
    struct clmoe_tensor select_bias;         /* [R] CLMOE_F32: route.bias */
    struct clmoe_tensor given;               /* these five as in route.h, where `route` has them */
    struct clmoe_tensor expert_scale, expert_map, valid_tokens, token_mask;
    int32_t capacity;                      /* as in route.h; 0: the plan's */
    struct clmoe_tensor ids, gamma;        /* [T, k] CLMOE_I32, CLMOE_F32: source IDS */
    struct clmoe_tensor identity_gamma;    /* [T] CLMOE_F32: source IDS with identity */
    struct clmoe_tensor identity_x;        /* with identity: [T, H] x_dtype instead of x, if given: a view
                                              of one row with a row stride of 0 is a constant expert */
    const struct clmoe_tensor *w1, *w1_up; /* n_w of [E_i, R, Z] (or by w_order): see clmoe_matmul_args */
    const struct clmoe_tensor *w2;         /* n_w of [E_i, Z, I] */
    const struct clmoe_tensor *w1_scale, *w1_scale_up, *w2_scale; /* scales of scaled codes, as in scale.h */
    const struct clmoe_tensor *w1_zero, *w1_zero_up, *w2_zero;    /* and zeros */
    int32_t n_w;                                                  /* 0 means 1 */
    struct clmoe_tensor bias1, bias1_up;                          /* [E, R], or [E, I] twice; bias_dtype */
    struct clmoe_tensor bias2;                                    /* [E, Z] bias_dtype */
    struct clmoe_tensor down, up;                                 /* [Z, H], [H, Z] dense_dtype: latent */
    struct clmoe_tensor shared_w1;                                /* [R of shared_experts, H] dense_dtype */
    struct clmoe_tensor shared_w1_up;     /* [S, H] dense_dtype with CLMOE_GLU_APART */
    struct clmoe_tensor shared_w2;        /* [H, S] dense_dtype */
    struct clmoe_tensor shared_gate;      /* [1, H] dense_dtype */
    struct clmoe_tensor adapter_ids;      /* [T] CLMOE_I32 */
    struct clmoe_tensor adapter_scale;    /* [L] CLMOE_F32 */
    struct clmoe_tensor a1, a1_up;        /* [L*W, r, Z] adapters.dtype */
    struct clmoe_tensor b1, b1_up;        /* [L*W, R, r], or [L*W, I, r] twice */
    struct clmoe_tensor a2, b2;           /* [L*W, r, I], [L*W, Z, r] */
    struct clmoe_tensor residual, shared; /* [T, H] x_dtype */
    struct clmoe_tensor out_ids,
        out_gamma;          /* optional, [T, k]: where the routing goes, and is read from by the layer (so
                              not CL_MEM_WRITE_ONLY): sources ROUTER and LOGITS */
    struct clmoe_tensor y;  /* [T, H] x_dtype, unreduced [T*k, H] */
    clmoe_offload *offload; /* of the plan's experts; then w1 and its relatives, n_w, bias1 and bias2 are 0 */
};

/* Errors: as for the stages; also sizes beyond 2^61 for max_tokens * k * (Z + I), 2^58 for
 * max_tokens * (H + Z + S) with a latent size or shared_experts, 2^59 for max_tokens * k * (r + the larger
 * one of Z and I, 2I with up rows) with adapters; w2_dtype without mixed; shared and shared_experts both;
 * gated layers with adapters.glu NONE or the reverse; unreduced or identity with what they exclude. */
CLMOE_API enum clmoe_status clmoe_moe_plan(clmoe_context *ctx, const struct clmoe_moe_params *params,
                                           clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_moe_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                              const struct clmoe_moe_args *args, cl_uint n_wait,
                                              const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
