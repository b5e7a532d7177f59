// SPDX-License-Identifier: MIT
//
// What the readers of a GGUF file's parts share: a place in the header that never runs beyond the file.
#ifndef CLMOE_TOOLS_IO_GGUF_CURSOR_H
#define CLMOE_TOOLS_IO_GGUF_CURSOR_H

#include "error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_cursor {
    const char *name;     // of the file
    const uint8_t *bytes; // all of it
    size_t size;          //
    size_t at;            // <= size
    const char *part;     // what is read, for errors: "metadata"
    struct io_error *err;
};

// Bytes that are not aligned, and text that has no NUL at its end. They belong to the file.
struct gguf_string {
    const char *text;
    size_t length;
};

// Each is false and says so when the file ends before. gguf_skip() is for `count` things of `size` bytes.
bool gguf_skip(struct gguf_cursor *c, uint64_t count, size_t size);
bool gguf_u32(struct gguf_cursor *c, uint32_t *value);
bool gguf_u64(struct gguf_cursor *c, uint64_t *value);
bool gguf_string(struct gguf_cursor *c, struct gguf_string *value);

// A count of things that have at least `least` bytes each: false when the rest of the file has no room.
bool gguf_count(struct gguf_cursor *c, const char *what, size_t least, uint64_t *value);

// `count` keys and values, as an object; NULL on failure.
cJSON *gguf_metadata(struct gguf_cursor *c, uint64_t count);

#endif
