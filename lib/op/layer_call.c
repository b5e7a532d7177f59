/* SPDX-License-Identifier: MIT
 * One call of a layer: what each stage gets, and the launches in their order. */
#include "layer_stages.h"

static struct clmoe_tensor placed(const clmoe_plan *plan, uint64_t part, struct clmoe_tensor t) {
    t.mem = plan->workspace;
    t.offset = plan->workspace_offset + part;
    return t;
}

struct clmoe_tensor layer_own(const clmoe_plan *plan, uint64_t part, enum clmoe_dtype dtype, int64_t rows,
                              int64_t n) {
    return placed(plan, part, clmoe_tensor_2d(NULL, dtype, rows, n));
}

struct clmoe_tensor layer_own_1d(const clmoe_plan *plan, uint64_t part, enum clmoe_dtype dtype, int64_t n) {
    return placed(plan, part, clmoe_tensor_1d(NULL, dtype, n));
}

/* The same elements with a dimension of one in front; an absent tensor stays absent. */
static struct clmoe_tensor one_expert(const struct clmoe_tensor *t) {
    struct clmoe_tensor r = *t;
    if (!t->mem) return r;
    r.ndim = t->ndim + 1;
    r.shape[0] = 1;
    r.stride[0] = 0;
    for (int d = 0; d < t->ndim; d++) {
        r.shape[d + 1] = t->shape[d];
        r.stride[d + 1] = t->stride[d];
    }
    return r;
}

/* A dense product of `w`, whose weights of one expert are kept in `expert`. */
static enum clmoe_status check_dense(const clmoe_plan *stage, struct clmoe_matmul_args *args,
                                     const struct clmoe_tensor *w, struct clmoe_tensor *expert,
                                     struct matmul_call *call) {
    *expert = one_expert(w);
    args->w = expert;
    return matmul_check(stage, args, NULL, call);
}

/* ---- routing ---- */

/* After this a->ids and a->gamma are there, whoever makes them. */
static enum clmoe_status check_routing(const clmoe_plan *plan, struct layer_args *a, int64_t t,
                                       struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const int32_t k = l->p.topk;
    if (!l->route) return CLMOE_OK;
    if (l->router) {
        a->logits = layer_own(plan, l->parts.logits, CLMOE_F32, t, layer_logits(&l->p));
        struct clmoe_matmul_args args = {.x = a->x, .bias = one_expert(&a->router_bias), .y = a->logits};
        TRY(check_dense(l->router, &args, &a->router, &calls->w_router, &calls->router));
    }
    a->ids = a->out_ids.mem ? a->out_ids : layer_own(plan, l->parts.ids, CLMOE_I32, t, k);
    a->gamma = a->out_gamma.mem ? a->out_gamma : layer_own(plan, l->parts.gamma, CLMOE_F32, t, k);
    struct clmoe_route_args args = {
        .logits = a->logits,
        .bias = a->select_bias,
        .ids = a->ids,
        .gamma = a->gamma,
        .given = a->given,
        .expert_scale = a->route_scale,
        .expert_map = a->expert_map,
        .valid_tokens = a->valid_tokens,
        .token_mask = a->token_mask,
        .capacity = a->capacity,
    };
    if (l->p.identity)
        args.identity_gamma = a->identity_gamma = layer_own_1d(plan, l->parts.identity, CLMOE_F32, t);
    if (l->kept) args.gamma = layer_own(plan, l->parts.chosen_gamma, CLMOE_F32, t, k);
    TRY(route_check(l->route, &args, &calls->route));
    if (!l->kept) return CLMOE_OK;
    const struct clmoe_route_args kept = {
        .logits = args.gamma, .ids = layer_own(plan, l->parts.kept_ids, CLMOE_I32, t, k), .gamma = a->gamma};
    return route_check(l->kept, &kept, &calls->kept);
}

/* ---- the experts ---- */

static enum clmoe_status check_permute(const clmoe_plan *plan, int64_t t, struct clmoe_matmul_args *args,
                                       struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const int32_t numbers = layer_numbers(&l->p);
    args->offsets = layer_own_1d(plan, l->parts.offsets, CLMOE_I32, numbers + 1);
    args->order = layer_own_1d(plan, l->parts.order, CLMOE_I32, t * l->p.topk);
    const struct clmoe_permute_args permute = {
        .ids = args->ids,
        .counts = layer_own_1d(plan, l->parts.counts, CLMOE_I32, numbers),
        .offsets = args->offsets,
        .order = args->order,
    };
    if (l->permute) return permute_check(l->permute, &permute, &calls->permute);
    const struct permute_problem sorted = route_sorted(l->route->problem);
    calls->route.sort_here = true;
    return permute_check_by(l->route, &sorted, &permute, &calls->route.sorted);
}

