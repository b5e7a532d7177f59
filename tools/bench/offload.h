/* SPDX-License-Identifier: MIT
 * Layers whose experts lie in host memory, beside the same ones with all of them on the device. */
#ifndef CLMOE_TOOLS_OFFLOAD_H
#define CLMOE_TOOLS_OFFLOAD_H

#include "experts.h"
#include "pairs.h"

/* Times the layer of `params` with slots for settings.resident of its experts. Its calls take turns in the
 * logits of OFFLOAD_DRAWS draws, so that their experts differ as those of a running model do; what the slots
 * hold has settled before. The peer is the layer with all experts on the device. Returns -1 or an exit code.
 */
#define OFFLOAD_DRAWS 64
int problem_offload(struct bench *b, const struct settings *s, const struct clmoe_moe_params *params,
                    const struct experts *w1, const struct experts *w2, result_sink sink, void *priv);

#endif
