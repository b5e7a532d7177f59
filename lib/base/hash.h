/* SPDX-License-Identifier: MIT
 * SHA-256 (FIPS 180-4) names programs in the caches; a sum of 64 bits guards cached blobs. */
#ifndef CLMOE_BASE_HASH_H
#define CLMOE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES 32
#define HASH_HEX (2 * HASH_BYTES + 1)

struct hash {
    uint32_t state[8];
    uint64_t total;
    uint8_t block[64];
};

void hash_begin(struct hash *h);
void hash_add(struct hash *h, const void *data, size_t size);
/* Adds a string with its NUL, so that the boundaries between fields count. */
void hash_add_str(struct hash *h, const char *text);
void hash_end(struct hash *h, uint8_t digest[HASH_BYTES]);
void hash_hex(const uint8_t digest[HASH_BYTES], char text[HASH_HEX]);

/* A sum that damage changes: always if it lies within 8 bytes, else but for one time in 2^64. Not against
 * intent, and 30 times faster. The same bytes have another one where the byte order is another. */
uint64_t hash_sum(const void *data, size_t size);

#endif
