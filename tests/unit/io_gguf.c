// SPDX-License-Identifier: MIT
#include "gguf.h"
#include "../data/io_goldens.h"
#include "io.h"
#include "io_gguf_file.h"

#include <stdlib.h>

// From a block of its own size, so that a sanitizer sees a read beyond.
static bool parse(const void *bytes, size_t size, struct gguf *file, struct io_error *err) {
    void *const copy = test_copy(bytes, size);
    const bool ok = gguf_parse("g", copy, size, file, err);
    if (ok) gguf_close(file);
    free(copy);
    return ok;
}

static bool parses(const struct builder *b, struct io_error *err) {
    struct gguf file;
    *err = (struct io_error){""};
    return parse(b->bytes, b->size, &file, err);
}

#define REFUSED(b, part)                                                                                     \
    do {                                                                                                     \
        struct io_error refused_err;                                                                         \
        ck_assert(!parses(&(b), &refused_err));                                                              \
        CHECK_ERROR(refused_err, part);                                                                      \
    } while (0)

#define ACCEPTED(b)                                                                                          \
    do {                                                                                                     \
        struct io_error accepted_err;                                                                        \
        ck_assert_msg(parses(&(b), &accepted_err), "%s", accepted_err.text);                                 \
    } while (0)

// a file written by the gguf package

static const size_t golden_size = sizeof(gguf_golden) - 1;

static const struct {
    const char *name, *type;
    int ndim;
    int64_t shape[ARRAY_MAX_DIMS];
    size_t bytes;
    bool loadable;
} golden[] = {
    {"blk.0.BF16", "BF16", 2, {2, 32}, 128, true}, {"blk.0.Q4_0", "Q4_0", 2, {2, 32}, 36, false},
    {"blk.0.Q8_0", "Q8_0", 2, {2, 32}, 68, false}, {"blk.0.a.weight", "F32", 3, {1, 2, 3}, 24, true},
    {"blk.0.b.bias", "F16", 1, {3}, 6, true},
};

START_TEST(reads_golden_tensors) {
    struct gguf file;
    struct io_error err = {""};
    ck_assert_msg(gguf_parse("g", gguf_golden, golden_size, &file, &err), "%s", err.text);
    ck_assert_uint_eq(file.count, COUNT_OF(golden));
    for (size_t i = 0; i < file.count; ++i) {
        const struct file_tensor *t = &file.tensors[i];
        struct array a;
        ck_assert_str_eq(t->name, golden[i].name);
        ck_assert_str_eq(t->type, golden[i].type);
        ck_assert(gguf_find(&file, golden[i].name) == t && t->loadable == golden[i].loadable);
        ck_assert(t->ndim == golden[i].ndim && t->bytes == golden[i].bytes && t->begin % 64 == 0);
        ck_assert_mem_eq(t->shape, golden[i].shape, sizeof(t->shape));
        ck_assert(file_tensor_array(file.name, t, &a, &err) == t->loadable);
        array_free(&a);
    }
    CHECK_ERROR(err, "g: tensor \"blk.0.Q8_0\": dtype Q8_0 is not supported");
    ck_assert_mem_eq(gguf_find(&file, "blk.0.a.weight")->data, ((const float[]){0, 1, 2, 3, 4, 5}), 24);
    ck_assert_mem_eq(gguf_find(&file, "blk.0.b.bias")->data, ((const uint16_t[]){0x3c00, 0xc000, 0x3800}), 6);
    ck_assert(gguf_find(&file, "blk.0.a") == NULL);
    gguf_close(&file);
    gguf_close(&file);
    gguf_close(NULL);
    ck_assert(gguf_find(&file, "x") == NULL);
}
END_TEST

static const struct {
    const char *key;
    double value;
} golden_numbers[] = {
    {"general.alignment", 64},
    {"v.u8", 255},
    {"v.i8", -128},
    {"v.u16", 65535},
    {"v.i16", -32768},
    {"qwen3moe.expert_count", 128},
    {"v.i32", -2147483648.0},
    {"v.f32", 0.1f},
    {"v.u64", 9007199254740992.0},
    {"v.i64", -1099511627776.0},
    {"v.f64", 0.1},
};

