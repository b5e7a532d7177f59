// SPDX-License-Identifier: MIT
#include "json.h"
#include "io.h"

#include <stdlib.h>

static const struct json_limits small = {"", 60, 4, 12};

#define TEXT(literal) literal, sizeof(literal) - 1

static const struct {
    const char *text;
    size_t size;
} good[] = {
    {TEXT("{}")},
    {TEXT(" \t\r\n{ } \n\n")},
    {TEXT("{\"a\":{\"b\":{\"c\":{}}}}")},
    {TEXT("{\"a\":[[[]]]}")},
    {TEXT("{\"a\":[1,2,3,4,5,6,7,8]}")},
    {TEXT("{\"a\":\"[[[[[[[{{{{{,,,,,,,,,,,,,,,,\"}")},
    {TEXT("{\"a\":\"\\\"[[[[[[[{{{{\\\\\"}")},
    {TEXT("{\"a\":\"\\u0001\\u00e9\\ud83d\\ude00\"}")},
    {TEXT("{\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\":1}")},
    {TEXT("{\"a\":1,\"A\":2,\"\":3,\"a \":4}")},
    {TEXT("{\"a\":-1.5e-3,\"b\":true,\"c\":null}")},
    {TEXT("{\"a\":\"\x7f\"}")},
};

START_TEST(parses) {
    char *text = test_copy(good[_i].text, good[_i].size);
    struct io_error err = {""};
    cJSON *root = json_parse("x.json", text, good[_i].size, &small, &err);
    ck_assert_msg(cJSON_IsObject(root), "row %d: %s", _i, err.text);
    cJSON_Delete(root);
    free(text);
}
END_TEST

