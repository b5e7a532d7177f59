/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_TOOLS_PROGRESS_H
#define CLMOE_TOOLS_PROGRESS_H

#include <stdint.h>

/* "loading experts 3/8" on one line of stderr, where that is a terminal; the line goes away when done ==
 * total. */
void progress(const char *what, int64_t done, int64_t total);

#endif
