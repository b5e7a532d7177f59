// SPDX-License-Identifier: MIT
//
// What the reader and the writer of safetensors share: the names of types, the limits of the header.
#ifndef CLMOE_TOOLS_IO_SAFETENSORS_TYPES_H
#define CLMOE_TOOLS_IO_SAFETENSORS_TYPES_H

#include "array.h"
#include "json.h"

// A tensor is some ten values: enough for 400,000 of them, in less than a gigabyte.
extern const struct json_limits safetensors_limits;

// "F32", "BF16", "F8_E4M3"...
const char *safetensors_type_name(enum array_dtype dtype);

// False when the name is none of ours.
bool safetensors_type_find(const char *name, enum array_dtype *dtype);

#endif
