// SPDX-License-Identifier: MIT
#include "npy.h"
#include "../data/io_goldens.h"
#include "io.h"

#include <stdlib.h>

// files written by numpy

static void check_golden(const struct npy_golden *g, const struct array *a) {
    ck_assert_msg(a->dtype == g->dtype, "%s: %s", g->label, array_dtype_name(a->dtype));
    ck_assert_msg(a->ndim == g->ndim, "%s: %d dimensions", g->label, a->ndim);
    ck_assert_msg(memcmp(a->shape, g->shape, sizeof(g->shape)) == 0, "%s: %s", g->label,
                  array_shape_text(a->ndim, a->shape).text);
    ck_assert_msg(a->bytes == g->bytes && memcmp(a->data, g->data, g->bytes) == 0, "%s: data", g->label);
}

START_TEST(reads_numpy_bytes) {
    const struct npy_golden *g = &npy_goldens[_i];
    struct array a;
    struct io_error err = {""};
    char *file = test_copy(g->file, g->file_size);
    ck_assert_msg(npy_parse("g.npy", file, g->file_size, g->dtype == ARRAY_BF16, &a, &err), "%s: %s",
                  g->label, err.text);
    check_golden(g, &a);
    array_free(&a);
    free(file);
}
END_TEST

START_TEST(reads_misaligned_numpy_bytes) {
    const struct npy_golden *g = &npy_goldens[_i];
    struct array a;
    char *file = malloc(g->file_size + 1);
    ck_assert_ptr_nonnull(file);
    memcpy(file + 1, g->file, g->file_size);
    ck_assert(npy_parse("g.npy", file + 1, g->file_size, g->dtype == ARRAY_BF16, &a, NULL));
    check_golden(g, &a);
    ck_assert((uintptr_t)a.data % array_dtype_size(a.dtype) == 0);
    array_free(&a);
    free(file);
}
END_TEST

START_TEST(every_cut_is_refused) {
    const struct npy_golden *g = &npy_goldens[_i];
    for (size_t size = 0; size < g->file_size; ++size) {
        struct array a;
        struct io_error err = {""};
        char *file = test_copy(g->file, size);
        ck_assert(!npy_parse("cut.npy", file, size, g->dtype == ARRAY_BF16, &a, &err));
        ck_assert(strncmp(err.text, "cut.npy: ", 9) == 0 && a.memory == ARRAY_EMPTY && a.data == NULL);
        free(file);
    }
}
END_TEST

START_TEST(writes_as_numpy) {
    const struct npy_golden *g = &npy_goldens[_i];
    struct array a, back;
    struct file_map map;
    ck_assert(npy_parse("g.npy", g->file, g->file_size, g->dtype == ARRAY_BF16, &a, NULL));
    const char *path = test_path("out.npy");
    ck_assert(npy_save(path, &a, NULL));
    ck_assert(file_map_open(path, &map, NULL));
    ck_assert(map.size % 64 == g->bytes % 64);
    if (g->saved_alike) {
        ck_assert_msg(map.size == g->file_size && memcmp(map.data, g->file, map.size) == 0, "%s", g->label);
    }
    file_map_close(&map);
    ck_assert(npy_load(path, g->dtype == ARRAY_BF16, &back, NULL));
    ck_assert(back.memory == ARRAY_MAPPED && back.map.data != NULL);
    check_golden(g, &back);
    array_free(&back);
    array_free(&a);
}
END_TEST

// headers that others write

