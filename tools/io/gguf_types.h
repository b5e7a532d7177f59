// SPDX-License-Identifier: MIT
//
// The types of tensors in GGUF files.
#ifndef CLMOE_TOOLS_IO_GGUF_TYPES_H
#define CLMOE_TOOLS_IO_GGUF_TYPES_H

#include "array.h"

#include <stdint.h>

struct gguf_type {
    const char *name; // "Q4_K"
    uint32_t block;   // elements
    uint32_t bytes;   // of a block
    bool loadable;    // as arrays, of `dtype`
    enum array_dtype dtype;
};

// NULL for a number that is none of a type.
const struct gguf_type *gguf_type(uint32_t number);

#endif
