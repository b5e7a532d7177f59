// SPDX-License-Identifier: MIT
//
// The header text of an npy file: a Python dict such as
//     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
// followed by white space.
#ifndef CLMOE_TOOLS_IO_NPY_HEADER_H
#define CLMOE_TOOLS_IO_NPY_HEADER_H

#include "array.h"

#define NPY_DESCR_BYTES 16

struct npy_header {
    char descr[NPY_DESCR_BYTES];
    bool fortran_order;
    int ndim;
    int64_t shape[ARRAY_MAX_DIMS]; // each >= 0; their product is not checked here
};

// Reads `size` bytes. Accepted: the three keys in any order, once each; single or double quotes; spaces, tabs
// and newlines between tokens; a trailing comma in the dict and in a tuple; Python 2's `3L`. Errors name the
// key.
bool npy_header_parse(const char *name, const char *text, size_t size, struct npy_header *out,
                      struct io_error *err);

#endif
