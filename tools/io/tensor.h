// SPDX-License-Identifier: MIT
//
// A tensor as a file holds it, of whichever format.
#ifndef CLMOE_TOOLS_IO_TENSOR_H
#define CLMOE_TOOLS_IO_TENSOR_H

#include "array.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What it points to lives as long as the open file.
struct file_tensor {
    const char *name;              // UTF-8, any characters but NUL
    const char *type;              // as the file says, "BF16", "Q4_K"
    bool loadable;                 // `type` has arrays, and `dtype` says which
    enum array_dtype dtype;        //
    int ndim;                      //
    int64_t shape[ARRAY_MAX_DIMS]; // in C order
    size_t begin;                  // from the start of the data section
    size_t bytes;                  //
    const void *data;              // not always aligned for `dtype`: file_tensor_array() sees to it
};

// qsort() orders: by place, by name in byte order.
int file_tensor_by_place(const void *a, const void *b);
int file_tensor_by_name(const void *a, const void *b);

// The one of a name among `count` sorted by it; NULL when there is none.
const struct file_tensor *file_tensor_find(const struct file_tensor *tensors, size_t count, const char *name);

// Its array: ARRAY_BORROWED from the open file where aligned, else an owned copy. array_free() it. An error
// when its type has none. `file` stands in errors.
bool file_tensor_array(const char *file, const struct file_tensor *tensor, struct array *out,
                       struct io_error *err);

#endif
