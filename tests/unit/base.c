/* SPDX-License-Identifier: MIT
 * lib/base, names and versions: no OpenCL. */
#include "base/dtype.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "check/harness.h"
#include "kernel/row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- SHA-256: FIPS 180-4 examples, NIST's long-message example, and every split of a message ---- */

static const struct {
    const char *text, *digest;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrs"
     "t"
     "nopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

static void hex_of(const void *data, size_t size, size_t step, char hex[HASH_HEX]) {
    struct hash h;
    uint8_t digest[HASH_BYTES];
    hash_begin(&h);
    for (size_t at = 0; at < size; at += step)
        hash_add(&h, (const char *)data + at, size - at < step ? size - at : step);
    hash_end(&h, digest);
    hash_hex(digest, hex);
}

START_TEST(sha256_vectors) {
    char hex[HASH_HEX];
    const char *const text = vectors[_i].text;
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        hex_of(text, strlen(text), step, hex);
        ck_assert_str_eq(hex, vectors[_i].digest);
    }
}
END_TEST

START_TEST(sha256_million) {
    char *const text = malloc(1000000), hex[HASH_HEX];
    memset(text, 'a', 1000000);
    hex_of(text, 1000000, 977, hex);
    ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
}
END_TEST

/* Lengths around the padding boundaries: all different, and the same in one piece and in many. */
START_TEST(sha256_boundaries) {
    static char zeros[200], seen[200][HASH_HEX];
    for (size_t n = 0; n < 200; n++) {
        char pieces[HASH_HEX];
        hex_of(zeros, n, 200, seen[n]);
        hex_of(zeros, n, 3, pieces);
        ck_assert_str_eq(pieces, seen[n]);
        for (size_t i = 0; i < n; i++)
            ck_assert_str_ne(seen[i], seen[n]);
    }
}
END_TEST

START_TEST(sums_see_damage) {
    unsigned char data[41];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37);
    for (size_t size = 0; size < sizeof data; size++) {
        const uint64_t sum = hash_sum(data, size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            ck_assert(hash_sum(data, size) != sum);
            data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        ck_assert(hash_sum(data, size) == sum && hash_sum(data, size + 1) != sum);
    }
    const unsigned char zeros[32] = {0};
    for (size_t size = 0; size < sizeof zeros; size++)
        ck_assert(hash_sum(zeros, size) != hash_sum(zeros, size + 1));
}
END_TEST

START_TEST(fields_of_a_hash_do_not_run_together) {
    uint8_t one[HASH_BYTES], two[HASH_BYTES];
    struct hash h;
    hash_begin(&h), hash_add_str(&h, "ab"), hash_add_str(&h, "c"), hash_end(&h, one);
    hash_begin(&h), hash_add_str(&h, "a"), hash_add_str(&h, "bc"), hash_end(&h, two);
    ck_assert_mem_ne(one, two, HASH_BYTES);
}
END_TEST

/* ---- str ---- */

START_TEST(str_grows) {
    struct str s = {0};
    for (int i = 0; i < 1000; i++) {
        str_printf(&s, "%d,", i);
        str_append(&s, "xyz", 2);
    }
    ck_assert(!s.failed);
    ck_assert_uint_eq(s.size, strlen(s.text));
    ck_assert_uint_gt(s.capacity, s.size);
    ck_assert(strncmp(s.text, "0,xy1,xy2,xy", 12) == 0);
    ck_assert_str_eq(s.text + s.size - 6, "999,xy");
    str_free(&s);
    ck_assert_ptr_null(s.text);
    ck_assert_uint_eq(s.size, 0);
    str_free(&s);
}
END_TEST

START_TEST(str_of_nothing) {
    struct str s = {0};
    str_append(&s, "", 0);
    ck_assert_str_eq(s.text, "");
    str_printf(&s, "%s", "");
    ck_assert_uint_eq(s.size, 0);
    str_free(&s);
}
END_TEST

START_TEST(str_failure_sticks) {
    struct str s = {0};
    str_append(&s, "kept", 4);
    s.failed = true;
    str_append(&s, "lost", 4);
    str_printf(&s, "%s", "lost");
    ck_assert_str_eq(s.text, "kept");
    str_free(&s);
    ck_assert(!s.failed);
}
END_TEST

/* ---- log ---- */

struct kept {
    int n;
    enum clmoe_log_level level;
    char text[4096];
};

