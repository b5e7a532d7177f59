// SPDX-License-Identifier: MIT
#include "../data/io_goldens.h"
#include "fuzz.h"
#include "fuzz_tensor.h"
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <string.h>

#define SEED(literal)                                                                                        \
    { literal, sizeof(literal) - 1 }

static const struct fuzz_seed seeds[] = {
    SEED(safetensors_golden),
    SEED("\2\0\0\0\0\0\0\0{}"),
    SEED("\x6a\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[2,1],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[2,5]}}12345"),
    SEED("\x4f\0\0\0\0\0\0\0{\"__metadata__\":{\"a\":\"b\"},\"x\":{\"dtype\":\"F32\",\"shape\":[0],"
         "\"data_offsets\":[0,0]}}"),
    SEED(
        "\x3e\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}        12345678"),
};

size_t fuzz_seed_count(void) {
    return sizeof(seeds) / sizeof(seeds[0]);
}

struct fuzz_seed fuzz_seed_at(size_t i) {
    return seeds[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct safetensors file;
    struct io_error err = {""};
    if (safetensors_parse("fuzz", data, size, &file, &err)) {
        FUZZ_REQUIRE(err.text[0] == '\0');
        size_t total = 0;
        for (size_t i = 0; i < file.count; ++i) {
            const struct file_tensor *const t = &file.tensors[i];
            FUZZ_REQUIRE(safetensors_find(&file, t->name) == t);
            fuzz_check_tensor(file.name, t, 8, data, size);
            FUZZ_REQUIRE(i == 0 || strcmp(file.tensors[i - 1].name, file.tensors[i].name) < 0);
            total += file.tensors[i].bytes;
        }
        FUZZ_REQUIRE(total < size);
        for (const cJSON *m = file.metadata ? file.metadata->child : NULL; m; m = m->next) {
            FUZZ_REQUIRE(strcmp(safetensors_metadata(&file, m->string), m->valuestring) == 0);
        }
    } else {
        FUZZ_REQUIRE(strncmp(err.text, "fuzz: ", 6) == 0 && !strchr(err.text, '\n'));
        FUZZ_REQUIRE(file.tensors == NULL && file.count == 0);
    }
    safetensors_close(&file);
    return 0;
}
