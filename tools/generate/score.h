/* SPDX-License-Identifier: MIT
 * Bits per byte of a text. It is cut into windows of 256 bytes; each byte but a window's first is predicted
 * from those before it in the window. A last window of 2 bytes or more is scored too. */
#ifndef CLMOE_GENERATE_SCORE_H
#define CLMOE_GENERATE_SCORE_H

#include "forward.h"

#define SCORE_WINDOW 256
#define SCORE_SEQUENCES 8 /* windows of one pass: what forward_create() must have room for */

struct score {
    double bits;
    int64_t bytes; /* that were predicted */
};

/* `progress`, if not NULL, is told how many of the `n` bytes are done. The model's context is at least
 * SCORE_WINDOW. */
bool score_text(struct forward *f, const uint8_t *text, int64_t n, void (*progress)(int64_t done, int64_t n),
                struct score *score, struct io_error *err);

#endif
