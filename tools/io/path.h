// SPDX-License-Identifier: MIT
//
// The file arguments of the command: `FILE.npy`, or `FILE.safetensors:TENSOR`.
//
// The tensor is everything after the first ".safetensors:". Endings are compared as they are written, in
// lower case. A name without tensor, or with another ending, is an error that says what was expected.
#ifndef CLMOE_TOOLS_IO_PATH_H
#define CLMOE_TOOLS_IO_PATH_H

#include "array.h"

#include <stdbool.h>

// Reads the array that `argument` names. It stands alone: it owns its mapping or its copy. `bf16` is
// npy_load()'s.
bool array_read(const char *argument, bool bf16, struct array *out, struct io_error *err);

// The file that array_write() would write for an argument, for the caller to free(). Nothing is opened.
bool array_file(const char *argument, char **file, struct io_error *err);

// Writes `a` as .npy, or as a safetensors file with this one tensor; whole or not at all (output.h). A name
// under /dev/ (/dev/null, /dev/stdout) needs no ending and gets .npy.
bool array_write(const char *argument, const struct array *a, struct io_error *err);

#endif
