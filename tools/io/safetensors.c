// SPDX-License-Identifier: MIT
//
// Reading: find the header, parse it, read each entry, check that the entries tile the data.
#define _POSIX_C_SOURCE 200809L
#include "safetensors.h"
#include "json.h"
#include "safetensors_types.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH_BYTES 8
#define EXACT_MAX ((INT64_C(1) << 53) - 1)

// What an entry is checked against.
struct context {
    const char *name;    // of the file
    const uint8_t *data; // the data section
    size_t size;         // its bytes
    struct io_error *err;
};

static bool find_header(const char *name, const uint8_t *bytes, size_t size, size_t *length,
                        struct io_error *err) {
    if (size < LENGTH_BYTES) {
        return io_fail(err, name, "%zu bytes are too short for a safetensors file (8 bytes of header length)",
                       size);
    }
    uint64_t n = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; --i)
        n = n << 8 | bytes[i];
    if (n > SAFETENSORS_MAX_HEADER) {
        return io_fail(err, name, "header length %ju is over the limit of %d: not a safetensors file?",
                       (uintmax_t)n, SAFETENSORS_MAX_HEADER);
    }
    if (n > size - LENGTH_BYTES) {
        return io_fail(err, name, "header length %ju, but only %zu bytes follow", (uintmax_t)n,
                       size - LENGTH_BYTES);
    }
    if (n == 0) return io_fail(err, name, "header is empty");
    if (bytes[LENGTH_BYTES] != '{') return io_fail(err, name, "header does not start with '{'");
    *length = (size_t)n;
    return true;
}

static bool read_type(const struct context *c, const cJSON *item, struct file_tensor *t) {
    if (!cJSON_IsString(item)) {
        return io_fail(c->err, c->name, "tensor \"%.100s\": dtype: expected a string, got %s", t->name,
                       json_show(item).text);
    }
    t->type = item->valuestring;
    t->loadable = safetensors_type_find(t->type, &t->dtype);
    return true;
}

static bool read_shape(const struct context *c, const cJSON *item, struct file_tensor *t) {
    if (!cJSON_IsArray(item)) {
        return io_fail(c->err, c->name, "tensor \"%.100s\": shape: expected a list, got %s", t->name,
                       json_show(item).text);
    }
    for (const cJSON *d = item->child; d; d = d->next) {
        if (t->ndim == ARRAY_MAX_DIMS) {
            return io_fail(c->err, c->name, "tensor \"%.100s\": shape has %d dimensions, expected at most %d",
                           t->name, cJSON_GetArraySize(item), ARRAY_MAX_DIMS);
        }
        if (!json_integer(d, 0, EXACT_MAX, &t->shape[t->ndim])) {
            return io_fail(c->err, c->name,
                           "tensor \"%.100s\": shape: expected integers in 0..2^53-1, got %s", t->name,
                           json_show(d).text);
        }
        ++t->ndim;
    }
    return true;
}

static bool read_offsets(const struct context *c, const cJSON *item, struct file_tensor *t) {
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2) {
        return io_fail(c->err, c->name, "tensor \"%.100s\": data_offsets: expected [begin, end]", t->name);
    }
    int64_t at[2] = {0, 0};
    int i = 0;
    for (const cJSON *offset = item->child; offset; offset = offset->next, ++i) {
        if (!json_integer(offset, 0, EXACT_MAX, &at[i])) {
            return io_fail(c->err, c->name,
                           "tensor \"%.100s\": data_offsets: expected integers in 0..2^53-1, got %s", t->name,
                           json_show(offset).text);
        }
    }
    if (at[0] > at[1]) {
        return io_fail(c->err, c->name,
                       "tensor \"%.100s\": data_offsets: begins at %jd, after its end at %jd", t->name,
                       (intmax_t)at[0], (intmax_t)at[1]);
    }
    if ((uint64_t)at[1] > c->size) {
        return io_fail(c->err, c->name,
                       "tensor \"%.100s\": ends at byte %jd, but the data has %zu: truncated?", t->name,
                       (intmax_t)at[1], c->size);
    }
    t->begin = (size_t)at[0];
    t->bytes = (size_t)(at[1] - at[0]);
    t->data = c->data + t->begin;
    return true;
}

