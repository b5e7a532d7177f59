/* SPDX-License-Identifier: MIT
 * families.json and architectures.json, embedded. */
#ifndef CLMOE_TOOLS_FAMILIES_H
#define CLMOE_TOOLS_FAMILIES_H

#include <stddef.h>

struct families_file {
    const char *path, *text;
};

/* Ends with NULLs. */
extern const struct families_file families_files[];

#endif
