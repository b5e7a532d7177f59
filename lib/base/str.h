/* SPDX-License-Identifier: MIT
 * A growing string. A failed allocation is remembered in `failed` and makes later appends do nothing, so that
 * only the end of a long assembly has to be checked. `{0}` is an empty string. */
#ifndef CLMOE_BASE_STR_H
#define CLMOE_BASE_STR_H

#include "log.h"

struct str {
    char *text; /* NUL-terminated, NULL while empty */
    size_t size, capacity;
    bool failed;
};

void str_append(struct str *s, const char *text, size_t size);
void str_printf(struct str *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void str_free(struct str *s);

#endif
