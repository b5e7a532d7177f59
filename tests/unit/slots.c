/* SPDX-License-Identifier: MIT
 * Experts in slots: played through, every expert that a call wants is either where the map said before the
 * call or brought by one load, and what stays is what was wanted most. */
#include "check/harness.h"
#include "op/slots.h"

#include <stdlib.h>
#include <string.h>

#define MAX_EXPERTS 40
#define MAX_PAIRS 160

/* What the slots of a device would hold. */
struct play {
    struct slots slots;
    int32_t held[MAX_EXPERTS];
};

static void play_begin(struct play *p, int experts, int slots) {
    case_require(slots_init(&p->slots, experts, slots), "out of memory");
    for (int i = 0; i < slots; i++)
        p->held[i] = -1;
}

/* The map and the slots agree with what is held. */
static void check_map(const struct play *p) {
    const struct slots *const s = &p->slots;
    for (int32_t e = 0; e < s->experts; e++) {
        const int32_t slot = s->of_expert[e].slot;
        case_require(slot >= -1 && slot < s->slots, "expert %d is in slot %d", (int)e, (int)slot);
        case_require(s->map[e] == (slot < 0 ? s->slots + e : slot),
                     "expert %d is in slot %d, its number is %d", (int)e, (int)slot, (int)s->map[e]);
        case_require(s->map[e] < SLOTS_NUMBERS(s->experts), "expert %d has the number %d", (int)e,
                     (int)s->map[e]);
        case_require(slot < 0 || p->held[slot] == e, "slot %d holds %d, not %d", (int)slot,
                     (int)(slot < 0 ? 0 : p->held[slot]), (int)e);
    }
}

static void play_loads(struct play *p) {
    const struct slots *const s = &p->slots;
    for (int32_t i = 0; i < s->n_loads; i++)
        p->held[s->loads[i].slot] = s->loads[i].expert;
    check_map(p);
}

/* Each wanted expert once: those that were held are hits, the others come, in any order of slots that does
 * not take one from the hits while another is free. */
static void play_call(struct play *p, const int32_t *ids, int64_t tokens, int k, int64_t stride) {
    struct slots *const s = &p->slots;
    int32_t before[MAX_EXPERTS];
    int wanted[MAX_EXPERTS] = {0}, hits = 0, loads = 0;
    memcpy(before, s->map, (size_t)s->experts * sizeof *before);
    for (int64_t i = 0; i < tokens * k; i++) {
        const int32_t e = ids[i / k * stride + i % k];
        if (e >= 0 && e < s->experts) wanted[e] = 1;
    }
    slots_route(s, ids, tokens, k, stride);
    for (int e = 0; e < s->experts; e++) {
        hits += wanted[e] && before[e] < s->slots;
        loads += wanted[e] && before[e] >= s->slots;
    }
    ck_assert_int_eq(s->n_hits, hits);
    ck_assert_int_eq(s->n_loads, loads);
    for (int32_t i = 0; i < s->n_hits; i++)
        case_require(wanted[p->held[s->hits[i]]]-- == 1, "slot %d is a hit", (int)s->hits[i]);
    for (int32_t i = 0; i < s->n_loads; i++) {
        const struct slot_load *const l = &s->loads[i];
        case_require(wanted[l->expert]-- == 1 && before[l->expert] >= s->slots, "load %d brings %d", (int)i,
                     (int)l->expert);
        bool hit = false;
        for (int32_t h = 0; h < s->n_hits; h++)
            hit |= s->hits[h] == l->slot;
        case_require(!hit || i >= s->slots - s->n_hits, "load %d goes to slot %d, a hit", (int)i,
                     (int)l->slot);
    }
    play_loads(p);
}

