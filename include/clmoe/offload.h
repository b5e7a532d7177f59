/* SPDX-License-Identifier: MIT
 *
 * offload: layers whose experts are too large for the device.
 *
 * The weights stay in host memory. On the device a few slots, of one expert each, hold the experts that were
 * wanted often and of late; a call finds those there that it can (hits) and brings the others (misses), each
 * in place of the one with the lowest count. Counts are of calls, and age by 1/64 with every call. The same
 * calls in the same order always have the same hits.
 *
 *   params.offload = 1;                                    a plan of moe.h, without args.w1 and its relatives
 *   clmoe_moe_plan(ctx, &params, &plan);
 *   clmoe_offload_create(plan, &offload_params, &offload); one for each layer of the model
 *   clmoe_moe_enqueue(plan, queue, &(struct clmoe_moe_args){.x = x, .offload = offload, .y = y}, ...);
 *
 * y has the same bits as from weights that are all on the device. Hits are computed at once, while the host
 * learns which experts else the call wants; these are copied on a queue of their own, and each is computed
 * when it is there, while the next one comes. Any budget for one expert or more will do, as they take turns
 * in the slots. Slots belong to one layer, so that counts compare, and layers that run one after the other do
 * not push each other out: share a device's memory out among them by their budgets.
 *
 * What such a clmoe_moe_enqueue does that no other enqueue function does: it waits for the routing, reads the
 * ids and decides by them; it waits for copies where it needs their room; and where it fails on the way, it
 * waits until what it has enqueued is over. So the events that it shall wait for must not depend on the
 * calling thread. To have fewer misses, clmoe_offload_prefetch brings experts ahead of time.
 *
 * Thread-safety: an object belongs to one thread at a time, and calls that use the same one must follow one
 * another on the device, like calls of the same plan.
 */
#ifndef CLMOE_OFFLOAD_H
#define CLMOE_OFFLOAD_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clmoe_offload clmoe_offload;

/* For each array that struct clmoe_moe_args would have for the plan, under the same name, an array of
 * pointers, one for each expert with weights; the others are NULL. A pointer is to the expert's elements, in
 * the order of the plan and without gaps: [R, Z] of w1, say, or [P, K, 32] packed. Arrays of pointers are
 * copied; what they point to must not change while the object lives. */
struct clmoe_offload_params {
    uint64_t budget; /* bytes of device memory for slots; more than one for each expert are not made */
    const void *const *w1, *const *w1_up, *const *w2;
    const void *const *w1_scale, *const *w1_scale_up, *const *w2_scale;
    const void *const *w1_zero, *const *w1_zero_up, *const *w2_zero;
    const void *const *bias1, *const *bias1_up, *const *bias2;
    /* 0: through pinned memory of the object's own, two pieces of 4 MiB in turn. 1: the pointers are to
     * memory that the device copies from at full speed (a mapped buffer with CL_MEM_ALLOC_HOST_PTR): straight
     * from there. CPU devices always copy straight. */
    int pinned;
};

/* Makes the slots, and queues for copies and for reading ids. `plan` is one of moe.h with params.offload, and
 * is only looked at: every plan of the same context, sizes, formats and orders can use the object. This waits
 * for the device.
 * CLMOE_E_INVALID: NULL arguments, another plan, a missing array or pointer, an array that the plan has no
 * use for, a budget that is smaller than an expert. */
CLMOE_API enum clmoe_status clmoe_offload_create(const clmoe_plan *plan,
                                                 const struct clmoe_offload_params *params,
                                                 clmoe_offload **offload);

/* Waits for copies. Layers that were enqueued still run to their end. */
CLMOE_API void clmoe_offload_destroy(clmoe_offload **offload);

/* Begins to bring those of n experts to the device that are not there, in their order, while that pushes
 * none of them out. Calls that follow wait for them. It waits for copies only for room in pinned memory.
 * CLMOE_E_INVALID: NULL arguments, an expert outside 0..E-1. CLMOE_E_OPENCL: a call failed; none of those
 * that were to come are there. */
CLMOE_API enum clmoe_status clmoe_offload_prefetch(clmoe_offload *offload, int32_t n, const int32_t *experts);

struct clmoe_offload_stats {
    int32_t slots;
    uint64_t expert_bytes;
    /* Since creation or clmoe_offload_clear_stats: calls of layers; experts that a call wanted and found, and
     * wanted and brought; experts that prefetching brought; bytes of both. */
    uint64_t calls, hits, misses, prefetched, bytes;
};

/* CLMOE_E_INVALID: NULL arguments. */
CLMOE_API enum clmoe_status clmoe_offload_stats(const clmoe_offload *offload,
                                                struct clmoe_offload_stats *stats);
CLMOE_API void clmoe_offload_clear_stats(clmoe_offload *offload);

#ifdef __cplusplus
}
#endif
#endif
