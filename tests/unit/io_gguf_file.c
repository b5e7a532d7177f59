// SPDX-License-Identifier: MIT
#include "io_gguf_file.h"

#include <check.h>
#include <string.h>

void put(struct builder *b, const void *data, size_t size) {
    ck_assert(size <= sizeof(b->bytes) - b->size);
    if (size) memcpy(b->bytes + b->size, data, size);
    b->size += size;
}

void put_u32(struct builder *b, uint32_t value) {
    put(b, &value, sizeof(value));
}

void put_u64(struct builder *b, uint64_t value) {
    put(b, &value, sizeof(value));
}

void put_text(struct builder *b, const char *text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

void put_head(struct builder *b, uint64_t tensors, uint64_t keys) {
    b->size = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, keys);
}

void put_key(struct builder *b, const char *key, uint32_t type) {
    put_text(b, key);
    put_u32(b, type);
}

void put_tensor(struct builder *b, const char *name, uint32_t ndim, const uint64_t *dims, uint32_t type,
                uint64_t offset) {
    put_text(b, name);
    put_u32(b, ndim);
    put(b, dims, ndim * sizeof(*dims));
    put_u32(b, type);
    put_u64(b, offset);
}

void put_data(struct builder *b, size_t alignment, size_t size) {
    static const uint8_t zeros[1024];
    put(b, zeros, (alignment - b->size % alignment) % alignment);
    put(b, zeros, size);
}
