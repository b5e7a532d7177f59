// SPDX-License-Identifier: MIT
#include "config.h"
#include "fuzz.h"

#include <string.h>

#define SEED(literal)                                                                                        \
    { literal, sizeof(literal) - 1 }

static const struct fuzz_seed seeds[] = {
    SEED("{}"),
    SEED("{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"hidden_size\": 2048, \"num_experts\": 128,\n"
         " \"num_experts_per_tok\": 8, \"norm_topk_prob\": true, \"rms_norm_eps\": 1e-06, \"rope_scaling\": "
         "null}"),
    SEED("{\"a\": 1, \"b\": {\"a\": -2.5e3, \"b\": {\"a\": \"x\"}}, \"c\": [1, 2, 3], \"d\": "
         "\"\\u00e9\\ud83d\\ude00\\n\"}"),
    SEED("{\"a\":[[[[[[[[[[]]]]]]]]]],\"b\":false,\"c\":[{},{\"a\":9007199254740993}]}"),
    SEED(" \t\r\n{\"\xc3\xa9\": \"\xf0\x9f\x98\x80\", \"\": 0} \n"),
};

size_t fuzz_seed_count(void) {
    return sizeof(seeds) / sizeof(seeds[0]);
}

struct fuzz_seed fuzz_seed_at(size_t i) {
    return seeds[i];
}

static void check_error(const struct io_error *err, bool ok) {
    FUZZ_REQUIRE(ok == (err->text[0] == '\0'));
    FUZZ_REQUIRE(ok || (strncmp(err->text, "fuzz: ", 6) == 0 && !strchr(err->text, '\n')));
}

static void check_getters(const struct config *c, const char *key, size_t size) {
    static const char *const choices[] = {"x", "y", NULL};
    struct io_error err[6] = {{""}};
    int64_t i = 3, list[2] = {0};
    double d = 0;
    bool b = false;
    const char *s = "";
    int choice = 0;
    size_t n = 0;
    check_error(&err[0], config_int(c, key, 0, 4096, &i, &err[0]));
    FUZZ_REQUIRE(i >= 0 && i <= 4096);
    check_error(&err[1], config_number_or(c, key, -1, 1, 0, &d, &err[1]));
    FUZZ_REQUIRE(d >= -1 && d <= 1);
    check_error(&err[2], config_bool(c, key, &b, &err[2]));
    check_error(&err[3], config_string(c, key, &s, &err[3]));
    FUZZ_REQUIRE(strlen(s) <= size);
    check_error(&err[4], config_choice_or(c, key, choices, 1, &choice, &err[4]));
    FUZZ_REQUIRE(choice == 0 || choice == 1);
    check_error(&err[5], config_ints(c, key, -5, 5, 2, list, &n, &err[5]));
    FUZZ_REQUIRE(n <= 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const keys[] = {
        "a", "b.a", "b.b.a", "b", "c", "d|hidden_size", "rope_scaling|num_experts", ""};
    struct config c;
    struct io_error err = {""};
    const bool ok = config_parse("fuzz", data, size, &c, &err);
    check_error(&err, ok);
    FUZZ_REQUIRE(ok == (c.root != NULL));
    for (size_t i = 0; ok && i < sizeof(keys) / sizeof(keys[0]); ++i)
        check_getters(&c, keys[i], size);
    config_close(&c);
    return 0;
}
