/* SPDX-License-Identifier: MIT
 * Which experts are in which slots, and which a call has to bring there. Knows no OpenCL. */
#ifndef CLMOE_OP_SLOTS_H
#define CLMOE_OP_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

/* An expert that is to be brought to a slot. */
struct slot_load {
    int32_t expert, slot;
};

struct slots {
    int32_t experts, slots;
    struct slot_expert {
        int32_t slot; /* -1: in none */
        uint32_t count;
        bool wanted;
    } * of_expert;
    struct slot {
        int32_t expert; /* -1: none */
        int32_t last;   /* in the current call: -1: unused, 0: a hit, i + 1: load i */
    } * of_slot;
    struct slot_load *loads; /* of the current call, in their order: a slot may have several */
    int32_t *hits;           /* slots of the experts that were there */
    int32_t n_loads, n_hits;
    /* What products see for the id of an expert: its slot, or slots + expert while it is in none. So those in
     * slots are neighbours, as if they were all experts of one buffer, and each of the others stands
     * alone. */
    int32_t *map;
};

/* Numbers in the map are below that. */
#define SLOTS_NUMBERS(experts) (2 * (experts))

bool slots_init(struct slots *s, int32_t experts, int32_t slots);
void slots_destroy(struct slots *s);

/* A call with ids [tokens, k] whose rows are `stride` apart: fills in loads and hits. The map, by which the
 * call is on its way, changes to what is there after the loads. */
void slots_route(struct slots *s, const int32_t *ids, int64_t tokens, int32_t k, int64_t stride);

/* Loads for those of n experts that are nowhere, as many as fit beside the others of them. */
void slots_prefetch(struct slots *s, int32_t n, const int32_t *experts);

/* The loads of the last call have not come: nobody knows what is in their slots. */
void slots_forget_loads(struct slots *s);

#endif