START_TEST(reads_golden_values) {
    struct gguf file;
    struct io_error err = {""};
    ck_assert(gguf_parse("g", gguf_golden, golden_size, &file, &err));
    for (size_t i = 0; i < COUNT_OF(golden_numbers); ++i) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(file.metadata, golden_numbers[i].key);
        ck_assert_msg(cJSON_IsNumber(item) && item->valuedouble == golden_numbers[i].value, "%s",
                      golden_numbers[i].key);
    }
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(file.metadata, "v.bool")));
    char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(file.metadata, "v.nested"));
    ck_assert_str_eq(text, "[[1,2],[3]]");
    cJSON_free(text);
    text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(file.metadata, "v.texts"));
    ck_assert_str_eq(text, "[\"a\",\"\",\"b\"]");
    cJSON_free(text);
    const cJSON *string = cJSON_GetObjectItemCaseSensitive(file.metadata, "v.string");
    ck_assert_str_eq(cJSON_GetStringValue(string), "\xc3\xa9\n");
    gguf_close(&file);
}
END_TEST

START_TEST(makes_a_config) {
    struct gguf file;
    struct config config;
    struct io_error err = {""};
    int64_t experts = 0;
    const char *architecture = "";
    ck_assert(gguf_parse("g", gguf_golden, golden_size, &file, &err) && gguf_config(&file, &config, &err));
    gguf_close(&file);
    ck_assert(config_string(&config, "general.architecture", &architecture, &err));
    ck_assert_str_eq(architecture, "qwen3moe");
    ck_assert(config_int(&config, "qwen3moe.expert_count", 1, 4096, &experts, &err) && experts == 128);
    ck_assert(!config_find(&config, "v.u8") && !config_find(&config, "v"));
    config_close(&config);
}
END_TEST

START_TEST(maps_a_file) {
    const char *path = test_file("golden.gguf", gguf_golden, golden_size);
    struct gguf file;
    struct io_error err = {""};
    ck_assert_msg(gguf_open(path, &file, &err), "%s", err.text);
    ck_assert(file.count == COUNT_OF(golden) && file.map.data != NULL);
    gguf_close(&file);
    ck_assert(!gguf_open(test_path("gone.gguf"), &file, &err));
    CHECK_ERROR(err, "/gone.gguf: cannot open");
    ck_assert(!gguf_open(test_file("empty.gguf", "", 0), &file, &err));
    CHECK_ERROR(err, "/empty.gguf: does not begin with GGUF");
    ck_assert(gguf_is_path("a.gguf") && gguf_is_path(".gguf"));
    ck_assert(!gguf_is_path("gguf") && !gguf_is_path("a.gguf/") && !gguf_is_path(""));
}
END_TEST

// Every shorter file is refused: nothing is read beyond its end.
START_TEST(refuses_what_is_cut) {
    struct gguf file;
    const size_t data_end = golden_size - 28; // the last tensor's padding may be missing
    for (size_t size = 0; size < data_end; ++size) {
        struct io_error err = {""};
        ck_assert_msg(!parse(gguf_golden, size, &file, &err), "%zu bytes", size);
        ck_assert(strncmp(err.text, "g: ", 3) == 0);
    }
    struct io_error err = {""};
    ck_assert(parse(gguf_golden, data_end, &file, &err));
}
END_TEST

