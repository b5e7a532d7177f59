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
    s->hits = calloc((size_t)slots, sizeof *s->hits);
    s->map = calloc((size_t)experts, sizeof *s->map);
    if (!s->of_expert || !s->of_slot || !s->loads || !s->hits || !s->map) return false;
    for (int32_t e = 0; e < experts; e++) {
        s->of_expert[e].slot = -1;
        s->map[e] = slots + e;
    }
    for (int32_t i = 0; i < slots; i++)
        s->of_slot[i].expert = -1;
    return true;
}

void slots_destroy(struct slots *s) {
    free(s->of_expert), free(s->of_slot), free(s->loads), free(s->hits), free(s->map);
    *s = (struct slots){0};
}

/* Nobody is wanted, and no slot used. */
static void begin(struct slots *s) {
    s->n_loads = s->n_hits = 0;
    for (int32_t e = 0; e < s->experts; e++)
        s->of_expert[e].wanted = false;
    for (int32_t i = 0; i < s->slots; i++)
        s->of_slot[i].last = -1;
}

/* What is still wanted then has to come, and pushes hits out if need be. */
static void take_hits(struct slots *s) {
    for (int32_t e = 0; e < s->experts; e++) {
        struct slot_expert *const x = &s->of_expert[e];
        if (!x->wanted || x->slot < 0) continue;
        x->wanted = false;
        s->of_slot[x->slot].last = 0;
        s->hits[s->n_hits++] = x->slot;
    }
}

static int64_t count_in(const struct slots *s, int32_t slot) {
    const int32_t e = s->of_slot[slot].expert;
    return e < 0 ? -1 : (int64_t)s->of_expert[e].count;
}

/* The slot to give away: the one that is free earliest, then the one with the lowest count, then the first.
 */
static int32_t choose(const struct slots *s) {
    int32_t best = 0;
    for (int32_t i = 1; i < s->slots; i++) {
        const int32_t last = s->of_slot[i].last, best_last = s->of_slot[best].last;
        if (last < best_last || (last == best_last && count_in(s, i) < count_in(s, best))) best = i;
    }
    return best;
}

static void leave(struct slots *s, int32_t slot) {
    const int32_t e = s->of_slot[slot].expert;
    if (e < 0) return;
    s->of_expert[e].slot = -1;
    s->map[e] = s->slots + e;
    s->of_slot[slot].expert = -1;
}

static void load(struct slots *s, int32_t e, int32_t slot) {
    leave(s, slot);
    s->loads[s->n_loads++] = (struct slot_load){e, slot};
    s->of_slot[slot] = (struct slot){e, s->n_loads};
    s->of_expert[e].slot = s->map[e] = slot;
}

static void age(struct slots *s) {
    for (int32_t e = 0; e < s->experts; e++) {
        uint32_t *const count = &s->of_expert[e].count;
        *count -= *count >> COUNT_AGE;
        if (s->of_expert[e].wanted) *count += COUNT_ONE;
    }
}

void slots_route(struct slots *s, const int32_t *ids, int64_t tokens, int32_t k, int64_t stride) {
    begin(s);
    for (int64_t t = 0; t < tokens; t++)
        for (int32_t j = 0; j < k; j++) {
            const int32_t e = ids[t * stride + j];
            if (e >= 0 && e < s->experts) s->of_expert[e].wanted = true;
        }
    age(s);
    take_hits(s);
    for (int32_t e = 0; e < s->experts; e++)
        if (s->of_expert[e].wanted) load(s, e, choose(s));
}

void slots_prefetch(struct slots *s, int32_t n, const int32_t *experts) {
    begin(s);
    for (int32_t i = 0; i < n; i++)
        s->of_expert[experts[i]].wanted = true;
    take_hits(s);
    for (int32_t i = 0; i < n; i++) {
        if (s->of_expert[experts[i]].slot >= 0) continue;
        const int32_t slot = choose(s);
        if (s->of_slot[slot].last >= 0) return;
        load(s, experts[i], slot);
    }
}

void slots_forget_loads(struct slots *s) {
    for (int32_t i = 0; i < s->n_loads; i++)
        leave(s, s->loads[i].slot);
    s->n_loads = 0;
}
