/* SPDX-License-Identifier: MIT */
#include "layer_stages.h"

#include "operands.h"

#include <stdlib.h>

bool layer_route_sizes_unset(const struct clmoe_route_params *r) {
    return !r->plan.kernel && !r->plan.external_workspace && r->max_tokens == 0 && r->experts == 0 &&
           r->topk == 0 && r->logits_dtype == CLMOE_F32 && r->permute_experts == 0;
}

/* ---- making the plan ---- */

static enum clmoe_status check_sizes(const struct log *log, const struct layer_params *p) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->topk >= 1 && p->topk <= 4096, "topk = %d", (int)p->topk);
    REQUIRE(log, product_fits(p->max_tokens, p->topk, INT32_MAX), "max_tokens = %lld, topk = %d",
            (long long)p->max_tokens, (int)p->topk);
    REQUIRE(log, p->in >= 1 && p->in <= INT32_MAX, "size of the input: %lld", (long long)p->in);
    REQUIRE(log, p->mid >= 1 && p->mid < 1 << 30, "size between the products: %lld", (long long)p->mid);
    REQUIRE(log, p->out >= 1 && p->out < 1 << 30, "size of the output: %lld", (long long)p->out);
    REQUIRE(log, p->latent >= 0 && p->latent < 1 << 30, "latent = %lld", (long long)p->latent);
    REQUIRE(log, product_fits(p->max_tokens * p->topk, p->mid + layer_expert_out(p), INT64_MAX / 4),
            "max_tokens = %lld, topk = %d: %lld elements for each pair overflow", (long long)p->max_tokens,
            (int)p->topk, (long long)(p->mid + layer_expert_out(p)));
    REQUIRE(log, dtype_is_float(p->x_dtype), "x_dtype = %d", (int)p->x_dtype);
    REQUIRE(log, dtype_is_float(p->mid_dtype), "mid_dtype = %d", (int)p->mid_dtype);
    REQUIRE(log, (unsigned)p->source <= CLMOE_MOE_IDS, "source = %d", (int)p->source);
    REQUIRE(log, !p->offload || p->experts <= 2048, "offload with experts = %d > 2048", (int)p->experts);
    REQUIRE(log, !p->offload || !p->adapters.count, "offload with adapters.count = %d",
            (int)p->adapters.count);
    return CLMOE_OK;
}

static enum clmoe_status check_dense(const struct log *log, const struct layer_params *p) {
    const struct clmoe_moe_shared *const s = &p->shared_experts;
    const bool any = p->latent || s->inter || p->base;
    REQUIRE(log, !any || dtype_is_float(p->dense_dtype), "dense_dtype = %d", (int)p->dense_dtype);
    REQUIRE(log, s->inter >= 0 && s->inter < 1 << 30, "shared_experts.inter = %lld", (long long)s->inter);
    REQUIRE(log, !any || product_fits(p->max_tokens, p->out + p->latent + s->inter, INT64_MAX / 32),
            "max_tokens = %lld: %lld elements for each token overflow", (long long)p->max_tokens,
            (long long)(p->out + p->latent + s->inter));
    REQUIRE(log, !s->inter || !p->shared,
            "shared is given, and shared_experts.inter = %lld: only one of them", (long long)s->inter);
    REQUIRE(log, s->inter || (!s->gate && s->glu == CLMOE_GLU_NONE),
            "shared_experts.gate = %d, shared_experts.glu = %d without shared_experts.inter", s->gate,
            (int)s->glu);
    REQUIRE(
        log,
        !p->unreduced || (!p->residual && !p->shared && !s->inter && !p->latent && !p->identity &&
                          p->out_scale == 1.0f && p->sum_scale == 1.0f),
        "unreduced, with residual = %d, shared = %d, identity = %d, shared_experts.inter = %lld, latent = "
        "%lld, out_scale = %g or sum_scale = %g",
        p->residual, p->shared, p->identity, (long long)s->inter, (long long)p->latent, (double)p->out_scale,
        (double)p->sum_scale);
    REQUIRE(log, !p->identity || !p->latent, "identity with latent = %lld", (long long)p->latent);
    REQUIRE(log, !p->identity || p->source == CLMOE_MOE_IDS || p->route.zero_experts || p->route.pass_dropped,
            "identity without route.zero_experts (%d) and route.pass_dropped", (int)p->route.zero_experts);
    return layer_adapters_check_params(log, p);
}