START_TEST(refuses_heads) {
    struct builder b;
    put_head(&b, 0, 0);
    ACCEPTED(b);
    memcpy(b.bytes, "GGML", 4);
    REFUSED(b, "g: does not begin with GGUF: not a GGUF file");
    static const struct {
        uint32_t version;
        const char *error;
    } versions[] = {{0, "g: is GGUF of version 0, expected 2 or 3"},
                    {1, "g: is GGUF of version 1, expected 2 or 3"},
                    {4, "g: is GGUF of version 4, expected 2 or 3"},
                    {0x02000000, "g: is a big-endian GGUF file"},
                    {0x03000000, "g: is a big-endian GGUF file"}};
    for (size_t i = 0; i < COUNT_OF(versions); ++i) {
        put_head(&b, 0, 0);
        memcpy(b.bytes + 4, &versions[i].version, 4);
        REFUSED(b, versions[i].error);
    }
    put_head(&b, 0, 0);
    b.bytes[4] = 2;
    ACCEPTED(b);
    put_head(&b, UINT64_MAX, 0);
    REFUSED(b, "g: 18446744073709551615 tensors, but only 8 bytes follow");
    put_head(&b, 1, 0);
    REFUSED(b, "g: 1 tensors, but only 8 bytes follow");
    put_head(&b, 0, UINT64_MAX / 13);
    REFUSED(b, "keys, but only 0 bytes follow");
}
END_TEST

START_TEST(refuses_values) {
    struct builder b;
    put_head(&b, 0, 1);
    put_key(&b, "a.b", 13);
    put_u32(&b, 0);
    REFUSED(b, "g: a.b: type 13 is no type of a value");
    put_head(&b, 0, 1);
    put_key(&b, "a.b", BOOL);
    put(&b, "\2", 1);
    REFUSED(b, "g: a.b: a bool is 2, expected 0 or 1");
    put_head(&b, 0, 1);
    put_key(&b, "a.b", STRING);
    put_u64(&b, UINT64_MAX - 3);
    REFUSED(b, "inside its metadata: truncated?");
    put_head(&b, 0, 1);
    put_key(&b, "a.b", LIST);
    put_u32(&b, U32);
    put_u64(&b, UINT64_C(1) << 62);
    REFUSED(b, "g: 4611686018427387904 values of a list, but only 0 bytes follow");
    put_head(&b, 0, 1);
    put_key(&b, "a.b", LIST);
    put_u32(&b, 77);
    put_u64(&b, 0);
    REFUSED(b, "g: a.b: type 77 is no type of a value");
    put_head(&b, 0, 2);
    for (int i = 0; i < 2; ++i) {
        put_key(&b, "twice", U8);
        put(&b, "\1", 1);
    }
    REFUSED(b, "g: metadata: key \"twice\" is given twice");
}
END_TEST

START_TEST(refuses_keys) {
    struct builder b;
    static const struct gguf_key {
        const char *text;
        size_t length;
    } keys[] = {{"", 0}, {"a\0b", 3}, {"\xff", 1}, {"\xc3", 1}};
    for (size_t i = 0; i < COUNT_OF(keys); ++i) {
        put_head(&b, 0, 1);
        put_u64(&b, keys[i].length);
        put(&b, keys[i].text, keys[i].length);
        put_u32(&b, U32);
        put_u64(&b, 0);
        REFUSED(b, "expected 1..65535 of UTF-8 without NUL");
    }
}
END_TEST

// Lists in lists, `depth` of them with one value at last.
static void put_nested(struct builder *b, int depth) {
    put_head(b, 0, 1);
    put_key(b, "deep", LIST);
    for (int i = 1; i < depth; ++i) {
        put_u32(b, LIST);
        put_u64(b, 1);
    }
    put_u32(b, U8);
    put_u64(b, 1);
    put(b, "\7", 1);
}

START_TEST(bounds_nesting) {
    struct builder b;
    put_nested(&b, GGUF_MAX_DEPTH);
    ACCEPTED(b);
    put_nested(&b, GGUF_MAX_DEPTH + 1);
    REFUSED(b, "g: deep: lists are nested deeper than 4 levels");
    put_nested(&b, 500);
    REFUSED(b, "g: deep: lists are nested deeper than 4 levels");
}
END_TEST