static const struct {
    const char *header;
    size_t bytes; // of data, counting up
    bool bf16;
    enum array_dtype dtype;
    int ndim;
    int64_t shape[ARRAY_MAX_DIMS];
} good[] = {
    {"{'shape': (2, 3), 'fortran_order': False, 'descr': '|u1'}", 6, false, ARRAY_U8, 2, {2, 3}},
    {"{\"descr\": \"<i2\", \"fortran_order\": False, \"shape\": (2,)}", 4, false, ARRAY_I16, 1, {2}},
    {"{'descr':'<f4','fortran_order':False,'shape':(1,)}", 4, false, ARRAY_F32, 1, {1}},
    {" \t{ 'descr' : '<f4' ,\n'fortran_order' : False , 'shape' : ( 1 , 2 , ) , } \n ",
     8,
     false,
     ARRAY_F32,
     2,
     {1, 2}},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L), }", 24, false, ARRAY_F32, 2, {3, 2}},
    {"{'descr': '<i1', 'fortran_order': False, 'shape': (3,), }", 3, false, ARRAY_I8, 1, {3}},
    {"{'descr': '<u1', 'fortran_order': False, 'shape': (3,), }", 3, false, ARRAY_U8, 1, {3}},
    {"{'descr': '<b1', 'fortran_order': False, 'shape': (3,), }", 3, false, ARRAY_BOOL, 1, {3}},
    {"{'descr': '<V2', 'fortran_order': False, 'shape': (3,), }", 6, true, ARRAY_BF16, 1, {3}},
    {"{'descr': '|V2', 'fortran_order': False, 'shape': (3,), }", 6, true, ARRAY_BF16, 1, {3}},
    {"{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", 6, true, ARRAY_BF16, 1, {3}},
    {"{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", 6, false, ARRAY_U16, 1, {3}},
    {"{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", 6, true, ARRAY_I16, 1, {3}},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12, true, ARRAY_F32, 1, {3}},
    {"{'descr': '<f8', 'fortran_order': True, 'shape': (3,), }", 24, false, ARRAY_F64, 1, {3}},
    {"{'descr': '<f8', 'fortran_order': True, 'shape': (), }", 8, false, ARRAY_F64, 0, {0}},
    {"{'descr': '<f8', 'fortran_order': True, 'shape': (4, 0), }", 0, false, ARRAY_F64, 2, {4, 0}},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807), }",
     0,
     false,
     ARRAY_F64,
     2,
     {0, INT64_MAX}},
};

START_TEST(reads_other_headers) {
    uint8_t data[64];
    for (size_t i = 0; i < sizeof(data); ++i)
        data[i] = (uint8_t)i;
    size_t size;
    void *file = test_npy(good[_i].header, data, good[_i].bytes, &size);
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(npy_parse("x.npy", file, size, good[_i].bf16, &a, &err), "row %d: %s", _i, err.text);
    ck_assert(a.dtype == good[_i].dtype && a.ndim == good[_i].ndim && a.bytes == good[_i].bytes);
    ck_assert_mem_eq(a.shape, good[_i].shape, sizeof(a.shape));
    if (a.bytes) ck_assert_mem_eq(a.data, data, a.bytes);
    ck_assert_ptr_nonnull(a.data);
    array_free(&a);
    free(file);
}
END_TEST

// bytes before the header text

static const struct {
    const char *bytes;
    size_t size;
    const char *error;
} bad_prefix[] = {
#define ROW(bytes, error)                                                                                    \
    { bytes, sizeof(bytes) - 1, error }
    ROW("", "x.npy: is empty, expected an npy file"),
    ROW("\x93", "x.npy: is not an npy file: it does not start with \\x93NUMPY"),
    ROW("\x93NUMP", "x.npy: is not an npy file"),
    ROW("\x93NUMPY", "x.npy: ends after 6 bytes, inside the prefix"),
    ROW("\x93NUMPY\1\0\2", "x.npy: ends after 9 bytes, inside the prefix"),
    ROW("\x93NUMPY\2\0\2\0", "x.npy: ends after 10 bytes, inside the prefix"),
    ROW("\x93NUMPY\3\0\2\0\0", "x.npy: ends after 11 bytes, inside the prefix"),
    ROW("\x93NUMPx\1\0\2\0{}", "x.npy: is not an npy file"),
    ROW("PK\3\4\0\0\0\0\0\0", "x.npy: is not an npy file: it is a zip archive, perhaps .npz"),
    ROW("{\"json\": 1}", "x.npy: is not an npy file"),
    ROW("\x93NUMPY\0\0\2\0{}", "x.npy: npy version 0.0: expected 1.0, 2.0 or 3.0"),
    ROW("\x93NUMPY\4\0\2\0{}", "x.npy: npy version 4.0"),
    ROW("\x93NUMPY\1\1\2\0{}", "x.npy: npy version 1.1"),
    ROW("\x93NUMPY\xff\xff\2\0{}", "x.npy: npy version 255.255"),
    ROW("\x93NUMPY\1\0\3\0{}", "x.npy: header of 3 bytes, but only 2 follow"),
    ROW("\x93NUMPY\1\0\xff\xff{}", "x.npy: header of 65535 bytes, but only 2 follow"),
    ROW("\x93NUMPY\2\0\3\0\0\0{}", "x.npy: header of 3 bytes, but only 2 follow"),
    ROW("\x93NUMPY\2\0\0\0\1\0{}", "x.npy: header of 65536 bytes: expected at most 65535"),
    ROW("\x93NUMPY\2\0\xff\xff\xff\xff{}", "x.npy: header of 4294967295 bytes: expected at most 65535"),
    ROW("\x93NUMPY\3\0\xff\xff\xff\x7f{}", "x.npy: header of 2147483647 bytes: expected at most 65535"),
    ROW("\x93NUMPY\1\0\0\0", "x.npy: header: expected '{', but it ends"),
    ROW("\x93NUMPY\1\0\1\0{", "x.npy: header: expected key, but it ends"),
    ROW("\x93NUMPY\1\0\2\0{}", "x.npy: header: no 'descr'"),
    ROW("\x93NUMPY\1\0\2\0{\0", "x.npy: header: expected key at byte 1, got byte 0x00"),
    ROW("\x93NUMPY\1\0\2\0\0\0", "x.npy: header: expected '{' at byte 0, got byte 0x00"),
#undef ROW
};

