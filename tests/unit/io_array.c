// SPDX-License-Identifier: MIT
#include "array.h"
#include "io.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// shapes

static const struct {
    int ndim;
    int64_t shape[ARRAY_MAX_DIMS];
    bool counts, fits; // as a count, as bytes of f64
    int64_t count;
    const char *text;
} shapes[] = {
    {0, {0}, true, true, 1, "()"},
    {1, {0}, true, true, 0, "(0,)"},
    {1, {7}, true, true, 7, "(7,)"},
    {2, {3, 4}, true, true, 12, "(3, 4)"},
    {3, {5, 0, 9}, true, true, 0, "(5, 0, 9)"},
    {2, {0, INT64_MAX}, true, true, 0, "(0, 9223372036854775807)"},
    {3, {INT64_MAX, INT64_MAX, 0}, true, true, 0, "(9223372036854775807, 9223372036854775807, 0)"},
    {8, {1, 2, 1, 2, 1, 2, 1, 3}, true, true, 24, "(1, 2, 1, 2, 1, 2, 1, 3)"},
    {1, {-1}, false, false, 0, "(-1,)"},
    {2, {0, -1}, false, false, 0, "(0, -1)"},
    {1, {INT64_MIN}, false, false, 0, "(-9223372036854775808,)"},
    {1, {INT64_MAX}, true, false, INT64_MAX, "(9223372036854775807,)"},
    {2, {INT64_MAX, 2}, false, false, 0, "(9223372036854775807, 2)"},
    {2, {3037000500, 3037000500}, false, false, 0, "(3037000500, 3037000500)"},
    {2, {3037000499, 3037000499}, true, false, INT64_C(9223372030926249001), "(3037000499, 3037000499)"},
    {1, {PTRDIFF_MAX / 8}, true, true, PTRDIFF_MAX / 8, "(1152921504606846975,)"},
    {1, {PTRDIFF_MAX / 8 + 1}, true, false, PTRDIFF_MAX / 8 + 1, "(1152921504606846976,)"},
    {8,
     {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN},
     false,
     false,
     0,
     "(-9223372036854775808, -9223372036854775808, -9223372036854775808, -9223372036854775808, "
     "-9223372036854775808, -9223372036854775808, -9223372036854775808, -9223372036854775808)"},
};

START_TEST(shape_products) {
    int64_t count = -7;
    ck_assert(array_shape_count(shapes[_i].ndim, shapes[_i].shape, &count) == shapes[_i].counts);
    if (shapes[_i].counts) ck_assert(count == shapes[_i].count);
    size_t bytes = 77;
    ck_assert(array_shape_bytes(ARRAY_F64, shapes[_i].ndim, shapes[_i].shape, &bytes) == shapes[_i].fits);
    if (shapes[_i].fits) ck_assert(bytes == 8 * (uint64_t)count);
    ck_assert_str_eq(array_shape_text(shapes[_i].ndim, shapes[_i].shape).text, shapes[_i].text);
}
END_TEST

// making

START_TEST(alloc_is_zero_and_owned) {
    for (int dtype = 0; dtype < ARRAY_DTYPE_COUNT; ++dtype) {
        struct array a;
        ck_assert(array_alloc("a", (enum array_dtype)dtype, 2, (const int64_t[]){3, 5}, &a, NULL));
        ck_assert(a.memory == ARRAY_OWNED && a.dtype == (enum array_dtype)dtype && a.ndim == 2);
        ck_assert(a.bytes == 15 * array_dtype_size(a.dtype) && array_count(&a) == 15);
        ck_assert(a.shape[0] == 3 && a.shape[1] == 5 && a.shape[2] == 0);
        for (size_t i = 0; i < a.bytes; ++i)
            ck_assert(((const uint8_t *)a.data)[i] == 0);
        array_free(&a);
        ck_assert(a.memory == ARRAY_EMPTY && a.data == NULL);
    }
}
END_TEST

START_TEST(alloc_refuses) {
    struct array a;
    struct io_error err;
    ck_assert(!array_alloc("a", ARRAY_F32, 9, (const int64_t[9]){1}, &a, &err));
    CHECK_ERROR(err, "a: 9 dimensions, expected 0..8");
    ck_assert(!array_alloc("a", ARRAY_F32, 2, (const int64_t[]){3, -2}, &a, &err));
    CHECK_ERROR(err, "a: shape (3, -2) of f32: not a size that memory can hold");
    ck_assert(a.memory == ARRAY_EMPTY && a.data == NULL);
    array_free(&a);
    array_free(NULL);
}
END_TEST