// Long lists, and text that config.json could not have, are there and have no value.
START_TEST(drops_vocabularies) {
    struct builder b;
    struct gguf file;
    struct io_error err = {""};
    put_head(&b, 0, 4);
    put_key(&b, "long", LIST);
    put_u32(&b, U8);
    put_u64(&b, GGUF_MAX_LIST + 1);
    for (int i = 0; i < GGUF_MAX_LIST + 1; ++i)
        put(&b, "\1", 1);
    put_key(&b, "kept", LIST);
    put_u32(&b, U8);
    put_u64(&b, GGUF_MAX_LIST);
    for (int i = 0; i < GGUF_MAX_LIST; ++i)
        put(&b, "\1", 1);
    put_key(&b, "nul", STRING);
    put_u64(&b, 3);
    put(&b, "a\0b", 3);
    put_key(&b, "bad", STRING);
    put_u64(&b, 1);
    put(&b, "\xff", 1);
    ck_assert_msg(gguf_parse("g", b.bytes, b.size, &file, &err), "%s", err.text);
    ck_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(file.metadata, "long")));
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(file.metadata, "kept")),
                     GGUF_MAX_LIST);
    ck_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(file.metadata, "nul")));
    ck_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(file.metadata, "bad")));
    gguf_close(&file);
}
END_TEST

// A list of long lists: skipped through all levels, strings too.
START_TEST(skips_lists_in_long_lists) {
    struct builder b;
    put_head(&b, 0, 1);
    put_key(&b, "long", LIST);
    put_u32(&b, STRING);
    put_u64(&b, GGUF_MAX_LIST + 1);
    const size_t first = b.size;
    put_u64(&b, 1);
    REFUSED(b, "values of a list, but only 8 bytes follow");
    b.size = first;
    put_head(&b, 0, 1);
    put_key(&b, "long", LIST);
    put_u32(&b, LIST);
    put_u64(&b, 2);
    for (int i = 0; i < 2; ++i) {
        put_u32(&b, STRING);
        put_u64(&b, 600);
        for (int k = 0; k < 600; ++k)
            put_text(&b, "ab");
    }
    ACCEPTED(b);
}
END_TEST

// A million values that are kept are enough for anybody.
START_TEST(bounds_values) {
    const uint32_t per_list = GGUF_MAX_LIST, lists = GGUF_MAX_VALUES / GGUF_MAX_LIST + 1;
    const size_t size = 24 + lists * (8 + 8 + 4 + 4 + 8 + per_list);
    uint8_t *const bytes = calloc(size, 1);
    struct builder b;
    struct gguf file;
    struct io_error err = {""};
    ck_assert_ptr_nonnull(bytes);
    put_head(&b, 0, lists);
    memcpy(bytes, b.bytes, b.size);
    size_t at = b.size;
    for (uint32_t i = 0; i < lists; ++i) {
        char key[9];
        (void)snprintf(key, sizeof(key), "key.%04u", (unsigned)i);
        b.size = 0;
        put_key(&b, key, LIST);
        put_u32(&b, U8);
        put_u64(&b, per_list);
        memcpy(bytes + at, b.bytes, b.size);
        at += b.size + per_list;
    }
    ck_assert_uint_eq(at, size);
    ck_assert(!gguf_parse("g", bytes, size, &file, &err));
    CHECK_ERROR(err, "g: metadata: more than 1000000 values");
    free(bytes);
}
END_TEST

static const struct {
    const char *value; // 4 bytes
    bool good;
} alignments[] = {
    {"\0\0\0", false}, {"\1\0\0", false}, {"\4\0\0", false},  {"\10\0\0", true},
    {"\30\0\0", true}, {"\60\0\0", true}, {"\37\0\0", false}, {"\0\1\0", true},
};

