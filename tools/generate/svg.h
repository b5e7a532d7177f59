/* SPDX-License-Identifier: MIT
 * The same picture as an SVG file that stands alone. */
#ifndef CLMOE_GENERATE_SVG_H
#define CLMOE_GENERATE_SVG_H

#include "io/error.h"
#include "picture.h"

/* Writes a heat map, a row for each layer and a column for each expert, with a legend; whole or not at all.
 * `what` was run `where`: two lines under the title, which may hold any text. */
bool svg_write(const char *path, const struct usage_counts *u, const char *what, const char *where,
               struct io_error *err);

#endif
