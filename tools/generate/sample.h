/* SPDX-License-Identifier: MIT
 * Draws the next byte from logits. The same seed draws the same bytes from the same logits. */
#ifndef CLMOE_GENERATE_SAMPLE_H
#define CLMOE_GENERATE_SAMPLE_H

#include "model.h"

struct sampler {
    uint64_t state;     /* the seed */
    double temperature; /* 0: the largest logit, of equal ones the lowest byte */
};

/* The byte, or -1 when the logits are no numbers. */
int sample_next(struct sampler *s, const float logits[MODEL_VOCAB]);

#endif
