/* SPDX-License-Identifier: MIT
 * Built programs of one context: source text + options + device -> cl_program, kept in memory and, through
 * the caller's callbacks, between processes. */
#ifndef CLMOE_PROGRAM_STORE_H
#define CLMOE_PROGRAM_STORE_H

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
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

/* Finds or builds cl/`file` with `options` ("-DA=1 -DB=2"; -cl-std=CL1.2 is added), for `resident`
 * work-groups of `local` on a compute unit or for the chip's own target (kernel_spec). The caller gets a
 * reference of its own. Safe from several threads; two that miss at once both build. */
enum clmoe_status store_get(struct store *store, const struct device *dev, const struct log *log,
                            const char *file, const char *options, int resident, size_t local, bool retarget,
                            cl_program *program);

#endif
