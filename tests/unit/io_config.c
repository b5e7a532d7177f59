// SPDX-License-Identifier: MIT
#include "config.h"
#include "io.h"

#include <math.h>

static const char text[] =
    "{\n"
    "  \"num_experts_per_tok\": 8, \"n_routed_experts\": 256, \"num_experts\": null,\n"
    "  \"norm_topk_prob\": true, \"scoring_func\": \"sigmoid\", \"scale\": 2.5, \"zero\": 0,\n"
    "  \"name\": \"x\", \"big\": 1e300, \"infinite\": 1e999, \"half\": 0.5, \"negative\": -3,\n"
    "  \"wide\": 9007199254740993, \"empty\": {}, \"list\": [1, 2, 3], \"none\": [],\n"
    "  \"mixed\": [1, \"2\"], \"nested\": {\"a\": {\"b\": 7, \"n\": null}, \"c\": [1]},\n"
    "  \"A\": 1, \"nesting\": 3, \"flag\": \"true\"\n"
    "}\n";

static struct config open_text(void) {
    struct config c;
    struct io_error err = {""};
    ck_assert_msg(config_parse("config.json", text, sizeof(text) - 1, &c, &err), "%s", err.text);
    return c;
}

static const struct {
    const char *key;
    int64_t min, max, value;
    const char *error;
} ints[] = {
    {"num_experts_per_tok", 1, 64, 8, NULL},
    {"num_experts_per_tok", 8, 8, 8, NULL},
    {"zero", 0, 0, 0, NULL},
    {"negative", -3, 0, -3, NULL},
    {"num_experts|n_routed_experts", 1, 4096, 256, NULL},
    {"n_routed_experts|num_experts_per_tok", 1, 4096, 256, NULL},
    {"absent|also_absent|num_experts_per_tok", 1, 64, 8, NULL},
    {"nested.a.b", 0, 10, 7, NULL},
    {"nested.x.b|nested.a.b", 0, 10, 7, NULL},
    {"name", 1, 64, 0, "config.json: name: expected an integer in 1..64, got \"x\""},
    {"num_experts_per_tok", 1, 7, 0, "config.json: num_experts_per_tok: expected an integer in 1..7, got 8"},
    {"num_experts_per_tok", 9, 64, 0,
     "config.json: num_experts_per_tok: expected an integer in 9..64, got 8"},
    {"negative", 0, 64, 0, "config.json: negative: expected an integer in 0..64, got -3"},
    {"half", 0, 64, 0, "config.json: half: expected an integer in 0..64, got 0.5"},
    {"big", 0, INT64_MAX, 0, "big: expected an integer in 0..9223372036854775807, got 1e+300"},
    {"infinite", 0, 64, 0, "infinite: expected an integer in 0..64, got inf"},
    {"wide", 0, INT64_MAX, 0, "wide: expected an integer in 0..9223372036854775807, got 9007199254740992"},
    {"norm_topk_prob", 0, 1, 0, "norm_topk_prob: expected an integer in 0..1, got true"},
    {"list", 0, 1, 0, "list: expected an integer in 0..1, got a list"},
    {"empty", 0, 1, 0, "empty: expected an integer in 0..1, got an object"},
    {"absent", 1, 64, 0, "config.json: absent: missing, expected an integer in 1..64"},
    {"num_experts", 1, 64, 0, "config.json: num_experts: missing, expected an integer in 1..64"},
    {"absent|num_experts", 1, 64, 0, "config.json: absent|num_experts: missing, expected an integer"},
    {"absent|name|zero", 1, 64, 0, "config.json: name: expected an integer in 1..64, got \"x\""},
    {"nested.a", 0, 1, 0, "nested.a: expected an integer in 0..1, got an object"},
    {"nested.a.x", 0, 1, 0, "nested.a.x: missing"},
    {"nested.a.n", 0, 1, 0, "nested.a.n: missing"},
    {"nested.c.b", 0, 1, 0, "nested.c.b: missing"},
    {"zero.a", 0, 1, 0, "zero.a: missing"},
    {"nest", 0, 10, 0, "nest: missing"},
    {"nested.", 0, 1, 0, "nested.: missing"},
    {".nested", 0, 1, 0, ".nested: missing"},
    {"a", 0, 1, 0, "config.json: a: missing"},
    {"", 0, 1, 0, "config.json: : missing"},
};

START_TEST(gets_int) {
    struct config c = open_text();
    struct io_error err = {""};
    int64_t value = -77;
    const bool ok = config_int(&c, ints[_i].key, ints[_i].min, ints[_i].max, &value, &err);
    ck_assert_msg(ok == (ints[_i].error == NULL), "row %d: %s", _i, err.text);
    if (!ok) CHECK_ERROR(err, ints[_i].error);
    ck_assert(value == (ok ? ints[_i].value : -77));
    config_close(&c);
}
END_TEST