static bool read_tensor(const struct context *c, const cJSON *item, struct file_tensor *t) {
    *t = (struct file_tensor){.name = item->string};
    if (!cJSON_IsObject(item)) {
        return io_fail(c->err, c->name, "tensor \"%.100s\": expected an object, got %s", t->name,
                       json_show(item).text);
    }
    if (!read_type(c, cJSON_GetObjectItemCaseSensitive(item, "dtype"), t) ||
        !read_shape(c, cJSON_GetObjectItemCaseSensitive(item, "shape"), t) ||
        !read_offsets(c, cJSON_GetObjectItemCaseSensitive(item, "data_offsets"), t)) {
        return false;
    }
    if (!t->loadable) return true;

    size_t needed;
    const struct array_text shape = array_shape_text(t->ndim, t->shape);
    if (!array_shape_bytes(t->dtype, t->ndim, t->shape, &needed)) {
        return io_fail(c->err, c->name, "tensor \"%.100s\": shape %s of %s: not a size that memory can hold",
                       t->name, shape.text, t->type);
    }
    if (needed != t->bytes) {
        return io_fail(c->err, c->name,
                       "tensor \"%.100s\": shape %s of %s needs %zu bytes, data_offsets give %zu", t->name,
                       shape.text, t->type, needed, t->bytes);
    }
    return true;
}

static bool read_metadata(const struct context *c, const cJSON *item) {
    if (!cJSON_IsObject(item)) {
        return io_fail(c->err, c->name, "__metadata__: expected an object, got %s", json_show(item).text);
    }
    for (const cJSON *entry = item->child; entry; entry = entry->next) {
        if (!cJSON_IsString(entry)) {
            return io_fail(c->err, c->name, "__metadata__: \"%.100s\": expected a string, got %s",
                           entry->string, json_show(entry).text);
        }
    }
    return true;
}

// The tensors, sorted by place, must follow one another from the first byte of the data to the last.
static bool check_places(const struct context *c, const struct safetensors *file) {
    size_t end = 0;
    for (size_t i = 0; i < file->count; ++i) {
        const struct file_tensor *t = &file->tensors[i];
        if (t->begin < end) {
            return io_fail(c->err, c->name,
                           "tensor \"%.100s\": begins at byte %zu, inside \"%.100s\" that ends at %zu",
                           t->name, t->begin, t[-1].name, end);
        }
        if (t->begin > end) {
            return io_fail(c->err, c->name, "bytes %zu..%zu of the data belong to no tensor", end, t->begin);
        }
        end += t->bytes;
    }
    if (end < c->size)
        return io_fail(c->err, c->name, "bytes %zu..%zu of the data belong to no tensor", end, c->size);
    return true;
}

static bool read_tensors(const struct context *c, struct safetensors *file) {
    size_t count = 0;
    for (const cJSON *item = file->header->child; item; item = item->next)
        ++count;
    file->tensors = malloc((count ? count : 1) * sizeof(*file->tensors));
    if (!file->tensors) return io_fail(c->err, c->name, "out of memory for %zu tensors", count);

    for (const cJSON *item = file->header->child; item; item = item->next) {
        if (strcmp(item->string, "__metadata__") == 0) {
            if (!read_metadata(c, item)) return false;
            file->metadata = item;
        } else {
            if (!read_tensor(c, item, &file->tensors[file->count])) return false;
            ++file->count;
        }
    }
    qsort(file->tensors, file->count, sizeof(*file->tensors), file_tensor_by_place);
    if (!check_places(c, file)) return false;
    qsort(file->tensors, file->count, sizeof(*file->tensors), file_tensor_by_name);
    return true;
}

bool safetensors_parse(const char *name, const void *bytes, size_t size, struct safetensors *out,
                       struct io_error *err) {
    *out = (struct safetensors){0};
    size_t length;
    if (!find_header(name, bytes, size, &length, err)) return false;

    const char *text = (const char *)bytes + LENGTH_BYTES;
    const struct context c = {name, (const uint8_t *)text + length, size - LENGTH_BYTES - length, err};
    out->name = strdup(name);
    if (!out->name) {
        io_error_set(err, name, "out of memory");
        goto fail;
    }
    out->header = json_parse(name, text, length, &safetensors_limits, err);
    if (!out->header || !read_tensors(&c, out)) goto fail;
    return true;
fail:
    safetensors_close(out);
    return false;
}

bool safetensors_open(const char *path, struct safetensors *out, struct io_error *err) {
    *out = (struct safetensors){0};
    struct file_map map;
    if (!file_map_open(path, &map, err)) return false;
    if (!safetensors_parse(path, map.data, map.size, out, err)) {
        file_map_close(&map);
        return false;
    }
    out->map = map;
    return true;
}

void safetensors_close(struct safetensors *file) {
    if (!file) return;
    free(file->name);
    free(file->tensors);
    cJSON_Delete(file->header);
    file_map_close(&file->map);
    *file = (struct safetensors){0};
}

const struct file_tensor *safetensors_find(const struct safetensors *file, const char *name) {
    return file_tensor_find(file->tensors, file->count, name);
}

const char *safetensors_metadata(const struct safetensors *file, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file->metadata, key));
}