START_TEST(refuses_prefix) {
    struct array a;
    struct io_error err = {""};
    void *file = test_copy(bad_prefix[_i].bytes, bad_prefix[_i].size);
    ck_assert(!npy_parse("x.npy", file, bad_prefix[_i].size, false, &a, &err));
    CHECK_ERROR(err, bad_prefix[_i].error);
    ck_assert(a.memory == ARRAY_EMPTY);
    free(file);
}
END_TEST

// header texts, and data that does not fit them

#define D "'descr': '<f4', "
#define F "'fortran_order': False, "
#define S "'shape': (2,), "

static const struct {
    const char *header;
    size_t bytes; // of data
    const char *error;
} bad[] = {
    // syntax
    {"[]", 8, "header: expected '{' at byte 0, got '['"},
    {"{" D F S, 8, "header: expected key, but it ends"},
    {"{" D F S "} x", 8, "header: expected only white space after '}' at byte 58, got 'x'"},
    {"{" D F S "}}", 8, "header: expected only white space after '}'"},
    {"{" D F S ",}", 8, "header: expected key at byte 56, got ','"},
    {"{,}", 8, "header: expected key at byte 1, got ','"},
    {"{descr: '<f4', " F S "}", 8, "header: expected key at byte 1, got 'd'"},
    {"{'descr' '<f4', " F S "}", 8, "header: expected ':' at byte 9, got '''"},
    {"{'descr': '<f4' " F S "}", 8, "header: expected ',' or '}' at byte 16, got '''"},
    {"{'descr", 8, "header: key: string without an end"},
    {"{'descr': '<f4", 8, "header: descr: string without an end"},
    {"{'descr\": '<f4', " F S "}", 8,
     "header: key '"
     "descr\": ' is not one that is known"},
    {"{'de\\scr': '<f4', " F S "}", 8, "header: key: string with an escape or NUL"},
    {"{'descr': '<\\x664', " F S "}", 8, "header: descr: string with an escape or NUL"},
    // keys
    {"{" F S "}", 8, "header: no 'descr'"},
    {"{" D S "}", 8, "header: no 'fortran_order'"},
    {"{" D F "}", 8, "header: no 'shape'"},
    {"{" D D F S "}", 8, "header: key 'descr' is given twice"},
    {"{" D F F S "}", 8, "header: key 'fortran_order' is given twice"},
    {"{" D F S S "}", 8, "header: key 'shape' is given twice"},
    {"{" D F S "'extra': 1}", 8, "header: key 'extra' is not one that is known"},
    {"{'Descr': '<f4', " F S "}", 8, "header: key 'Descr' is not one that is known"},
    {"{'': 1, " D F S "}", 8, "header: key '' is not one that is known"},
    {"{'a_key_that_is_rather_long': 1}", 8, "header: key 'a_key_that_is_r...' is not one that is known"},
    // descr
    {"{'descr': '>f4', " F S "}", 8, "descr '>f4' is big-endian: only little-endian is read"},
    {"{'descr': '>V2', " F S "}", 4, "descr '>V2' is big-endian"},
    {"{'descr': '=f4', " F S "}", 8, "descr '=f4' is not a supported type"},
    {"{'descr': 'f4', " F S "}", 8, "descr 'f4' is not a supported type"},
    {"{'descr': '|f4', " F S "}", 8, "descr '|f4' is not a supported type"},
    {"{'descr': '<f3', " F S "}", 8, "descr '<f3' is not a supported type"},
    {"{'descr': '<f16', " F S "}", 32, "descr '<f16' is not a supported type"},
    {"{'descr': '<c8', " F S "}", 16, "descr '<c8' is not a supported type"},
    {"{'descr': '<U5', " F S "}", 40, "descr '<U5' is not a supported type"},
    {"{'descr': '|S5', " F S "}", 10, "descr '|S5' is not a supported type"},
    {"{'descr': '<M8[ns]', " F S "}", 16, "descr '<M8[ns]' is not a supported type"},
    {"{'descr': '|V1', " F S "}", 2, "descr '|V1' is not a supported type"},
    {"{'descr': '', " F S "}", 8, "descr '' is not a supported type"},
    {"{'descr': '<f4 ', " F S "}", 8, "descr '<f4 ' is not a supported type"},
    {"{'descr': '\x1b[2J', " F S "}", 8, "descr '?[2J' is not a supported type"},
    {"{'descr': '|O', " F S "}", 8, "descr '|O' is an array of Python objects: save numbers"},
    {"{'descr': '<V2', " F S "}", 4, "descr '<V2' has no type: say that it is bf16 (--bf16)"},
    {"{'descr': '|V2', " F S "}", 4, "descr '|V2' has no type: say that it is bf16 (--bf16)"},
    {"{'descr': [('x', '<f4')], " F S "}", 8, "descr is a structured type: only plain numbers are read"},
    {"{'descr': ('<f4', (2,)), " F S "}", 8, "descr is a structured type"},
    {"{'descr': 4, " F S "}", 8, "header: expected descr at byte 10, got '4'"},
    {"{'descr': '<f4<f4<f4<f4<f4<f4', " F S "}", 8,
     "header: descr '<f4<f4<f4<f4<f4...' is not one that is known"},
    // fortran_order
    {"{" D "'fortran_order': false, " S "}", 8,
     "header: expected True or False for fortran_order at byte 34, got 'f'"},
    {"{" D "'fortran_order': 0, " S "}", 8,
     "header: expected True or False for fortran_order at byte 34, got '0'"},
    {"{" D "'fortran_order': 'False', " S "}", 8, "header: expected True or False for fortran_order"},
    {"{" D "'fortran_order': Fals", 8, "header: expected True or False for fortran_order"},
    {"{" D "'fortran_order': Falsey, " S "}", 8, "header: expected ',' or '}' at byte 39, got 'y'"},
    // shape
    {"{" D F "'shape': 2}", 8, "header: expected '(' of the shape at byte 50, got '2'"},
    {"{" D F "'shape': [2]}", 8, "header: expected '(' of the shape at byte 50, got '['"},
    {"{" D F "'shape': (2)}", 8, "header: shape (2) is a number, expected (2,)"},
    {"{" D F "'shape': (,)}", 8, "header: expected a dimension at byte 51, got ','"},
    {"{" D F "'shape': (2,,)}", 8, "header: expected a dimension at byte 53, got ','"},
    {"{" D F "'shape': (2 3)}", 8, "header: expected ',' or ')' in the shape at byte 53, got '3'"},
    {"{" D F "'shape': (2,", 8, "header: expected a dimension, but it ends"},
    {"{" D F "'shape': (2.0,)}", 8, "header: expected ',' or ')' in the shape at byte 52, got '.'"},
    {"{" D F "'shape': (0x2,)}", 8, "header: expected ',' or ')' in the shape at byte 52, got 'x'"},
    {"{" D F "'shape': (1e1,)}", 8, "header: expected ',' or ')' in the shape at byte 52, got 'e'"},
    {"{" D F "'shape': (+2,)}", 8, "header: expected a dimension at byte 51, got '+'"},
    {"{" D F "'shape': (02,)}", 8, "header: shape: dimension with a leading zero"},
    {"{" D F "'shape': (True,)}", 8, "header: expected a dimension at byte 51, got 'T'"},
    {"{" D F "'shape': ('2',)}", 8, "header: expected a dimension"},
    {"{" D F "'shape': (None, 2)}", 8, "header: expected a dimension at byte 51, got 'N'"},
    {"{" D F "'shape': ((2,),)}", 8, "header: expected a dimension at byte 51, got '('"},
    {"{" D F "'shape': (3, -2)}", 8, "x.npy: shape (3, -2): negative dimension"},
    {"{" D F "'shape': (-1,)}", 0, "x.npy: shape (-1,): negative dimension"},
    {"{" D F "'shape': (--1,)}", 0, "header: expected a dimension at byte 52, got '-'"},
    {"{" D F "'shape': (9223372036854775808,)}", 8,
     "header: shape: dimension 922337203685477580... does not fit"},
    {"{" D F "'shape': (99999999999999999999999999,)}", 8,
     "header: shape: dimension 999999999999999999... does not fit"},
    {"{" D F "'shape': (9223372036854775807,)}", 8,
     "shape (9223372036854775807,) of f32: not a size that memory"},
    {"{" D F "'shape': (4294967296, 4294967296)}", 0, "shape (4294967296, 4294967296) of f32: not a size"},
    {"{" D F "'shape': (2305843009213693952,)}", 0, "shape (2305843009213693952,) of f32: not a size"},
    {"{" D F "'shape': (2305843009213693951,)}", 8,
     "shape (2305843009213693951,) of f32 needs 9223372036854775804 bytes of data, the file has 8"},
    {"{" D F "'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1)}", 4, "shape has more than 8 dimensions"},
    // data
    {"{" D F S "}", 0, "shape (2,) of f32 needs 8 bytes of data, the file has 0"},
    {"{" D F S "}", 7, "shape (2,) of f32 needs 8 bytes of data, the file has 7"},
    {"{" D F S "}", 9, "shape (2,) of f32 needs 8 bytes of data, the file has 9"},
    {"{" D F "'shape': ()}", 0, "shape () of f32 needs 4 bytes of data, the file has 0"},
    {"{" D F "'shape': ()}", 8, "shape () of f32 needs 4 bytes of data, the file has 8"},
    {"{" D F "'shape': (0,)}", 1, "shape (0,) of f32 needs 0 bytes of data, the file has 1"},
    {"{" D F "'shape': (1000000000000,)}", 8, "needs 4000000000000 bytes of data, the file has 8"},
    {"{" D "'fortran_order': True, 'shape': (1000000, 1000000)}", 8, "needs 4000000000000 bytes of data"},
};

