/* SPDX-License-Identifier: MIT
 * What `clmoe tune` writes: texts of tuned parameters (clmoe/context.h). */
#ifndef CLMOE_TOOLS_TUNING_H
#define CLMOE_TOOLS_TUNING_H

#include "clmoe/clmoe.h"

#include <stddef.h>

/* "device NAME | DRIVER | PLATFORM\n", where what would mean something else has become ?. */
void tuning_device_line(const struct clmoe_device_info *info, char *line, size_t room);

/* What the device line and the lines behind it are in `text`, and the rest of `old`: without a section or a
 * line that the new ones replace. To be freed; NULL: no memory. */
char *tuning_merge(const char *device_line, const char *lines, const char *old);

#endif
