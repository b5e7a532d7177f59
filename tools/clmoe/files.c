/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "files.h"
#include "io/output.h"
#include "io/path.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int read_input(const struct usage *usage, const char *path, bool bf16, struct array *out) {
    struct io_error error;
    if (array_read(path, bf16, out, &error)) return -1;
    return command_fail(usage, EXIT_USAGE, "%s", error.text);
}

static bool is_float(enum array_dtype dtype) {
    return dtype == ARRAY_F32 || dtype == ARRAY_F16 || dtype == ARRAY_BF16;
}

int read_rows(const struct usage *usage, const char *path, bool bf16, struct array *out) {
    int code = read_input(usage, path, bf16, out);
    if (code >= 0) return code;
    if (!is_float(out->dtype))
        code = command_fail(usage, EXIT_USAGE, "%s: holds %s, expected f32, f16 or bf16", path,
                            array_dtype_name(out->dtype));
    else if (out->ndim == 0)
        code = command_fail(usage, EXIT_USAGE, "%s: a single number, expected rows", path);
    if (code >= 0) array_free(out);
    return code;
}

struct array flat_rows(const struct array *array) {
    struct array flat = *array;
    flat.memory = ARRAY_BORROWED;
    memset(flat.shape, 0, sizeof flat.shape);
    flat.ndim = 2;
    array_shape_count(array->ndim - 1, array->shape, &flat.shape[0]);
    flat.shape[1] = array->shape[array->ndim - 1];
    return flat;
}

void shape_like(struct array *result, const struct array *input) {
    const int64_t columns = result->shape[1];
    memcpy(result->shape, input->shape, sizeof result->shape);
    result->ndim = input->ndim;
    result->shape[result->ndim - 1] = columns;
}

/* "out/x.npy" -> "out" and "x.npy". */
static const char *split_folder(const char *path, char *folder, size_t size) {
    const char *const slash = strrchr(path, '/');
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash || length >= size) {
        memcpy(folder, ".", 2);
        return path;
    }
    memcpy(folder, length ? path : "/", length ? length : 1);
    folder[length ? length : 1] = '\0';
    return slash + 1;
}

static bool same_place(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Also for files that are yet to be made, by different names of one folder. */
static bool same_file(const char *a, const char *b) {
    struct stat sa, sb;
    char folder_a[4096], folder_b[4096];
    const int found = (stat(a, &sa) == 0) + (stat(b, &sb) == 0);
    if (found == 2) return !S_ISCHR(sa.st_mode) && same_place(&sa, &sb);
    const char *const name_a = split_folder(a, folder_a, sizeof folder_a);
    const char *const name_b = split_folder(b, folder_b, sizeof folder_b);
    return found == 0 && strcmp(name_a, name_b) == 0 && stat(folder_a, &sa) == 0 &&
           stat(folder_b, &sb) == 0 && same_place(&sa, &sb);
}

static int check_one(const struct usage *usage, const struct result *results, int i, char **files) {
    struct io_error error;
    if (!array_file(results[i].path, &files[i], &error))
        return command_fail(usage, EXIT_USAGE, "%s: %s", results[i].option, error.text);
    for (int j = 0; j < i; j++)
        if (files[j] && same_file(files[i], files[j]))
            return command_fail(usage, EXIT_USAGE, "%s and %s would write to the same file: %s",
                                results[j].option, results[i].option, files[i]);
    return output_check(files[i], &error) ? -1 : command_fail(usage, EXIT_FAILED, "%s", error.text);
}

int check_results(const struct usage *usage, const struct result *results, int n) {
    char **const files = calloc((size_t)n, sizeof *files);
    int code = files ? -1 : command_fail(usage, EXIT_FAILED, "out of memory");
    for (int i = 0; i < n && code < 0; i++)
        if (results[i].path) code = check_one(usage, results, i, files);
    for (int i = 0; i < n && files; i++)
        free(files[i]);
    free(files);
    return code;
}

int write_results(const struct usage *usage, const struct result *results, int n) {
    struct io_error error;
    for (int i = 0; i < n; i++)
        if (results[i].path && !array_write(results[i].path, &results[i].array, &error))
            return command_fail(usage, EXIT_FAILED, "%s", error.text);
    return -1;
}

void free_results(struct result *results, int n) {
    for (int i = 0; i < n; i++)
        array_free(&results[i].array);
}
