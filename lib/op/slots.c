/* SPDX-License-Identifier: MIT */
#include "slots.h"

#include <stdlib.h>

#define COUNT_ONE (1u << 16) /* what a call adds to the count of an expert, and the 1/64 that ages it */
#define COUNT_AGE 6

bool slots_init(struct slots *s, int32_t experts, int32_t slots) {
    *s = (struct slots){.experts = experts, .slots = slots};
    s->of_expert = calloc((size_t)experts, sizeof *s->of_expert);
    s->of_slot = calloc((size_t)slots, sizeof *s->of_slot);
    s->loads = calloc((size_t)experts, sizeof *s->loads);
    if (!s->of_expert || !s->of_slot || !s->loads) return false;
    for (int32_t e = 0; e < experts; e++)
        s->of_expert[e].slot = s->of_expert[e].number = -1;
    for (int32_t i = 0; i < slots; i++)
        s->of_slot[i].expert = -1;
    return true;
}

void slots_destroy(struct slots *s) {
    free(s->of_expert), free(s->of_slot), free(s->loads);
    *s = (struct slots){0};
}

/* Nobody is wanted, and no slot used. */
static void begin(struct slots *s) {
    s->n_loads = s->n_hits = 0;
    s->n_turns = 1;
    for (int32_t e = 0; e < s->experts; e++) {
        s->of_expert[e].wanted = false;
        s->of_expert[e].number = -1;
    }
    for (int32_t i = 0; i < s->slots; i++)
        s->of_slot[i].turn = -1;
}

/* Those that are wanted and here have the first turn. */
static void take_hits(struct slots *s) {
    for (int32_t e = 0; e < s->experts; e++) {
        struct slot_expert *const x = &s->of_expert[e];
        if (!x->wanted || x->slot < 0) continue;
        s->of_slot[x->slot].turn = 0;
        x->number = x->slot;
        s->n_hits++;
    }
}

static int64_t count_in(const struct slots *s, int32_t slot) {
    const int32_t e = s->of_slot[slot].expert;
    return e < 0 ? -1 : (int64_t)s->of_expert[e].count;
}

/* The slot to give away of those whose last turn is before `turn`: the earlier, then the lower count, then
 * the first; -1 if there is none. */
static int32_t choose(const struct slots *s, int32_t turn) {
    int32_t best = -1;
    for (int32_t i = 0; i < s->slots; i++) {
        const int32_t last = s->of_slot[i].turn;
        if (last >= turn) continue;
        const int32_t best_last = best < 0 ? turn : s->of_slot[best].turn;
        if (last < best_last || (last == best_last && count_in(s, i) < count_in(s, best))) best = i;
    }
    return best;
}

static void load(struct slots *s, int32_t e, int32_t slot, int32_t turn) {
    const int32_t old = s->of_slot[slot].expert;
    if (old >= 0) s->of_expert[old].slot = -1;
    s->of_slot[slot] = (struct slot){e, turn};
    s->of_expert[e].slot = slot;
    s->of_expert[e].number = turn * s->slots + slot;
    s->loads[s->n_loads++] = (struct slot_load){e, slot, turn};
}

/* Half of the slots at a time, so that the other half can be filled meanwhile. With E experts in S slots there
 * are at most 1 + (E - 1) / (S / 2) turns, rounded up, and so less than 2S + 2E numbers. */
static void take_misses(struct slots *s) {
    const int32_t most = (s->slots + 1) / 2;
    int32_t turn = s->n_hits > 0, n = 0;
    for (int32_t e = 0; e < s->experts; e++) {
        if (!s->of_expert[e].wanted || s->of_expert[e].number >= 0) continue;
        if (n == most) turn++, n = 0;
        load(s, e, choose(s, turn), turn);
        n++;
    }
    s->n_turns = turn + (n > 0 || turn == 0);
}

static void age(struct slots *s) {
    for (int32_t e = 0; e < s->experts; e++) {
        uint32_t *const count = &s->of_expert[e].count;
        *count -= *count >> COUNT_AGE;
        if (s->of_expert[e].wanted) *count += COUNT_ONE;
    }
}

void slots_route(struct slots *s, const int32_t *ids, int64_t tokens, int32_t k, int64_t stride,
                 int32_t *numbers) {
    begin(s);
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t j = 0; j < k; j++) {
            const int32_t e = ids[t * stride + j];
            if (e >= 0 && e < s->experts) s->of_expert[e].wanted = true;
        }
    age(s);
    take_hits(s);
    take_misses(s);
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t j = 0; j < k; j++) {
            const int32_t e = ids[t * stride + j];
            numbers[t * k + j] = e >= 0 && e < s->experts ? s->of_expert[e].number : -1;
        }
}

void slots_prefetch(struct slots *s, int32_t n, const int32_t *experts) {
    begin(s);
    for (int32_t i = 0; i < n; i++)
        s->of_expert[experts[i]].wanted = true;
    take_hits(s);
    for (int32_t i = 0; i < n; i++) {
        if (s->of_expert[experts[i]].number >= 0) continue;
        const int32_t slot = choose(s, 0);
        if (slot < 0) return;
        load(s, experts[i], slot, 0);
    }
}

void slots_forget_loads(struct slots *s) {
    for (int32_t i = 0; i < s->n_loads; i++) {
        struct slot *const slot = &s->of_slot[s->loads[i].slot];
        if (slot->expert >= 0) s->of_expert[slot->expert].slot = -1;
        slot->expert = -1;
    }
    s->n_loads = 0;
}