/* Both products; `o` is what the second writes. */
static enum clmoe_status check_experts(const clmoe_plan *plan, const struct layer_args *a,
                                       const struct clmoe_tensor *x, const struct clmoe_tensor *o, int64_t t,
                                       const struct path *path, const struct written *written,
                                       struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    const struct clmoe_tensor none = {0};
    struct clmoe_matmul_args first = {.ids = a->ids, .limits = a->limits, .n_w = a->n_w};
    if (p->offload) TRY(layer_offload_check(plan, a, t, &first, calls));
    if (path == &l->many) TRY(check_permute(plan, t, &first, calls));
    struct clmoe_matmul_args second = first;
    first.x = *x;
    first.w = a->w1;
    first.w_up = a->w1_up;
    first.w_scale = a->w1_scale;
    first.w_scale_up = a->w1_scale_up;
    first.w_zero = a->w1_zero;
    first.w_zero_up = a->w1_zero_up;
    first.bias = a->bias1;
    first.bias_up = a->bias1_up;
    first.gamma = p->gamma == CLMOE_GAMMA_INPUT ? a->gamma : none;
    first.y = layer_own(plan, l->parts.h, p->mid_dtype, t * p->topk, p->mid);
    second.x = first.y;
    second.w = a->w2;
    second.w_scale = a->w2_scale;
    second.w_zero = a->w2_zero;
    second.bias = a->bias2;
    second.gamma = p->gamma == CLMOE_GAMMA_OUTPUT ? a->gamma : none;
    second.expert_scale = a->expert_scale;
    second.y = *o;
    if (l->adapter) {
        layer_adapters_addends(plan, t, &first, &second);
        TRY(layer_adapters_check(plan, a, t, path, &first, written, calls));
    }
    const int32_t slots = p->offload ? a->offload->slots.slots : p->experts;
    if (p->offload) offload_operands(a->offload, &first, &second);
    TRY(matmul_check_slots(path->first, &first, slots, layer_numbers(p), written, &calls->first));
    return matmul_check_slots(path->second, &second, slots, layer_numbers(p), written, &calls->second);
}

static enum clmoe_status check_shared(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                      struct clmoe_tensor *out, struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    const int64_t inter = p->shared_experts.inter;
    struct clmoe_matmul_args args = {.x = a->x,
                                     .y = layer_own(plan, l->parts.shared_h, p->mid_dtype, t, inter)};
    if (a->shared_w1_up.mem) {
        calls->w_shared_up = one_expert(&a->shared_w1_up);
        args.w_up = &calls->w_shared_up;
    }
    TRY(check_dense(l->shared_first, &args, &a->shared_w1, &calls->w_shared_first, &calls->shared_first));
    *out = layer_own(plan, l->parts.shared, CLMOE_F32, t, p->out);
    struct clmoe_matmul_args second = {.x = args.y, .y = *out};
    if (l->shared_gate) {
        second.gamma = layer_own(plan, l->parts.shared_gate, CLMOE_F32, t, 1);
        struct clmoe_matmul_args gate = {.x = a->x, .y = second.gamma};
        TRY(check_dense(l->shared_gate, &gate, &a->shared_gate, &calls->w_shared_gate, &calls->shared_gate));
    }
    return check_dense(l->shared_second, &second, &a->shared_w2, &calls->w_shared_second,
                       &calls->shared_second);
}

/* Out of the latent space, and the sum of everything. */
static enum clmoe_status check_finish(const clmoe_plan *plan, const struct layer_args *a,
                                      const struct clmoe_tensor *shared, int64_t t,
                                      struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    struct clmoe_matmul_args up = {
        .x = layer_own(plan, l->parts.narrow_sum, l->p.mid_dtype, t, l->p.latent),
        .y = layer_own(plan, l->parts.wide, CLMOE_F32, t, l->p.out),
    };
    TRY(check_dense(l->up, &up, &a->up, &calls->w_up, &calls->up));
    const struct clmoe_combine_args args = {.x = up.y, .residual = a->residual, .shared = *shared, .y = a->y};
    return combine_check(l->finish, &args, &calls->finish);
}

