// SPDX-License-Identifier: MIT
#include "checkpoint.h"
#include "io.h"
#include "io_gguf_file.h"

// A part of a split model with one tensor of 8 floats. A number of -1 is left out.
static const char *write_part(const char *name, int no, int count, int tensors, const char *tensor) {
    struct builder b;
    const uint64_t dims[] = {8};
    const struct {
        const char *key;
        int value;
    } keys[] = {{"split.no", no}, {"split.count", count}, {"split.tensors.count", tensors}};
    int n = 0;
    for (size_t i = 0; i < COUNT_OF(keys); ++i)
        n += keys[i].value >= 0;
    put_head(&b, 1, (uint64_t)n);
    for (size_t i = 0; i < COUNT_OF(keys); ++i) {
        if (keys[i].value < 0) continue;
        put_key(&b, keys[i].key, U32);
        put_u32(&b, (uint32_t)keys[i].value);
    }
    put_tensor(&b, tensor, 1, dims, F32, 0);
    put_data(&b, 32, 32);
    b.bytes[b.size - 32] = (uint8_t)no;
    return test_file(name, b.bytes, b.size);
}

#define FAILS(path, part)                                                                                    \
    do {                                                                                                     \
        struct checkpoint failed;                                                                            \
        struct io_error failed_err = {""};                                                                   \
        ck_assert(!checkpoint_open((path), &failed, &failed_err));                                           \
        CHECK_ERROR(failed_err, (part));                                                                     \
        ck_assert(failed.ggufs == NULL && failed.weights == NULL && failed.name == NULL);                    \
    } while (0)

START_TEST(opens_one_file) {
    struct checkpoint c;
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(checkpoint_open(write_part("one.gguf", 0, -1, -1, "a"), &c, &err), "%s", err.text);
    ck_assert(c.count == 1 && c.gguf_count == 1 && c.shard_count == 0);
    ck_assert(checkpoint_array(&c, "a", &a, &err) && a.bytes == 32 && a.memory == ARRAY_BORROWED);
    array_free(&a);
    ck_assert(!checkpoint_array(&c, "b", &a, &err));
    CHECK_ERROR(err, "/one.gguf: no tensor \"b\" among 1");
    checkpoint_close(&c);
    checkpoint_close(&c);
    FAILS(test_path("gone.gguf"), "/gone.gguf: cannot open: No such file");
    FAILS(test_file("bad.gguf", "GGUF", 4), "/bad.gguf: ends at byte 4, inside its head: truncated?");
}
END_TEST

START_TEST(opens_parts) {
    struct checkpoint c;
    struct array a;
    struct io_error err = {""};
    const char *first = write_part("m-00001-of-00003.gguf", 0, 3, 3, "c");
    write_part("m-00002-of-00003.gguf", 1, 3, 3, "a");
    write_part("m-00003-of-00003.gguf", 2, 3, -1, "b");
    ck_assert_msg(checkpoint_open(first, &c, &err), "%s", err.text);
    ck_assert(c.count == 3 && c.gguf_count == 3);
    static const char *const names[] = {"a", "b", "c"};
    static const uint8_t firsts[] = {1, 2, 0};
    for (size_t i = 0; i < COUNT_OF(names); ++i) {
        ck_assert_str_eq(c.weights[i].name, names[i]);
        ck_assert(checkpoint_array(&c, names[i], &a, &err) && *(const uint8_t *)a.data == firsts[i]);
        array_free(&a);
    }
    checkpoint_close(&c);
    ck_assert(checkpoint_open(write_part("s-00001-of-00001.gguf", 0, 1, 1, "a"), &c, &err) && c.count == 1);
    checkpoint_close(&c);
}
END_TEST

START_TEST(refuses_parts) {
    const char *first = write_part("p-00001-of-00002.gguf", 0, 2, 2, "a");
    FAILS(first, "/p-00002-of-00002.gguf: cannot open: No such file");
    const char *second = write_part("p-00002-of-00002.gguf", 1, 2, -1, "a");
    FAILS(first, "/p-00002-of-00002.gguf: tensor \"a\" is also in");
    FAILS(second, "/p-00002-of-00002.gguf: is part 2 of 2: expected the first, which has the options");
    write_part("p-00002-of-00002.gguf", 0, 2, -1, "b");
    FAILS(first, "is part 1 of 2 by split.no and split.count, part 2 of 2 by its name");
    write_part("p-00002-of-00002.gguf", 1, 3, -1, "b");
    FAILS(first, "is part 2 of 3 by split.no and split.count, part 2 of 2 by its name");
    write_part("p-00002-of-00002.gguf", 1, 2, -1, "b");
    write_part("p-00001-of-00002.gguf", 0, 2, 3, "a");
    FAILS(first, "2 tensors in all parts, expected 3 by split.tensors.count");
    FAILS(write_part("renamed.gguf", 0, 2, 2, "a"),
          "is part 1 of 2 by split.no and split.count, part 1 of 1");
    FAILS(test_path("q-00000-of-00000.gguf"), "0 parts, expected 1..4096");
    FAILS(test_path("q-00001-of-04097.gguf"), "4097 parts, expected 1..4096");
    FAILS(test_path("q-00003-of-00002.gguf"), "is part 3 of 2: expected the first");
    FAILS(test_path("-00002-of-00003.gguf"), "is part 2 of 3: expected the first");
    FAILS(test_path("q-0000x-of-00003.gguf"), "/q-0000x-of-00003.gguf: cannot open");
}
END_TEST

Suite *io_checkpoint_gguf_suite(void) {
    Suite *suite = suite_create("io checkpoint gguf");
    TCase *open = tcase_create("open");
    tcase_add_test(open, opens_one_file);
    tcase_add_test(open, opens_parts);
    tcase_add_test(open, refuses_parts);
    suite_add_tcase(suite, open);
    return suite;
}
