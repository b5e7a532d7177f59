// SPDX-License-Identifier: MIT
//
// GGUF files, versions 2 and 3, little-endian: a magic, counts, metadata of typed keys, a list of tensors,
// the data of all tensors. (Version 1 and big-endian files are refused by that name.)
//
// Every rule is checked when the file is opened, so that what is listed can be used:
// - a count is compared with what the rest of the file could hold before anything is made for it, so a header
//   costs no more than some fifty times its own bytes, and GGUF_MAX_VALUES bounds that;
// - keys are UTF-8 without NUL, 1..65535 bytes, and given once; value types are known; bools are 0 or 1;
// lists
//   nest at most GGUF_MAX_DEPTH deep;
// - names of tensors are UTF-8 without NUL, not empty, and given once; at most ARRAY_MAX_DIMS dimensions; a
//   shape's product and its bytes do not overflow, rows are whole blocks of the type; offsets are multiples
//   of general.alignment (a multiple of 8, default 32), inside the file, and no two tensors overlap.
//
// Tensors of types that the list of types does not have are listed, with no bytes: only their offset is
// checked. Those of block types have their data and bytes, but no arrays; no more than the last dimension of
// their shape is in blocks, as everywhere in GGUF.
#ifndef CLMOE_TOOLS_IO_GGUF_H
#define CLMOE_TOOLS_IO_GGUF_H

#include "config.h"
#include "map.h"
#include "tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_MAX_DEPTH 4
#define GGUF_MAX_VALUES 1000000 // that are kept
#define GGUF_MAX_LIST 4096      // longer lists are checked and not kept: vocabularies, not options

// An open file. Everything in it lives until gguf_close(). `{0}` is a valid, closed one.
// Thread-safety: reading is safe from every thread; opening and closing belong to one.
struct gguf {
    char *name;      // the path, for messages
    cJSON *metadata; // an object with all keys as they are, "qwen3moe.expert_count"; null stands for
                     // a list that is not kept and for text that is not UTF-8 or holds NUL
    size_t count;    //
    struct file_tensor *tensors; // sorted by name in byte order; shapes in C order: [E, N, K]
    char *names;                 // of all tensors
    struct file_map map;         // `{0}` when parsed from the caller's bytes
};

// True for a path that ends with ".gguf".
bool gguf_is_path(const char *path);

// Reads `size` bytes that the caller keeps until gguf_close(). `name` stands in errors.
bool gguf_parse(const char *name, const void *bytes, size_t size, struct gguf *out, struct io_error *err);

// Maps and reads a file. Tensor data is paged in when it is touched, not before.
bool gguf_open(const char *path, struct gguf *out, struct io_error *err);

// Valid on `{0}` and NULL.
void gguf_close(struct gguf *file);

// By exact name; NULL when there is none.
const struct file_tensor *gguf_find(const struct gguf *file, const char *name);

// The options of a file as config.h has them: {"general": {"architecture": "qwen3moe", ...}, "qwen3moe":
// {"expert_count": 128, ...}}, and no other sections. It stands alone.
bool gguf_config(const struct gguf *file, struct config *out, struct io_error *err);

#endif
