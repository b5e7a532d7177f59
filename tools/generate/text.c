/* SPDX-License-Identifier: MIT */
#include "text.h"

#include <string.h>

void text_add(struct text *t, uint8_t byte) {
    if (t->n == t->context) {
        const int64_t kept = t->context / 2 - 1; /* the new byte is the other one of the half */
        memmove(t->bytes, t->bytes + t->n - kept, (size_t)kept);
        t->n = kept;
        t->read = 0;
    }
    t->bytes[t->n++] = byte;
}

bool text_next(struct text *t, struct forward *f, float logits[MODEL_VOCAB], struct io_error *err) {
    if (!forward_next(f, t->bytes + t->read, t->n - t->read, t->read, logits, err)) return false;
    t->read = t->n;
    return true;
}
