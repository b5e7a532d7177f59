/* SPDX-License-Identifier: MIT */
#include "blob.h"

#include <stdlib.h>
#include <string.h>

/* File layout: magic, key, length and hash_sum of the binary, both little-endian, the binary. */
#define MAGIC "clmoe02\n"
#define MAGIC_SIZE 8
#define KEY_SIZE (HASH_HEX - 1)
#define LENGTH_AT (MAGIC_SIZE + KEY_SIZE)
#define SUM_AT (LENGTH_AT + 8)
#define HEAD_SIZE (SUM_AT + 8)

static void put_number(unsigned char *at, uint64_t n) {
    for (int i = 0; i < 8; i++)
        at[i] = (unsigned char)(n >> (8 * i));
}

static uint64_t get_number(const unsigned char *at) {
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)at[i] << (8 * i);
    return n;
}

static bool intact(const unsigned char *blob, size_t size, const char key[HASH_HEX]) {
    if (size <= HEAD_SIZE || memcmp(blob, MAGIC, MAGIC_SIZE) != 0) return false;
    if (memcmp(blob + MAGIC_SIZE, key, KEY_SIZE) != 0) return false;
    return get_number(blob + LENGTH_AT) == size - HEAD_SIZE &&
           get_number(blob + SUM_AT) == hash_sum(blob + HEAD_SIZE, size - HEAD_SIZE);
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
    put_number(blob + LENGTH_AT, size);
    put_number(blob + SUM_AT, hash_sum(binary, size));
    memcpy(blob + HEAD_SIZE, binary, size);
    cache->set(cache->priv, key, blob, HEAD_SIZE + size);
    free(blob);
}