enum clmoe_status layer_plan(clmoe_context *ctx, const struct layer_params *params, clmoe_plan **out) {
    TRY(check_sizes(&ctx->log, params));
    TRY(check_dense(&ctx->log, params));
    const struct layer_problem l = {.p = *params, .parts = layer_lay_out(params)};
    clmoe_plan *plan = NULL;
    TRY(plan_make_layer(ctx, params->op, &l, sizeof l, &params->plan, &plan));
    enum clmoe_status status = layer_add_stages(plan);
    ((struct layer_problem *)plan->problem)->p.plan.kernel =
        NULL; /* the caller's string lives only for the call */
    if (status == CLMOE_OK && params->offload) {
        plan->host = malloc(sizeof(int32_t) * (size_t)(params->max_tokens * params->topk + 1));
        if (!plan->host) status = CLMOE_E_NO_MEMORY;
    }
    if (status != CLMOE_OK) clmoe_plan_destroy(&plan);
    *out = plan;
    return status;
}

/* ---- one call ---- */

/* An input that is only looked at here: a stage takes it. */
static struct operand_rule input(struct operand *unused, const char *name, const struct clmoe_tensor *tensor,
                                 bool wanted, enum clmoe_dtype dtype, int ndim, int64_t d0, int64_t d1) {
    return (struct operand_rule){name, tensor, unused, USE_READ, wanted, dtype, ndim, {d0, d1}};
}

static struct operand_rule weights(struct operand *unused, const char *name,
                                   const struct clmoe_tensor *tensor, bool wanted, enum clmoe_dtype dtype,
                                   int64_t e, int64_t rows, int64_t columns) {
    return (struct operand_rule){name, tensor, unused, USE_READ, wanted, dtype, 3, {e, rows, columns}};
}

static int64_t glu_rows(enum clmoe_glu glu, int64_t n) {
    return glu == CLMOE_GLU_NONE || glu == CLMOE_GLU_APART ? n : 2 * n;
}

/* What the stages do not see together: operands that must be absent, and inputs of one against outputs of
 * another. The experts' weights come later, against `written`. */
