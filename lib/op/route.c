/* SPDX-License-Identifier: MIT */
#include "route.h"

#include "operands.h"
#include "permute.h"

#include <math.h>

static enum clmoe_status check_groups(const struct log *log, const struct clmoe_route_params *p) {
    const int32_t experts = p->experts + p->zero_experts;
    REQUIRE(log, (unsigned)p->group_score <= CLMOE_GROUP_EACH, "group_score = %d", (int)p->group_score);
    REQUIRE(log, p->n_group >= 0 && p->n_group <= 64, "n_group = %d", (int)p->n_group);
    if (p->n_group <= 1) return CLMOE_OK;
    REQUIRE(log, experts % p->n_group == 0, "experts = %d, n_group = %d", (int)experts, (int)p->n_group);
    if (p->group_score == CLMOE_GROUP_EACH) {
        REQUIRE(log, p->topk % p->n_group == 0, "topk = %d, n_group = %d: groups bring the same number each",
                (int)p->topk, (int)p->n_group);
        REQUIRE(log, p->topk_group == 0, "topk_group = %d with CLMOE_GROUP_EACH", (int)p->topk_group);
        return CLMOE_OK;
    }
    REQUIRE(log, p->topk_group >= 1 && p->topk_group <= p->n_group, "topk_group = %d, n_group = %d",
            (int)p->topk_group, (int)p->n_group);
    REQUIRE(log, p->topk_group * (experts / p->n_group) >= p->topk,
            "topk_group = %d of %d experts each hold fewer than topk = %d", (int)p->topk_group,
            (int)(experts / p->n_group), (int)p->topk);
    return CLMOE_OK;
}

static enum clmoe_status check_sizes(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, p->max_tokens >= 0, "max_tokens = %lld", (long long)p->max_tokens);
    REQUIRE(log, p->experts >= 1 && p->experts <= 4096, "experts = %d", (int)p->experts);
    REQUIRE(log, p->zero_experts >= 0 && p->zero_experts <= 4096 - p->experts,
            "zero_experts = %d, experts = %d", (int)p->zero_experts, (int)p->experts);
    REQUIRE(log, p->topk >= 0 && p->topk <= 64, "topk = %d", (int)p->topk);
    REQUIRE(log, p->select == CLMOE_SELECT_GIVEN || p->topk <= p->experts + p->zero_experts,
            "topk = %d, experts = %d, zero_experts = %d", (int)p->topk, (int)p->experts,
            (int)p->zero_experts);
    REQUIRE(log, p->shared_slots >= 0 && p->shared_slots <= 64, "shared_slots = %d", (int)p->shared_slots);
    REQUIRE(log, dtype_is_float(p->logits_dtype), "logits_dtype = %d", (int)p->logits_dtype);
    return CLMOE_OK;
}

static enum clmoe_status check_weights(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, (unsigned)p->score <= CLMOE_SCORE_SPARSEMIXER, "score = %d", (int)p->score);
    REQUIRE(log, (unsigned)p->renorm <= CLMOE_RENORM_CLAMP, "renorm = %d", (int)p->renorm);
    REQUIRE(log, isfinite(p->renorm_eps) && p->renorm_eps >= 0.0f, "renorm_eps = %g", (double)p->renorm_eps);
    REQUIRE(log, isfinite(p->scale), "scale = %g", (double)p->scale);
    REQUIRE(log, isfinite(p->temperature) && p->temperature >= 0.0f, "temperature = %g",
            (double)p->temperature);
    REQUIRE(log, isfinite(p->logit_cap) && p->logit_cap >= 0.0f, "logit_cap = %g", (double)p->logit_cap);
    REQUIRE(log, isfinite(p->mixer_eps) && p->mixer_eps >= 0.0f, "mixer_eps = %g", (double)p->mixer_eps);
    REQUIRE(log, isfinite(p->shared_gamma), "shared_gamma = %g", (double)p->shared_gamma);
    return CLMOE_OK;
}

static enum clmoe_status check_select(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, (unsigned)p->select <= CLMOE_SELECT_GIVEN, "select = %d", (int)p->select);
    REQUIRE(log, p->select == CLMOE_SELECT_TOPK || (!p->bias && p->n_group <= 1),
            "bias = %d, n_group = %d, but the ids are given", p->bias, (int)p->n_group);
    REQUIRE(log, p->select == CLMOE_SELECT_TOPK || p->score != CLMOE_SCORE_SPARSEMIXER,
            "sparsemixer chooses itself, but the ids are given");
    REQUIRE(log, p->score != CLMOE_SCORE_SPARSEMIXER || (!p->bias && p->n_group <= 1),
            "bias = %d, n_group = %d with sparsemixer", p->bias, (int)p->n_group);
    return CLMOE_OK;
}

