// SPDX-License-Identifier: MIT
//
// safetensors files: eight bytes of header length, a JSON header, the data of all tensors.
//
// Every rule of the format is checked when the file is opened, so that what is listed can be used:
// the header has at most 100,000,000 bytes, fits the file and starts with '{'; JSON is at most 8 levels deep
// with no key given twice; each tensor has a dtype, a shape of at most 8 dimensions and data_offsets;
// dimensions and offsets are integers in 0..2^53-1; begin <= end <= size of the data; a shape's product times
// the size of its type does not overflow and equals end - begin; the tensors cover the data without overlap,
// gap or rest;
// `__metadata__`, if any, holds strings only. Other keys of a tensor are ignored.
//
// Types: F32 F16 BF16 F64 I8 U8 I16 U16 I32 U32 I64 U64 BOOL F8_E4M3 F8_E5M2. A tensor of another type is
// listed with its bytes but has no array; only its place is checked, not its size against its shape.
#ifndef CLMOE_TOOLS_IO_SAFETENSORS_H
#define CLMOE_TOOLS_IO_SAFETENSORS_H

#include "map.h"
#include "tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_MAX_HEADER 100000000

struct cJSON;

// An open file. Everything in it lives until safetensors_close(). `{0}` is a valid, closed one.
// Thread-safety: reading is safe from every thread; opening and closing belong to one.
struct safetensors {
    char *name;                  // the path, for messages
    size_t count;                //
    struct file_tensor *tensors; // sorted by name in byte order
    const struct cJSON
        *metadata;        // the object `__metadata__`, its children are strings; NULL when there is none
    struct cJSON *header; // owns the strings above
    struct file_map map;  // `{0}` when parsed from the caller's bytes
};

// Reads `size` bytes that the caller keeps until safetensors_close(). `name` stands in errors.
bool safetensors_parse(const char *name, const void *bytes, size_t size, struct safetensors *out,
                       struct io_error *err);

// Maps and reads a file. Tensor data is paged in when it is touched, not before.
bool safetensors_open(const char *path, struct safetensors *out, struct io_error *err);

// Valid on `{0}` and NULL.
void safetensors_close(struct safetensors *file);

// By exact name; NULL when there is none.
const struct file_tensor *safetensors_find(const struct safetensors *file, const char *name);

// A string of `__metadata__`; NULL when there is none.
const char *safetensors_metadata(const struct safetensors *file, const char *key);

// Writes a file of `count` arrays, or leaves what was there (output.h). Data begins at a multiple of 8 bytes,
// wide types first, so that every tensor is aligned. Names must be valid UTF-8, distinct and not
// `__metadata__`.
bool safetensors_save(const char *path, size_t count, const char *const *names, const struct array *arrays,
                      struct io_error *err);

#endif
