// SPDX-License-Identifier: MIT
//
// Every allocation of tools/io is made to fail once: the call must return false with an error, leave nothing
// behind (a sanitizer counts the leaks) and leave the files as they were.
//
// Linked with -Wl,--wrap= for malloc, calloc, strdup, strndup and realpath; cJSON is reached by its hooks.
#define _XOPEN_SOURCE 700
#include "../data/io_goldens.h"
#include "array.h"
#include "checkpoint.h"
#include "config.h"
#include "gguf.h"
#include "npy.h"
#include "path.h"
#include "safetensors.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool counting;
static int left; // allocations until the one that fails
static bool failed;

static bool fail_now(void) {
    if (!counting || failed || left-- > 0) return false;
    failed = true;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
char *__real_realpath(const char *path, char *out);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
char *__wrap_realpath(const char *path, char *out);

void *__wrap_malloc(size_t size) {
    return fail_now() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size) {
    return fail_now() ? NULL : __real_calloc(count, size);
}
char *__wrap_strdup(const char *text) {
    return fail_now() ? NULL : __real_strdup(text);
}
char *__wrap_strndup(const char *text, size_t size) {
    return fail_now() ? NULL : __real_strndup(text, size);
}
char *__wrap_realpath(const char *path, char *out) {
    return fail_now() ? NULL : __real_realpath(path, out);
}

static char folder[512];

// "FOLDER/NAME", in one of a few buffers that take turns.
static const char *in(const char *name) {
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(in(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert(fwrite(bytes, 1, size, file) == size);
    ck_assert(fclose(file) == 0);
}

static void make_files(void) {
    static const float values[] = {1, 2, 3, 4};
    static const char index[] = "{\"weight_map\":{\"a\":\"s.safetensors\",\"b\":\"s.safetensors\"}}";
    static const char config[] = "{\"a\":{\"b\":[1,2]},\"c\":\"d\"}";
    // An odd number of bytes before the F32, so that its array is a copy.
    static const char odd[] =
        "\x4e\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]}}12345";
    static const char fortran[] =
        "\x93NUMPY\1\0\x46\0{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }"
        "         \n12345678";
    struct array arrays[2];
    for (int i = 0; i < 2; ++i) {
        ck_assert(array_view("a", ARRAY_F32, 1, (const int64_t[]){4}, values, &arrays[i], NULL));
    }
    ck_assert(safetensors_save(in("s.safetensors"), 2, (const char *const[]){"a", "b"}, arrays, NULL));
    char patched[sizeof(odd)];
    memcpy(patched, odd, sizeof(odd));
    patched[0] = (char)(sizeof(odd) - 1 - 8 - 5);
    write_file("odd.safetensors", patched, sizeof(odd) - 1);
    char npy[sizeof(fortran)];
    memcpy(npy, fortran, sizeof(fortran));
    npy[8] = (char)(sizeof(fortran) - 1 - 10 - 8);
    write_file("fortran.npy", npy, sizeof(fortran) - 1);
    write_file("model.safetensors.index.json", index, sizeof(index) - 1);
    write_file("config.json", config, sizeof(config) - 1);
    write_file("m.gguf", gguf_golden, sizeof(gguf_golden) - 1);
    write_file("old.npy", "old", 3);
    write_file("old.safetensors", "old", 3);
}

// What is called; every allocation in it has its turn. Check itself allocates, so there is no assertion in
// here.

static bool read_npy(struct io_error *err) {
    struct array a;
    const bool ok = npy_load(in("fortran.npy"), false, &a, err);
    array_free(&a);
    return ok;
}

static bool read_tensor(struct io_error *err) {
    struct array a;
    char argument[1100];
    (void)snprintf(argument, sizeof(argument), "%s:b", in("odd.safetensors"));
    const bool ok = array_read(argument, false, &a, err);
    const bool owned = a.memory == ARRAY_OWNED;
    array_free(&a);
    return ok && owned;
}

static bool read_checkpoint(struct io_error *err) {
    struct checkpoint c;
    const bool ok = checkpoint_open(folder, &c, err);
    const bool whole = c.count == 2;
    checkpoint_close(&c);
    return ok && whole;
}

static bool read_gguf(struct io_error *err) {
    struct checkpoint c;
    struct config config = {0};
    const bool ok = checkpoint_open(in("m.gguf"), &c, err) && gguf_config(&c.ggufs[0], &config, err);
    config_close(&config);
    checkpoint_close(&c);
    return ok;
}

static bool read_config(struct io_error *err) {
    struct config c;
    const bool ok = config_open(in("config.json"), &c, err);
    config_close(&c);
    return ok;
}

static bool convert(struct io_error *err) {
    static const int64_t values[] = {1, 2, 3};
    struct array a, f32 = {0}, bf16 = {0}, i32 = {0};
    const bool ok = array_view("x.npy", ARRAY_I64, 1, (const int64_t[]){3}, values, &a, err) &&
                    array_to_f32("x.npy", &a, &f32, err) &&
                    array_from_f32("x.npy", &f32, ARRAY_BF16, &bf16, err) &&
                    array_to_i32("x.npy", &a, &i32, err);
    array_free(&f32);
    array_free(&bf16);
    array_free(&i32);
    return ok;
}

static bool write_npy(struct io_error *err) {
    static const float values[] = {1, 2};
    struct array a;
    return array_view("a", ARRAY_F32, 1, (const int64_t[]){2}, values, &a, err) &&
           array_write(in("old.npy"), &a, err);
}

static bool write_safetensors(struct io_error *err) {
    static const float values[] = {1, 2};
    struct array a;
    char argument[1100];
    (void)snprintf(argument, sizeof(argument), "%s:tensor", in("old.safetensors"));
    return array_view("a", ARRAY_F32, 1, (const int64_t[]){2}, values, &a, err) &&
           array_write(argument, &a, err);
}

static const struct {
    const char *name;
    bool (*call)(struct io_error *err);
    int least; // allocations it is known to make
} calls[] = {
    {"read_npy", read_npy, 1},       {"read_tensor", read_tensor, 10},
    {"read_config", read_config, 8}, {"read_checkpoint", read_checkpoint, 20},
    {"read_gguf", read_gguf, 60},    {"convert", convert, 3},
    {"write_npy", write_npy, 3},     {"write_safetensors", write_safetensors, 10},
};

static bool is_old(const char *name) {
    char bytes[4] = "";
    FILE *file = fopen(in(name), "rb");
    ck_assert_ptr_nonnull(file);
    const size_t n = fread(bytes, 1, sizeof(bytes), file);
    ck_assert(fclose(file) == 0);
    return n == 3 && memcmp(bytes, "old", 3) == 0;
}

static bool has_temporary(void) {
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    bool found = false;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, ".clmoe-", 7) == 0) found = true;
    }
    ck_assert(closedir(dir) == 0);
    return found;
}

