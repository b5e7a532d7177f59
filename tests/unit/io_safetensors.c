// SPDX-License-Identifier: MIT
#include "safetensors.h"
#include "../data/io_goldens.h"
#include "io.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#define T(name, dtype, shape, offsets)                                                                       \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

// a file written by the safetensors library

static const struct {
    const char *name;
    enum array_dtype dtype;
    int ndim;
    int64_t shape[ARRAY_MAX_DIMS];
    const void *data;
} golden[] = {
    {"a.bias", ARRAY_BF16, 1, {3}, (const uint16_t[]){0x3f80, 0xbf80, 0x3f00}},
    {"b.weight", ARRAY_F32, 2, {2, 3}, (const float[]){1, 2, 3, 4, 5, 6}},
    {"flag", ARRAY_BOOL, 1, {3}, (const uint8_t[]){1, 0, 1}},
    {"ids", ARRAY_I64, 1, {2}, (const int64_t[]){3, -1}},
    {"none", ARRAY_F32, 2, {0, 4}, ""},
    {"scalar", ARRAY_F16, 0, {0}, (const uint16_t[]){0x4100}},
    {"\xc3\xbc"
     "ber \"x\"",
     ARRAY_U8,
     1,
     {1},
     (const uint8_t[]){9}},
};

static const size_t golden_size = sizeof(safetensors_golden) - 1;

START_TEST(reads_golden) {
    // Once as it is and once one byte off, where arrays have to be copies.
    for (size_t shift = 0; shift < 2; ++shift) {
        char *bytes = malloc(golden_size + shift);
        ck_assert_ptr_nonnull(bytes);
        memcpy(bytes + shift, safetensors_golden, golden_size);
        struct safetensors file;
        struct io_error err = {""};
        ck_assert_msg(safetensors_parse("g", bytes + shift, golden_size, &file, &err), "%s", err.text);
        ck_assert_uint_eq(file.count, COUNT_OF(golden));
        for (size_t i = 0; i < file.count; ++i) {
            const struct file_tensor *t = &file.tensors[i];
            ck_assert_str_eq(t->name, golden[i].name);
            ck_assert(safetensors_find(&file, golden[i].name) == t && t->loadable);
            ck_assert(t->dtype == golden[i].dtype && t->ndim == golden[i].ndim);
            ck_assert_mem_eq(t->shape, golden[i].shape, sizeof(t->shape));
            struct array a;
            ck_assert(file_tensor_array(file.name, t, &a, &err));
            ck_assert(a.dtype == golden[i].dtype && a.bytes == t->bytes);
            ck_assert((uintptr_t)a.data % array_dtype_size(a.dtype) == 0);
            if (a.bytes) ck_assert_mem_eq(a.data, golden[i].data, a.bytes);
            if (shift == 1 && array_dtype_size(a.dtype) > 1) ck_assert(a.memory == ARRAY_OWNED);
            array_free(&a);
        }
        ck_assert(safetensors_find(&file, "absent") == NULL &&
                  safetensors_find(&file, "__metadata__") == NULL);
        ck_assert_str_eq(safetensors_metadata(&file, "format"), "np");
        ck_assert_str_eq(safetensors_metadata(&file, "note"), "a \"b\"\n\xc3\xa9");
        ck_assert(safetensors_metadata(&file, "absent") == NULL);
        ck_assert(cJSON_GetArraySize(file.metadata) == 2);
        safetensors_close(&file);
        free(bytes);
    }
}
END_TEST

START_TEST(every_cut_is_refused) {
    for (size_t size = 0; size < golden_size; ++size) {
        char *bytes = test_copy(safetensors_golden, size);
        struct safetensors file;
        struct io_error err = {""};
        ck_assert(!safetensors_parse("cut", bytes, size, &file, &err));
        ck_assert(strncmp(err.text, "cut: ", 5) == 0 && file.count == 0 && file.header == NULL);
        free(bytes);
    }
}
END_TEST

START_TEST(survives_any_byte_anywhere) {
    static const char header[] = "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "U8", "[2,1]", "[8,10]") "}";
    size_t size;
    uint8_t *bytes = test_safetensors(header, 10, &size);
    for (size_t at = 0; at < size; ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            uint8_t *copy = test_copy(bytes, size);
            copy[at] = (uint8_t)value;
            struct safetensors file;
            struct io_error err = {""};
            const bool ok = safetensors_parse("x", copy, size, &file, &err);
            ck_assert(ok == (err.text[0] == '\0') && ok == (file.tensors != NULL));
            safetensors_close(&file);
            free(copy);
        }
    }
    free(bytes);
}
END_TEST

