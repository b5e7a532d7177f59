/* SPDX-License-Identifier: MIT
 * A spin lock, held only for the few instructions of a list edit, never while something is compiled. C11
 * atomics instead of <threads.h>: they need no library, exist on every platform and are understood by race
 * detectors. */
#ifndef CLMOE_BASE_LOCK_H
#define CLMOE_BASE_LOCK_H

#include <stdatomic.h>

struct lock {
    atomic_flag held;
};

#define LOCK_INIT                                                                                            \
    { ATOMIC_FLAG_INIT }

static inline void lock_take(struct lock *lock) {
    while (atomic_flag_test_and_set_explicit(&lock->held, memory_order_acquire)) {
    }
}

static inline void lock_drop(struct lock *lock) {
    atomic_flag_clear_explicit(&lock->held, memory_order_release);
}

#endif
