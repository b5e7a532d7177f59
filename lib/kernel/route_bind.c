/* SPDX-License-Identifier: MIT */
#include "route_bind.h"

/* Of cl/route/extras.cl. */
enum {
    OPTION_EXPERT_SCALE = 1,
    OPTION_EXPERT_MAP = 2,
    OPTION_VALID_TOKENS = 4,
    OPTION_TOKEN_MASK = 8,
    OPTION_IDENTITY_GAMMA = 16,
    OPTION_RENORM_KEPT = 32,
    OPTION_PASS_DROPPED = 64,
};

#define SIMPLE_LOCAL 64

int64_t route_local(const struct device *dev, int64_t wanted) {
    const int64_t most = floor_pow2((int64_t)dev->caps.max_work_group);
    return wanted < most ? wanted : most;
}

/* What only the last kernel of a plan does: capacity drops pairs in between. */
static bool has_last_extras(const struct route_problem *p) {
    return p->renorm == CLMOE_RENORM_CLAMP || p->expert_scale || p->expert_map || p->shared_slots ||
           p->experts > p->routed;
}

bool route_has_extras(const struct route_problem *p) {
    return p->temperature != 1.0f || p->logit_cap != 0.0f || p->score == CLMOE_SCORE_SPARSEMIXER ||
           p->given || p->valid_tokens || p->token_mask || (!p->capacity && has_last_extras(p));
}

void route_prepare_capacity(const struct device *dev, const struct route_problem *p, struct recipe *recipe) {
    if (!p->capacity) return;
    const size_t local = (size_t)route_local(dev, SIMPLE_LOCAL);
    spec_define(recipe_add(recipe, "route/capacity.cl", "route_capacity", local), "ORDER", "%d",
                (int)p->capacity_order);
    struct kernel_spec *const spec = recipe_add(recipe, "route/finish.cl", "route_finish", local);
    spec_define(spec, "EXTRAS", "1");
    recipe->workspace = (uint64_t)(p->max_tokens * p->topk);
}

static int32_t options_of(const struct route_problem *p, const struct route_call *c, bool last) {
    int32_t options = 0;
    if (p->valid_tokens) options |= OPTION_VALID_TOKENS;
    if (p->token_mask) options |= OPTION_TOKEN_MASK;
    if (!last) return options;
    if (p->expert_scale) options |= OPTION_EXPERT_SCALE;
    if (p->expert_map) options |= OPTION_EXPERT_MAP;
    if (c->identity_gamma.mem) options |= OPTION_IDENTITY_GAMMA;
    if (p->renorm_kept) options |= OPTION_RENORM_KEPT;
    if (p->pass_dropped) options |= OPTION_PASS_DROPPED;
    return options;
}

/* Before capacity, zero experts are experts like the others. */
static void bind_extras(struct bind *b, const struct route_problem *p, const struct route_call *c,
                        bool last) {
    bind_i32(b, options_of(p, c, last));
    bind_f32(b, p->temperature);
    bind_f32(b, p->logit_cap);
    bind_f32(b, p->mixer_margin);
    bind_i32(b, last ? p->routed : p->experts);
    bind_i32(b, last ? p->shared_slots : 0);
    bind_f32(b, p->shared_gamma);
    bind_view(b, c->given.mem, c->given.offset);
    bind_i64(b, c->given.stride[0]);
    bind_view(b, c->expert_scale.mem, c->expert_scale.offset);
    bind_view(b, c->expert_map.mem, c->expert_map.offset);
    bind_view(b, c->valid_tokens.mem, c->valid_tokens.offset);
    bind_view(b, c->token_mask.mem, c->token_mask.offset);
    bind_view(b, c->identity_gamma.mem, c->identity_gamma.offset);
}

static void bind_result(struct bind *b, const struct route_call *c) {
    bind_view(b, c->ids.mem, c->ids.offset);
    bind_i64(b, c->ids.stride[0]);
    bind_view(b, c->gamma.mem, c->gamma.offset);
    bind_i64(b, c->gamma.stride[0]);
}

static void bind_weighing(struct bind *b, const struct route_problem *p, bool last) {
    bind_i32(b, last ? (int)p->renorm : (int)CLMOE_RENORM_NONE);
    bind_f32(b, last ? p->eps : 0.0f);
    bind_f32(b, last ? p->scale : 1.0f);
}

static bool sorts_at_once(const struct route_call *c) {
    return c->sort_here && c->sorted.pairs <= ROUTE_SORT_PAIRS;
}

/* Of kernels that can sort, which are those of plans with counters. */
static void bind_sorting(struct bind *b, const struct run *run) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    const struct permute_problem sorted = route_sorted(p);
    bind_i32(b, sorts_at_once(c));
    bind_i32(b, sorted.topk);
    bind_i32(b, sorted.experts);
    permute_bind_outputs(b, &c->sorted);
    permute_counted_bind(b, &sorted, run->counters, c->sort_here && !sorts_at_once(c));
}

static enum clmoe_status launch_sort(const struct run *run) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    const struct permute_problem sorted = route_sorted(p);
    const enum clmoe_status status = permute_counted_run(run, 1, &sorted, &c->sorted);
    if (status != CLMOE_OK) permute_counted_forget(run, &sorted);
    return status;
}

static enum clmoe_status launch_row(const struct run *run, int64_t groups) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    const bool last = !p->capacity;
    struct bind b = run_bind(run, 0, c->logits.mem);
    bind_view(&b, c->logits.mem, c->logits.offset);
    bind_i64(&b, c->logits.stride[0]);
    bind_view(&b, c->bias.mem, c->bias.offset);
    bind_result(&b, c);
    bind_i64(&b, c->tokens);
    bind_i32(&b, p->experts);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->n_group);
    bind_i32(&b, p->topk_group);
    bind_weighing(&b, p, last);
    if (route_has_extras(p)) bind_extras(&b, p, c, last);
    if (run->counters) bind_sorting(&b, run);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)groups, run->local[0]);
}

static enum clmoe_status launch_capacity(const struct run *run) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    const bool parts = p->capacity_tokens && p->capacity_tokens < c->tokens;
    const int64_t sequence = parts ? p->capacity_tokens : c->tokens;
    struct bind b = run_bind(run, 1, c->logits.mem);
    bind_result(&b, c);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_i64(&b, c->tokens);
    bind_i64(&b, sequence);
    bind_i32(&b, p->routed);
    bind_i32(&b, p->topk);
    bind_i32(&b, c->capacity);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[1], (uint64_t)(ceil_div(c->tokens, sequence) * p->routed),
                         run->local[1]);
}

static enum clmoe_status launch_finish(const struct run *run) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    struct bind b = run_bind(run, 2, c->logits.mem);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_result(&b, c);
    bind_i64(&b, c->tokens);
    bind_i32(&b, p->topk);
    bind_weighing(&b, p, true);
    bind_extras(&b, p, c, true);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[2], (uint64_t)ceil_div(c->tokens, (int64_t)run->local[2]),
                         run->local[2]);
}

enum clmoe_status route_launch(const struct run *run, int64_t groups) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    const bool outputs = p->topk + p->shared_slots > 0 || c->identity_gamma.mem;
    if (c->tokens == 0 || !outputs) return CLMOE_OK;
    TRY(launch_row(run, groups));
    if (c->sort_here && !sorts_at_once(c)) return launch_sort(run);
    if (!p->capacity) return CLMOE_OK;
    TRY(launch_capacity(run));
    return launch_finish(run);
}
