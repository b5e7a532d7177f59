/* SPDX-License-Identifier: MIT
 *
 * lora: many low-rank adapters on one batch, and X-LoRA's mixtures of them.
 *
 *   y[t] = base[t] + W x[t] + scale * sum over j = 0..k-1 of c[t,j] * s[a] * B[a] (A[a] x[t]),   a = ids[t,j]
 *
 *   x [T, K], A [L, r, K], B [L, N, r], s [L]  ->  y [T, N]
 *
 * Adapters are experts without an activation: the layer is clmoe_route (for X-LoRA), clmoe_permute, two
 * clmoe_matmul and clmoe_combine. An id of -1 means no adapter; a token with none gets base + W x (or zeros).
 *
 * Ranks that differ: A and B are padded to the largest, r. With args.ranks only the first ranks[a] rows of
 * A[a] and columns of B[a] are used, and what is behind them may hold anything; without, pad with zeros.
 *
 * Multi-adapter (CLMOE_LORA_IDS): ids say which adapters a row uses, c their weights (all 1 if absent).
 *
 * X-LoRA (CLMOE_LORA_SCALINGS): c comes from the classifier's output z, as PEFT's xlora config names it:
 *
 *   c = softmax of z / T over the adapters (enable_softmax: route.score = softmax, softmax_temperature:
 *       route.temperature), or z (identity, whatever the temperature)
 *   c = c for its k largest, nothing for the rest (top_k_lora), without renormalisation
 *   c = softmax over the k kept values of a token (enable_softmax_topk: kept_softmax = 1)
 *   c = c * route.scale (global_scaling_weight)
 *
 * The largest are so by value, not by magnitude. A selected zero stays selected; inf and NaN of a dropped
 * adapter leave no trace. Scalings of all layers [T, layers, L] (layerwise_scalings): z is the view of this
 * layer's, with an offset of layer * L and a row stride of layers * L elements.
 */
#ifndef CLMOE_LORA_H
#define CLMOE_LORA_H

#include "route.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_lora_source {
    CLMOE_LORA_IDS = 0,
    CLMOE_LORA_SCALINGS,
};

struct clmoe_lora_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;       /* 0 <= T of a call <= max_tokens */
    int32_t adapters;         /* 1 <= L <= 4096 */
    int32_t topk;             /* k: adapters of a token, 1 <= k <= min(L, 64) for SCALINGS, <= 4096 for IDS */
    int64_t rank, in, out;    /* r, K, N: limits as in matmul.h */
    enum clmoe_dtype x_dtype; /* of x, base and y: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype w_dtype; /* of A and B: the same */
    enum clmoe_lora_source source;
    struct clmoe_route_params route; /* SCALINGS: score, temperature, renorm, renorm_eps, scale; the rest 0 */
    int kept_softmax;                /* SCALINGS: 1: enable_softmax_topk; without renorm and its eps */
    enum clmoe_dtype scalings_dtype; /* of z */
    int weights;                     /* IDS: 1 if args.weights is given */
    int adapter_scale;               /* 1: args.adapter_scale is given */
    int ranks;                       /* 1: args.ranks is given */
    int base;                        /* 1: args.base is given */
    int w;                           /* 1: args.w is given: the frozen layer as a part of this one */
    enum clmoe_dtype base_dtype;     /* of W: as x_dtype */
    float scale;                     /* 0 means 1; finite */
};

/* The last stride of every tensor must be 1. y may be the same view as base; apart from that it must not
 * overlap an input. */
struct clmoe_lora_args {
    struct clmoe_tensor x;             /* [T, K] x_dtype */
    struct clmoe_tensor a;             /* [L, r, K] w_dtype */
    struct clmoe_tensor b;             /* [L, N, r] w_dtype */
    struct clmoe_tensor adapter_scale; /* [L] CLMOE_F32: alpha / r, say */
    struct clmoe_tensor ranks;         /* [L] CLMOE_I32, 0..r each */
    struct clmoe_tensor ids;           /* [T, k] CLMOE_I32: IDS */
    struct clmoe_tensor weights;       /* [T, k] CLMOE_F32: IDS, optional */
    struct clmoe_tensor scalings;      /* [T, L] scalings_dtype: SCALINGS */
    struct clmoe_tensor base;          /* [T, N] x_dtype: the frozen layer's output, or a residual */
    struct clmoe_tensor w;             /* [N, K] base_dtype; W x stays in fp32 until y is rounded */
    struct clmoe_tensor y;             /* [T, N] x_dtype */
};

/* Errors: as for the stages; also max_tokens * topk * (r + N) beyond 2^61, max_tokens * N beyond 2^58
 * with w, kept_softmax with renorm, renorm_eps or CLMOE_LORA_IDS. */
CLMOE_API enum clmoe_status clmoe_lora_plan(clmoe_context *ctx, const struct clmoe_lora_params *params,
                                            clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_lora_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                               const struct clmoe_lora_args *args, cl_uint n_wait,
                                               const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