// good headers

static const struct {
    const char *header;
    size_t bytes, count;
} good[] = {
    {"{}", 0, 0},
    {"{}      ", 0, 0},
    {"{\"__metadata__\":{}}", 0, 0},
    {"{\"__metadata__\":{\"a\":\"b\"}," T("x", "F32", "[1]", "[0,4]") "}", 4, 1},
    {"{" T("x", "F32", "[]", "[0,4]") "}", 4, 1},
    {"{" T("", "F32", "[]", "[0,4]") "}", 4, 1},
    {"{ \"x\" : { \"shape\" : [ 1 ] , \"data_offsets\" : [ 0 , 4 ] , \"dtype\" : \"F32\" } }\n", 4, 1},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"later\":{\"a\":[1]}}}", 1, 1},
    {"{" T("b", "U8", "[3]", "[2,5]") "," T("a", "U8", "[2]", "[0,2]") "}", 5, 2},
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("z", "F64", "[0]", "[2,2]") "," T("b", "U8", "[1]", "[2,3]") "}",
     3, 3},
    {"{" T("a", "F64", "[0]", "[0,0]") "," T("b", "F64", "[5,0]", "[0,0]") "}", 0, 2},
    {"{" T("x", "F32", "[0,9007199254740991,9007199254740991]", "[0,0]") "}", 0, 1},
    {"{" T("x", "I8", "[1,1,1,1,1,1,1,2]", "[0,2]") "}", 2, 1},
    {"{" T("x", "U8", "[2.0]", "[0,2e0]") "}", 2, 1},
    {"{" T("x", "F4", "[4]", "[0,2]") "}", 2, 1},
    {"{" T("x", "", "[1000000]", "[0,2]") "}", 2, 1},
};

START_TEST(reads_other_headers) {
    size_t size;
    void *bytes = test_safetensors(good[_i].header, good[_i].bytes, &size);
    struct safetensors file;
    struct io_error err = {""};
    ck_assert_msg(safetensors_parse("x", bytes, size, &file, &err), "row %d: %s", _i, err.text);
    ck_assert_uint_eq(file.count, good[_i].count);
    for (size_t i = 0; i < file.count; ++i) {
        const struct file_tensor *t = &file.tensors[i];
        ck_assert(safetensors_find(&file, t->name) == t);
        ck_assert(t->begin + t->bytes <= good[_i].bytes);
        if (t->bytes) ck_assert(*(const uint8_t *)t->data == t->begin); // the data counts up
    }
    safetensors_close(&file);
    free(bytes);
}
END_TEST

static const struct {
    const char *name;
    enum array_dtype dtype;
} types[] = {
    {"F32", ARRAY_F32},   {"F16", ARRAY_F16},         {"BF16", ARRAY_BF16},       {"F64", ARRAY_F64},
    {"I8", ARRAY_I8},     {"U8", ARRAY_U8},           {"I16", ARRAY_I16},         {"U16", ARRAY_U16},
    {"I32", ARRAY_I32},   {"U32", ARRAY_U32},         {"I64", ARRAY_I64},         {"U64", ARRAY_U64},
    {"BOOL", ARRAY_BOOL}, {"F8_E4M3", ARRAY_F8_E4M3}, {"F8_E5M2", ARRAY_F8_E5M2},
};

START_TEST(reads_type) {
    char header[200];
    const size_t bytes = 3 * array_dtype_size(types[_i].dtype);
    (void)snprintf(header, sizeof(header), "{" T("x", "%s", "[3]", "[0,%zu]") "}", types[_i].name, bytes);
    size_t size;
    void *data = test_safetensors(header, bytes, &size);
    struct safetensors file;
    struct array a;
    ck_assert(safetensors_parse("x", data, size, &file, NULL));
    ck_assert(file_tensor_array(file.name, &file.tensors[0], &a, NULL));
    ck_assert(a.dtype == types[_i].dtype && a.bytes == bytes && array_count(&a) == 3);
    ck_assert_str_eq(file.tensors[0].type, types[_i].name);
    array_free(&a);
    safetensors_close(&file);
    free(data);
}
END_TEST