START_TEST(honours_alignment) {
    struct builder b;
    const uint64_t dims[] = {2};
    uint32_t alignment;
    memcpy(&alignment, alignments[_i].value, 4);
    put_head(&b, 2, 1);
    put_key(&b, "general.alignment", U32);
    put_u32(&b, alignment);
    put_tensor(&b, "a", 1, dims, F32, 0);
    put_tensor(&b, "b", 1, dims, F32, alignment);
    const size_t head = b.size;
    if (!alignments[_i].good) {
        put_data(&b, 8, 64);
        REFUSED(b, "g: general.alignment: expected a multiple of 8, got ");
        return;
    }
    put_data(&b, alignment, alignment + 8);
    struct gguf file;
    struct io_error err = {""};
    ck_assert_msg(gguf_parse("g", b.bytes, b.size, &file, &err), "%s", err.text);
    const size_t start = (head + alignment - 1) / alignment * alignment;
    ck_assert(file.tensors[0].data == b.bytes + start);
    ck_assert(file.tensors[1].data == b.bytes + start + alignment);
    gguf_close(&file);
    b.size--;
    REFUSED(b, "truncated?");
}
END_TEST

static const struct {
    const char *label;
    uint32_t ndim;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
    const char *error; // NULL: good
} shapes[] = {
    {"scalar", 0, {0}, F32, 0, NULL},
    {"empty", 2, {0, 5}, F32, 0, NULL},
    {"empty at the end", 1, {0}, F32, 1024, NULL},
    {"fits", 2, {32, 8}, F32, 0, NULL},
    {"too large", 2, {32, 9}, F32, 0, "1152 bytes from byte 0 on, but the data has 1024: truncated?"},
    {"fits behind", 2, {32, 7}, F32, 128, NULL},
    {"blocks", 2, {64, 15}, Q8_0, 0, NULL},
    {"no blocks", 2, {33, 2}, Q8_0, 0, "shape (2, 33): rows do not make blocks of 32 of Q8_0"},
    {"a scalar block", 0, {0}, Q8_0, 0, "shape (): rows do not make blocks of 32 of Q8_0"},
    {"no super block", 2, {128, 2}, Q4_K, 0, "shape (2, 128): rows do not make blocks of 256 of Q4_K"},
    {"overflow", 3, {UINT64_C(1) << 31, UINT64_C(1) << 31, 4}, F32, 0, "too many elements"},
    {"overflow in bytes",
     2,
     {UINT64_C(1) << 31, UINT64_C(1) << 31},
     F32,
     0,
     "not a size that memory can hold"},
    {"negative", 1, {UINT64_MAX}, F32, 0, "tensor \"x\": a dimension of 18446744073709551615"},
    {"unaligned", 1, {1}, F32, 4, "begins at byte 4, no multiple of 32"},
    {"far", 1, {1}, F32, UINT64_C(1) << 40, "begins at byte 1099511627776 of the data"},
    {"at the end", 1, {1}, F32, 1024, "4 bytes from byte 1024 on, but the data has 1024"},
    {"unknown type", 1, {7}, UNKNOWN, 32, NULL},
    {"unknown type far", 1, {7}, 99, 1056, "0 bytes from byte 1056 on, but the data has 1024"},
    {"unknown type too large", 3, {UINT64_C(1) << 31, UINT64_C(1) << 31, 4}, UNKNOWN, 0, "too many elements"},
};

START_TEST(checks_shapes) {
    struct builder b;
    put_head(&b, 1, 0);
    put_tensor(&b, "x", shapes[_i].ndim, shapes[_i].dims, shapes[_i].type, shapes[_i].offset);
    put_data(&b, 32, 1024);
    if (shapes[_i].error)
        REFUSED(b, shapes[_i].error);
    else
        ACCEPTED(b);
}
END_TEST