START_TEST(view_copies_only_when_misaligned) {
    _Alignas(8) static const uint8_t bytes[24] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    for (int dtype = 0; dtype < ARRAY_DTYPE_COUNT; ++dtype) {
        for (size_t shift = 0; shift < 8; ++shift) {
            struct array a;
            ck_assert(
                array_view("a", (enum array_dtype)dtype, 1, (const int64_t[]){2}, bytes + shift, &a, NULL));
            const bool aligned = shift % array_dtype_size(a.dtype) == 0;
            ck_assert(a.memory == (aligned ? ARRAY_BORROWED : ARRAY_OWNED));
            ck_assert((a.data == bytes + shift) == aligned);
            ck_assert((uintptr_t)a.data % array_dtype_size(a.dtype) == 0);
            ck_assert_mem_eq(a.data, bytes + shift, a.bytes);
            array_free(&a);
        }
    }
}
END_TEST

// decoding

// The value of a small float by its definition.
static double decode(unsigned bits, int exponent_bits, int mantissa_bits) {
    const int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = (int)bits & ((1 << mantissa_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const double one = (double)(1 << mantissa_bits);
    const double magnitude =
        exponent ? ldexp(1 + mantissa / one, exponent - bias) : ldexp(mantissa / one, 1 - bias);
    return bits >> (exponent_bits + mantissa_bits) ? -magnitude : magnitude;
}

START_TEST(f16_decodes_and_returns) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const float value = array_f16_to_f32((uint16_t)bits);
        if ((bits & 0x7c00) == 0x7c00) {
            ck_assert((bits & 0x3ff) ? isnan(value) : isinf(value));
        } else {
            ck_assert((double)value == decode(bits, 5, 10));
        }
        ck_assert(!signbit(value) == !(bits & 0x8000));
        ck_assert_msg(array_f32_to_f16(value) == bits, "f16 0x%04x", bits);
    }
}
END_TEST

START_TEST(bf16_decodes_and_returns) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const float value = array_bf16_to_f32((uint16_t)bits);
        ck_assert(bits_of(value) == bits << 16);
        ck_assert_msg(array_f32_to_bf16(value) == bits, "bf16 0x%04x", bits);
    }
}
END_TEST

START_TEST(f8_decodes) {
    for (unsigned bits = 0; bits < 256; ++bits) {
        const float e4m3 = array_f8_e4m3_to_f32((uint8_t)bits);
        const float e5m2 = array_f8_e5m2_to_f32((uint8_t)bits);
        if ((bits & 0x7f) == 0x7f) {
            ck_assert(isnan(e4m3));
        } else {
            ck_assert((double)e4m3 == decode(bits, 4, 3));
        }
        if ((bits & 0x7c) == 0x7c) {
            ck_assert((bits & 3) ? isnan(e5m2) : isinf(e5m2));
        } else {
            ck_assert((double)e5m2 == decode(bits, 5, 2));
        }
        ck_assert(!signbit(e4m3) == !(bits & 0x80) && !signbit(e5m2) == !(bits & 0x80));
    }
    ck_assert(array_f8_e4m3_to_f32(0x7e) == 448.0f);
}
END_TEST

// rounding: around every finite value of the narrow type, the middle to the next one and its two neighbours

static void check_rounding(uint16_t (*encode)(float), double (*value_of)(unsigned), unsigned infinity) {
    for (unsigned low = 0; low < infinity; ++low) {
        const unsigned high = low + 1;
        const unsigned even = (low & 1) ? high : low;
        const float middle = (float)((value_of(low) + value_of(high)) / 2); // exact: f32 has more bits
        const float below = float_of(bits_of(middle) - 1), above = float_of(bits_of(middle) + 1);
        ck_assert_msg(encode(middle) == even, "middle above 0x%04x", low);
        ck_assert_msg(encode(-middle) == (even | 0x8000), "middle below -0x%04x", low);
        ck_assert_msg(encode(below) == low, "below the middle above 0x%04x", low);
        ck_assert_msg(encode(above) == high, "above the middle above 0x%04x", low);
    }
}