static const struct {
    const char *text;
    size_t size;
    const char *error;
} bad[] = {
    {TEXT(""), "x.json: is empty, expected a JSON object"},
    {TEXT(" "), "not valid JSON"},
    {TEXT("{\"a\":\"0123456789012345678901234567890123456789012345678901234\"}"),
     "x.json: 63 bytes of JSON, expected at most 60"},
    // the top must be one object
    {TEXT("[]"), "x.json: expected an object, got a list"},
    {TEXT("1"), "x.json: expected an object, got 1"},
    {TEXT("\"{}\""), "x.json: expected an object, got \"{}\""},
    {TEXT("null"), "x.json: expected an object, got null"},
    {TEXT("true"), "x.json: expected an object, got true"},
    {TEXT("{}{}"), "x.json: line 1 column 3: more text after the end"},
    {TEXT("{} x"), "x.json: line 1 column 4: more text after the end"},
    {TEXT("{}\n,"), "x.json: line 2 column 1: more text after the end"},
    {TEXT("{}\0"), "x.json: line 1 column 3: control character"},
    // syntax
    {TEXT("{"), "x.json: line 1 column 2: ends inside an object or list"},
    {TEXT("{\"a\":1"), "x.json: line 1 column 7: ends inside an object or list"},
    {TEXT("}"), "x.json: line 1 column 1: closing bracket without an opening one"},
    {TEXT("{}]"), "x.json: line 1 column 3: closing bracket without an opening one"},
    {TEXT("{]"), "not valid JSON"},
    {TEXT("{\"a\"}"), "not valid JSON"},
    {TEXT("{\"a\":}"), "not valid JSON"},
    {TEXT("{\"a\":1,}"), "not valid JSON"},
    {TEXT("{,}"), "not valid JSON"},
    {TEXT("{a:1}"), "not valid JSON"},
    {TEXT("{\"a\":1 \"b\":2}"), "not valid JSON"},
    {TEXT("{\"a\":\n\n  nul}"), "x.json: line 3 column "},
    {TEXT("{\"a\":NaN}"), "not valid JSON"},
    {TEXT("{\"a\":Infinity}"), "not valid JSON"},
    {TEXT("{\"a\":+1}"), "not valid JSON"},
    {TEXT("{\"a\":0x10}"), "not valid JSON"},
    {TEXT("{\"a\":1-2}"), "not valid JSON"},
    {TEXT("{'a':1}"), "not valid JSON"},
    {TEXT("{\"a\":[1,]}"), "not valid JSON"},
    {TEXT("{/**/}"), "not valid JSON"},
    {TEXT("\xef\xbb\xbf{}"), "x.json: line 1 column 1: character outside a string"},
    {TEXT("{\"a\":\xc3\xa9}"), "x.json: line 1 column 6: character outside a string"},
    {TEXT("{\"a\":1}\x01"), "x.json: line 1 column 8: control character"},
    {TEXT("{\"a\":\x0b 1}"), "x.json: line 1 column 6: control character"},
    // strings
    {TEXT("{\"a"), "x.json: line 1 column 2: string without an end"},
    {TEXT("{\"a\\\"}"), "x.json: line 1 column 2: string without an end"},
    {TEXT("{\"a\\"), "x.json: line 1 column 2: string without an end"},
    {TEXT("{\"a\0b\":1}"), "x.json: line 1 column 4: control character in a string"},
    {TEXT("{\"a\nb\":1}"), "x.json: line 1 column 4: control character in a string"},
    {TEXT("{\"a\\u0000b\":1}"), "x.json: line 1 column 4: NUL character in a string"},
    {TEXT("{\"a\":\"\\q\"}"), "not valid JSON"},
    {TEXT("{\"a\":\"\\u12\"}"), "not valid JSON"},
    {TEXT("{\"a\":\"\\ud800\"}"), "not valid JSON"},
    {TEXT("{\"a\":\"\\udc00\\ud800\"}"), "not valid JSON"},
    {TEXT("{\"\x80\":1}"), "x.json: line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xc1\xbf\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xc3\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xe0\x9f\xbf\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xed\xa0\x80\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xf0\x8f\xbf\xbf\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xf4\x90\x80\x80\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"\xf5\x80\x80\x80\":1}"), "line 1 column 3: not valid UTF-8"},
    {TEXT("{\"a\xe2\x82"), "line 1 column 4: not valid UTF-8"},
    // limits
    {TEXT("{\"a\":{\"b\":{\"c\":{\"d\":{}}}}}"), "x.json: nested deeper than 4 levels"},
    {TEXT("{\"a\":[[[[]]]]}"), "x.json: nested deeper than 4 levels"},
    {TEXT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), "x.json: nested deeper than 4 levels"},
    {TEXT("{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12]}"), "x.json: more than 12 values"},
    {TEXT("{\"a\":[[],[],[],[],[],[]]}"), "x.json: more than 12 values"},
    // keys
    {TEXT("{\"a\":1,\"b\":2,\"a\":3}"), "x.json: key \"a\" is given twice"},
    {TEXT("{\"a\":1,\"\\u0061\":2}"), "x.json: key \"a\" is given twice"},
    {TEXT("{\"a\":[{\"b\":1,\"b\":1}]}"), "x.json: key \"b\" is given twice"},
    {TEXT("{\"\":1,\"\":1}"), "x.json: key \"\" is given twice"},
    {TEXT("{\"\\u001b\":1,\"\\u001b\":1}"), "x.json: key \"?\" is given twice"},
};

START_TEST(refuses) {
    char *text = test_copy(bad[_i].text, bad[_i].size);
    struct io_error err = {""};
    cJSON *root = json_parse("x.json", text, bad[_i].size, &small, &err);
    ck_assert_msg(root == NULL, "row %d was parsed", _i);
    CHECK_ERROR(err, bad[_i].error);
    free(text);
}
END_TEST

// A million opening brackets, and a million values: neither stack nor memory is spent on them.
START_TEST(refuses_large) {
    const size_t size = 1000000;
    const struct json_limits limits = {"header: ", size, 8, 1000};
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    struct io_error err = {""};
    memset(text, '[', size);
    ck_assert(json_parse("x", text, size, &limits, &err) == NULL);
    CHECK_ERROR(err, "x: header: nested deeper than 8 levels");
    memset(text, ',', size);
    ck_assert(json_parse("x", text, size, &limits, &err) == NULL);
    CHECK_ERROR(err, "x: header: more than 1000 values");
    memset(text, '"', size);
    ck_assert(json_parse("x", text, size, &limits, &err) == NULL);
    CHECK_ERROR(err, "x: header: line 1 column 3: more text after the end");
    free(text);
}
END_TEST