START_TEST(every_allocation_fails_once) {
    make_files();
    for (int turn = 0;; ++turn) {
        ck_assert_msg(turn < 1000, "%s: still failing", calls[_i].name);
        struct io_error err = {""};
        left = turn;
        failed = false;
        counting = true;
        const bool ok = calls[_i].call(&err);
        counting = false;
        ck_assert(!has_temporary());
        if (!failed) {
            ck_assert_msg(ok && err.text[0] == '\0', "%s: %s", calls[_i].name, err.text);
            ck_assert_msg(turn >= calls[_i].least, "%s: only %d allocations", calls[_i].name, turn);
            return;
        }
        ck_assert_msg(!ok, "%s: allocation %d failed and nobody noticed", calls[_i].name, turn);
        ck_assert_msg(strstr(err.text, ": ") != NULL, "%s: allocation %d: error \"%s\"", calls[_i].name, turn,
                      err.text);
        ck_assert(is_old("old.npy") && is_old("old.safetensors"));
    }
}
END_TEST

START_TEST(says_how_much_was_asked) {
    struct array a;
    struct io_error err;
    left = 0;
    failed = false;
    counting = true;
    const bool ok = array_alloc("x.npy", ARRAY_F64, 2, (const int64_t[]){3, 5}, &a, &err);
    counting = false;
    ck_assert(!ok && a.memory == ARRAY_EMPTY && a.data == NULL);
    ck_assert_str_eq(err.text, "x.npy: out of memory for 120 bytes");
}
END_TEST

static void remove_folder(void) {
    static const char *const names[] = {
        "s.safetensors", "odd.safetensors", "fortran.npy", "model.safetensors.index.json",
        "config.json",   "m.gguf",          "old.npy",     "old.safetensors"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); ++i)
        (void)unlink(in(names[i]));
    (void)rmdir(folder);
}

int main(void) {
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/clmoe-io-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return EXIT_FAILURE;
    }
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = __wrap_malloc, .free_fn = free});

    Suite *suite = suite_create("io alloc");
    TCase *tcase = tcase_create("alloc");
    tcase_add_loop_test(tcase, every_allocation_fails_once, 0, (int)(sizeof(calls) / sizeof(calls[0])));
    tcase_add_test(tcase, says_how_much_was_asked);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failures = srunner_ntests_failed(runner);
    const int run = srunner_ntests_run(runner);
    srunner_free(runner);
    remove_folder();
    return failures == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