static const struct {
    const char *key;
    double min, max, value;
    const char *error;
} numbers[] = {
    {"scale", 0, 10, 2.5, NULL},
    {"zero", 0, 0, 0, NULL},
    {"big", 0, INFINITY, 1e300, NULL},
    {"negative", -INFINITY, INFINITY, -3, NULL},
    {"scale", 0, 1, 0, "config.json: scale: expected a number in 0..1, got 2.5"},
    {"scale", 3, 4.5, 0, "config.json: scale: expected a number in 3..4.5, got 2.5"},
    {"infinite", -INFINITY, INFINITY, 0, "infinite: expected a number in -inf..inf, got inf"},
    {"name", 0, 1, 0, "name: expected a number in 0..1, got \"x\""},
    {"absent", 0, 1, 0, "absent: missing, expected a number in 0..1"},
};

START_TEST(gets_number) {
    struct config c = open_text();
    struct io_error err = {""};
    double value = -77;
    const bool ok = config_number(&c, numbers[_i].key, numbers[_i].min, numbers[_i].max, &value, &err);
    ck_assert_msg(ok == (numbers[_i].error == NULL), "row %d: %s", _i, err.text);
    if (!ok) CHECK_ERROR(err, numbers[_i].error);
    ck_assert(value == (ok ? numbers[_i].value : -77));
    config_close(&c);
}
END_TEST

START_TEST(gets_bool_and_string) {
    struct config c = open_text();
    struct io_error err = {""};
    bool flag = false;
    const char *string = NULL;
    ck_assert(config_bool(&c, "norm_topk_prob", &flag, &err) && flag);
    ck_assert(!config_bool(&c, "zero", &flag, &err));
    CHECK_ERROR(err, "config.json: zero: expected true or false, got 0");
    ck_assert(!config_bool(&c, "flag", &flag, &err));
    CHECK_ERROR(err, "config.json: flag: expected true or false, got \"true\"");
    ck_assert(!config_bool(&c, "absent", &flag, &err));
    CHECK_ERROR(err, "config.json: absent: missing, expected true or false");
    ck_assert(config_string(&c, "name", &string, &err));
    ck_assert_str_eq(string, "x");
    ck_assert(!config_string(&c, "scale", &string, &err));
    CHECK_ERROR(err, "config.json: scale: expected a string, got 2.5");
    ck_assert(!config_string(&c, "absent", &string, &err));
    CHECK_ERROR(err, "config.json: absent: missing, expected a string");
    ck_assert_str_eq(string, "x");
    config_close(&c);
}
END_TEST

START_TEST(gets_choice) {
    static const char *const scores[] = {"softmax", "sigmoid", NULL};
    static const char *const one[] = {"softmax", NULL};
    static const char *const long_list[] = {"a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_01",
                                            "a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_02",
                                            "a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_03",
                                            "a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_04",
                                            "a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_05",
                                            "a_choice_of_fifty_bytes_a_choice_of_fifty_bytes_06",
                                            NULL};
    struct config c = open_text();
    struct io_error err = {""};
    int choice = -1;
    ck_assert(config_choice(&c, "scoring_func", scores, &choice, &err) && choice == 1);
    ck_assert(!config_choice(&c, "scoring_func", one, &choice, &err));
    CHECK_ERROR(err, "config.json: scoring_func: expected one of softmax, got \"sigmoid\"");
    ck_assert(!config_choice(&c, "scale", scores, &choice, &err));
    CHECK_ERROR(err, "config.json: scale: expected one of softmax, sigmoid, got 2.5");
    ck_assert(!config_choice(&c, "absent", scores, &choice, &err));
    CHECK_ERROR(err, "config.json: absent: missing, expected one of softmax, sigmoid");
    ck_assert(!config_choice(&c, "name", long_list, &choice, &err));
    CHECK_ERROR(err, "_04, a_choice_of_fifty_bytes_a_choice");
    ck_assert(choice == 1);
    config_close(&c);
}
END_TEST

static const struct {
    const char *key;
    size_t room, count;
    const char *error;
} lists[] = {
    {"list", 4, 3, NULL},
    {"list", 3, 3, NULL},
    {"none", 3, 0, NULL},
    {"none", 0, 0, NULL},
    {"nested.c", 1, 1, NULL},
    {"list", 2, 0, "config.json: list: expected a list of at most 2 integers in 0..5, got more"},
    {"mixed", 4, 0,
     "config.json: mixed: expected a list of at most 4 integers in 0..5, got \"2\" at place 1"},
    {"scale", 4, 0, "config.json: scale: expected a list of at most 4 integers in 0..5, got 2.5"},
    {"absent", 4, 0, "config.json: absent: missing, expected a list of at most 4 integers in 0..5"},
};

