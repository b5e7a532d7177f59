// SPDX-License-Identifier: MIT
//
// numpy's .npy files.
//
// Read: format versions 1.0, 2.0 and 3.0; little-endian bool, integers and floats of array.h, up to 8
// dimensions. A file in Fortran order becomes a C order array of the same shape (a transposing copy). The
// header may have its keys in any order, spaces and a trailing comma; apart from that it must be what numpy
// writes: the three keys once each, and nothing else. Refused with a reason: big-endian data, Python objects,
// strings, complex numbers, structured types, a file with fewer bytes than its shape needs, and one with
// more.
//
// bf16: numpy has no such type. ml_dtypes writes it as `<V2`, others as `<u2` or `|V2`. With `bf16` true
// these three are read as BF16 and every other type as usual; without it, `<u2` is U16 and V2 is an error.
//
// Written: version 1.0, C order, padded to 64 bytes as numpy does; BF16 as `<V2`. The f8 types have no npy
// name and are an error.
#ifndef CLMOE_TOOLS_IO_NPY_H
#define CLMOE_TOOLS_IO_NPY_H

#include "array.h"
#include "output.h"

#include <stdbool.h>
#include <stddef.h>

// Reads `size` bytes that the caller keeps. The array borrows from them where it can (C order, data aligned
// for its type) and is an owned copy where it cannot. `name` stands in the error.
bool npy_parse(const char *name, const void *bytes, size_t size, bool bf16, struct array *out,
               struct io_error *err);

// Maps and reads a file. The array owns the mapping or its copy: array_free() it.
bool npy_load(const char *path, bool bf16, struct array *out, struct io_error *err);

// Writes a whole file, or leaves what was there (output.h).
bool npy_save(const char *path, const struct array *a, struct io_error *err);

#endif