static enum clmoe_status check_rows(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                    struct written *written) {
    const struct layer_params *const p = &((const struct layer_problem *)plan->problem)->p;
    const bool router = p->source == CLMOE_MOE_ROUTER, logits = p->source == CLMOE_MOE_LOGITS;
    const bool ids = p->source == CLMOE_MOE_IDS, gamma = ids && p->gamma != CLMOE_GAMMA_NONE;
    const bool given = !ids && p->route.select == CLMOE_SELECT_GIVEN;
    const bool bias1 = p->bias1 && !p->offload, bias2 = p->bias2 && !p->offload;
    const bool bias1_up = bias1 && p->glu == CLMOE_GLU_APART;
    const int64_t e = p->experts, k = p->topk, z = layer_expert_out(p), r = layer_logits(p);
    const enum clmoe_dtype x_t = p->x_dtype, b_t = p->bias_dtype;
    struct operand u;
    struct operand_rule out_ids = input(&u, "out_ids", &a->out_ids, a->out_ids.mem, CLMOE_I32, 2, t, k);
    struct operand_rule out_gamma =
        input(&u, "out_gamma", &a->out_gamma, a->out_gamma.mem, CLMOE_F32, 2, t, k);
    struct operand_rule y = input(&u, "y", &a->y, true, x_t, 2, p->unreduced ? t * k : t, p->out);
    out_ids.use = out_gamma.use = y.use = USE_WRITE;
    out_ids.may_be[0] = "given";
    y.may_be[0] = "residual";
    y.may_be[1] = "shared";
    const struct operand_rule rules[] = {
        input(&u, "bias1", &a->bias1, bias1, b_t, 2, e, glu_rows(p->glu, p->mid)),
        input(&u, "bias1_up", &a->bias1_up, bias1_up, b_t, 2, e, p->mid),
        input(&u, "bias2", &a->bias2, bias2, b_t, 2, e, z),
        input(&u, "expert_scale", &a->expert_scale, p->expert_scale, CLMOE_F32, 1, e, 0),
        input(&u, "limits", &a->limits, p->limits, CLMOE_I32, 1, e, 0),
        input(&u, "x", &a->x, true, x_t, 2, t, p->in),
        input(&u, "router", &a->router, router, x_t, 2, r, p->in),
        input(&u, "router_bias", &a->router_bias, p->router_bias, b_t, 1, r, 0),
        input(&u, "logits", &a->logits, logits, p->route.logits_dtype, 2, t, r),
        input(&u, "select_bias", &a->select_bias, !ids && p->route.bias, CLMOE_F32, 1, r, 0),
        input(&u, "ids", &a->ids, ids, CLMOE_I32, 2, t, k),
        input(&u, "given", &a->given, given, CLMOE_I32, 2, t, p->route.topk),
        input(&u, "gamma", &a->gamma, gamma, CLMOE_F32, 2, t, k),
        input(&u, "residual", &a->residual, p->residual, x_t, 2, t, p->out),
        input(&u, "shared", &a->shared, p->shared, x_t, 2, t, p->out),
        out_ids,
        out_gamma,
        y,
    };
    REQUIRE(&plan->ctx->log, !ids || (!a->out_ids.mem && !a->out_gamma.mem),
            "out_ids or out_gamma is given, but the routing comes from the caller");
    return operands_check_outputs(plan, rules, sizeof rules / sizeof *rules, written);
}

/* What only the routing looks at, and what passes by the experts. */
static enum clmoe_status check_route(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                     const struct written *written) {
    const struct layer_params *const p = &((const struct layer_problem *)plan->problem)->p;
    const struct clmoe_route_params *const r = &p->route;
    const bool ids = p->source == CLMOE_MOE_IDS;
    const bool identity_x = p->identity && a->identity_x.mem;
    struct operand u;
    const struct operand_rule rules[] = {
        input(&u, "expert_scale", &a->route_scale, !ids && r->expert_scale, CLMOE_F32, 1, r->experts, 0),
        input(&u, "expert_map", &a->expert_map, !ids && r->expert_map, CLMOE_I32, 1,
              r->experts + r->shared_slots, 0),
        input(&u, "valid_tokens", &a->valid_tokens, !ids && r->valid_tokens, CLMOE_I32, 1, 1, 0),
        input(&u, "token_mask", &a->token_mask, !ids && r->token_mask, CLMOE_U8, 1, t, 0),
        input(&u, "identity_gamma", &a->identity_gamma, ids && p->identity, CLMOE_F32, 1, t, 0),
        input(&u, "identity_x", &a->identity_x, identity_x, p->x_dtype, 2, t, p->out),
    };
    REQUIRE(&plan->ctx->log, a->capacity >= 0 && (a->capacity == 0 || (!ids && r->capacity)),
            "capacity = %d, the plan's is %d", (int)a->capacity, (int)(ids ? 0 : r->capacity));
    return operands_check_inputs(plan, rules, sizeof rules / sizeof *rules, written);
}

