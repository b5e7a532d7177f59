/* SPDX-License-Identifier: MIT
 * The work-items of a work-group, all in one thread: one runs until it waits, then another one that can. */
#ifndef CLMOE_TESTS_EMULATED_ITEMS_H
#define CLMOE_TESTS_EMULATED_ITEMS_H

#include <stdint.h>

enum { WARP = 32, MOST_ITEMS = 512 };

extern unsigned lid; /* of the work-item that runs */

/* A barrier of so many work-items. */
struct meeting {
    unsigned items, here;
};

/* Ends the program, with what is wrong. */
_Noreturn void fail(const char *what);

/* Runs `item` as each work-item of a work-group of n, a multiple of WARP, until all have returned. Who is next is drawn. */
void items_run(unsigned n, void (*item)(void));

/* What is drawn follows from this. */
void items_seed(uint32_t seed);

/* Waits until all items of a meeting have come. */
void items_meet(struct meeting *m);

/* The same; the last one to come does something for all before they go on. */
void items_meet_and(struct meeting *m, void (*once)(void));

/* Waits for items_wake with the same address. */
void items_wait(const void *what);
void items_wake(const void *what);

/* Lets others go first. */
void items_yield(void);

#endif
