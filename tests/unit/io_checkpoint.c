// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L
#include "checkpoint.h"
#include "io.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

// Folders of their own, made once by the first test that asks.

static const char *make_folder(const char *name) {
    const char *path = test_path(name);
    (void)mkdir(path, 0755);
    return path;
}

static const char *file_in(const char *folder, const char *file, const void *bytes, size_t size) {
    char name[200];
    (void)snprintf(name, sizeof(name), "%s/%s", folder, file);
    return test_file(name, bytes, size);
}

static void remove_in(const char *folder, const char *file) {
    char name[200];
    (void)snprintf(name, sizeof(name), "%s/%s", folder, file);
    (void)unlink(test_path(name));
}

static void write_shard(const char *folder, const char *file, const char *header, size_t bytes) {
    size_t size;
    void *data = test_safetensors(header, bytes, &size);
    (void)file_in(folder, file, data, size);
    free(data);
}

#define T(name, bytes) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" bytes "],\"data_offsets\":[0," bytes "]}"

START_TEST(opens_one_file) {
    const char *folder = make_folder("single");
    write_shard("single", "model.safetensors", "{" T("a", "3") "}", 3);
    struct checkpoint c;
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(checkpoint_open(folder, &c, &err), "%s", err.text);
    ck_assert(c.count == 1 && c.shard_count == 1);
    ck_assert(checkpoint_array(&c, "a", &a, &err));
    ck_assert(a.bytes == 3 && ((const uint8_t *)a.data)[2] == 2);
    array_free(&a);
    ck_assert(!checkpoint_array(&c, "b", &a, &err));
    CHECK_ERROR(err, "/single: no tensor \"b\" among 1");
    checkpoint_close(&c);
    checkpoint_close(&c);
    checkpoint_close(NULL);
    ck_assert(checkpoint_find(&c, "a") == NULL);
}
END_TEST

START_TEST(opens_shards) {
    char folder[500];
    (void)snprintf(folder, sizeof(folder), "%s/", make_folder("shards"));
    write_shard("shards", "model-1.safetensors", "{" T("b", "3") "}", 3);
    write_shard("shards", "model-2.safetensors",
                "{" T("a", "2") ",\"unlisted\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[2,4]},"
                                "\"f\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[4,5]}}",
                5);
    static const char index[] =
        "{\"metadata\":{\"total_size\":5},\"weight_map\":{\"b\":\"model-1.safetensors\","
        "\"a\":\"model-2.safetensors\",\"f\":\"model-2.safetensors\"}}";
    (void)file_in("shards", "model.safetensors.index.json", index, sizeof(index) - 1);

    struct checkpoint c;
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(checkpoint_open(folder, &c, &err), "%s", err.text);
    ck_assert(c.count == 3 && c.shard_count == 2);
    ck_assert_str_eq(c.weights[0].name, "a");
    ck_assert_str_eq(c.weights[1].name, "b");
    ck_assert(checkpoint_find(&c, "unlisted") == NULL);
    ck_assert(checkpoint_array(&c, "a", &a, &err) && a.bytes == 2);
    array_free(&a);
    ck_assert(checkpoint_array(&c, "b", &a, &err) && a.bytes == 3);
    array_free(&a);
    ck_assert(!checkpoint_array(&c, "f", &a, &err));
    CHECK_ERROR(err, "/shards/model-2.safetensors: tensor \"f\": dtype F4 is not supported");
    checkpoint_close(&c);

    // model.safetensors comes first when both are there.
    write_shard("shards", "model.safetensors", "{" T("only", "1") "}", 1);
    ck_assert(checkpoint_open(folder, &c, &err));
    ck_assert(c.count == 1 && checkpoint_find(&c, "only") != NULL);
    checkpoint_close(&c);
    remove_in("shards", "model.safetensors");
}
END_TEST

#define MAP(entries) "{\"weight_map\":{" entries "}}"

