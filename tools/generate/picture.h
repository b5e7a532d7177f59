/* SPDX-License-Identifier: MIT
 * Which experts each layer used, as a small table of text. */
#ifndef CLMOE_GENERATE_PICTURE_H
#define CLMOE_GENERATE_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* How often each expert of each layer was chosen. */
struct usage_counts {
    int64_t layers, experts;
    const uint32_t *counts; /* [layers, experts] */
};

/* The share of one expert in the choices of its layer, 0..1; 0 in a layer without choices. */
double usage_share(const struct usage_counts *u, int64_t layer, int64_t expert);

/* The largest of all shares. */
double usage_largest(const struct usage_counts *u);

/* Up to 16 experts: a column each, with its share in percent. More: a character each, a digit 0..9 in
 * proportion to the largest share, or a block. `colour`: for a terminal that knows the 256 colours of xterm.
 */
void picture_print(const struct usage_counts *u, bool colour, FILE *to);

#endif
