/* SPDX-License-Identifier: MIT
 * The n-th allocation fails. The linker sends malloc, calloc, realloc and free of this program and of the
 * static library in it here (--wrap); the driver's own are not touched. */
#include "unit/kit.h"
#include "walk.h"

#include <stdatomic.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *memory);

static atomic_ullong calls, victim;
static atomic_llong live;
static _Atomic(const char *) failed;

static bool fails(const char *name) {
    if (!atomic_load(&victim) || atomic_fetch_add(&calls, 1) + 1 != atomic_load(&victim)) return false;
    atomic_store(&failed, name);
    return true;
}

static void *born(void *memory) {
    if (memory) atomic_fetch_add(&live, 1);
    return memory;
}

void *__wrap_malloc(size_t size) {
    return fails("malloc") ? NULL : born(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails("calloc") ? NULL : born(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (fails("realloc")) return NULL;
    void *const memory = __real_realloc(old, size);
    if (!old) born(memory);
    return memory;
}

void __wrap_free(void *memory) {
    if (memory) atomic_fetch_sub(&live, 1);
    __real_free(memory);
}

static void arm(uint64_t n, int flavour) {
    (void)flavour;
    atomic_store(&calls, 0);
    atomic_store(&failed, NULL);
    atomic_store(&victim, n);
}

static const char *hit(void) {
    return atomic_load(&failed);
}

static bool plausible(enum clmoe_status status) {
    return status == CLMOE_E_NO_MEMORY;
}

static int64_t alive(void) {
    return atomic_load(&live);
}

int main(void) {
    return walk_main(&(struct fault){"fault_memory", 1, arm, hit, plausible, alive});
}
