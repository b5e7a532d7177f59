/* SPDX-License-Identifier: MIT */
#include "blob.h"

#include <stdlib.h>
#include <string.h>

/* File layout: magic, key, little-endian length of the binary, SHA-256 of the binary, the binary. */
#define MAGIC "clmoe01\n"
#define MAGIC_SIZE 8
#define KEY_SIZE (HASH_HEX - 1)
#define HEAD_SIZE (MAGIC_SIZE + KEY_SIZE + 8 + HASH_BYTES)

static void checksum(const unsigned char *data, size_t size, uint8_t digest[HASH_BYTES]) {
    struct hash h;
    hash_begin(&h);
    hash_add(&h, data, size);
    hash_end(&h, digest);
}

static bool intact(const unsigned char *blob, size_t size, const char key[HASH_HEX]) {
    if (size <= HEAD_SIZE || memcmp(blob, MAGIC, MAGIC_SIZE) != 0) return false;
    if (memcmp(blob + MAGIC_SIZE, key, KEY_SIZE) != 0) return false;
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)blob[MAGIC_SIZE + KEY_SIZE + i] << (8 * i);
    if (length != size - HEAD_SIZE) return false;
    uint8_t digest[HASH_BYTES];
    checksum(blob + HEAD_SIZE, size - HEAD_SIZE, digest);
    return memcmp(digest, blob + MAGIC_SIZE + KEY_SIZE + 8, HASH_BYTES) == 0;
}

bool blob_get(const struct clmoe_cache *cache, const struct log *log, const char key[HASH_HEX], void **memory,
              const unsigned char **binary, size_t *size) {
    const size_t capacity = cache->get(cache->priv, key, NULL, 0);
    if (capacity == 0) return false;
    unsigned char *const blob = malloc(capacity);
    if (!blob) return false;
    const size_t got = cache->get(cache->priv, key, blob, capacity);
    if (got != capacity || !intact(blob, got, key)) {
        log_msg(log, CLMOE_LOG_WARN, "cache entry %s is damaged or foreign: ignored", key);
        free(blob);
        return false;
    }
    *memory = blob;
    *binary = blob + HEAD_SIZE;
    *size = got - HEAD_SIZE;
    return true;
}

void blob_set(const struct clmoe_cache *cache, const char key[HASH_HEX], const unsigned char *binary,
              size_t size) {
    unsigned char *const blob = malloc(HEAD_SIZE + size);
    if (!blob) return;
    memcpy(blob, MAGIC, MAGIC_SIZE);
    memcpy(blob + MAGIC_SIZE, key, KEY_SIZE);
    for (int i = 0; i < 8; i++)
        blob[MAGIC_SIZE + KEY_SIZE + i] = (unsigned char)((uint64_t)size >> (8 * i));
    checksum(binary, size, blob + MAGIC_SIZE + KEY_SIZE + 8);
    memcpy(blob + HEAD_SIZE, binary, size);
    cache->set(cache->priv, key, blob, HEAD_SIZE + size);
    free(blob);
}