START_TEST(lists_unknown_type) {
    size_t size;
    void *data = test_safetensors("{" T("x", "F4\\u001b", "[4]", "[0,2]") "}", 2, &size);
    struct safetensors file;
    struct array a;
    struct io_error err = {""};
    ck_assert(safetensors_parse("x.safetensors", data, size, &file, &err));
    const struct file_tensor *t = safetensors_find(&file, "x");
    ck_assert(t && !t->loadable && t->bytes == 2 && t->shape[0] == 4);
    ck_assert(!file_tensor_array(file.name, t, &a, &err));
    CHECK_ERROR(err, "x.safetensors: tensor \"x\": dtype F4? is not supported");
    ck_assert(a.memory == ARRAY_EMPTY);
    safetensors_close(&file);
    free(data);
}
END_TEST

// bytes before the header

static const struct {
    const char *bytes;
    size_t size;
    const char *error;
} bad_prefix[] = {
#define ROW(bytes, error)                                                                                    \
    { bytes, sizeof(bytes) - 1, error }
    ROW("", "x: 0 bytes are too short for a safetensors file"),
    ROW("\2\0\0\0\0\0\0", "x: 7 bytes are too short for a safetensors file"),
    ROW("\0\0\0\0\0\0\0\0", "x: header is empty"),
    ROW("\0\0\0\0\0\0\0\0{}", "x: header is empty"),
    ROW("\2\0\0\0\0\0\0\0", "x: header length 2, but only 0 bytes follow"),
    ROW("\3\0\0\0\0\0\0\0{}", "x: header length 3, but only 2 bytes follow"),
    ROW("\0\341\365\5\0\0\0\0{}", "x: header length 100000000, but only 2 bytes follow"),
    ROW("\1\341\365\5\0\0\0\0{}", "x: header length 100000001 is over the limit of 100000000"),
    ROW("\377\377\377\377\377\377\377\377{}", "x: header length 18446744073709551615 is over the limit"),
    ROW("\0\0\0\0\0\0\0\200{}", "x: header length 9223372036854775808 is over the limit"),
    ROW("\0\0\0\0\1\0\0\0{}", "x: header length 4294967296 is over the limit"),
    ROW("\2\0\0\0\0\0\0\0[]", "x: header does not start with '{'"),
    ROW("\3\0\0\0\0\0\0\0 {}", "x: header does not start with '{'"),
    ROW("\5\0\0\0\0\0\0\0\357\273\277{}", "x: header does not start with '{'"),
    ROW("\1\0\0\0\0\0\0\0{}", "x: header: line 1 column 2: ends inside an object"),
    ROW("\2\0\0\0\0\0\0\0{}x", "x: bytes 0..1 of the data belong to no tensor"),
    ROW("\x93NUMPY\1\0v\0{'descr'", "x: header length 379676406402707 is over the limit"),
    ROW("<!DOCTYPE html>", "is over the limit of 100000000: not a safetensors file?"),
    ROW("version https://git-lfs", "is over the limit of 100000000: not a safetensors file?"),
#undef ROW
};

START_TEST(refuses_prefix) {
    void *bytes = test_copy(bad_prefix[_i].bytes, bad_prefix[_i].size);
    struct safetensors file;
    struct io_error err = {""};
    ck_assert_msg(!safetensors_parse("x", bytes, bad_prefix[_i].size, &file, &err), "row %d was read", _i);
    CHECK_ERROR(err, bad_prefix[_i].error);
    free(bytes);
}
END_TEST

// headers, and data that does not fit them

#define SHAPE(shape) "{" T("x", "U8", shape, "[0,4]") "}"
#define OFFSETS(offsets) "{" T("x", "U8", "[4]", offsets) "}"

