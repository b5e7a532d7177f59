/* SPDX-License-Identifier: MIT
 *
 * moe: a whole mixture-of-experts layer.
 *
 *   x [T, H]  ->  y [T, H]
 *
 *   logits = x . router^T                        [T, E]   (or given)
 *   ids, gamma = route(logits)                   [T, k]   (or given)
 *   h = act(x . w1[e] + bias1[e])                [T*k, I]
 *   o = gamma * (h . w2[e] + bias2[e])           [T*k, H]
 *   y = residual + shared + sum over k of o      [T, H]
 *
 * It is a composition of clmoe_route, clmoe_permute, clmoe_matmul and clmoe_combine; their pages define each
 * step. h and o are kept in mid_dtype. All device-side: T*k pairs per expert are never known to the host. A
 * plan holds a path for few rows and one for many and takes the one that fits T of the call.
 */
#ifndef CLMOE_MOE_H
#define CLMOE_MOE_H

#include "route.h"
#include "matmul.h"
#include "combine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the caller brings. */
enum clmoe_moe_source {
    CLMOE_MOE_ROUTER = 0, /* args.router [E, H] (and args.router_bias): the layer computes the logits */
    CLMOE_MOE_LOGITS,     /* args.logits [T, E] */
    CLMOE_MOE_IDS,        /* args.ids and args.gamma [T, k]: routing done elsewhere */
};

struct clmoe_moe_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;    /* 0 <= T of a call <= max_tokens; max_tokens * topk < 2^31 */
    int32_t experts, topk; /* as in route.h (k >= 1) */
    int64_t hidden, inter; /* H and I, limits as in matmul.h */
    enum clmoe_dtype
        x_dtype; /* of x, y, residual, shared, router and logits: CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype w_dtype;    /* of w1 and w2: the same or CLMOE_Q8_0 */
    enum clmoe_dtype mid_dtype;  /* of h and o; CLMOE_F32 by default */
    enum clmoe_dtype bias_dtype; /* of bias1, bias2 and router_bias */
    enum clmoe_moe_source source;
    /* score, bias, n_group, topk_group, group_score, renorm, renorm_eps, scale as in route.h; the sizes and
     * dtypes of this struct are taken from the layer and must be 0 here. Unused with CLMOE_MOE_IDS. */
    struct clmoe_route_params route;
    enum clmoe_w_order w_order; /* of w1 and w2 */
    enum clmoe_glu glu;         /* layout of w1 */
    struct clmoe_activation act;
    int gamma_on_input;   /* 0: gamma on the output of an expert, 1: on its input (Llama-4) */
    int bias1, bias2;     /* 1: args.bias1 (and bias1_up), args.bias2 are given */
    int router_bias;      /* 1: args.router_bias is given (a bias of the logits, unlike route.bias) */
    int residual, shared; /* 1: args.residual, args.shared are given */
    float out_scale;      /* factor on the sum over experts; 0 means 1 */
};

/* Strides and overlap as on the pages of the stages; y may be residual or shared, not x. */
struct clmoe_moe_args {
    struct clmoe_tensor x;                   /* [T, H] x_dtype */
    struct clmoe_tensor router, router_bias; /* [E, H] x_dtype, [E] bias_dtype: source ROUTER */
    struct clmoe_tensor logits;              /* [T, E] x_dtype: source LOGITS */
    struct clmoe_tensor select_bias;         /* [E] CLMOE_F32: route.bias */
    struct clmoe_tensor ids, gamma;          /* [T, k] CLMOE_I32, CLMOE_F32: source IDS */
    const struct clmoe_tensor *w1, *w1_up;   /* n_w of [E_i, R, H] (or by w_order): see clmoe_matmul_args */
    const struct clmoe_tensor *w2;           /* n_w of [E_i, H, I] */
    int32_t n_w;                             /* 0 means 1 */
    struct clmoe_tensor bias1, bias1_up;     /* [E, R], or [E, I] twice; bias_dtype */
    struct clmoe_tensor bias2;               /* [E, H] bias_dtype */
    struct clmoe_tensor residual, shared;    /* [T, H] x_dtype */
    struct clmoe_tensor out_ids,
        out_gamma;         /* optional copies of the routing, [T, k]: sources ROUTER and LOGITS */
    struct clmoe_tensor y; /* [T, H] x_dtype */
};

/* Errors: as for the stages; also max_tokens * topk * (H + I) beyond 2^61. */
CLMOE_API enum clmoe_status clmoe_moe_plan(clmoe_context *ctx, const struct clmoe_moe_params *params,
                                           clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_moe_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                              const struct clmoe_moe_args *args, cl_uint n_wait,
                                              const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
