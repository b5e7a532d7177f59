// SPDX-License-Identifier: MIT
//
// GGUF files by hand: numbers and text one behind another.
#ifndef CLMOE_TESTS_UNIT_IO_GGUF_FILE_H
#define CLMOE_TESTS_UNIT_IO_GGUF_FILE_H

#include <stddef.h>
#include <stdint.h>

struct builder {
    uint8_t bytes[16384];
    size_t size;
};

// Types of values, and of tensors.
enum { U8 = 0, U32 = 4, BOOL = 7, STRING = 8, LIST = 9 };
enum { F32 = 0, UNKNOWN = 4, Q8_0 = 8, Q4_K = 12, I8 = 24 };

void put(struct builder *b, const void *data, size_t size);
void put_u32(struct builder *b, uint32_t value);
void put_u64(struct builder *b, uint64_t value);
void put_text(struct builder *b, const char *text);

// The head of version 3; the builder is empty before.
void put_head(struct builder *b, uint64_t tensors, uint64_t keys);

// A key; the value comes next.
void put_key(struct builder *b, const char *key, uint32_t type);

// Dimensions in the order of the file, the fastest first.
void put_tensor(struct builder *b, const char *name, uint32_t ndim, const uint64_t *dims, uint32_t type,
                uint64_t offset);

// Zeros up to the data, and `size` of data.
void put_data(struct builder *b, size_t alignment, size_t size);

#endif
