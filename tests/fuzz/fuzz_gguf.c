// SPDX-License-Identifier: MIT
#include "../data/io_goldens.h"
#include "fuzz.h"
#include "fuzz_tensor.h"
#include "gguf.h"

#include <string.h>

#define SEED(literal)                                                                                        \
    { literal, sizeof(literal) - 1 }

#define HEAD(tensors, keys) "GGUF\3\0\0\0" tensors "\0\0\0\0\0\0\0" keys "\0\0\0\0\0\0\0"
#define TEXT(length, text) length "\0\0\0\0\0\0\0" text

static const struct fuzz_seed seeds[] = {
    SEED(gguf_golden),
    SEED(HEAD("\0", "\0")),
    SEED(HEAD("\0", "\1") TEXT("\3", "a.b") "\11\0\0\0\11\0\0\0" TEXT("\1", "\4\0\0\0")
             TEXT("\1", "\7\0\0\0")),
    SEED(HEAD("\1", "\1") TEXT("\21", "general.alignment") "\4\0\0\0\10\0\0\0" TEXT(
        "\1", "x") "\1\0\0\0" TEXT("\2", "\0\0\0\0") TEXT("\0", "1234567812345678")),
    SEED(HEAD("\2", "\0") TEXT("\1", "x") "\0\0\0\0\0\0\0\0" TEXT("\0", "")
             TEXT("\1", "y") "\0\0\0\0\4\0\0\0" TEXT("\40", "1234567890123456789012345678901234567890")),
};

size_t fuzz_seed_count(void) {
    return sizeof(seeds) / sizeof(seeds[0]);
}

struct fuzz_seed fuzz_seed_at(size_t i) {
    return seeds[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gguf file;
    struct config config;
    struct io_error err = {""};
    if (gguf_parse("fuzz", data, size, &file, &err)) {
        FUZZ_REQUIRE(err.text[0] == '\0');
        for (size_t i = 0; i < file.count; ++i) {
            const struct file_tensor *const t = &file.tensors[i];
            FUZZ_REQUIRE(gguf_find(&file, t->name) == t && t->name[0] && t->type);
            fuzz_check_tensor(file.name, t, 24, data, size);
            FUZZ_REQUIRE(i == 0 || strcmp(file.tensors[i - 1].name, file.tensors[i].name) < 0);
        }
        for (const cJSON *m = file.metadata->child; m; m = m->next)
            FUZZ_REQUIRE(cJSON_GetObjectItemCaseSensitive(file.metadata, m->string) == m);
        FUZZ_REQUIRE(gguf_config(&file, &config, &err));
        config_close(&config);
    } else {
        FUZZ_REQUIRE(strncmp(err.text, "fuzz: ", 6) == 0 && !strchr(err.text, '\n'));
        FUZZ_REQUIRE(file.tensors == NULL && file.metadata == NULL && file.count == 0);
    }
    gguf_close(&file);
    return 0;
}
