/* SPDX-License-Identifier: MIT
 * Offloaded experts inside of a layer: their slots as tensors, and the copies of a call. */
#ifndef CLMOE_OP_OFFLOAD_H
#define CLMOE_OP_OFFLOAD_H

#include "clmoe/offload.h"
#include "matmul.h"
#include "slots.h"

/* The arrays of an expert: those of both products, then the biases. */
enum {
    OFFLOAD_SECOND = MATMUL_ARRAYS,
    OFFLOAD_BIAS1 = 2 * MATMUL_ARRAYS,
    OFFLOAD_BIAS1_UP,
    OFFLOAD_BIAS2,
    OFFLOAD_ARRAYS
};

#define OFFLOAD_PIECES 2
#define OFFLOAD_PIECE_BYTES ((size_t)4 << 20)

struct clmoe_offload {
    struct clmoe_context *ctx;
    struct slots slots;
    struct offload_array {
        const void **from;         /* of each expert; NULL: no such array */
        struct clmoe_tensor slots; /* [slots, ...], contiguous; its buffer is owned */
        size_t bytes;              /* of one expert */
    } arrays[OFFLOAD_ARRAYS];
    struct slot_events {
        cl_event filled; /* until a turn has waited for it */
        cl_event used;   /* by the last turn */
        uint64_t fill;   /* fills are counted: a later one is done after an earlier one */
    } * events;
    cl_command_queue queue; /* in-order: of copies alone */
    uint64_t fills;
    struct offload_piece { /* of pinned memory; none where copies go straight */
        cl_mem mem;
        void *at;
        cl_event sent;
    } pieces[OFFLOAD_PIECES];
    int piece; /* the next one */
    struct clmoe_offload_stats stats;
};

/* The weights and biases of both products, as their args have them. */
void offload_operands(const struct clmoe_offload *o, struct clmoe_matmul_args *first,
                      struct clmoe_matmul_args *second);

/* Copies of what slots_route or slots_prefetch has loaded for `turn`, after which its slots are `filled`. */
enum clmoe_status offload_fill(struct clmoe_offload *o, int32_t turn);

/* The event that a turn of a call has to wait for; NULL: none. */
cl_event offload_filled(const struct clmoe_offload *o, int32_t turn);

/* The turn waits for that, and is over when `used` is. */
enum clmoe_status offload_use(struct clmoe_offload *o, int32_t turn, cl_event used);

/* All of them, also those of pieces. */
void offload_forget_events(struct clmoe_offload *o);

/* After a failure: waits for `queue` and for copies, and forgets what the call has loaded. */
void offload_abandon(struct clmoe_offload *o, cl_command_queue queue);

#endif