enum clmoe_status layer_check_stages(const clmoe_plan *plan, const struct layer_args *args, int64_t t,
                                     const struct path *path, const struct written *written,
                                     struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    struct layer_args *const a = &calls->args;
    *a = *args;
    struct clmoe_tensor x = a->x, shared = a->shared;
    TRY(check_routing(plan, a, t, calls));
    if (l->down) {
        x = layer_own(plan, l->parts.narrow, p->mid_dtype, t, p->latent);
        struct clmoe_matmul_args down = {.x = a->x, .y = x};
        TRY(check_dense(l->down, &down, &a->down, &calls->w_down, &calls->down));
    }
    const struct clmoe_tensor o =
        p->unreduced ? a->y : layer_own(plan, l->parts.o, p->mid_dtype, t * p->topk, layer_expert_out(p));
    TRY(check_experts(plan, a, &x, &o, t, path, written, calls));
    if (l->shared_first) TRY(check_shared(plan, a, t, &shared, calls));
    if (l->base) {
        shared = layer_own(plan, l->parts.shared, CLMOE_F32, t, p->out);
        struct clmoe_matmul_args base = {.x = a->x, .y = shared};
        TRY(check_dense(l->base, &base, &a->base_w, &calls->w_base, &calls->base));
    }
    if (!l->combine) return CLMOE_OK;
    struct clmoe_combine_args combine = {.x = o, .ids = a->ids};
    if (l->finish) {
        TRY(check_finish(plan, a, &shared, t, calls));
        combine.y = layer_own(plan, l->parts.narrow_sum, p->mid_dtype, t, p->latent);
    } else {
        combine.residual = a->residual;
        combine.shared = shared;
        combine.identity = a->identity_gamma;
        if (p->identity) combine.identity_x = a->identity_x.mem ? a->identity_x : a->x;
        combine.y = a->y;
    }
    TRY(combine_check(l->combine, &combine, &calls->combine));
    const struct combine_problem *const sum = l->combine->problem;
    if (path == &l->few && matmul_sums(path->second->row, &calls->second, sum)) {
        calls->second.sum = sum;
        calls->second.sum_call = &calls->combine;
    }
    return CLMOE_OK;
}

/* ---- the launches ---- */

static enum clmoe_status run(const clmoe_plan *stage, const void *call, struct launch *launch) {
    return stage ? plan_launch(stage, call, launch) : CLMOE_OK;
}

/* Whether something comes after the experts. */
static bool more_follows(const struct layer_problem *l, const struct stage_calls *c) {
    return (l->combine && !c->second.sum) || l->finish;
}

static enum clmoe_status launch_experts(const struct layer_problem *l, const struct path *path,
                                        const struct stage_calls *c, struct launch *launch) {
    const bool apart = l->adapter && l->p.adapters.glu == CLMOE_GLU_APART;
    TRY(run(path->a1, &c->a1, launch));
    TRY(run(path->b1, &c->b1, launch));
    if (apart) {
        TRY(run(path->a1, &c->a1_up, launch));
        TRY(run(path->b1, &c->b1_up, launch));
    }
    TRY(run(path->first, &c->first, launch));
    TRY(run(path->a2, &c->a2, launch));
    TRY(run(path->b2, &c->b2, launch));
    launch->more = more_follows(l, c);
    return run(path->second, &c->second, launch);
}

static enum clmoe_status launch_sorted(const struct layer_problem *l, const struct path *path,
                                       const struct stage_calls *c, struct launch *launch) {
    const bool sorted = path == &l->many;
    TRY(run(sorted ? l->permute : NULL, &c->permute, launch));
    TRY(run(l->adapter, &c->adapter, launch));
    TRY(run(sorted ? l->adapter_permute : NULL, &c->adapter_permute, launch));
    return launch_experts(l, path, c, launch);
}

enum clmoe_status layer_launch(const clmoe_plan *plan, const struct path *path, const struct stage_calls *c,
                               struct launch *launch) {
    const struct layer_problem *const l = plan->problem;
    launch->more = true;
    TRY(run(l->router, &c->router, launch));
    TRY(run(l->route, &c->route, launch));
    TRY(run(l->kept, &c->kept, launch));
    TRY(run(l->down, &c->down, launch));
    TRY(run(l->shared_gate, &c->shared_gate, launch));
    TRY(run(l->shared_first, &c->shared_first, launch));
    TRY(run(l->shared_second, &c->shared_second, launch));
    TRY(run(l->base, &c->base, launch));
    launch->more = !l->p.offload || more_follows(l, c);
    TRY(l->p.offload ? layer_offload_launch(plan, path, c, launch) : launch_sorted(l, path, c, launch));
    launch->more = l->finish != NULL;
    TRY(run(c->second.sum ? NULL : l->combine, &c->combine, launch));
    TRY(run(l->up, &c->up, launch));
    launch->more = false;
    return run(l->finish, &c->finish, launch);
}
