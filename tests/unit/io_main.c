// SPDX-License-Identifier: MIT
#define _XOPEN_SOURCE 700
#include "io.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define PATHS 8

static char folder[PATH_BYTES / 2];

const char *test_folder(void) {
    return folder;
}

const char *test_path(const char *name) {
    static char paths[PATHS][PATH_BYTES];
    static unsigned turn;
    char *path = paths[turn++ % PATHS];
    (void)snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return path;
}

const char *test_file(const char *name, const void *bytes, size_t size) {
    const char *path = test_path(name);
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "cannot create %s", path);
    ck_assert(size == 0 || fwrite(bytes, 1, size, file) == size);
    ck_assert(fclose(file) == 0);
    return path;
}

bool test_no_temporaries(void) {
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    bool none = true;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, ".clmoe-", 7) == 0) none = false;
    }
    closedir(dir);
    return none;
}

void *test_copy(const void *bytes, size_t size) {
    void *copy = malloc(size);
    ck_assert(copy != NULL || size == 0);
    if (size) memcpy(copy, bytes, size);
    return copy;
}

void *test_npy(const char *header, const void *data, size_t bytes, size_t *size) {
    const size_t text = strlen(header);
    const size_t head = (10 + text + 1 + 63) / 64 * 64;
    uint8_t *file = malloc(head + bytes);
    ck_assert_ptr_nonnull(file);
    memset(file, ' ', head);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = (uint8_t)((head - 10) & 0xff);
    file[9] = (uint8_t)((head - 10) >> 8);
    memcpy(file + 10, header, text);
    file[head - 1] = '\n';
    if (bytes) memcpy(file + head, data, bytes);
    *size = head + bytes;
    return file;
}

void *test_safetensors(const char *header, size_t bytes, size_t *size) {
    const size_t text = strlen(header);
    uint8_t *file = malloc(8 + text + bytes);
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8; ++i)
        file[i] = (uint8_t)((uint64_t)text >> (8 * i));
    memcpy(file + 8, header, text);
    for (size_t i = 0; i < bytes; ++i)
        file[8 + text + i] = (uint8_t)i;
    *size = 8 + text + bytes;
    return file;
}

// Removes what is directly in `path` and the folders one level below, then `path`.
static void remove_folder(const char *path, int depth) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char inner[PATH_BYTES];
        if (snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name) >= (int)sizeof(inner)) continue;
        struct stat info;
        if (lstat(inner, &info) == 0 && S_ISDIR(info.st_mode)) {
            (void)chmod(inner, 0700);
            if (depth > 0) remove_folder(inner, depth - 1);
        } else {
            (void)unlink(inner);
        }
    }
    closedir(dir);
    (void)rmdir(path);
}

int main(void) {
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof(folder), "%s/clmoe-io-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return EXIT_FAILURE;
    }
    SRunner *runner = srunner_create(io_array_suite());
    srunner_add_suite(runner, io_npy_suite());
    srunner_add_suite(runner, io_quantised_suite());
    srunner_add_suite(runner, io_json_suite());
    srunner_add_suite(runner, io_safetensors_suite());
    srunner_add_suite(runner, io_gguf_suite());
    srunner_add_suite(runner, io_checkpoint_suite());
    srunner_add_suite(runner, io_checkpoint_gguf_suite());
    srunner_add_suite(runner, io_config_suite());
    srunner_add_suite(runner, io_file_suite());
    srunner_set_fork_status(runner, CK_NOFORK); // a sanitizer's report and leaks belong to this process
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    const int run = srunner_ntests_run(runner);
    srunner_free(runner);
    remove_folder(folder, 1);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
