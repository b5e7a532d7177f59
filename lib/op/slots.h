/* SPDX-License-Identifier: MIT
 * Which experts are in which slots, and in which turns a call passes through them. Knows no OpenCL. */
#ifndef CLMOE_OP_SLOTS_H
#define CLMOE_OP_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

/* An expert that is to be brought to a slot before a turn. */
struct slot_load {
    int32_t expert, slot, turn;
};

/* In a call an expert has the number turn * slots + slot: products see numbers for ids, and the experts of a
 * turn as those from turn * slots on. */
struct slots {
    int32_t experts, slots;
    struct slot_expert {
        int32_t slot, number; /* -1: nowhere, not of this call */
        uint32_t count;
        bool wanted;
    } * of_expert;
    struct slot {
        int32_t expert, turn; /* -1: none; turn: the last one of the current call that has used it */
    } * of_slot;
    struct slot_load *loads; /* of the current call, in the order of their turns */
    int32_t n_loads, n_hits, n_turns;
};

/* Numbers of a call are below that: see slots_route. */
#define SLOTS_NUMBERS(experts) (4 * (experts))

bool slots_init(struct slots *s, int32_t experts, int32_t slots);
void slots_destroy(struct slots *s);

/* A call with ids [tokens, k] whose rows are `stride` apart: writes their numbers, contiguous, -1 for what is
 * no expert, and fills in loads, hits and turns, of which there is at least one. */
void slots_route(struct slots *s, const int32_t *ids, int64_t tokens, int32_t k, int64_t stride,
                 int32_t *numbers);

/* Loads for those of n experts that are nowhere, as many as fit beside the others of them. */
void slots_prefetch(struct slots *s, int32_t n, const int32_t *experts);

/* The loads of the last call have not come: nobody knows what is in their slots. */
void slots_forget_loads(struct slots *s);

#endif