static const struct {
    const char *header;
    size_t bytes; // of data
    const char *error;
} bad[] = {
    // JSON
    {"{\"x\":}", 0, "x: header: line 1 column 6: not valid JSON"},
    {"{} {}", 0, "x: header: line 1 column 4: more text after the end"},
    {"{\"x\":{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{}}}}}}}}}", 0,
     "x: header: nested deeper than 8 levels"},
    {"{" T("x", "U8", "[[[[[[[[4]]]]]]]]", "[0,4]") "}", 4, "x: header: nested deeper than 8 levels"},
    {"{" T("x", "U8", "[2]", "[0,2]") "," T("x", "U8", "[2]", "[2,4]") "}", 4,
     "x: header: key \"x\" is given twice"},
    {"{" T("x", "U8", "[2]", "[0,2]") "," T("\\u0078", "U8", "[2]", "[2,4]") "}", 4,
     "header: key \"x\" is given twice"},
    {"{\"x\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "key \"dtype\" is given twice"},
    {"{" T("x\\u0000y", "U8", "[4]", "[0,4]") "}", 4,
     "x: header: line 1 column 4: NUL character in a string"},
    {"{" T("\xff", "U8", "[4]", "[0,4]") "}", 4, "x: header: line 1 column 3: not valid UTF-8"},
    // __metadata__
    {"{\"__metadata__\":1}", 0, "x: __metadata__: expected an object, got 1"},
    {"{\"__metadata__\":null}", 0, "x: __metadata__: expected an object, got null"},
    {"{\"__metadata__\":[\"a\"]}", 0, "x: __metadata__: expected an object, got a list"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "x: __metadata__: \"a\": expected a string, got 1"},
    {"{\"__metadata__\":{\"a\":\"b\",\"c\":{}}}", 0,
     "x: __metadata__: \"c\": expected a string, got an object"},
    {"{\"__metadata__\":{\"a\":null}}", 0, "x: __metadata__: \"a\": expected a string, got null"},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "x: header: key \"a\" is given twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "x: header: key \"__metadata__\" is given twice"},
    // entries
    {"{\"x\":1}", 0, "x: tensor \"x\": expected an object, got 1"},
    {"{\"x\":[]}", 0, "x: tensor \"x\": expected an object, got a list"},
    {"{\"x\":null}", 0, "x: tensor \"x\": expected an object, got null"},
    {"{\"x\":{}}", 0, "x: tensor \"x\": dtype: expected a string, got nothing"},
    {"{\"x\":{\"Dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "dtype: expected a string, got nothing"},
    {"{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4,
     "x: tensor \"x\": shape: expected a list, got nothing"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "x: tensor \"x\": data_offsets: expected [begin, end]"},
    {"{\"x\":{\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "tensor \"x\": dtype: expected a string, got 8"},
    {"{\"x\":{\"dtype\":null,\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "dtype: expected a string, got null"},
    {"{\"x\":{\"dtype\":[\"U8\"],\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     "dtype: expected a string, got a list"},
    // shape
    {SHAPE("4"), 4, "tensor \"x\": shape: expected a list, got 4"},
    {SHAPE("\"4\""), 4, "tensor \"x\": shape: expected a list, got \"4\""},
    {SHAPE("{\"a\":4}"), 4, "tensor \"x\": shape: expected a list, got an object"},
    {SHAPE("[-4]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got -4"},
    {SHAPE("[-1,-4]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got -1"},
    {SHAPE("[4.5]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got 4.5"},
    {SHAPE("[4,\"1\"]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got \"1\""},
    {SHAPE("[4,null]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got null"},
    {SHAPE("[4,true]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got true"},
    {SHAPE("[[4]]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got a list"},
    {SHAPE("[9007199254740992]"), 4, "shape: expected integers in 0..2^53-1, got 9007199254740992"},
    {SHAPE("[18446744073709551620]"), 4, "shape: expected integers in 0..2^53-1, got 1.84467440737096e+19"},
    {SHAPE("[1e400]"), 4, "tensor \"x\": shape: expected integers in 0..2^53-1, got inf"},
    {SHAPE("[1,1,1,1,1,1,1,1,4]"), 4, "tensor \"x\": shape has 9 dimensions, expected at most 8"},
    {SHAPE("[4294967296,4294967296]"), 4,
     "shape (4294967296, 4294967296) of U8: not a size that memory can hold"},
    {SHAPE("[9007199254740991,9007199254740991]"), 4, "of U8: not a size that memory can hold"},
    {"{" T("x", "F64", "[1073741824,1073741824]", "[0,4]") "}", 4, "of F64: not a size that memory can hold"},
    {SHAPE("[]"), 4, "tensor \"x\": shape () of U8 needs 1 bytes, data_offsets give 4"},
    {SHAPE("[0]"), 4, "tensor \"x\": shape (0,) of U8 needs 0 bytes, data_offsets give 4"},
    {SHAPE("[3]"), 4, "tensor \"x\": shape (3,) of U8 needs 3 bytes, data_offsets give 4"},
    {SHAPE("[5]"), 4, "tensor \"x\": shape (5,) of U8 needs 5 bytes, data_offsets give 4"},
    {"{" T("x", "F32", "[4]", "[0,4]") "}", 4,
     "tensor \"x\": shape (4,) of F32 needs 16 bytes, data_offsets give 4"},
    {"{" T("x", "BF16", "[1]", "[0,4]") "}", 4,
     "tensor \"x\": shape (1,) of BF16 needs 2 bytes, data_offsets give 4"},
    {"{" T("x", "F8_E4M3", "[3]", "[0,4]") "}", 4,
     "shape (3,) of F8_E4M3 needs 3 bytes, data_offsets give 4"},
    // offsets
    {OFFSETS("4"), 4, "tensor \"x\": data_offsets: expected [begin, end]"},
    {OFFSETS("[]"), 4, "tensor \"x\": data_offsets: expected [begin, end]"},
    {OFFSETS("[4]"), 4, "tensor \"x\": data_offsets: expected [begin, end]"},
    {OFFSETS("[0,4,4]"), 4, "tensor \"x\": data_offsets: expected [begin, end]"},
    {OFFSETS("{\"a\":0,\"b\":4}"), 4, "tensor \"x\": data_offsets: expected [begin, end]"},
    {OFFSETS("[\"0\",4]"), 4, "tensor \"x\": data_offsets: expected integers in 0..2^53-1, got \"0\""},
    {OFFSETS("[0,null]"), 4, "tensor \"x\": data_offsets: expected integers in 0..2^53-1, got null"},
    {OFFSETS("[-4,0]"), 4, "tensor \"x\": data_offsets: expected integers in 0..2^53-1, got -4"},
    {OFFSETS("[0.5,4.5]"), 4, "tensor \"x\": data_offsets: expected integers in 0..2^53-1, got 0.5"},
    {OFFSETS("[0,9007199254740992]"), 4,
     "data_offsets: expected integers in 0..2^53-1, got 9007199254740992"},
    {OFFSETS("[0,9007199254740991]"), 4,
     "tensor \"x\": ends at byte 9007199254740991, but the data has 4: truncated?"},
    {OFFSETS("[4,0]"), 4, "tensor \"x\": data_offsets: begins at 4, after its end at 0"},
    {OFFSETS("[0,5]"), 4, "tensor \"x\": ends at byte 5, but the data has 4: truncated?"},
    {OFFSETS("[0,4]"), 3, "tensor \"x\": ends at byte 4, but the data has 3: truncated?"},
    {OFFSETS("[0,4]"), 0, "tensor \"x\": ends at byte 4, but the data has 0: truncated?"},
    {OFFSETS("[0,4]"), 5, "x: bytes 4..5 of the data belong to no tensor"},
    {OFFSETS("[1,5]"), 5, "x: bytes 0..1 of the data belong to no tensor"},
    // places
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3,
     "tensor \"b\": begins at byte 1, inside \"a\" that ends at 2"},
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[0,2]") "}", 2, "begins at byte 0, inside"},
    {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[1]", "[1,2]") "}", 4,
     "\"b\": begins at byte 1, inside \"a\""},
    {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[0]", "[2,2]") "}", 4,
     "\"b\": begins at byte 2, inside \"a\""},
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[3,5]") "}", 5,
     "bytes 2..3 of the data belong to no"},
    {"{" T("b", "U8", "[2]", "[3,5]") "," T("a", "U8", "[2]", "[0,2]") "}", 5,
     "bytes 2..3 of the data belong to no"},
    {"{" T("a", "F4", "[2]", "[0,2]") "," T("b", "F4", "[2]", "[1,3]") "}", 3,
     "\"b\": begins at byte 1, inside \"a\""},
    {"{" T("a", "U8", "[0]", "[1,1]") "}", 1, "x: bytes 0..1 of the data belong to no tensor"},
    {"{\"__metadata__\":{}}", 3, "x: bytes 0..3 of the data belong to no tensor"},
};

START_TEST(refuses_header) {
    size_t size;
    void *bytes = test_safetensors(bad[_i].header, bad[_i].bytes, &size);
    struct safetensors file;
    struct io_error err = {""};
    ck_assert_msg(!safetensors_parse("x", bytes, size, &file, &err), "row %d was read", _i);
    CHECK_ERROR(err, bad[_i].error);
    ck_assert(strncmp(err.text, "x: ", 3) == 0 && file.tensors == NULL && file.name == NULL);
    free(bytes);
}
END_TEST

START_TEST(long_names_are_cut_in_errors) {
    char header[5000] = "{\"";
    memset(header + 2, 'n', 4000);
    strcpy(header + 4002, "\":1}");
    size_t size;
    void *bytes = test_safetensors(header, 0, &size);
    struct safetensors file;
    struct io_error err = {""};
    ck_assert(!safetensors_parse("x", bytes, size, &file, &err));
    CHECK_ERROR(err, "nnnn\": expected an object, got 1");
    free(bytes);
}
END_TEST

// writing

START_TEST(saves_and_opens) {
    enum { N = COUNT_OF(golden) };
    const char *names[N];
    struct array arrays[N];
    for (size_t i = 0; i < N; ++i) {
        names[i] = golden[i].name;
        ck_assert(array_view("a", golden[i].dtype, golden[i].ndim, golden[i].shape, golden[i].data,
                             &arrays[i], NULL));
    }
    struct io_error err = {""};
    const char *path = test_path("saved.safetensors");
    ck_assert_msg(safetensors_save(path, N, names, arrays, &err), "%s", err.text);
    struct safetensors file;
    ck_assert_msg(safetensors_open(path, &file, &err), "%s", err.text);
    ck_assert(file.count == N && file.metadata == NULL && file.map.data != NULL);
    ck_assert(safetensors_metadata(&file, "a") == NULL);
    for (size_t i = 0; i < N; ++i) {
        struct array a;
        const struct file_tensor *t = safetensors_find(&file, names[i]);
        ck_assert_ptr_nonnull(t);
        ck_assert(file_tensor_array(file.name, t, &a, &err));
        ck_assert(a.memory == ARRAY_BORROWED); // written aligned
        ck_assert(a.dtype == golden[i].dtype && a.ndim == golden[i].ndim);
        ck_assert_mem_eq(a.shape, golden[i].shape, sizeof(a.shape));
        if (a.bytes) ck_assert_mem_eq(a.data, golden[i].data, a.bytes);
        array_free(&a);
        array_free(&arrays[i]);
    }
    safetensors_close(&file);
    safetensors_close(&file);
    safetensors_close(NULL);
}
END_TEST

START_TEST(saves_none) {
    struct safetensors file;
    const char *path = test_path("none.safetensors");
    ck_assert(safetensors_save(path, 0, NULL, NULL, NULL));
    ck_assert(safetensors_open(path, &file, NULL));
    ck_assert(file.count == 0 && safetensors_find(&file, "x") == NULL);
    safetensors_close(&file);
}
END_TEST

START_TEST(saves_no_bad_names) {
    static const uint8_t byte = 1;
    struct array arrays[2];
    struct io_error err = {""};
    for (int i = 0; i < 2; ++i)
        ck_assert(array_view("a", ARRAY_U8, 0, NULL, &byte, &arrays[i], NULL));
    const char *path = test_file("kept.safetensors", "old", 3);
    ck_assert(!safetensors_save(path, 2, (const char *const[]){"x", "x"}, arrays, &err));
    CHECK_ERROR(err, "kept.safetensors: header: key \"x\" is given twice");
    ck_assert(!safetensors_save(path, 1, (const char *const[]){"\xff"}, arrays, &err));
    CHECK_ERROR(err, "kept.safetensors: header: line 1 column 3: not valid UTF-8");
    ck_assert(!safetensors_save(path, 1, (const char *const[]){"__metadata__"}, arrays, &err));
    CHECK_ERROR(err, "kept.safetensors: a tensor cannot be called __metadata__");
    struct file_map map;
    ck_assert(file_map_open(path, &map, NULL));
    ck_assert(map.size == 3 && memcmp(map.data, "old", 3) == 0);
    file_map_close(&map);
    ck_assert(test_no_temporaries());
}
END_TEST

Suite *io_safetensors_suite(void) {
    Suite *suite = suite_create("io safetensors");
    TCase *read = tcase_create("read");
    tcase_add_test(read, reads_golden);
    tcase_add_test(read, every_cut_is_refused);
    tcase_add_test(read, survives_any_byte_anywhere);
    tcase_add_loop_test(read, reads_other_headers, 0, (int)COUNT_OF(good));
    tcase_add_loop_test(read, reads_type, 0, (int)COUNT_OF(types));
    tcase_add_test(read, lists_unknown_type);
    tcase_add_loop_test(read, refuses_prefix, 0, (int)COUNT_OF(bad_prefix));
    tcase_add_loop_test(read, refuses_header, 0, (int)COUNT_OF(bad));
    tcase_add_test(read, long_names_are_cut_in_errors);
    suite_add_tcase(suite, read);

    TCase *save = tcase_create("save");
    tcase_add_test(save, saves_and_opens);
    tcase_add_test(save, saves_none);
    tcase_add_test(save, saves_no_bad_names);
    suite_add_tcase(suite, save);
    return suite;
}
