// SPDX-License-Identifier: MIT
#include "../data/io_goldens.h"
#include "fuzz.h"
#include "npy.h"

#include <string.h>

size_t fuzz_seed_count(void) {
    return sizeof(npy_goldens) / sizeof(npy_goldens[0]);
}

struct fuzz_seed fuzz_seed_at(size_t i) {
    return (struct fuzz_seed){npy_goldens[i].file, npy_goldens[i].file_size};
}

// What was read must be whole: every byte of it is there, and converts.
static void check_array(const struct array *a) {
    size_t bytes;
    FUZZ_REQUIRE(a->memory == ARRAY_BORROWED || a->memory == ARRAY_OWNED);
    FUZZ_REQUIRE(array_shape_bytes(a->dtype, a->ndim, a->shape, &bytes) && bytes == a->bytes);
    FUZZ_REQUIRE((uintptr_t)a->data % array_dtype_size(a->dtype) == 0);
    struct array f32, i32;
    FUZZ_REQUIRE(array_to_f32("fuzz", a, &f32, NULL));
    FUZZ_REQUIRE(array_count(&f32) == array_count(a));
    (void)array_to_i32("fuzz", a, &i32, NULL);
    array_free(&f32);
    array_free(&i32);
}

static void check_parse(const uint8_t *data, size_t size, bool bf16) {
    struct array a;
    struct io_error err = {""};
    if (npy_parse("fuzz", data, size, bf16, &a, &err)) {
        FUZZ_REQUIRE(err.text[0] == '\0');
        FUZZ_REQUIRE(a.bytes < size);
        check_array(&a);
    } else {
        FUZZ_REQUIRE(strncmp(err.text, "fuzz: ", 6) == 0 && !strchr(err.text, '\n'));
        FUZZ_REQUIRE(a.memory == ARRAY_EMPTY && a.data == NULL);
    }
    array_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_parse(data, size, false);
    check_parse(data, size, true);
    return 0;
}