static enum clmoe_status check_capacity(const struct log *log, const struct clmoe_route_params *p) {
    REQUIRE(log, p->capacity >= 0, "capacity = %d", (int)p->capacity);
    REQUIRE(log, (unsigned)p->capacity_order <= CLMOE_CAPACITY_SCORE, "capacity_order = %d",
            (int)p->capacity_order);
    REQUIRE(log, p->capacity_tokens >= 0, "capacity_tokens = %lld", (long long)p->capacity_tokens);
    REQUIRE(
        log, p->capacity || !(p->capacity_order || p->capacity_tokens || p->renorm_kept || p->pass_dropped),
        "capacity_order = %d, capacity_tokens = %lld, renorm_kept = %d, pass_dropped = %d without capacity",
        (int)p->capacity_order, (long long)p->capacity_tokens, p->renorm_kept, p->pass_dropped);
    REQUIRE(log, !p->capacity || product_fits(p->max_tokens, p->topk, INT32_MAX),
            "max_tokens = %lld, topk = %d: too many pairs for a capacity", (long long)p->max_tokens,
            (int)p->topk);
    return CLMOE_OK;
}

static enum clmoe_status check_params(const struct log *log, const struct clmoe_route_params *p) {
    TRY(check_sizes(log, p));
    TRY(check_weights(log, p));
    TRY(check_groups(log, p));
    TRY(check_select(log, p));
    return check_capacity(log, p);
}

/* Groups that all stay change nothing; the sum over a group of one is its largest. */
static enum route_group group_of(const struct clmoe_route_params *p) {
    if (p->n_group <= 1) return ROUTE_GROUP_NONE;
    if (p->group_score == CLMOE_GROUP_EACH) return ROUTE_GROUP_EACH;
    if (p->topk_group == p->n_group) return ROUTE_GROUP_NONE;
    if (p->group_score == CLMOE_GROUP_MAX || p->n_group == p->experts + p->zero_experts)
        return ROUTE_GROUP_MAX;
    return ROUTE_GROUP_TOP2_SUM;
}

static float number_or(float number, float otherwise) {
    return number == 0.0f ? otherwise : number;
}

static enum clmoe_status normalise(const struct log *log, const struct clmoe_route_params *p,
                                   struct route_problem *problem) {
    TRY(check_params(log, p));
    const enum route_group group = group_of(p);
    *problem = (struct route_problem){
        .max_tokens = p->max_tokens,
        .experts = p->experts + p->zero_experts,
        .routed = p->experts,
        .topk = p->topk,
        .logits_dtype = p->logits_dtype,
        .score = p->score,
        .bias = p->bias,
        .group = group,
        .n_group = group == ROUTE_GROUP_NONE ? 1 : p->n_group,
        .topk_group = group == ROUTE_GROUP_NONE ? 1 : p->topk_group,
        .given = p->select == CLMOE_SELECT_GIVEN,
        .renorm = p->renorm,
        .eps = p->renorm_eps,
        .scale = number_or(p->scale, 1.0f),
        .temperature = number_or(p->temperature, 1.0f),
        .logit_cap = p->logit_cap,
        .mixer_margin = 2.0f * number_or(p->mixer_eps, 0.01f),
        .shared_slots = p->shared_slots,
        .shared_gamma = number_or(p->shared_gamma, 1.0f),
        .expert_scale = p->expert_scale,
        .expert_map = p->expert_map,
        .valid_tokens = p->valid_tokens,
        .token_mask = p->token_mask,
        .capacity = p->capacity,
        .capacity_order = p->capacity_order,
        .capacity_tokens = p->capacity_tokens,
        .renorm_kept = p->renorm_kept,
        .pass_dropped = p->pass_dropped,
        .permute_experts = p->permute_experts,
    };
    return CLMOE_OK;
}

enum clmoe_status route_stage(clmoe_context *ctx, const struct clmoe_route_params *params, bool stage,
                              clmoe_plan **plan) {
    struct route_problem problem;
    TRY(normalise(&ctx->log, params, &problem));
    return plan_make(ctx, &route_table, &problem, sizeof problem, &params->plan, stage, plan);
}

/* Sorting is a stage of its own, which runs where the row of the first one does not do that by itself. */
static enum clmoe_status add_stages(clmoe_plan *plan, const struct clmoe_route_params *p) {
    struct clmoe_route_params route = *p;
    route.plan = plan_stage_options(&p->plan);
    const struct clmoe_permute_params permute = {
        .plan = route.plan,
        .max_tokens = p->max_tokens,
        .topk = p->topk + p->shared_slots,
        .experts = p->permute_experts,
    };
    clmoe_plan *stage;
    TRY(route_stage(plan->ctx, &route, true, &stage));
    plan_add_stage(plan, stage);
    TRY(permute_stage(plan->ctx, &permute, true, &stage));
    plan_add_stage(plan, stage);
    return plan_finish_layer(plan, p->plan.kernel, 0);
}