/* Weights of the dense products and of the adapters. */
static enum clmoe_status check_weights(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                       const struct written *written) {
    const struct layer_params *const p = &((const struct layer_problem *)plan->problem)->p;
    const struct clmoe_moe_shared *const s = &p->shared_experts;
    const int64_t in = layer_expert_in(p), out = layer_expert_out(p), r = p->adapters.rank;
    const int64_t v = (int64_t)p->adapters.count * p->experts;
    const bool latent = p->latent, adapters = p->adapters.count;
    const bool shared_up = s->inter && s->glu == CLMOE_GLU_APART;
    const bool up = adapters && p->adapters.glu == CLMOE_GLU_APART;
    const bool scale = adapters && p->adapters.scale;
    const enum clmoe_dtype w_t = p->dense_dtype, a_t = p->adapters.dtype;
    struct operand u;
    const struct operand_rule rules[] = {
        input(&u, "down", &a->down, latent, w_t, 2, p->latent, p->in),
        input(&u, "up", &a->up, latent, w_t, 2, p->out, p->latent),
        input(&u, "shared_w1", &a->shared_w1, s->inter, w_t, 2, glu_rows(s->glu, s->inter), p->in),
        input(&u, "shared_w1_up", &a->shared_w1_up, shared_up, w_t, 2, s->inter, p->in),
        input(&u, "shared_w2", &a->shared_w2, s->inter, w_t, 2, p->out, s->inter),
        input(&u, "shared_gate", &a->shared_gate, s->gate, w_t, 2, 1, p->in),
        input(&u, "w", &a->base_w, p->base, w_t, 2, p->out, p->in),
        input(&u, "adapter_ids", &a->adapter_ids, adapters, CLMOE_I32, 1, t, 0),
        input(&u, "adapter_scale", &a->adapter_scale, scale, CLMOE_F32, 1, p->adapters.count, 0),
        weights(&u, "a1", &a->a1, adapters, a_t, v, r, in),
        weights(&u, "a1_up", &a->a1_up, up, a_t, v, r, in),
        weights(&u, "b1", &a->b1, adapters, a_t, v, glu_rows(p->adapters.glu, p->mid), r),
        weights(&u, "b1_up", &a->b1_up, up, a_t, v, p->mid, r),
        weights(&u, "a2", &a->a2, adapters, a_t, v, r, p->mid),
        weights(&u, "b2", &a->b2, adapters, a_t, v, out, r),
    };
    return operands_check_inputs(plan, rules, sizeof rules / sizeof *rules, written);
}

/* Either the arguments or an object of the same context has the experts' weights. */
static enum clmoe_status check_offload(const clmoe_plan *plan, const struct layer_args *a) {
    const struct log *const log = &plan->ctx->log;
    const struct layer_params *const p = &((const struct layer_problem *)plan->problem)->p;
    REQUIRE(log, p->offload == (a->offload != NULL), "offload = %p, the plan was made %s it",
            (const void *)a->offload, p->offload ? "for" : "without");
    if (!p->offload) return CLMOE_OK;
    REQUIRE(log,
            !a->w1 && !a->w1_up && !a->w2 && !a->w1_scale && !a->w1_scale_up && !a->w2_scale && !a->w1_zero &&
                !a->w1_zero_up && !a->w2_zero && a->n_w == 0,
            "weights of experts are given, and offload");
    REQUIRE(log, a->offload->ctx == plan->ctx, "offload belongs to another context");
    REQUIRE(log, a->offload->slots.experts == p->experts, "offload has %d experts, the plan %d",
            (int)a->offload->slots.experts, (int)p->experts);
    return CLMOE_OK;
}

enum clmoe_status layer_enqueue(const clmoe_plan *plan, const struct layer_args *args, cl_command_queue queue,
                                cl_uint n_wait, const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, plan->op, queue, args, n_wait, wait, event));
    const struct layer_problem *const l = plan->problem;
    int64_t t;
    struct written written = {0};
    TRY(operand_rows(plan, "x", &args->x, l->p.max_tokens, &t));
    TRY(check_offload(plan, args));
    TRY(check_rows(plan, args, t, &written));
    TRY(check_route(plan, args, t, &written));
    TRY(check_weights(plan, args, t, &written));
    const struct path *const path = t <= l->few_tokens && l->few.first ? &l->few : &l->many;
    struct stage_calls calls;
    struct launch launch;
    if (t > 0) TRY(layer_check_stages(plan, args, t, path, &written, &calls));
    TRY(launch_begin(&launch, &plan->ctx->log, queue, n_wait, wait, event));
    const enum clmoe_status status =
        launch_end(&launch, t > 0 ? layer_launch(plan, path, &calls, &launch) : CLMOE_OK);
    if (status != CLMOE_OK && t > 0 && l->p.offload) offload_abandon(args->offload, queue);
    return status;
}