static void keep(void *priv, enum clmoe_log_level level, const char *message) {
    struct kept *const kept = priv;
    kept->n++;
    kept->level = level;
    snprintf(kept->text, sizeof kept->text, "%s", message);
}

static enum clmoe_status needs_positive(const struct log *log, int number) {
    REQUIRE(log, number > 0, "number = %d", number);
    return CLMOE_OK;
}

START_TEST(log_levels) {
    struct kept kept = {0};
    const struct log log = {keep, &kept, CLMOE_LOG_WARN};
    log_msg(&log, CLMOE_LOG_INFO, "too detailed");
    ck_assert_int_eq(kept.n, 0);
    log_msg(&log, CLMOE_LOG_WARN, "%d apples", 3);
    ck_assert_int_eq(kept.n, 1);
    ck_assert_int_eq(kept.level, CLMOE_LOG_WARN);
    ck_assert_str_eq(kept.text, "3 apples");
    log_text(&log, CLMOE_LOG_ERROR, "100% as it is");
    ck_assert_str_eq(kept.text, "100% as it is");
    log_msg(&(struct log){0}, CLMOE_LOG_ERROR, "nobody listens");
    log_msg(NULL, CLMOE_LOG_ERROR, "nobody at all");
}
END_TEST

START_TEST(log_of_a_broken_rule) {
    struct kept kept = {0};
    const struct log log = {keep, &kept, CLMOE_LOG_ERROR};
    ck_assert_int_eq(needs_positive(&log, 1), CLMOE_OK);
    ck_assert_int_eq(kept.n, 0);
    ck_assert_int_eq(needs_positive(&log, -4), CLMOE_E_INVALID);
    ck_assert_str_eq(kept.text, "needs_positive: does not hold: number > 0: number = -4");
    ck_assert_int_eq(kept.level, CLMOE_LOG_ERROR);
}
END_TEST

START_TEST(long_messages_are_cut) {
    struct kept kept = {0};
    const struct log log = {keep, &kept, CLMOE_LOG_ERROR};
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    log_msg(&log, CLMOE_LOG_ERROR, "%s", longer);
    ck_assert_uint_eq(strlen(kept.text), 1023);
    log_require(&log, "where", longer, "value");
    ck_assert_uint_eq(strlen(kept.text), 1023);
    log_text(&log, CLMOE_LOG_ERROR, longer);
    ck_assert_str_eq(kept.text, longer);
}
END_TEST

/* ---- names, sizes, small arithmetic ---- */

START_TEST(dtypes) {
    static const struct {
        enum clmoe_dtype dtype;
        const char *name;
        int64_t count, bytes;
    } rows[] = {
        {CLMOE_F32, "f32", 3, 12},      {CLMOE_F16, "f16", 3, 6},         {CLMOE_BF16, "bf16", 3, 6},
        {CLMOE_I32, "i32", 3, 12},      {CLMOE_U32, "u32", 3, 12},        {CLMOE_U8, "u8", 3, 3},
        {CLMOE_Q8_0, "q8_0", 64, 68},   {CLMOE_F64, "f64", 3, 24},        {CLMOE_I8, "i8", 3, 3},
        {CLMOE_I16, "i16", 3, 6},       {CLMOE_U16, "u16", 3, 6},         {CLMOE_I64, "i64", 3, 24},
        {CLMOE_U64, "u64", 3, 24},      {CLMOE_Q4_0, "q4_0", 64, 36},     {CLMOE_Q5_0, "q5_0", 64, 44},
        {CLMOE_Q4_K, "q4_k", 512, 288}, {CLMOE_Q5_K, "q5_k", 256, 176},   {CLMOE_Q6_K, "q6_k", 256, 210},
        {CLMOE_MXFP4, "mxfp4", 64, 34}, {CLMOE_F8_E4M3, "f8_e4m3", 3, 3}, {CLMOE_F4_E2M1, "f4_e2m1", 6, 3},
    };
    ck_assert_uint_eq(sizeof rows / sizeof *rows, CLMOE_DTYPE_COUNT);
    for (int i = 0; i < CLMOE_DTYPE_COUNT; i++) {
        ck_assert_str_eq(clmoe_dtype_name(rows[i].dtype), rows[i].name);
        ck_assert_int_eq(clmoe_dtype_bytes(rows[i].dtype, rows[i].count), rows[i].bytes);
        ck_assert_int_eq(clmoe_dtype_bytes(rows[i].dtype, 0), 0);
        ck_assert_int_eq(clmoe_dtype_bytes(rows[i].dtype, -1), -1);
        ck_assert_int_eq(clmoe_dtype_bytes(rows[i].dtype, -32), -1);
    }
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_F32, INT64_MAX / 4), INT64_MAX / 4 * 4);
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_F32, INT64_MAX / 4 + 1), -1);
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_U8, INT64_MAX), INT64_MAX);
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_Q8_0, 33), -1);
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_Q4_K, 32), -1);
    ck_assert_int_eq(clmoe_dtype_bytes(CLMOE_Q8_0, INT64_MAX / 32 * 32), -1);
    for (int i = -1; i <= CLMOE_DTYPE_COUNT; i += CLMOE_DTYPE_COUNT + 1) {
        ck_assert_ptr_null(clmoe_dtype_name((enum clmoe_dtype)i));
        ck_assert_int_eq(clmoe_dtype_bytes((enum clmoe_dtype)i, 1), -1);
    }
}
END_TEST