enum clmoe_status clmoe_route_plan(clmoe_context *ctx, const struct clmoe_route_params *params,
                                   clmoe_plan **out) {
    TRY(plan_check_create(ctx, params, out));
    if (!params->permute_experts) return route_stage(ctx, params, false, out);
    const int sorted = params->permute_experts;
    clmoe_plan *plan = NULL;
    TRY(plan_make_layer(ctx, "route", &sorted, sizeof sorted, &params->plan, &plan));
    const enum clmoe_status status = add_stages(plan, params);
    if (status != CLMOE_OK) clmoe_plan_destroy(&plan);
    *out = plan;
    return status;
}

/* Clang-format aligns a table like this in steps. */
/* clang-format off */
static enum clmoe_status check_operands(const clmoe_plan *plan, const struct clmoe_route_args *a, int64_t t,
                                        bool sorts, struct route_call *c) {
    const struct route_problem *const p = plan->problem;
    const int64_t e = p->experts, k = p->topk, slots = p->topk + p->shared_slots;
    const bool identity = a->identity_gamma.mem && (p->experts > p->routed || p->pass_dropped);
    const bool inverse = sorts && a->inverse.mem;
    const struct operand_rule rules[] = {
        {"logits", &a->logits, &c->logits, USE_READ, true, p->logits_dtype, 2, {t, e}},
        {"bias", &a->bias, &c->bias, USE_READ, p->bias, CLMOE_F32, 1, {e}},
        {"given", &a->given, &c->given, USE_READ, p->given, CLMOE_I32, 2, {t, k}},
        {"expert_scale", &a->expert_scale, &c->expert_scale, USE_READ, p->expert_scale, CLMOE_F32, 1, {p->routed}},
        {"expert_map", &a->expert_map, &c->expert_map, USE_READ, p->expert_map, CLMOE_I32, 1, {p->routed + p->shared_slots}},
        {"valid_tokens", &a->valid_tokens, &c->valid_tokens, USE_READ, p->valid_tokens, CLMOE_I32, 1, {1}},
        {"token_mask", &a->token_mask, &c->token_mask, USE_READ, p->token_mask, CLMOE_U8, 1, {t}},
        {"ids", &a->ids, &c->ids, USE_WRITE, true, CLMOE_I32, 2, {t, slots}, .may_be = {"given"}},
        {"gamma", &a->gamma, &c->gamma, USE_WRITE, true, CLMOE_F32, 2, {t, slots}},
        {"identity_gamma", &a->identity_gamma, &c->identity_gamma, USE_WRITE, identity, CLMOE_F32, 1, {t}},
        {"counts", &a->counts, &c->sorted.counts, USE_WRITE, sorts, CLMOE_I32, 1, {p->permute_experts}},
        {"offsets", &a->offsets, &c->sorted.offsets, USE_WRITE, sorts, CLMOE_I32, 1, {p->permute_experts + 1}},
        {"order", &a->order, &c->sorted.order, USE_WRITE, sorts, CLMOE_I32, 1, {permute_length(&a->order, t * slots)}},
        {"inverse", &a->inverse, &c->sorted.inverse, USE_WRITE, inverse, CLMOE_I32, 1, {permute_length(&a->inverse, t * slots)}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}
/* clang-format on */

static enum clmoe_status check_call(const clmoe_plan *plan, const struct clmoe_route_args *args, bool sorts,
                                    struct route_call *call) {
    const struct route_problem *const p = plan->problem;
    const struct log *const log = &plan->ctx->log;
    TRY(operand_rows(plan, "logits", &args->logits, p->max_tokens, &call->tokens));
    REQUIRE(log, args->capacity >= 0, "capacity = %d", (int)args->capacity);
    REQUIRE(log, p->capacity || !args->capacity, "capacity = %d, but the plan was made without one",
            (int)args->capacity);
    call->capacity = args->capacity ? args->capacity : p->capacity;
    call->sort_here = false;
    TRY(check_operands(plan, args, call->tokens, sorts, call));
    if (!sorts) return CLMOE_OK;
    call->sorted.pairs = call->tokens * (p->topk + p->shared_slots);
    call->sorted.ids = call->ids;
    call->sort_here = route_sorts(&plan->ctx->dev, plan->row, p, call->sorted.pairs);
    return CLMOE_OK;
}

enum clmoe_status route_check(const clmoe_plan *plan, const struct clmoe_route_args *args,
                              struct route_call *call) {
    return check_call(plan, args, false, call);
}

enum clmoe_status clmoe_route_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                      const struct clmoe_route_args *args, cl_uint n_wait,
                                      const cl_event *wait, cl_event *event) {
    TRY(plan_check_enqueue(plan, "route", queue, args, n_wait, wait, event));
    const bool sorts = plan->n_stages > 0;
    const clmoe_plan *const route = sorts ? plan->stages[0] : plan;
    struct route_call call;
    TRY(check_call(route, args, sorts, &call));
    struct launch launch;
    TRY(launch_begin(&launch, &plan->ctx->log, queue, n_wait, wait, event));
    enum clmoe_status status = plan_launch(route, &call, &launch);
    if (status == CLMOE_OK && sorts && !call.sort_here)
        status = plan_launch(plan->stages[1], &call.sorted, &launch);
    return launch_end(&launch, status);
}