/* Every number of experts and slots up to 12, and some larger ones. */
START_TEST(everyone_is_there_or_comes) {
    struct rng rng = rng_for((uint64_t)_i);
    const int experts = _i < 12 ? _i + 1 : 13 + (int)rng_below(&rng, MAX_EXPERTS - 12);
    for (int slots = 1; slots <= experts; slots++) {
        struct play p;
        play_begin(&p, experts, slots);
        for (int call = 0; call < 20; call++) {
            const int k = 1 + (int)rng_below(&rng, 4);
            const int64_t tokens = rng_below(&rng, MAX_PAIRS / 4 + 1), stride = rng_below(&rng, 6);
            int32_t ids[6 * MAX_PAIRS];
            case_begin("%d experts, %d slots, call %d: T=%d k=%d stride %d", experts, slots, call,
                       (int)tokens, k, (int)stride);
            const int64_t among = call % 3 == 0 ? experts : 1 + rng_below(&rng, experts);
            for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
                ids[i] = (int32_t)(rng_below(&rng, 8)   ? rng_below(&rng, among)
                                   : rng_below(&rng, 2) ? -1
                                                        : experts);
            play_call(&p, ids, tokens, k, stride);
        }
        slots_destroy(&p.slots);
    }
}
END_TEST

/* Calls of one token each, which wants these experts in turn. */
static int hits_of(struct play *p, const int32_t *experts, int n) {
    int hits = 0;
    for (int i = 0; i < n; i++) {
        play_call(p, &experts[i], 1, 1, 1);
        hits += p->slots.n_hits;
    }
    return hits;
}

START_TEST(what_is_wanted_most_stays) {
    struct play p;
    case_begin("three in two slots");
    play_begin(&p, 5, 2);
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){0, 0, 0, 1}, 4), 2);
    /* 0 stays, as the others come and go. */
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){2, 0, 3, 0, 4, 0}, 6), 3);
    /* 4 was wanted last, but no more often than 3. */
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){4}, 1), 1);
    slots_destroy(&p.slots);
}
END_TEST

START_TEST(counts_age) {
    struct play p;
    int32_t ids[300];
    case_begin("what was wanted 200 times, long ago, goes");
    play_begin(&p, 3, 2);
    for (int i = 0; i < 300; i++)
        ids[i] = i < 200 ? 0 : 1;
    hits_of(&p, ids, 300);
    hits_of(&p, (const int32_t[]){2, 2}, 2);
    case_begin("2 took the place of 0, not of 1");
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){1, 2}, 2), 2);
    slots_destroy(&p.slots);
}
END_TEST

START_TEST(ahead_of_time) {
    struct play p;
    case_begin("prefetching");
    play_begin(&p, 8, 4);
    slots_prefetch(&p.slots, 3, (const int32_t[]){5, 2, 5});
    ck_assert_int_eq(p.slots.n_loads, 2);
    play_loads(&p);
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){5, 2}, 2), 2);
    /* Those that are there stay, and no more come than there is room for. */
    slots_prefetch(&p.slots, 6, (const int32_t[]){0, 1, 2, 3, 4, 5});
    ck_assert_int_eq(p.slots.n_loads, 2);
    play_loads(&p);
    ck_assert_int_eq(hits_of(&p, (const int32_t[]){2, 5, 0, 1}, 4), 4);
    slots_prefetch(&p.slots, 0, NULL);
    ck_assert_int_eq(p.slots.n_loads, 0);
    slots_destroy(&p.slots);
}
END_TEST

START_TEST(forgotten_loads) {
    struct play p;
    case_begin("loads that did not come");
    play_begin(&p, 6, 3);
    play_call(&p, (const int32_t[]){0, 1}, 2, 1, 1);
    slots_route(&p.slots, (const int32_t[]){0, 1, 2, 3, 4, 5}, 6, 1, 1);
    slots_forget_loads(&p.slots);
    /* All of the slots were to be filled, so nobody knows who is in them. */
    for (int e = 0; e < 6; e++)
        ck_assert_int_eq(p.slots.of_expert[e].slot, -1);
    check_map(&p);
    play_call(&p, (const int32_t[]){5, 0, 3}, 3, 1, 1);
    ck_assert_int_eq(p.slots.n_hits, 0);
    slots_destroy(&p.slots);
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, everyone_is_there_or_comes, 0, 20);
    tcase_add_test(cases, what_is_wanted_most_stays);
    tcase_add_test(cases, counts_age);
    tcase_add_test(cases, ahead_of_time);
    tcase_add_test(cases, forgotten_loads);
}

int main(void) {
    return harness_main("slots", "", add_tests);
}