// The value that the type would have at `infinity` if its range went on, for rounding at the upper end.
static double f16_value(unsigned bits) {
    return bits == 0x7c00 ? 65536.0 : decode(bits, 5, 10);
}
static double bf16_value(unsigned bits) {
    return bits == 0x7f80 ? ldexp(1, 128) : decode(bits, 8, 7);
}

START_TEST(f16_rounds_to_nearest_even) {
    check_rounding(array_f32_to_f16, f16_value, 0x7c00);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even) {
    check_rounding(array_f32_to_bf16, bf16_value, 0x7f80);
}
END_TEST

static const struct {
    uint32_t from;
    uint16_t f16, bf16;
} encodings[] = {
    {0x00000000, 0x0000, 0x0000}, {0x80000000, 0x8000, 0x8000}, {0x00000001, 0x0000, 0x0000},
    {0x3f800000, 0x3c00, 0x3f80}, {0x7f800000, 0x7c00, 0x7f80}, {0xff800000, 0xfc00, 0xff80},
    {0x7f7fffff, 0x7c00, 0x7f80}, {0xff7fffff, 0xfc00, 0xff80}, {0x477fefff, 0x7bff, 0x4780},
    {0x477ff000, 0x7c00, 0x4780}, {0x33000000, 0x0000, 0x3300}, {0x33000001, 0x0001, 0x3300},
    {0x7fc00000, 0x7e00, 0x7fc0}, {0xffc00000, 0xfe00, 0xffc0}, {0x7f800001, 0x7e00, 0x7fc0},
    {0xff800001, 0xfe00, 0xffc0}, {0x7fffffff, 0x7fff, 0x7fff}, {0x7f80ffff, 0x7c07, 0x7fc0},
    {0x387fffff, 0x0400, 0x3880}, {0x38800000, 0x0400, 0x3880}, {0x387fc000, 0x03ff, 0x3880},
};

START_TEST(encodes) {
    const float value = float_of(encodings[_i].from);
    ck_assert_int_eq(array_f32_to_f16(value), encodings[_i].f16);
    ck_assert_int_eq(array_f32_to_bf16(value), encodings[_i].bf16);
}
END_TEST

// whole arrays

static const struct {
    enum array_dtype dtype;
    const void *data;
    size_t count;
    float expected[3];
} to_f32[] = {
#define ROW(dtype, type, a, b, c, x, y, z)                                                                   \
    {                                                                                                        \
        dtype, (const type[]){a, b, c}, 3, {                                                                 \
            x, y, z                                                                                          \
        }                                                                                                    \
    }
    ROW(ARRAY_F32, float, 1.5f, -0.0f, 3e38f, 1.5f, -0.0f, 3e38f),
    ROW(ARRAY_F16, uint16_t, 0x3c00, 0xc000, 0x0001, 1.0f, -2.0f, 0x1p-24f),
    ROW(ARRAY_BF16, uint16_t, 0x3f80, 0xc000, 0x0001, 1.0f, -2.0f, 0x1p-133f),
    ROW(ARRAY_F64, double, 0.1, -1e300, 1.0 + 0x1p-24, 0.1f, -INFINITY, 1.0f),
    ROW(ARRAY_I8, int8_t, -128, 0, 127, -128.0f, 0.0f, 127.0f),
    ROW(ARRAY_U8, uint8_t, 0, 128, 255, 0.0f, 128.0f, 255.0f),
    ROW(ARRAY_I16, int16_t, -32768, 1, 32767, -32768.0f, 1.0f, 32767.0f),
    ROW(ARRAY_U16, uint16_t, 0, 1, 65535, 0.0f, 1.0f, 65535.0f),
    ROW(ARRAY_I32, int32_t, INT32_MIN, 16777217, 16777219, -0x1p31f, 16777216.0f, 16777220.0f),
    ROW(ARRAY_U32, uint32_t, 0, 16777217, UINT32_MAX, 0.0f, 16777216.0f, 0x1p32f),
    ROW(ARRAY_I64, int64_t, INT64_MIN, -1, INT64_MAX, -0x1p63f, -1.0f, 0x1p63f),
    ROW(ARRAY_U64, uint64_t, 0, 1, UINT64_MAX, 0.0f, 1.0f, 0x1p64f),
    ROW(ARRAY_BOOL, uint8_t, 0, 1, 255, 0.0f, 1.0f, 1.0f),
    ROW(ARRAY_F8_E4M3, uint8_t, 0x38, 0xfe, 0x01, 1.0f, -448.0f, 0x1p-9f),
    ROW(ARRAY_F8_E5M2, uint8_t, 0x3c, 0xfb, 0x01, 1.0f, -57344.0f, 0x1p-16f),
};

