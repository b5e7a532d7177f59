/* SPDX-License-Identifier: MIT */
#include "context.h"

#include <stdlib.h>

void context_retain(struct clmoe_context *ctx) {
    atomic_fetch_add(&ctx->references, 1);
}

void context_release(struct clmoe_context *ctx) {
    if (atomic_fetch_sub(&ctx->references, 1) != 1) return;
    store_destroy(&ctx->store);
    tuning_free(&ctx->tuning);
    clReleaseDevice(ctx->dev.id);
    clReleaseContext(ctx->dev.context);
    free(ctx);
}
