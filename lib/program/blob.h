/* SPDX-License-Identifier: MIT
 * Cached programs: the driver's binary behind a header of our own. Drivers crash on damaged binaries (PoCL,
 * rusticl and oclgrind do), so nothing reaches one that does not carry the right key, length and checksum. */
#ifndef CLMOE_PROGRAM_BLOB_H
#define CLMOE_PROGRAM_BLOB_H

#include "base/hash.h"
#include "base/log.h"
#include "clmoe/context.h"

/* Looks a blob up and checks it. On a hit returns true; *memory is to be freed, *binary points into it. */
bool blob_get(const struct clmoe_cache *cache, const struct log *log, const char key[HASH_HEX], void **memory,
              const unsigned char **binary, size_t *size);

void blob_set(const struct clmoe_cache *cache, const char key[HASH_HEX], const unsigned char *binary,
              size_t size);

#endif