START_TEST(gets_ints) {
    struct config c = open_text();
    struct io_error err = {""};
    int64_t values[4];
    size_t count = 77;
    const bool ok = config_ints(&c, lists[_i].key, 0, 5, lists[_i].room, values, &count, &err);
    ck_assert_msg(ok == (lists[_i].error == NULL), "row %d: %s", _i, err.text);
    ck_assert(count == (ok ? lists[_i].count : 77));
    if (!ok) CHECK_ERROR(err, lists[_i].error);
    for (size_t i = 0; ok && i < count; ++i)
        ck_assert(values[i] == (int64_t)i + 1);
    config_close(&c);
}
END_TEST

START_TEST(falls_back_only_when_absent) {
    static const char *const choices[] = {"x", "y", NULL};
    struct config c = open_text();
    struct io_error err = {""};
    int64_t i;
    double d;
    bool b;
    int choice;
    ck_assert(config_int_or(&c, "absent", 1, 64, 5, &i, &err) && i == 5);
    ck_assert(config_int_or(&c, "num_experts", 1, 64, 6, &i, &err) && i == 6);
    ck_assert(config_int_or(&c, "num_experts_per_tok", 1, 64, 5, &i, &err) && i == 8);
    ck_assert(!config_int_or(&c, "name", 1, 64, 5, &i, &err));
    CHECK_ERROR(err, "config.json: name: expected an integer in 1..64, got \"x\"");
    ck_assert(config_number_or(&c, "absent", 0, 1, 0.25, &d, &err) && d == 0.25);
    ck_assert(config_number_or(&c, "scale", 0, 9, 0.25, &d, &err) && d == 2.5);
    ck_assert(!config_number_or(&c, "scale", 0, 1, 0.25, &d, &err));
    ck_assert(config_bool_or(&c, "absent", true, &b, &err) && b);
    ck_assert(config_bool_or(&c, "norm_topk_prob", false, &b, &err) && b);
    ck_assert(!config_bool_or(&c, "name", true, &b, &err));
    ck_assert(config_choice_or(&c, "absent", choices, 1, &choice, &err) && choice == 1);
    ck_assert(config_choice_or(&c, "name", choices, 1, &choice, &err) && choice == 0);
    ck_assert(!config_choice_or(&c, "scoring_func", choices, 1, &choice, &err));
    ck_assert(config_find(&c, "absent") == NULL && config_find(&c, "num_experts") == NULL);
    ck_assert(cJSON_IsObject(config_find(&c, "nested.a")));
    ck_assert(config_item(&c, "absent") == NULL && config_item(&c, "absent|zero") == NULL);
    ck_assert(cJSON_IsNull(config_item(&c, "num_experts")) && cJSON_IsNull(config_item(&c, "nested.a.n")));
    ck_assert(cJSON_IsNumber(config_item(&c, "nested.a.b")));
    config_close(&c);
}
END_TEST

START_TEST(opens_files) {
    struct config c;
    struct io_error err = {""};
    ck_assert(config_open(test_file("config.json", text, sizeof(text) - 1), &c, &err));
    ck_assert(config_find(&c, "scale") != NULL);
    config_close(&c);
    config_close(&c);
    config_close(NULL);
    ck_assert(!config_open(test_file("empty.json", "", 0), &c, &err));
    CHECK_ERROR(err, "/empty.json: is empty, expected a JSON object");
    ck_assert(!config_open(test_file("bad.json", "{\n 1", 4), &c, &err));
    CHECK_ERROR(err, "/bad.json: line 2 column 3: ends inside an object or list");
    ck_assert(!config_open(test_path("absent.json"), &c, &err));
    CHECK_ERROR(err, "/absent.json: cannot open: No such file or directory");
    ck_assert(c.root == NULL && c.name == NULL);
}
END_TEST

START_TEST(limits_depth) {
    char deep[200];
    struct config c;
    struct io_error err = {""};
    (void)memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', 31);
    memset(deep + 36, ']', 31);
    deep[67] = '}';
    ck_assert(config_parse("c", deep, 68, &c, &err));
    config_close(&c);
    memset(deep + 5, '[', 32);
    memset(deep + 37, ']', 32);
    deep[69] = '}';
    ck_assert(!config_parse("c", deep, 70, &c, &err));
    CHECK_ERROR(err, "c: nested deeper than 32 levels");
}
END_TEST

Suite *io_config_suite(void) {
    Suite *suite = suite_create("io config");
    TCase *get = tcase_create("get");
    tcase_add_loop_test(get, gets_int, 0, (int)COUNT_OF(ints));
    tcase_add_loop_test(get, gets_number, 0, (int)COUNT_OF(numbers));
    tcase_add_loop_test(get, gets_ints, 0, (int)COUNT_OF(lists));
    tcase_add_test(get, gets_bool_and_string);
    tcase_add_test(get, gets_choice);
    tcase_add_test(get, falls_back_only_when_absent);
    suite_add_tcase(suite, get);

    TCase *open = tcase_create("open");
    tcase_add_test(open, opens_files);
    tcase_add_test(open, limits_depth);
    suite_add_tcase(suite, open);
    return suite;
}
