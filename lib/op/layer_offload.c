/* SPDX-License-Identifier: MIT
 * Experts that take turns in slots. The host reads the ids and gives each expert a number, which is what the
 * products see: those of one turn are neighbours, from turn * slots on, so that a turn looks to them like one
 * of several buffers of weights. Rows do not depend on the turn they are made in. */
#include "layer_stages.h"

#include "device/clerr.h"

/* Reads the ids, numbers the experts, and writes the numbers to where the products look for ids. */
static enum clmoe_status number_pairs(const clmoe_plan *plan, const struct stage_calls *c,
                                      struct launch *launch) {
    const struct clmoe_tensor *const ids = &c->args.ids;
    const int64_t t = ids->shape[0], k = ids->shape[1], size = sizeof(int32_t);
    const bool contiguous = ids->stride[0] == 0 && ids->stride[1] == 0;
    const int64_t stride = contiguous ? k : ids->stride[0];
    /* Rows that lie apart are gathered, and those that overlap are read as they lie. */
    const bool apart = stride > k;
    const size_t row = (size_t)(k * size), all = (size_t)(((t - 1) * stride + k) * size);
    const struct launch_rows from = {ids->mem, ids->offset, apart ? (size_t)t : 1, apart ? row : all,
                                     apart ? (size_t)(stride * size) : 0};
    int32_t *const got = plan->host, *const numbers = got + t * k;
    TRY(launch_read(launch, &from, got));
    struct clmoe_offload *const o = c->args.offload;
    slots_route(&o->slots, got, t, (int32_t)k, apart ? k : stride, numbers);
    return launch_write(launch, c->numbers.mem, c->numbers.offset, (size_t)(t * k * size), numbers);
}

/* The call for another turn; biases count from the first number on, and wrap around below it. */
static void begin_turn(struct matmul_call *call, int32_t first) {
    call->bias.offset -= (uint64_t)((first - call->first) * call->bias.stride[0]);
    call->bias_up.offset -= (uint64_t)((first - call->first) * call->bias_up.stride[0]);
    call->first = first;
}

static enum clmoe_status launch_turn(const struct path *path, const struct matmul_call *first,
                                     const struct matmul_call *second, struct clmoe_offload *o, int32_t turn,
                                     struct launch *launch) {
    TRY(offload_fill(o, turn));
    const cl_event filled = offload_filled(o, turn);
    if (filled) TRY(launch_wait(launch, 1, &filled));
    TRY(plan_launch(path->first, first, launch));
    TRY(plan_launch(path->second, second, launch));
    cl_event used;
    TRY(launch_mark(launch, &used));
    const enum clmoe_status status = offload_use(o, turn, used);
    clReleaseEvent(used);
    TRY(status);
    /* Copies into these slots wait for them on another queue. */
    TRY_CL(launch->log, clFlush(launch->queue));
    return CLMOE_OK;
}

static enum clmoe_status launch_turns(const clmoe_plan *plan, const struct path *path,
                                      const struct stage_calls *c, struct launch *launch) {
    const struct layer_problem *const l = plan->problem;
    struct clmoe_offload *const o = c->args.offload;
    struct matmul_call first = c->first, second = c->second;
    TRY(number_pairs(plan, c, launch));
    if (path == &l->many) TRY(plan_launch(l->permute, &c->permute, launch));
    for (int32_t turn = 0; turn < o->slots.n_turns; turn++) {
        begin_turn(&first, turn * o->slots.slots);
        begin_turn(&second, turn * o->slots.slots);
        TRY(launch_turn(path, &first, &second, o, turn, launch));
    }
    return CLMOE_OK;
}

enum clmoe_status layer_offload_launch(const clmoe_plan *plan, const struct path *path,
                                       const struct stage_calls *c, struct launch *launch) {
    struct clmoe_offload *const o = c->args.offload;
    o->slots.n_loads = 0; /* so that a failure before them forgets none */
    const enum clmoe_status status = launch_turns(plan, path, c, launch);
    if (status != CLMOE_OK) {
        offload_abandon(o, launch->queue);
        return status;
    }
    o->stats.calls++;
    o->stats.hits += (uint64_t)o->slots.n_hits;
    o->stats.misses += (uint64_t)o->slots.n_loads;
    return CLMOE_OK;
}
