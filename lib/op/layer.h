/* SPDX-License-Identifier: MIT
 * The layer that moe and lora are: route, two grouped products, weighted sum. Both public operations fill
 * these structs, which name everything either of them can ask for, and hand over.
 *
 *   x [T, in] -> (logits) -> ids, gamma -> h [T*k, mid] -> o [T*k, out] -> y [T, out]
 *
 * With a latent size the experts' x and o are that wide, between two dense products. */
#ifndef CLMOE_OP_LAYER_H
#define CLMOE_OP_LAYER_H

#include "clmoe/moe.h"
#include "plan/plan.h"

struct layer_params {
    const char *op; /* "moe" or "lora": the kind of the plan */
    struct clmoe_plan_options plan;
    int64_t max_tokens;
    int32_t experts, topk;        /* those with weights; slots of a token */
    int64_t in, mid, out, latent; /* latent: 0 for none */
    /* x_dtype: also of y, residual, shared and router; dense_dtype: of down, up and the shared experts */
    enum clmoe_dtype x_dtype, w1_dtype, w2_dtype, mid_dtype, bias_dtype, dense_dtype;
    enum clmoe_moe_source source;
    struct clmoe_route_params route; /* complete; unused with CLMOE_MOE_IDS */
    bool kept_softmax;               /* another softmax over the k weights of a token */
    struct clmoe_w_scale w_scale;    /* of w1 and w2, if their dtype is scaled */
    enum clmoe_w_order w_order;
    enum clmoe_glu glu;
    struct clmoe_activation act;
    enum clmoe_gamma gamma;
    struct clmoe_moe_shared shared_experts; /* act filled in; inter 0: none */
    struct clmoe_moe_adapters adapters;     /* count 0: none */
    bool bias1, bias2, router_bias, expert_scale, residual, shared, identity, unreduced;
    bool base;                  /* a dense product of x beside the experts: base_w */
    bool limits;                /* expert e has limits[e] columns of h */
    bool offload;               /* args.offload has the experts' weights and biases */
    float out_scale, sum_scale; /* 1 by default */
};

struct layer_args {
    struct clmoe_tensor x, router, router_bias, logits, select_bias, ids, gamma;
    struct clmoe_tensor given, route_scale, expert_map, valid_tokens, token_mask, identity_gamma, identity_x;
    int32_t capacity;
    const struct clmoe_tensor *w1, *w1_up, *w2, *w1_scale, *w1_scale_up, *w2_scale;
    const struct clmoe_tensor *w1_zero, *w1_zero_up, *w2_zero;
    int32_t n_w;
    struct clmoe_tensor bias1, bias1_up, bias2, expert_scale, limits, residual, shared, out_ids, out_gamma, y;
    struct clmoe_tensor down, up, shared_w1, shared_w1_up, shared_w2, shared_gate, base_w;
    struct clmoe_tensor adapter_ids, adapter_scale, a1, a1_up, b1, b1_up, a2, b2;
    clmoe_offload *offload;
};

/* What the layer fills in itself. */
bool layer_route_sizes_unset(const struct clmoe_route_params *route);

enum clmoe_status layer_plan(clmoe_context *ctx, const struct layer_params *params, clmoe_plan **plan);

enum clmoe_status layer_enqueue(const clmoe_plan *plan, const struct layer_args *args, cl_command_queue queue,
                                cl_uint n_wait, const cl_event *wait, cl_event *event);

#endif
