// SPDX-License-Identifier: MIT
//
// What holds for every tensor that a reader of tensor files lists, whatever the file was.
#ifndef CLMOE_TESTS_FUZZ_TENSOR_H
#define CLMOE_TESTS_FUZZ_TENSOR_H

#include "fuzz.h"
#include "tensor.h"

static inline unsigned fuzz_sum(const void *data, size_t size) {
    unsigned total = 0;
    for (size_t i = 0; i < size; ++i)
        total += ((const uint8_t *)data)[i];
    return total;
}

// Its bytes lie in the file, behind a header of at least `head` bytes, and can be read; so can the array, if
// there is one.
static inline void fuzz_check_tensor(const char *file, const struct file_tensor *t, size_t head,
                                     const uint8_t *data, size_t size) {
    FUZZ_REQUIRE((const uint8_t *)t->data >= data + head && t->bytes <= size - head);
    FUZZ_REQUIRE((size_t)((const uint8_t *)t->data - data) <= size - t->bytes);
    struct array a;
    struct io_error err = {""};
    const bool ok = file_tensor_array(file, t, &a, &err);
    FUZZ_REQUIRE(ok == t->loadable && ok == (err.text[0] == '\0'));
    const unsigned sum = fuzz_sum(t->data, t->bytes);
    FUZZ_REQUIRE(!ok || fuzz_sum(a.data, a.bytes) == sum);
    array_free(&a);
}

#endif