/* Scalars as elements: to nearest, ties to even, straight from the double. */
START_TEST(scalars) {
    static const struct {
        enum clmoe_dtype dtype;
        union clmoe_scalar v;
        uint64_t bits;
    } rows[] = {
        {CLMOE_F16, {.f = 65504}, 0x7bff},
        {CLMOE_F16, {.f = 65519.99}, 0x7bff},
        {CLMOE_F16, {.f = 65520}, 0x7c00},
        {CLMOE_F16, {.f = -1e300}, 0xfc00},
        {CLMOE_F16, {.f = 0x1p-24}, 1},
        {CLMOE_F16, {.f = 0x1p-25}, 0},
        {CLMOE_F16, {.f = 0x1.8p-24}, 2},
        {CLMOE_F16, {.f = 0x1.ff8p-15}, 0x3ff},
        {CLMOE_F16, {.f = 0x1.ffcp-15}, 0x400},
        {CLMOE_F16, {.f = 1 + 0x1p-11}, 0x3c00},
        {CLMOE_F16, {.f = 1 + 0x1.0000000001p-11}, 0x3c01}, /* not by way of a float, which is the tie */
        {CLMOE_F16, {.f = 1 + 0x3p-11}, 0x3c02},
        {CLMOE_F16, {.f = -0.0}, 0x8000},
        {CLMOE_F16, {.f = NAN}, 0x7e00},
        {CLMOE_BF16, {.f = 1}, 0x3f80},
        {CLMOE_BF16, {.f = 1 + 0x1p-8}, 0x3f80},
        {CLMOE_BF16, {.f = 3.4e38}, 0x7f80},
        {CLMOE_BF16, {.f = 0x1p-133}, 1},
        {CLMOE_BF16, {.f = -INFINITY}, 0xff80},
        {CLMOE_F32, {.f = 0.1}, 0x3dcccccd},
        {CLMOE_F64, {.f = 0.1}, 0x3fb999999999999a},
        {CLMOE_I8, {.i = -2}, 0xfe},
        {CLMOE_I64, {.i = INT64_MIN}, 0x8000000000000000},
        {CLMOE_U16, {.u = 65535}, 0xffff},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(dtype_holds(rows[i].dtype, rows[i].v));
        ck_assert_msg(dtype_bits(rows[i].dtype, rows[i].v) == rows[i].bits, "row %zu: 0x%llx", i,
                      (unsigned long long)dtype_bits(rows[i].dtype, rows[i].v));
    }
    ck_assert(!dtype_holds(CLMOE_I8, (union clmoe_scalar){.i = 128}));
    ck_assert(!dtype_holds(CLMOE_I8, (union clmoe_scalar){.i = -129}));
    ck_assert(dtype_holds(CLMOE_I8, (union clmoe_scalar){.i = -128}));
    ck_assert(!dtype_holds(CLMOE_U32, (union clmoe_scalar){.u = (uint64_t)1 << 32}));
    ck_assert(!dtype_holds(CLMOE_U8, (union clmoe_scalar){.i = -1}));
    ck_assert(dtype_holds(CLMOE_U64, (union clmoe_scalar){.u = UINT64_MAX}));
}
END_TEST