START_TEST(refuses_header) {
    static const uint8_t zeros[64];
    size_t size;
    void *file = test_npy(bad[_i].header, zeros, bad[_i].bytes, &size);
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(!npy_parse("x.npy", file, size, false, &a, &err), "row %d was read", _i);
    CHECK_ERROR(err, bad[_i].error);
    ck_assert(strncmp(err.text, "x.npy: ", 7) == 0 && a.memory == ARRAY_EMPTY);
    free(file);
}
END_TEST

// the whole header is NUL-free text: one byte of it changed never reads beyond, whatever it makes of the
// header
START_TEST(survives_any_byte_anywhere) {
    const struct npy_golden *g = &npy_goldens[0];
    for (size_t at = 0; at < g->file_size; ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            char *file = test_copy(g->file, g->file_size);
            file[at] = (char)value;
            struct array a;
            struct io_error err = {""};
            const bool ok = npy_parse("x.npy", file, g->file_size, value & 1, &a, &err);
            ck_assert(ok == (err.text[0] == '\0') && ok == (a.memory != ARRAY_EMPTY));
            array_free(&a);
            free(file);
        }
    }
}
END_TEST

START_TEST(f8_is_not_saved) {
    struct array a;
    struct io_error err = {""};
    ck_assert(array_alloc("a", ARRAY_F8_E4M3, 1, (const int64_t[]){3}, &a, NULL));
    ck_assert(!npy_save(test_path("f8.npy"), &a, &err));
    CHECK_ERROR(err, "f8.npy: npy has no type for f8_e4m3");
    array_free(&a);
}
END_TEST

