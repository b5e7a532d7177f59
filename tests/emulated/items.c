/* SPDX-License-Identifier: MIT
 * A switch costs a few instructions, where threads would wait for the kernel of the system. Each work-item has a stack
 * of its own, entered once by makecontext and from then on by longjmp, which unlike swapcontext calls no system.
 *
 * Of those that can run one of the warp with the highest rank does, any lane of it. Ranks are drawn, anew at times: so
 * a warp gets as far ahead of the others as barriers let it, and what a barrier is missing for happens in both orders. */
#include "items.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK = 1 << 18, MOST_WARPS = MOST_ITEMS / WARP, KEPT = 64 }; /* KEPT: turns, of a rank, in the mean */

unsigned lid;
static jmp_buf places[MOST_ITEMS], done;
static ucontext_t creator;
static void (*run)(void);
static unsigned n_items, n_left;
static const void *awaited[MOST_ITEMS];
static uint32_t ready[MOST_WARPS], ranks[MOST_WARPS]; /* a bit for each lane that can run */
static uint64_t state = 1;

void items_seed(uint32_t seed) {
    state = seed * 2654435769u + 1ull;
}

static uint32_t drawn(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static void set_ready(unsigned item) {
    awaited[item] = NULL;
    ready[item / WARP] |= 1u << item % WARP;
}

static unsigned next_item(void) {
    unsigned best = MOST_WARPS;
    const uint32_t draw = drawn();
    if (draw % KEPT == 0) ranks[draw / KEPT % (n_items / WARP)] = drawn();
    for (unsigned w = 0; w < n_items / WARP; w++)
        if (ready[w] && (best == MOST_WARPS || ranks[w] > ranks[best])) best = w;
    if (best == MOST_WARPS) fail("all wait, for what does not come");
    const unsigned first = draw >> 27;
    const uint32_t from_first = ready[best] >> first << first;
    return best * WARP + (unsigned)__builtin_ctz(from_first ? from_first : ready[best]);
}

/* Its place is kept by who calls this. */
static _Noreturn void go_on(void) {
    lid = next_item();
    _longjmp(places[lid], 1);
}

static void begin(void) {
    if (!_setjmp(places[lid])) setcontext(&creator);
    run();
    ready[lid / WARP] &= ~(1u << lid % WARP);
    if (--n_left == 0) _longjmp(done, 1);
    go_on();
}

/* Room for all of them, between pages that nobody may touch. */
static char *stacks(void) {
    static char *at;
    if (at) return at;
    at = mmap(NULL, (size_t)MOST_ITEMS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("no memory");
    for (size_t i = 0; i < MOST_ITEMS; i++)
        if (mprotect(at + i * STACK, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE)) fail("no guards of stacks");
    return at;
}

void items_run(unsigned n, void (*item)(void)) {
    n_items = n_left = n;
    run = item;
    for (lid = 0; lid < n; lid++) {
        ucontext_t created;
        getcontext(&created);
        created.uc_stack.ss_sp = stacks() + (size_t)lid * STACK;
        created.uc_stack.ss_size = STACK;
        created.uc_link = NULL;
        makecontext(&created, begin, 0);
        swapcontext(&creator, &created);
        set_ready(lid);
        ranks[lid / WARP] = drawn();
    }
    if (!_setjmp(done)) go_on();
}

void items_yield(void) {
    if (!_setjmp(places[lid])) go_on();
}

void items_wait(const void *what) {
    awaited[lid] = what;
    ready[lid / WARP] &= ~(1u << lid % WARP);
    items_yield();
}

void items_wake(const void *what) {
    for (unsigned i = 0; i < n_items; i++)
        if (awaited[i] == what) set_ready(i);
}

static void nothing(void) {}

void items_meet(struct meeting *m) {
    items_meet_and(m, nothing);
}

void items_meet_and(struct meeting *m, void (*once)(void)) {
    if (++m->here < m->items) {
        items_wait(m);
        return;
    }
    once();
    m->here = 0;
    items_wake(m);
    items_yield();
}
