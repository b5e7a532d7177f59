/* SPDX-License-Identifier: MIT
 * The layer that moe and lora are: route, two grouped products, weighted sum. Both public operations fill
 * these structs, which name everything either of them can ask for, and hand over.
 *
 *   x [T, in] -> (logits) -> ids, gamma -> h [T*k, mid] -> o [T*k, out] -> y [T, out]
 */
#ifndef CLMOE_OP_LAYER_H
#define CLMOE_OP_LAYER_H

#include "clmoe/moe.h"
#include "plan/plan.h"

struct layer_params {
    const char *op; /* "moe" or "lora": the kind of the plan */
    struct clmoe_plan_options plan;
    int64_t max_tokens;
    int32_t experts, topk;
    int64_t in, mid, out;
    enum clmoe_dtype x_dtype, w_dtype, mid_dtype,
        bias_dtype; /* x_dtype: also of y, residual, shared and router */
    enum clmoe_moe_source source;
    struct clmoe_route_params route; /* complete; unused with CLMOE_MOE_IDS */
    enum clmoe_w_order w_order;
    enum clmoe_glu glu;
    struct clmoe_activation act;
    enum clmoe_gamma gamma;
    bool bias1, bias2, router_bias, expert_scale, residual, shared;
    float out_scale;
};

struct layer_args {
    struct clmoe_tensor x, router, router_bias, logits, select_bias, ids, gamma;
    const struct clmoe_tensor *w1, *w1_up, *w2;
    int32_t n_w;
    struct clmoe_tensor bias1, bias1_up, bias2, expert_scale, residual, shared, out_ids, out_gamma, y;
};

enum clmoe_status layer_plan(clmoe_context *ctx, const struct layer_params *params, clmoe_plan **plan);

enum clmoe_status layer_enqueue(const clmoe_plan *plan, const struct layer_args *args, cl_command_queue queue,
                                cl_uint n_wait, const cl_event *wait, cl_event *event);

#endif
