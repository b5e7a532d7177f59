/* SPDX-License-Identifier: MIT
 * Runs a block of experts on the device. */
#ifndef CLMOE_TOOLS_LAYER_H
#define CLMOE_TOOLS_LAYER_H

#include "block.h"
#include "session.h"

struct layer_results {
    struct array y;            /* like x                                  */
    struct array ids, weights; /* [T, k] i32 and f32, if asked for        */
};

/* Where the experts' weights go: to the device, `per_buffer` as in weights.h, or, with a budget, to as many
 * slots there as fit into so many bytes. */
struct placement {
    int64_t per_buffer, budget;
};

/* x is [T, H]; the activations have its dtype. Returns -1, or the exit code after printing an error. The
 * caller frees the results in any case. */
int layer_run(struct session *s, const struct family *family, const struct block *block,
              const struct placement *placement, const struct array *x, bool routing,
              struct layer_results *results);

#endif