START_TEST(status_names) {
    static const char *const names[] = {"CLMOE_OK",          "CLMOE_E_INVALID", "CLMOE_E_UNSUPPORTED",
                                        "CLMOE_E_NO_MEMORY", "CLMOE_E_OPENCL",  "CLMOE_E_BUILD"};
    for (int i = 0; i < 6; i++)
        ck_assert_str_eq(clmoe_status_name((enum clmoe_status)i), names[i]);
    ck_assert_ptr_nonnull(clmoe_status_name((enum clmoe_status)99));
    ck_assert_ptr_nonnull(clmoe_status_name((enum clmoe_status) - 1));
}
END_TEST

START_TEST(version) {
    ck_assert_int_eq(clmoe_version(), CLMOE_VERSION);
    ck_assert_int_gt(clmoe_version(), 0);
}
END_TEST

START_TEST(feature_names) {
    uint32_t named = 0;
    for (int bit = 0; bit < 32; bit++) {
        const uint32_t mask = (uint32_t)1 << bit;
        if (clmoe_feature_name((enum clmoe_feature)mask)) named |= mask;
    }
    ck_assert_uint_eq(named, CLMOE_FEATURES_ALL);
    ck_assert_str_eq(clmoe_feature_name(CLMOE_FEATURE_FP16), "fp16");
    ck_assert_str_eq(clmoe_feature_name(CLMOE_FEATURE_CPU), "cpu");
    ck_assert_ptr_null(clmoe_feature_name((enum clmoe_feature)0));
    ck_assert_ptr_null(clmoe_feature_name((enum clmoe_feature)3));
}
END_TEST

START_TEST(table_arithmetic) {
    ck_assert_int_eq(ceil_div(0, 4), 0);
    ck_assert_int_eq(ceil_div(1, 4), 1);
    ck_assert_int_eq(ceil_div(8, 4), 2);
    for (int64_t n = 1; n < 300; n++) {
        ck_assert(floor_pow2(n) <= n && 2 * floor_pow2(n) > n);
        ck_assert(ceil_pow2(n) >= n && ceil_pow2(n) < 2 * n);
    }
    uint64_t end = 0;
    ck_assert_uint_eq(workspace_part(&end, 1), 0);
    ck_assert_uint_eq(workspace_part(&end, 256), 256);
    ck_assert_uint_eq(workspace_part(&end, 0), 512);
    ck_assert_uint_eq(end, 512);
}
END_TEST

/* Names are unique over all tables; unknown operations and indices have none. */
START_TEST(kernel_names) {
    int n = 0;
    const char *names[256];
    for (int t = 0; kernel_tables[t]; t++) {
        const struct kernel_table *const table = kernel_tables[t];
        ck_assert_int_gt(table->n_rows, 0);
        for (int i = 0; i < table->n_rows; i++) {
            const char *const name = clmoe_kernel_name(table->op, i);
            ck_assert_str_eq(name, table->rows[i].name);
            ck_assert(strncmp(name, table->op, strlen(table->op)) == 0);
            for (int k = 0; k < n; k++)
                ck_assert_str_ne(name, names[k]);
            names[n++] = name;
        }
        ck_assert_ptr_null(clmoe_kernel_name(table->op, table->n_rows));
        ck_assert_ptr_null(clmoe_kernel_name(table->op, -1));
    }
    ck_assert_ptr_null(clmoe_kernel_name("nothing", 0));
    ck_assert_ptr_null(clmoe_kernel_name("", 0));
    ck_assert_ptr_null(clmoe_kernel_name(NULL, 0));
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_add_loop_test(cases, sha256_vectors, 0, sizeof vectors / sizeof *vectors);
    tcase_add_test(cases, sha256_million);
    tcase_add_test(cases, sha256_boundaries);
    tcase_add_test(cases, sums_see_damage);
    tcase_add_test(cases, fields_of_a_hash_do_not_run_together);
    tcase_add_test(cases, str_grows);
    tcase_add_test(cases, str_of_nothing);
    tcase_add_test(cases, str_failure_sticks);
    tcase_add_test(cases, log_levels);
    tcase_add_test(cases, log_of_a_broken_rule);
    tcase_add_test(cases, long_messages_are_cut);
    tcase_add_test(cases, dtypes);
    tcase_add_test(cases, scalars);
    tcase_add_test(cases, status_names);
    tcase_add_test(cases, version);
    tcase_add_test(cases, feature_names);
    tcase_add_test(cases, table_arithmetic);
    tcase_add_test(cases, kernel_names);
}

int main(void) {
    return harness_main("base", "", add_tests);
}
