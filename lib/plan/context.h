/* SPDX-License-Identifier: MIT
 * What a clmoe_context is inside. Plans share it: it lives until the last of them and the caller have let go.
 */
#ifndef CLMOE_PLAN_CONTEXT_H
#define CLMOE_PLAN_CONTEXT_H

#include "program/store.h"

struct clmoe_context {
    atomic_int references;
    struct log log;
    struct device dev; /* dev.tuning is the next */
    struct tuning tuning;
    struct store store;
};

void context_retain(struct clmoe_context *ctx);
void context_release(struct clmoe_context *ctx);

#endif
