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
    cl_event *used;                 /* of each slot: by the last products */
    cl_event prefetched;            /* until a call has waited for it */
    cl_command_queue copies, reads; /* in-order, of nothing else */
    cl_mem map;                     /* slots.map, if map_sent */
    bool map_sent;
    struct offload_piece { /* of pinned memory; none where copies go straight */
        cl_mem mem;
        void *at;
        cl_event sent;
    } pieces[OFFLOAD_PIECES];
    int piece; /* the next one */
    struct clmoe_offload_stats stats;
};

/* The weights and biases of both products, as their args have them: of all slots. */
void offload_operands(const struct clmoe_offload *o, struct clmoe_matmul_args *first,
                      struct clmoe_matmul_args *second);

/* Turns calls of all slots into calls of the expert with number `number`, which is in `slot`. The weights are
 * `views`, which must live until the launches. */
void offload_turn(const struct clmoe_offload *o, int32_t slot, int32_t number,
                  struct clmoe_tensor views[OFFLOAD_ARRAYS], struct matmul_call *first,
                  struct matmul_call *second);

/* The chain has the map on the device, and goes on when all is there that was prefetched. */
enum clmoe_status offload_begin(struct clmoe_offload *o, struct launch *launch);

/* Reads after an event: `rows` rows of `width` bytes, `pitch` bytes apart (0: one after the other). Waits. */
struct offload_rows {
    cl_mem mem;
    uint64_t offset;
    size_t rows, width, pitch;
};
enum clmoe_status offload_read(struct clmoe_offload *o, const struct offload_rows *from, cl_event after,
                               void *to);

/* The hits of the call are in use until `used`. */
enum clmoe_status offload_use_hits(struct clmoe_offload *o, cl_event used);

/* Begins to bring what load `i` is; `*filled`, to be released, completes when it is there. */
enum clmoe_status offload_load(struct clmoe_offload *o, int32_t i, cl_event *filled);

/* It is in use until then. */
enum clmoe_status offload_use_load(struct clmoe_offload *o, int32_t i, cl_event used);

/* All of them, also those of pieces. */
void offload_forget_events(struct clmoe_offload *o);

/* After a failure: waits for `queue`, which may be NULL, and for copies, and forgets what was loaded. */
void offload_abandon(struct clmoe_offload *o, cl_command_queue queue);

#endif