START_TEST(longest_header_is_written) {
    struct array a, back;
    const int64_t shape[] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, 0};
    ck_assert(array_alloc("a", ARRAY_BF16, 8, shape, &a, NULL));
    ck_assert(npy_save(test_path("long.npy"), &a, NULL));
    ck_assert(npy_load(test_path("long.npy"), true, &back, NULL));
    ck_assert_mem_eq(back.shape, shape, sizeof(shape));
    array_free(&a);
    array_free(&back);
}
END_TEST

Suite *io_npy_suite(void) {
    Suite *suite = suite_create("io npy");
    TCase *golden = tcase_create("goldens");
    tcase_add_loop_test(golden, reads_numpy_bytes, 0, (int)COUNT_OF(npy_goldens));
    tcase_add_loop_test(golden, reads_misaligned_numpy_bytes, 0, (int)COUNT_OF(npy_goldens));
    tcase_add_loop_test(golden, every_cut_is_refused, 0, (int)COUNT_OF(npy_goldens));
    tcase_add_loop_test(golden, writes_as_numpy, 0, (int)COUNT_OF(npy_goldens));
    suite_add_tcase(suite, golden);

    TCase *header = tcase_create("headers");
    tcase_add_loop_test(header, reads_other_headers, 0, (int)COUNT_OF(good));
    tcase_add_loop_test(header, refuses_prefix, 0, (int)COUNT_OF(bad_prefix));
    tcase_add_loop_test(header, refuses_header, 0, (int)COUNT_OF(bad));
    tcase_add_test(header, survives_any_byte_anywhere);
    tcase_add_test(header, f8_is_not_saved);
    tcase_add_test(header, longest_header_is_written);
    suite_add_tcase(suite, header);
    return suite;
}
