// SPDX-License-Identifier: MIT
//
// What touches the file system: mapping, writing, and the command's file arguments.
#define _XOPEN_SOURCE 700
#include "io.h"
#include "map.h"
#include "npy.h"
#include "output.h"
#include "path.h"
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void check_content(const char *path, const char *expected, size_t size) {
    struct file_map map;
    struct io_error err = {""};
    ck_assert_msg(file_map_open(path, &map, &err), "%s", err.text);
    ck_assert(map.size == size && (size == 0 || memcmp(map.data, expected, size) == 0));
    file_map_close(&map);
}

static void make_fifo(const char *path) {
    (void)unlink(path);
    ck_assert(mkfifo(path, 0600) == 0);
}

static void make_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) <
              sizeof(address.sun_path));
    (void)unlink(path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    ck_assert(close(fd) == 0);
}

// Permissions do not bind root: the test then is nobody for a while.
static uid_t drop_root(void) {
    const uid_t user = geteuid();
    if (user == 0) ck_assert(seteuid(65534) == 0);
    return user;
}

static void take_root(uid_t user) {
    if (user == 0) ck_assert(seteuid(0) == 0);
}

// mapping

START_TEST(maps_files) {
    struct file_map map;
    check_content(test_file("some", "abc", 3), "abc", 3);
    ck_assert(file_map_open(test_file("none", "", 0), &map, NULL));
    ck_assert(map.data == NULL && map.size == 0);
    file_map_close(&map);
    (void)unlink(test_path("link"));
    ck_assert(symlink("some", test_path("link")) == 0);
    check_content(test_path("link"), "abc", 3);
}
END_TEST

START_TEST(maps_no_others) {
    struct file_map map;
    struct io_error err = {""};
    ck_assert(!file_map_open(test_folder(), &map, &err));
    CHECK_ERROR(err, ": is a directory, expected a file");
    ck_assert(!file_map_open(test_path("absent"), &map, &err));
    CHECK_ERROR(err, "/absent: cannot open: No such file or directory");
    ck_assert(!file_map_open("", &map, &err));
    CHECK_ERROR(err, ": cannot open: No such file or directory");
    ck_assert(!file_map_open("/dev/zero", &map, &err));
    CHECK_ERROR(err, "/dev/zero: is not a regular file");
    make_fifo(test_path("fifo"));
    ck_assert(!file_map_open(test_path("fifo"), &map, &err));
    CHECK_ERROR(err, "/fifo: is not a regular file");
    make_socket(test_path("sock"));
    ck_assert(!file_map_open(test_path("sock"), &map, &err));
    CHECK_ERROR(err, "/sock: cannot open: ");
    (void)unlink(test_path("loop"));
    ck_assert(symlink("loop", test_path("loop")) == 0);
    ck_assert(!file_map_open(test_path("loop"), &map, &err));
    CHECK_ERROR(err, "/loop: cannot open: ");

    const char *secret = test_file("secret", "abc", 3);
    ck_assert(chmod(secret, 0) == 0);
    const uid_t user = drop_root();
    ck_assert(!file_map_open(secret, &map, &err));
    take_root(user);
    CHECK_ERROR(err, "/secret: cannot open: Permission denied");
    ck_assert(map.data == NULL);
}
END_TEST

// A sparse file as large as files get here: only what is touched is read.
START_TEST(maps_huge_file) {
    const char *path = test_path("huge.npy");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert(fd >= 0);
    const bool sparse = ftruncate(fd, (off_t)1 << 40) == 0;
    ck_assert(close(fd) == 0);
    struct array a;
    struct io_error err = {""};
    ck_assert(!npy_load(path, false, &a, &err));
    CHECK_ERROR(err, sparse ? "/huge.npy: is not an npy file" : "/huge.npy: is empty");
    struct safetensors file;
    ck_assert(!safetensors_open(path, &file, &err));
    CHECK_ERROR(err, sparse ? "/huge.npy: header is empty" : "/huge.npy: 0 bytes are too short");
    (void)unlink(path);
}
END_TEST

// writing

static bool write_text(const char *path, const char *text, bool ok, struct io_error *err) {
    struct output out;
    if (!output_open(path, &out, err)) return false;
    ok = output_write(&out, text, strlen(text), err) && output_write(&out, NULL, 0, err) && ok;
    return output_commit(&out, ok, err);
}