static const struct {
    const char *index;
    const char *error;
} bad[] = {
    {"", "/model.safetensors.index.json: is empty, expected a JSON object"},
    {"{", "/model.safetensors.index.json: line 1 column 2: ends inside an object or list"},
    {"[]", "/model.safetensors.index.json: expected an object, got a list"},
    {"{}", "/model.safetensors.index.json: weight_map: expected an object, got nothing"},
    {"{\"weight_map\":[]}", "index.json: weight_map: expected an object, got a list"},
    {"{\"Weight_Map\":{}}", "index.json: weight_map: expected an object, got nothing"},
    {"{\"weight_map\":\"model.safetensors\"}",
     "index.json: weight_map: expected an object, got \"model.safetensors\""},
    {MAP("\"a\":1"), "index.json: weight_map: \"a\": expected a file name, got 1"},
    {MAP("\"a\":null"), "index.json: weight_map: \"a\": expected a file name, got null"},
    {MAP("\"a\":[\"good\"]"), "index.json: weight_map: \"a\": expected a file name, got a list"},
    {MAP("\"a\":\"\""), "weight_map: \"a\": expected a file name without '/' and '..', got \"\""},
    {MAP("\"a\":\".\""), "weight_map: \"a\": expected a file name without '/' and '..', got \".\""},
    {MAP("\"a\":\"..\""), "weight_map: \"a\": expected a file name without '/' and '..', got \"..\""},
    {MAP("\"a\":\"../good\""),
     "weight_map: \"a\": expected a file name without '/' and '..', got \"../good\""},
    {MAP("\"a\":\"/etc/passwd\""),
     "weight_map: \"a\": expected a file name without '/' and '..', got \"/etc/passwd\""},
    {MAP("\"a\":\"sub/good\""),
     "weight_map: \"a\": expected a file name without '/' and '..', got \"sub/good\""},
    {MAP("\"a\":\"sub\\\\good\""),
     "weight_map: \"a\": expected a file name without '/' and '..', got \"sub\\good\""},
    {MAP("\"a\":\"x..y\""), "weight_map: \"a\": expected a file name without '/' and '..', got \"x..y\""},
    {MAP("\"a\":\"good\\u0000\""), "index.json: line 1 column 25: NUL character in a string"},
    {MAP("\"a\":\"good\",\"a\":\"good\""), "index.json: key \"a\" is given twice"},
    {MAP("\"a\":\"absent\""), "/bad/absent: cannot open: No such file or directory"},
    {MAP("\"a\":\"folder\""), "/bad/folder: is a directory, expected a file"},
    {MAP("\"a\":\"damaged\""), "/bad/damaged: 3 bytes are too short for a safetensors file"},
    {MAP("\"a\":\"good\",\"b\":\"good\""), "index.json: weight_map: \"b\" is not in \"good\""},
    {MAP("\"c\":\"good\",\"a\":\"good\""), "index.json: weight_map: \"c\" is not in \"good\""},
    {MAP("\"a\":\"good\",\"b\":\"other\",\"c\":\"other\""),
     "index.json: weight_map: \"c\" is not in \"other\""},
    {MAP("\"a\":\"other\",\"b\":\"good\""), "is not in \"good\""},
    {"{\"a\":[[[[[[[[1]]]]]]]]}", "index.json: nested deeper than 8 levels"},
};

START_TEST(refuses_index) {
    const char *folder = make_folder("bad");
    (void)make_folder("bad/folder");
    write_shard("bad", "good", "{" T("a", "2") "}", 2);
    write_shard("bad", "other", "{" T("b", "2") "}", 2);
    (void)file_in("bad", "damaged", "abc", 3);
    (void)file_in("bad", "model.safetensors.index.json", bad[_i].index, strlen(bad[_i].index));
    struct checkpoint c;
    struct io_error err = {""};
    ck_assert_msg(!checkpoint_open(folder, &c, &err), "row %d was opened", _i);
    CHECK_ERROR(err, bad[_i].error);
    ck_assert(c.shards == NULL && c.weights == NULL && c.name == NULL);
}
END_TEST

START_TEST(refuses_too_many_shards) {
    const char *folder = make_folder("many");
    const size_t room = 300000;
    char *index = malloc(room);
    ck_assert_ptr_nonnull(index);
    size_t used = (size_t)snprintf(index, room, "{\"weight_map\":{");
    for (int i = 0; i <= CHECKPOINT_MAX_SHARDS; ++i) {
        used += (size_t)snprintf(index + used, room - used, "%s\"t%d\":\"s%d\"", i ? "," : "", i, i);
    }
    used += (size_t)snprintf(index + used, room - used, "}}");
    (void)file_in("many", "model.safetensors.index.json", index, used);
    free(index);
    struct checkpoint c;
    struct io_error err = {""};
    ck_assert(!checkpoint_open(folder, &c, &err));
    CHECK_ERROR(err, "index.json: weight_map names 4097 files, expected at most 4096");
}
END_TEST

START_TEST(refuses_folder) {
    struct checkpoint c;
    struct io_error err = {""};
    ck_assert(!checkpoint_open(test_path("absent"), &c, &err));
    CHECK_ERROR(err, "/absent: cannot open: No such file or directory");
    ck_assert(!checkpoint_open(test_file("plain", "x", 1), &c, &err));
    CHECK_ERROR(err, "/plain/model.safetensors: cannot open: Not a directory");
    ck_assert(!checkpoint_open(make_folder("hollow"), &c, &err));
    CHECK_ERROR(err, "/hollow: holds neither model.safetensors nor model.safetensors.index.json");
    (void)file_in("hollow", "model.safetensors", "\2\0\0\0\0\0\0\0{", 9);
    ck_assert(!checkpoint_open(test_path("hollow"), &c, &err));
    CHECK_ERROR(err, "/hollow/model.safetensors: header length 2, but only 1 bytes follow");
    remove_in("hollow", "model.safetensors");
    ck_assert(!checkpoint_open("", &c, &err));
    ck_assert(c.shards == NULL);
}
END_TEST

START_TEST(opens_empty_map) {
    const char *folder = make_folder("nothing");
    (void)file_in("nothing", "model.safetensors.index.json", "{\"weight_map\":{}}", 17);
    struct checkpoint c;
    ck_assert(checkpoint_open(folder, &c, NULL));
    ck_assert(c.count == 0 && c.shard_count == 0 && checkpoint_find(&c, "a") == NULL);
    checkpoint_close(&c);
}
END_TEST

Suite *io_checkpoint_suite(void) {
    Suite *suite = suite_create("io checkpoint");
    TCase *open = tcase_create("open");
    tcase_add_test(open, opens_one_file);
    tcase_add_test(open, opens_shards);
    tcase_add_test(open, opens_empty_map);
    tcase_add_loop_test(open, refuses_index, 0, (int)COUNT_OF(bad));
    tcase_add_test(open, refuses_too_many_shards);
    tcase_add_test(open, refuses_folder);
    suite_add_tcase(suite, open);
    return suite;
}