START_TEST(converts_to_f32) {
    struct array a, out;
    ck_assert(array_view("a", to_f32[_i].dtype, 2, (const int64_t[]){3, 1}, to_f32[_i].data, &a, NULL));
    ck_assert(array_to_f32("a", &a, &out, NULL));
    ck_assert(out.dtype == ARRAY_F32 && out.memory == ARRAY_OWNED && out.ndim == 2 && out.shape[0] == 3);
    ck_assert_mem_eq(out.data, to_f32[_i].expected, sizeof(to_f32[_i].expected));
    array_free(&out);
    array_free(&a);
}
END_TEST

static const struct {
    enum array_dtype dtype;
    const void *expected;
} from_f32[] = {
    {ARRAY_F32, (const float[]){1.0f, -2.5f, 1e-8f}},
    {ARRAY_F64, (const double[]){1.0, -2.5, (double)1e-8f}},
    {ARRAY_F16, (const uint16_t[]){0x3c00, 0xc100, 0x0000}},
    {ARRAY_BF16, (const uint16_t[]){0x3f80, 0xc020, 0x322c}},
};

START_TEST(converts_from_f32) {
    static const float values[] = {1.0f, -2.5f, 1e-8f};
    struct array a, out;
    ck_assert(array_view("a", ARRAY_F32, 1, (const int64_t[]){3}, values, &a, NULL));
    ck_assert(array_from_f32("a", &a, from_f32[_i].dtype, &out, NULL));
    ck_assert(out.dtype == from_f32[_i].dtype && out.memory == ARRAY_OWNED && array_count(&out) == 3);
    ck_assert_mem_eq(out.data, from_f32[_i].expected, out.bytes);
    array_free(&out);
}
END_TEST

START_TEST(conversion_refuses) {
    struct array a, out;
    struct io_error err;
    static const float value = 1;
    static const int32_t integer = 1;
    ck_assert(array_view("a", ARRAY_F32, 0, NULL, &value, &a, NULL));
    ck_assert(!array_from_f32("x.npy", &a, ARRAY_I32, &out, &err));
    CHECK_ERROR(err, "x.npy: cannot convert f32 to i32");
    ck_assert(!array_to_i32("x.npy", &a, &out, &err));
    CHECK_ERROR(err, "x.npy: expected integers, got f32");
    ck_assert(array_view("a", ARRAY_I32, 0, NULL, &integer, &a, NULL));
    ck_assert(!array_from_f32("x.npy", &a, ARRAY_F16, &out, &err));
    CHECK_ERROR(err, "x.npy: expected f32, got i32");
    ck_assert(out.memory == ARRAY_EMPTY);
}
END_TEST

static const struct {
    enum array_dtype dtype;
    const void *data;
    int32_t expected[2];
    const char *error;
} to_i32[] = {
    {ARRAY_I8, (const int8_t[]){-128, 127}, {-128, 127}, NULL},
    {ARRAY_U8, (const uint8_t[]){0, 255}, {0, 255}, NULL},
    {ARRAY_I16, (const int16_t[]){-32768, 32767}, {-32768, 32767}, NULL},
    {ARRAY_U16, (const uint16_t[]){0, 65535}, {0, 65535}, NULL},
    {ARRAY_I32, (const int32_t[]){INT32_MIN, INT32_MAX}, {INT32_MIN, INT32_MAX}, NULL},
    {ARRAY_U32, (const uint32_t[]){0, INT32_MAX}, {0, INT32_MAX}, NULL},
    {ARRAY_I64, (const int64_t[]){INT32_MIN, INT32_MAX}, {INT32_MIN, INT32_MAX}, NULL},
    {ARRAY_U64, (const uint64_t[]){0, INT32_MAX}, {0, INT32_MAX}, NULL},
    {ARRAY_U32, (const uint32_t[]){1, 2147483648u}, {0, 0}, "a: element 1 is 2147483648, beyond 32 bits"},
    {ARRAY_I64, (const int64_t[]){-2147483649, 0}, {0, 0}, "a: element 0 is -2147483649, beyond 32 bits"},
    {ARRAY_U64,
     (const uint64_t[]){0, UINT64_MAX},
     {0, 0},
     "element 1 is 18446744073709551615, beyond 32 bits"},
    {ARRAY_BOOL, (const uint8_t[]){0, 1}, {0, 0}, "a: expected integers, got bool"},
    {ARRAY_BF16, (const uint16_t[]){0, 1}, {0, 0}, "a: expected integers, got bf16"},
};