START_TEST(writes_and_replaces) {
    const char *path = test_path("written");
    struct io_error err = {""};
    (void)unlink(path);
    const mode_t mask = umask(027);
    ck_assert_msg(write_text(path, "first", true, &err), "%s", err.text);
    struct stat info;
    ck_assert(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
    check_content(path, "first", 5);
    ck_assert(chmod(path, 0604) == 0);
    ck_assert(write_text(path, "", true, &err));
    ck_assert(stat(path, &info) == 0 && (info.st_mode & 0777) == 0604);
    check_content(path, "", 0);
    (void)umask(mask);
    ck_assert(test_no_temporaries());
}
END_TEST

START_TEST(old_file_stays_until_commit) {
    const char *path = test_file("kept", "old", 3);
    struct io_error err = {"untouched"};
    struct output out;
    ck_assert(output_open(path, &out, &err));
    ck_assert(output_write(&out, "new", 3, &err));
    check_content(path, "old", 3);
    ck_assert(!test_no_temporaries());
    ck_assert(!output_commit(&out, false, &err));
    ck_assert_str_eq(err.text, "untouched");
    check_content(path, "old", 3);
    ck_assert(test_no_temporaries());
}
END_TEST

START_TEST(follows_links) {
    const char *target = test_file("target", "old", 3);
    const char *link = test_path("to_target");
    (void)unlink(link);
    ck_assert(symlink("target", link) == 0);
    ck_assert(write_text(link, "new", true, NULL));
    struct stat info;
    ck_assert(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    check_content(target, "new", 3);
}
END_TEST

START_TEST(writes_long_and_relative_names) {
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    struct io_error err = {""};
    ck_assert_msg(write_text(test_path(name), "x", true, &err), "%s", err.text);
    check_content(test_path(name), "x", 1);
    char here[4096];
    ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
    ck_assert(chdir(test_folder()) == 0);
    const bool ok = write_text("relative", "y", true, &err);
    ck_assert(chdir(here) == 0);
    ck_assert(ok);
    check_content(test_path("relative"), "y", 1);
}
END_TEST

START_TEST(a_taken_temporary_name_is_left_alone) {
    char name[64];
    (void)snprintf(name, sizeof(name), ".clmoe-%ld-0.tmp", (long)getpid());
    const char *other = test_file(name, "other", 5);
    ck_assert(write_text(test_path("beside"), "x", true, NULL));
    check_content(other, "other", 5);
    ck_assert(unlink(other) == 0);
    ck_assert(test_no_temporaries());
}
END_TEST

START_TEST(writes_devices_in_place) {
    struct io_error err = {""};
    ck_assert_msg(write_text("/dev/null", "x", true, &err), "%s", err.text);
    struct stat info;
    ck_assert(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
    ck_assert(!write_text("/dev/full", "x", true, &err));
    CHECK_ERROR(err, "/dev/full: cannot write: No space left on device");

    const char *fifo = test_path("out_fifo");
    make_fifo(fifo);
    ck_assert(!write_text(fifo, "x", true, &err));
    CHECK_ERROR(err, "/out_fifo: cannot open for writing: No such device or address");
    const int reader = open(fifo, O_RDONLY | O_NONBLOCK);
    ck_assert(reader >= 0);
    ck_assert(write_text(fifo, "xyz", true, &err));
    char got[8] = "";
    ck_assert(read(reader, got, sizeof(got)) == 3 && strcmp(got, "xyz") == 0);
    ck_assert(close(reader) == 0);
}
END_TEST

START_TEST(refuses_targets) {
    struct io_error err = {""};
    ck_assert(!write_text("", "x", true, &err));
    CHECK_ERROR(err, "output: the file name is empty");
    ck_assert(!write_text(test_folder(), "x", true, &err));
    CHECK_ERROR(err, ": is a directory, cannot write to it");
    ck_assert(!write_text(test_path("absent/x"), "x", true, &err));
    CHECK_ERROR(err, "/absent/x: cannot create a temporary file beside it: No such file or directory");
    (void)test_file("plain", "x", 1);
    ck_assert(!write_text(test_path("plain/x"), "x", true, &err));
    CHECK_ERROR(err, "/plain/x: cannot write: Not a directory");
    make_socket(test_path("sock"));
    ck_assert(!write_text(test_path("sock"), "x", true, &err));
    CHECK_ERROR(err, "/sock: is not a regular file, cannot write to it");

    const char *locked = test_file("locked", "old", 3);
    ck_assert(chmod(locked, 0444) == 0 && chmod(test_folder(), 0777) == 0);
    const uid_t user = drop_root();
    const bool ok = write_text(locked, "new", true, &err);
    take_root(user);
    ck_assert(chmod(test_folder(), 0700) == 0);
    ck_assert(!ok);
    CHECK_ERROR(err, "/locked: cannot write: Permission denied");
    check_content(locked, "old", 3);
    ck_assert(test_no_temporaries());
}
END_TEST

// The disk is full half-way: a limit on the size of files stands for it.
START_TEST(a_failed_write_leaves_the_old_file) {
    struct rlimit old, small;
    ck_assert(getrlimit(RLIMIT_FSIZE, &old) == 0);
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct array a;
    ck_assert(array_alloc("a", ARRAY_F32, 1, (const int64_t[]){4096}, &a, NULL));
    const char *path = test_file("full.npy", "old", 3);
    const char *other = test_file("full.safetensors", "old", 3);
    char argument[600];
    (void)snprintf(argument, sizeof(argument), "%s:x", other);

    small = old;
    small.rlim_cur = 5000;
    struct io_error npy_err = {""}, safetensors_err = {""};
    ck_assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const bool npy_ok = array_write(path, &a, &npy_err);
    const bool safetensors_ok = array_write(argument, &a, &safetensors_err);
    ck_assert(setrlimit(RLIMIT_FSIZE, &old) == 0);
    (void)signal(SIGXFSZ, handler);

    ck_assert(!npy_ok && !safetensors_ok);
    CHECK_ERROR(npy_err, "/full.npy: cannot write: File too large");
    CHECK_ERROR(safetensors_err, "/full.safetensors: cannot write: File too large");
    check_content(path, "old", 3);
    check_content(other, "old", 3);
    ck_assert(test_no_temporaries());
    array_free(&a);
}
END_TEST

// arguments

static const struct {
    const char *argument; // in the folder
    const char *error;
} bad_read[] = {
    {"x.txt", "/x.txt: expected FILE.npy or FILE.safetensors:TENSOR"},
    {"npy", "/npy: expected FILE.npy or FILE.safetensors:TENSOR"},
    {"x.NPY", "/x.NPY: expected FILE.npy or FILE.safetensors:TENSOR"},
    {"x.npy:a", "/x.npy:a: expected FILE.npy or FILE.safetensors:TENSOR"},
    {"x.safetensors", "/x.safetensors: names no tensor, expected FILE.safetensors:TENSOR"},
    {"x.safetensors:", "/x.safetensors:: no tensor name after ':', expected FILE.safetensors:TENSOR"},
    {"absent.npy", "/absent.npy: cannot open: No such file or directory"},
    {"absent.safetensors:a", "/absent.safetensors: cannot open: No such file or directory"},
    {"two.safetensors:c", "/two.safetensors: no tensor \"c\" among 2 (the first is \"a\")"},
    {"two.safetensors:A", "/two.safetensors: no tensor \"A\" among 2 (the first is \"a\")"},
    {"two.safetensors:a ", "/two.safetensors: no tensor \"a \" among 2"},
    {"two.safetensors:f4", "/two.safetensors: no tensor \"f4\" among 2"},
    {"hollow.safetensors:a", "/hollow.safetensors: no tensor \"a\": the file has none"},
    {"odd.safetensors:f4", "/odd.safetensors: tensor \"f4\": dtype F4 is not supported"},
    {"text.npy", "/text.npy: is not an npy file: it does not start with"},
    {"text.safetensors:a", "/text.safetensors: 4 bytes are too short for a safetensors file"},
};

static void make_arguments(void) {
    static const uint8_t bytes[] = {1, 2, 3, 4};
    struct array arrays[2];
    ck_assert(array_view("a", ARRAY_U8, 1, (const int64_t[]){4}, bytes, &arrays[0], NULL));
    ck_assert(array_view("b", ARRAY_BF16, 1, (const int64_t[]){2}, bytes, &arrays[1], NULL));
    ck_assert(safetensors_save(test_path("two.safetensors"), 2, (const char *const[]){"a", "b:c.npy"}, arrays,
                               NULL));
    ck_assert(safetensors_save(test_path("hollow.safetensors"), 0, NULL, NULL, NULL));
    ck_assert(npy_save(test_path("u8.npy"), &arrays[0], NULL));
    ck_assert(npy_save(test_path("bf16.npy"), &arrays[1], NULL));
    (void)test_file("text.npy", "text", 4);
    (void)test_file("text.safetensors", "text", 4);
    size_t size;
    void *odd = test_safetensors("{\"f4\":{\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, &size);
    (void)test_file("odd.safetensors", odd, size);
    free(odd);
}

START_TEST(refuses_to_read) {
    make_arguments();
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(!array_read(test_path(bad_read[_i].argument), false, &a, &err), "row %d was read", _i);
    CHECK_ERROR(err, bad_read[_i].error);
    ck_assert(a.memory == ARRAY_EMPTY);
}
END_TEST

static const struct {
    const char *argument;
    bool bf16;
    enum array_dtype dtype;
} good_read[] = {
    {"u8.npy", false, ARRAY_U8},
    {"u8.npy", true, ARRAY_U8},
    {"bf16.npy", true, ARRAY_BF16},
    {"two.safetensors:a", false, ARRAY_U8},
    {"two.safetensors:b:c.npy", false, ARRAY_BF16},
};

START_TEST(reads_arguments) {
    make_arguments();
    struct array a;
    struct io_error err = {""};
    ck_assert_msg(array_read(test_path(good_read[_i].argument), good_read[_i].bf16, &a, &err), "%s",
                  err.text);
    ck_assert(a.dtype == good_read[_i].dtype && a.memory == ARRAY_MAPPED && a.bytes == 4);
    ck_assert_mem_eq(a.data, "\1\2\3\4", 4);
    array_free(&a);
}
END_TEST

START_TEST(writes_arguments) {
    static const float values[] = {1, 2, 3};
    static const char *const good[] = {"out.npy", "out.safetensors:some.tensor", "x.safetensors:y.npy"};
    static const char *const bad[] = {"out", "out.txt", "out.safetensors", "out.safetensors:"};
    struct array a, back;
    struct io_error err = {""};
    ck_assert(array_view("a", ARRAY_F32, 2, (const int64_t[]){3, 1}, values, &a, NULL));
    for (size_t i = 0; i < COUNT_OF(good); ++i) {
        const char *path = test_path(good[i]);
        ck_assert_msg(array_write(path, &a, &err), "%s", err.text);
        ck_assert_msg(array_read(path, false, &back, &err), "%s", err.text);
        ck_assert(back.dtype == ARRAY_F32 && back.ndim == 2 && back.shape[0] == 3 && back.shape[1] == 1);
        ck_assert_mem_eq(back.data, values, sizeof(values));
        array_free(&back);
    }
    for (size_t i = 0; i < COUNT_OF(bad); ++i) {
        ck_assert(!array_write(test_path(bad[i]), &a, &err));
        CHECK_ERROR(err, "expected FILE.");
    }
    ck_assert(array_write("/dev/null", &a, &err));
}
END_TEST

Suite *io_file_suite(void) {
    Suite *suite = suite_create("io file");
    TCase *map = tcase_create("map");
    tcase_add_test(map, maps_files);
    tcase_add_test(map, maps_no_others);
    tcase_add_test(map, maps_huge_file);
    suite_add_tcase(suite, map);

    TCase *output = tcase_create("output");
    tcase_add_test(output, writes_and_replaces);
    tcase_add_test(output, old_file_stays_until_commit);
    tcase_add_test(output, follows_links);
    tcase_add_test(output, writes_long_and_relative_names);
    tcase_add_test(output, a_taken_temporary_name_is_left_alone);
    tcase_add_test(output, writes_devices_in_place);
    tcase_add_test(output, refuses_targets);
    tcase_add_test(output, a_failed_write_leaves_the_old_file);
    suite_add_tcase(suite, output);

    TCase *argument = tcase_create("arguments");
    tcase_add_loop_test(argument, refuses_to_read, 0, (int)COUNT_OF(bad_read));
    tcase_add_loop_test(argument, reads_arguments, 0, (int)COUNT_OF(good_read));
    tcase_add_test(argument, writes_arguments);
    suite_add_tcase(suite, argument);
    return suite;
}