static const struct {
    const char *text;
    int64_t min, max;
    bool ok;
    int64_t value;
} integers[] = {
    {"0", 0, 0, true, 0},
    {"-0", 0, 0, true, 0},
    {"7", 1, 64, true, 7},
    {"64", 1, 64, true, 64},
    {"65", 1, 64, false, 0},
    {"0", 1, 64, false, 0},
    {"-1", INT64_MIN, INT64_MAX, true, -1},
    {"-1", 0, INT64_MAX, false, 0},
    {"1.5", 0, 10, false, 0},
    {"2.0", 0, 10, true, 2},
    {"1e2", 0, 1000, true, 100},
    {"4294967296", 0, INT64_MAX, true, INT64_C(4294967296)},
    {"9007199254740991", INT64_MIN, INT64_MAX, true, INT64_C(9007199254740991)},
    {"-9007199254740991", INT64_MIN, INT64_MAX, true, -INT64_C(9007199254740991)},
    {"9007199254740992", INT64_MIN, INT64_MAX, false, 0},
    {"9007199254740993", INT64_MIN, INT64_MAX, false, 0},
    {"9223372036854775808", INT64_MIN, INT64_MAX, false, 0},
    {"1e300", INT64_MIN, INT64_MAX, false, 0},
    {"1e999", INT64_MIN, INT64_MAX, false, 0},
    {"-1e999", INT64_MIN, INT64_MAX, false, 0},
    {"\"7\"", 0, 10, false, 0},
    {"true", 0, 10, false, 0},
    {"null", 0, 10, false, 0},
    {"[7]", 0, 10, false, 0},
};

START_TEST(reads_integers) {
    cJSON *item = cJSON_Parse(integers[_i].text);
    ck_assert_ptr_nonnull(item);
    int64_t value = -77;
    ck_assert(json_integer(item, integers[_i].min, integers[_i].max, &value) == integers[_i].ok);
    ck_assert(value == (integers[_i].ok ? integers[_i].value : -77));
    cJSON_Delete(item);
}
END_TEST

static const struct {
    const char *text, *shown;
} values[] = {
    {"\"text\"", "\"text\""},
    {"\"0123456789012345678901234567890123456789\"", "\"0123456789012345678901234567890123456789\""},
    {"\"01234567890123456789012345678901234567890\"", "\"0123456789012345678901234567890123456789...\""},
    {"3.5", "3.5"},
    {"0.1", "0.1"},
    {"-3", "-3"},
    {"1e15", "1000000000000000"},
    {"1e30", "1e+30"},
    {"1e999", "inf"},
    {"true", "true"},
    {"false", "false"},
    {"null", "null"},
    {"[1]", "a list"},
    {"{}", "an object"},
};

START_TEST(shows) {
    cJSON *item = cJSON_Parse(values[_i].text);
    ck_assert_ptr_nonnull(item);
    ck_assert_str_eq(json_show(item).text, values[_i].shown);
    cJSON_Delete(item);
}
END_TEST

START_TEST(null_is_nothing) {
    int64_t value;
    ck_assert(!json_integer(NULL, 0, 1, &value));
    ck_assert_str_eq(json_show(NULL).text, "nothing");
}
END_TEST

Suite *io_json_suite(void) {
    Suite *suite = suite_create("io json");
    TCase *parse = tcase_create("parse");
    tcase_add_loop_test(parse, parses, 0, (int)COUNT_OF(good));
    tcase_add_loop_test(parse, refuses, 0, (int)COUNT_OF(bad));
    tcase_add_test(parse, refuses_large);
    suite_add_tcase(suite, parse);

    TCase *value = tcase_create("values");
    tcase_add_loop_test(value, reads_integers, 0, (int)COUNT_OF(integers));
    tcase_add_loop_test(value, shows, 0, (int)COUNT_OF(values));
    tcase_add_test(value, null_is_nothing);
    suite_add_tcase(suite, value);
    return suite;
}