START_TEST(checks_dimensions) {
    struct builder b;
    const uint64_t ones[ARRAY_MAX_DIMS + 1] = {2, 3, 1, 1, 1, 1, 1, 4, 1};
    struct gguf file;
    struct io_error err = {""};
    put_head(&b, 1, 0);
    put_tensor(&b, "x", ARRAY_MAX_DIMS, ones, I8, 0);
    put_data(&b, 32, 24);
    ck_assert(gguf_parse("g", b.bytes, b.size, &file, &err));
    ck_assert_mem_eq(file.tensors[0].shape, ((const int64_t[]){4, 1, 1, 1, 1, 1, 3, 2}), sizeof(ones) - 8);
    gguf_close(&file);
    put_head(&b, 1, 0);
    put_tensor(&b, "x", ARRAY_MAX_DIMS + 1, ones, I8, 0);
    put_data(&b, 32, 24);
    REFUSED(b, "g: tensor \"x\": 9 dimensions, expected at most 8");
    put_head(&b, 1, 0);
    put_text(&b, "x");
    put_u32(&b, UINT32_MAX);
    put_data(&b, 32, 96);
    REFUSED(b, "inside its list of tensors: truncated?");
}
END_TEST

START_TEST(checks_names) {
    struct builder b;
    const uint64_t dims[] = {8};
    put_head(&b, 2, 0);
    put_tensor(&b, "x", 1, dims, F32, 0);
    put_tensor(&b, "x", 1, dims, F32, 32);
    put_data(&b, 32, 64);
    REFUSED(b, "g: tensor \"x\" is listed twice");
    static const struct {
        const char *text;
        size_t length;
    } names[] = {{"", 0}, {"a\0b", 3}, {"\xed\xa0\x80", 3}};
    for (size_t i = 0; i < COUNT_OF(names); ++i) {
        put_head(&b, 1, 0);
        put_u64(&b, names[i].length);
        put(&b, names[i].text, names[i].length);
        put_u32(&b, 0);
        put_u32(&b, F32);
        put_u64(&b, 0);
        put_data(&b, 32, 64);
        REFUSED(b, "expected UTF-8 without NUL");
    }
}
END_TEST

START_TEST(checks_overlaps) {
    struct builder b;
    const uint64_t dims[] = {9}, eight[] = {8}, none[] = {0};
    put_head(&b, 3, 0);
    put_tensor(&b, "b", 1, dims, F32, 32);
    put_tensor(&b, "a", 1, eight, F32, 0);
    put_tensor(&b, "c", 1, eight, F32, 96);
    put_data(&b, 32, 128);
    ACCEPTED(b); // a gap
    put_head(&b, 2, 0);
    put_tensor(&b, "b", 1, eight, F32, 32);
    put_tensor(&b, "a", 1, dims, F32, 0);
    put_data(&b, 32, 128);
    REFUSED(b, "g: tensor \"b\": begins at byte 32, inside \"a\" that ends at 36");
    put_head(&b, 2, 0);
    put_tensor(&b, "b", 1, eight, F32, 0);
    put_tensor(&b, "a", 1, none, F32, 0);
    put_data(&b, 32, 32);
    ACCEPTED(b);
}
END_TEST

Suite *io_gguf_suite(void) {
    Suite *suite = suite_create("io gguf");
    TCase *tcase = tcase_create("gguf");
    tcase_add_test(tcase, reads_golden_tensors);
    tcase_add_test(tcase, reads_golden_values);
    tcase_add_test(tcase, makes_a_config);
    tcase_add_test(tcase, maps_a_file);
    tcase_add_test(tcase, refuses_what_is_cut);
    tcase_add_test(tcase, refuses_heads);
    tcase_add_test(tcase, refuses_values);
    tcase_add_test(tcase, refuses_keys);
    tcase_add_test(tcase, bounds_nesting);
    tcase_add_test(tcase, drops_vocabularies);
    tcase_add_test(tcase, skips_lists_in_long_lists);
    tcase_add_test(tcase, bounds_values);
    tcase_add_loop_test(tcase, honours_alignment, 0, COUNT_OF(alignments));
    tcase_add_loop_test(tcase, checks_shapes, 0, COUNT_OF(shapes));
    tcase_add_test(tcase, checks_dimensions);
    tcase_add_test(tcase, checks_names);
    tcase_add_test(tcase, checks_overlaps);
    suite_add_tcase(suite, tcase);
    return suite;
}
