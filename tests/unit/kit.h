/* SPDX-License-Identifier: MIT
 * What the unit tests share: a log that is kept, scratch directories, the fault layer. */
#ifndef CLMOE_UNIT_KIT_H
#define CLMOE_UNIT_KIT_H

#include "check/harness.h"
#include "fault/layer.h"

/* Keeps every message of a context. Several threads may log at once. */
struct logbook {
    int levels[CLMOE_LOG_INFO + 1]; /* messages of each level */
    size_t size;
    char text[1 << 16]; /* messages, each with a newline; the last ones are lost when it is full */
};
void logbook_keep(void *priv, enum clmoe_log_level level, const char *message);
void logbook_clear(struct logbook *book);
/* How often `part` occurs. */
int logbook_count(const struct logbook *book, const char *part);

/* A context of the tester's device that logs everything to `book` (may be NULL). */
clmoe_context *logged_context(struct logbook *book, const struct clmoe_cache *cache, struct clmoe_caps caps);
extern const struct clmoe_caps no_caps, plain_caps; /* plain: all feature bits masked */

/* An empty directory below the current one; scratch_remove empties and removes it (one level of folders). */
void scratch_make(char path[256]);
void scratch_remove(const char *path);
void write_bytes(const char *path, const void *data, size_t size);
/* Returns malloc'ed bytes. */
void *read_bytes(const char *path, size_t *size);

/* The fault layer. Exits with a message if the loader did not load it. */
const struct layer_api *layer(void);
struct layer_counts layer_now(void);

#endif
