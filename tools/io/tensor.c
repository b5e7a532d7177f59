// SPDX-License-Identifier: MIT
#include "tensor.h"

#include <stdlib.h>
#include <string.h>

int file_tensor_by_place(const void *a, const void *b) {
    const struct file_tensor *left = a, *right = b;
    if (left->begin != right->begin) return left->begin < right->begin ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

int file_tensor_by_name(const void *a, const void *b) {
    const struct file_tensor *left = a, *right = b;
    return strcmp(left->name, right->name);
}

const struct file_tensor *file_tensor_find(const struct file_tensor *tensors, size_t count,
                                           const char *name) {
    if (count == 0) return NULL;
    const struct file_tensor key = {.name = name};
    return bsearch(&key, tensors, count, sizeof(*tensors), file_tensor_by_name);
}

bool file_tensor_array(const char *file, const struct file_tensor *tensor, struct array *out,
                       struct io_error *err) {
    *out = (struct array){0};
    if (!tensor->loadable) {
        return io_fail(err, file, "tensor \"%.100s\": dtype %.40s is not supported", tensor->name,
                       tensor->type);
    }
    return array_view(file, tensor->dtype, tensor->ndim, tensor->shape, tensor->data, out, err);
}
