// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200809L
#include "path.h"
#include "npy.h"
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

#define SAFETENSORS ".safetensors"

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// Splits at the first ".safetensors:". `file` is the caller's to free. `*tensor` stays NULL when there is
// none.
static bool split(const char *argument, char **file, const char **tensor, struct io_error *err) {
    const char *at = strstr(argument, SAFETENSORS ":");
    if (!at) return true;
    const size_t length = (size_t)(at - argument) + strlen(SAFETENSORS);
    if (argument[length + 1] == '\0') {
        return io_fail(err, argument, "no tensor name after ':', expected FILE.safetensors:TENSOR");
    }
    *file = strndup(argument, length);
    if (!*file) return io_fail(err, argument, "out of memory");
    *tensor = argument + length + 1;
    return true;
}

static bool refuse(const char *argument, struct io_error *err) {
    if (ends_with(argument, SAFETENSORS)) {
        return io_fail(err, argument, "names no tensor, expected FILE.safetensors:TENSOR");
    }
    return io_fail(err, argument, "expected FILE.npy or FILE.safetensors:TENSOR");
}

static bool read_tensor(const char *path, const char *tensor, struct array *out, struct io_error *err) {
    struct safetensors file;
    if (!safetensors_open(path, &file, err)) return false;
    const struct file_tensor *t = safetensors_find(&file, tensor);
    bool ok = t && file_tensor_array(file.name, t, out, err);
    if (ok) {
        array_adopt_map(out, &file.map);
    } else if (!t && file.count > 0) {
        io_error_set(err, path, "no tensor \"%.100s\" among %zu (the first is \"%.100s\")", tensor,
                     file.count, file.tensors[0].name);
    } else if (!t) {
        io_error_set(err, path, "no tensor \"%.100s\": the file has none", tensor);
    }
    safetensors_close(&file);
    return ok;
}

bool array_read(const char *argument, bool bf16, struct array *out, struct io_error *err) {
    *out = (struct array){0};
    char *file = NULL;
    const char *tensor = NULL;
    if (!split(argument, &file, &tensor, err)) return false;
    if (tensor) {
        const bool ok = read_tensor(file, tensor, out, err);
        free(file);
        return ok;
    }
    if (!ends_with(argument, ".npy")) return refuse(argument, err);
    return npy_load(argument, bf16, out, err);
}

bool array_file(const char *argument, char **file, struct io_error *err) {
    *file = NULL;
    const char *tensor = NULL;
    if (!split(argument, file, &tensor, err)) return false;
    if (tensor) return true;
    if (!ends_with(argument, ".npy") && strncmp(argument, "/dev/", 5) != 0) return refuse(argument, err);
    *file = strdup(argument);
    return *file || io_fail(err, argument, "out of memory");
}

bool array_write(const char *argument, const struct array *a, struct io_error *err) {
    char *file = NULL;
    if (!array_file(argument, &file, err)) return false;
    const char *tensor = strlen(file) < strlen(argument) ? argument + strlen(file) + 1 : NULL;
    const bool ok = tensor ? safetensors_save(file, 1, &tensor, a, err) : npy_save(file, a, err);
    free(file);
    return ok;
}