START_TEST(converts_to_i32) {
    struct array a, out;
    struct io_error err;
    ck_assert(array_view("a", to_i32[_i].dtype, 1, (const int64_t[]){2}, to_i32[_i].data, &a, NULL));
    const bool ok = array_to_i32("a", &a, &out, &err);
    ck_assert(ok == (to_i32[_i].error == NULL));
    if (ok) {
        ck_assert(out.dtype == ARRAY_I32 && array_count(&out) == 2);
        ck_assert_mem_eq(out.data, to_i32[_i].expected, sizeof(to_i32[_i].expected));
    } else {
        CHECK_ERROR(err, to_i32[_i].error);
        ck_assert(out.memory == ARRAY_EMPTY);
    }
    array_free(&out);
}
END_TEST

// errors

START_TEST(error_is_one_clean_line) {
    struct io_error err;
    ck_assert(!io_fail(&err, "a\nb.npy", "tensor \"%.100s\"", "x\x1b[2J\x7f\t\xc2\x9b y\xc3\xa9"));
    ck_assert_str_eq(err.text, "a?b.npy: tensor \"x?[2J????"
                               " y\xc3\xa9\"");
    io_error_set(NULL, "a", "b");
}
END_TEST

START_TEST(error_is_cut) {
    struct io_error err;
    char name[2001], text[3001];
    memset(name, 'n', 2000);
    name[2000] = '\0';
    name[1999] = 'e';
    memset(text, 't', 3000);
    text[3000] = '\0';
    ck_assert(!io_fail(&err, name, "%s", "short"));
    ck_assert_int_eq((int)strlen(err.text), 3 + 300 + 2 + 5);
    ck_assert(strncmp(err.text, "...nn", 5) == 0 && strstr(err.text, "ne: short"));
    ck_assert(!io_fail(&err, "x", "%s", text));
    ck_assert(strlen(err.text) == IO_ERROR_BYTES - 1 && strcmp(err.text + IO_ERROR_BYTES - 4, "...") == 0);
}
END_TEST

Suite *io_array_suite(void) {
    Suite *suite = suite_create("io array");
    TCase *shape = tcase_create("shapes");
    tcase_add_loop_test(shape, shape_products, 0, (int)COUNT_OF(shapes));
    tcase_add_test(shape, alloc_is_zero_and_owned);
    tcase_add_test(shape, alloc_refuses);
    tcase_add_test(shape, view_copies_only_when_misaligned);
    suite_add_tcase(suite, shape);

    TCase *convert = tcase_create("conversions");
    tcase_add_test(convert, f16_decodes_and_returns);
    tcase_add_test(convert, bf16_decodes_and_returns);
    tcase_add_test(convert, f8_decodes);
    tcase_add_test(convert, f16_rounds_to_nearest_even);
    tcase_add_test(convert, bf16_rounds_to_nearest_even);
    tcase_add_loop_test(convert, encodes, 0, (int)COUNT_OF(encodings));
    tcase_add_loop_test(convert, converts_to_f32, 0, (int)COUNT_OF(to_f32));
    tcase_add_loop_test(convert, converts_from_f32, 0, (int)COUNT_OF(from_f32));
    tcase_add_loop_test(convert, converts_to_i32, 0, (int)COUNT_OF(to_i32));
    tcase_add_test(convert, conversion_refuses);
    suite_add_tcase(suite, convert);

    TCase *error = tcase_create("errors");
    tcase_add_test(error, error_is_one_clean_line);
    tcase_add_test(error, error_is_cut);
    suite_add_tcase(suite, error);
    return suite;
}
