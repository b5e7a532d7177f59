/* SPDX-License-Identifier: MIT
 * Experts in slots. The device numbers them by a map: those in slots are neighbours, like those of one buffer
 * of weights, and their products begin at once. The host meanwhile reads the ids, has the other experts
 * brought, and launches the products of each as if it had a buffer of its own. Rows do not depend on that. */
#include "layer_stages.h"

#include "device/clerr.h"

enum clmoe_status layer_offload_add(clmoe_plan *layer) {
    struct layer_problem *const l = layer->problem;
    const struct offload_problem problem = {l->p.topk, l->p.experts};
    const struct clmoe_plan_options options = plan_stage_options(&l->p.plan);
    TRY(plan_make(layer->ctx, &offload_table, &problem, sizeof problem, &options, true, &l->numbers));
    plan_add_stage(layer, l->numbers);
    return CLMOE_OK;
}

enum clmoe_status layer_offload_check(const clmoe_plan *plan, const struct layer_args *a, int64_t t,
                                      struct clmoe_matmul_args *first, struct stage_calls *calls) {
    const struct layer_problem *const l = plan->problem;
    const struct layer_params *const p = &l->p;
    const struct clmoe_tensor map = clmoe_tensor_1d(a->offload->map, CLMOE_I32, p->experts);
    first->ids = layer_own(plan, l->parts.numbers, CLMOE_I32, t, p->topk);
    struct offload_call *const c = &calls->numbers;
    c->pairs = t * p->topk;
    a->offload->slots.n_loads = 0; /* so that a failure before this call's forgets none */
    const struct operand_rule rules[] = {
        {"ids", &a->ids, &c->ids, USE_READ, true, CLMOE_I32, 2, {t, p->topk}},
        {"map", &map, &c->map, USE_READ, true, CLMOE_I32, 1, {p->experts}},
        {"numbers", &first->ids, &c->numbers, USE_WRITE, true, CLMOE_I32, 2, {t, p->topk}},
    };
    return operands_check(plan, rules, sizeof rules / sizeof *rules);
}

/* Both products of the experts that the calls are for; `*used` completes behind them. */
static enum clmoe_status launch_products(const struct path *path, const struct matmul_call *first,
                                         const struct matmul_call *second, struct launch *launch,
                                         cl_event *used) {
    TRY(plan_launch(path->first, first, launch));
    TRY(plan_launch(path->second, second, launch));
    TRY(launch_mark(launch, used));
    const cl_int err = clFlush(launch->queue); /* other queues wait for the event */
    if (err == CL_SUCCESS) return CLMOE_OK;
    clReleaseEvent(*used);
    return clerr_report(launch->log, err, "clFlush");
}

/* The ids, as they are when `routed` completes, and what they need. */
static enum clmoe_status read_ids(const clmoe_plan *plan, const struct stage_calls *c, cl_event routed) {
    const struct clmoe_tensor *const ids = &c->args.ids;
    struct clmoe_offload *const o = c->args.offload;
    const int64_t t = ids->shape[0], k = ids->shape[1], size = sizeof(int32_t);
    const int64_t stride = c->numbers.ids.stride[0];
    /* Rows that lie apart are gathered, and those that overlap are read as they lie. */
    const bool apart = stride > k;
    const size_t row = (size_t)(k * size), all = (size_t)(((t - 1) * stride + k) * size);
    const struct offload_rows from = {ids->mem, ids->offset, apart ? (size_t)t : 1, apart ? row : all,
                                      apart ? (size_t)(stride * size) : 0};
    TRY(offload_read(o, &from, routed, plan->host));
    slots_route(&o->slots, plan->host, t, (int32_t)k, apart ? k : stride);
    if (o->slots.n_loads) o->map_sent = false;
    return CLMOE_OK;
}

/* The hits are on their way before the host knows which they are. */
static enum clmoe_status launch_hits(const clmoe_plan *plan, const struct path *path,
                                     const struct stage_calls *c, struct launch *launch) {
    const struct layer_problem *const l = plan->problem;
    cl_event routed, used;
    TRY(offload_begin(c->args.offload, launch));
    TRY(plan_launch(l->numbers, &c->numbers, launch));
    TRY(launch_mark(launch, &routed));
    enum clmoe_status status = path == &l->many ? plan_launch(l->permute, &c->permute, launch) : CLMOE_OK;
    if (status == CLMOE_OK) status = launch_products(path, &c->first, &c->second, launch, &used);
    if (status == CLMOE_OK) {
        status = read_ids(plan, c, routed);
        if (status == CLMOE_OK) status = offload_use_hits(c->args.offload, used);
        clReleaseEvent(used);
    }
    clReleaseEvent(routed);
    return status;
}

/* Load `i`, and the products of what it brings. */
static enum clmoe_status launch_load(const struct path *path, const struct stage_calls *c, int32_t i,
                                     struct launch *launch) {
    struct clmoe_offload *const o = c->args.offload;
    const struct slot_load *const load = &o->slots.loads[i];
    struct matmul_call first = c->first, second = c->second;
    struct clmoe_tensor views[OFFLOAD_ARRAYS];
    cl_event filled, used;
    TRY(offload_load(o, i, &filled));
    enum clmoe_status status = launch_wait(launch, filled);
    clReleaseEvent(filled);
    TRY(status);
    offload_turn(o, load->slot, o->slots.slots + load->expert, views, &first, &second);
    TRY(launch_products(path, &first, &second, launch, &used));
    status = offload_use_load(o, i, used);
    clReleaseEvent(used);
    return status;
}

enum clmoe_status layer_offload_launch(const clmoe_plan *plan, const struct path *path,
                                       const struct stage_calls *c, struct launch *launch) {
    struct clmoe_offload *const o = c->args.offload;
    TRY(launch_hits(plan, path, c, launch));
    for (int32_t i = 0; i < o->slots.n_loads; i++)
        TRY(launch_load(path, c, i, launch));
    o->stats.calls++;
    o->stats.hits += (uint64_t)o->slots.n_hits;
    o->stats.misses += (uint64_t)o->slots.n_loads;
    return CLMOE_OK;
}
