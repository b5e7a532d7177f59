/* SPDX-License-Identifier: MIT
 * Walks through the life of contexts and plans with the n-th call of a kind failing, for every n. */
#ifndef CLMOE_FAULT_WALK_H
#define CLMOE_FAULT_WALK_H

#include "clmoe/common.h"

#include <stdbool.h>

struct fault {
    const char *name;
    int flavours; /* kinds of failure */
    /* Makes the n-th call from now on fail, counted from 1; 0: none. */
    void (*arm)(uint64_t n, int flavour);
    /* What was made to fail since then, NULL if nothing. */
    const char *(*hit)(void);
    /* Whether a call that failed may return `status`. */
    bool (*plausible)(enum clmoe_status status);
    /* Something that is equal before and after a call unless it leaked. */
    int64_t (*alive)(void);
};

int walk_main(const struct fault *fault);

#endif
