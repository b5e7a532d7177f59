/* SPDX-License-Identifier: MIT
 * A text that a model continues. It sees at most its context: when that is full, the later half stays and is
 * read again from position 0 on. */
#ifndef CLMOE_GENERATE_TEXT_H
#define CLMOE_GENERATE_TEXT_H

#include "forward.h"

struct text {
    uint8_t bytes[MODEL_MAX_CONTEXT]; /* what the model sees */
    int64_t n, context;
    int64_t read; /* how many of these its cache holds */
};

void text_add(struct text *t, uint8_t byte);

/* Reads what was added since the last call; gives the logits of the next byte. */
bool text_next(struct text *t, struct forward *f, float logits[MODEL_VOCAB], struct io_error *err);

#endif
