// SPDX-License-Identifier: MIT
//
// What a fuzz target of this folder is: a libFuzzer entry, and good inputs to start from. Linked with
// libFuzzer it is a fuzzer; linked with standalone.c it is a test that needs no special compiler.
#ifndef CLMOE_TESTS_FUZZ_FUZZ_H
#define CLMOE_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct fuzz_seed {
    const char *bytes;
    size_t size;
};

// At least one, and the i-th of them, until the next call.
size_t fuzz_seed_count(void);
struct fuzz_seed fuzz_seed_at(size_t i);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What must hold for every input. Aborts, so that both drivers stop at the input.
#define FUZZ_REQUIRE(condition)                                                                              \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
