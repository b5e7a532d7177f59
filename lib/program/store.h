/* SPDX-License-Identifier: MIT
 * Built programs of one context: source text + options + device -> cl_program, kept in memory and, through
 * the caller's callbacks, between processes. */
#ifndef CLMOE_PROGRAM_STORE_H
#define CLMOE_PROGRAM_STORE_H

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "device/device.h"

struct stored_program;

struct store {
    const struct clmoe_cache *cache; /* may be NULL */
    struct lock lock;
    struct stored_program *first;
};

/* Adds what programs of one device are told from those of others by. */
void store_hash_device(struct hash *h, const struct device *dev);

void store_init(struct store *store, const struct clmoe_cache *cache);
void store_destroy(struct store *store);

/* What is built: cl/`file` with `options` ("-DA=1 -DB=2"; -cl-std=CL1.2 is added), for `resident` work-groups
 * of `local` on a compute unit or for the chip's own target (kernel_spec). */
struct program_spec {
    const char *file, *options;
    int resident;
    size_t local;
    bool retarget;
};

/* Finds or builds a program. The caller gets a reference of its own. Safe from several threads; two that miss
 * at once both build. With CLMOE_E_BUILD `complaint`, empty before, has one line of what the compiler said,
 * where it said something. */
enum clmoe_status store_get(struct store *store, const struct device *dev, const struct log *log,
                            const struct program_spec *spec, struct str *complaint, cl_program *program);

#endif
