// SPDX-License-Identifier: MIT
//
// Reading: the head, the metadata (gguf_metadata.c), the list of tensors; then each has its place checked.
#define _POSIX_C_SOURCE 200809L
#include "gguf.h"
#include "gguf_cursor.h"
#include "gguf_types.h"
#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "GGUF"
#define LEAST_TENSOR 25 // a name of one letter, no dimensions: 8 + 1 + 4 + 4 + 8
#define DEFAULT_ALIGNMENT 32

bool gguf_is_path(const char *path) {
    static const char end[] = ".gguf";
    const size_t length = strlen(path), tail = sizeof(end) - 1;
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

static bool read_head(struct gguf_cursor *c, uint64_t *tensors, uint64_t *keys) {
    uint32_t version;
    if (c->size < 4 || memcmp(c->bytes, MAGIC, 4) != 0)
        return io_fail(c->err, c->name, "does not begin with " MAGIC ": not a GGUF file");
    c->at = 4;
    if (!gguf_u32(c, &version)) return false;
    if (version != 0 && (version & 0xffffu) == 0)
        return io_fail(c->err, c->name, "is a big-endian GGUF file: only little-endian ones are read");
    if (version != 2 && version != 3)
        return io_fail(c->err, c->name, "is GGUF of version %" PRIu32 ", expected 2 or 3", version);
    return gguf_count(c, "tensors", LEAST_TENSOR, tensors) && gguf_u64(c, keys);
}

static bool read_shape(struct gguf_cursor *c, struct file_tensor *t) {
    uint32_t ndim;
    uint64_t n;
    if (!gguf_u32(c, &ndim)) return false;
    if (ndim > ARRAY_MAX_DIMS)
        return io_fail(c->err, c->name, "tensor \"%.100s\": %" PRIu32 " dimensions, expected at most %d",
                       t->name, ndim, ARRAY_MAX_DIMS);
    t->ndim = (int)ndim;
    for (int d = t->ndim - 1; d >= 0; --d) { // the first in the file is the fastest
        if (!gguf_u64(c, &n)) return false;
        if (n > INT64_MAX)
            return io_fail(c->err, c->name, "tensor \"%.100s\": a dimension of %" PRIu64, t->name, n);
        t->shape[d] = (int64_t)n;
    }
    return true;
}

static bool read_type(struct gguf_cursor *c, struct file_tensor *t) {
    uint32_t number;
    int64_t count;
    if (!gguf_u32(c, &number)) return false;
    const struct gguf_type *const type = gguf_type(number);
    const struct array_text shape = array_shape_text(t->ndim, t->shape);
    if (!array_shape_count(t->ndim, t->shape, &count))
        return io_fail(c->err, c->name, "tensor \"%.100s\": shape %s: too many elements", t->name,
                       shape.text);
    t->type = type ? type->name : "a type of no known number";
    if (!type) return true;
    const int64_t row = t->ndim > 0 ? t->shape[t->ndim - 1] : 1;
    if (row % type->block)
        return io_fail(c->err, c->name,
                       "tensor \"%.100s\": shape %s: rows do not make blocks of %" PRIu32 " of %s", t->name,
                       shape.text, type->block, type->name);
    if (count / type->block > PTRDIFF_MAX / type->bytes)
        return io_fail(c->err, c->name, "tensor \"%.100s\": shape %s of %s: not a size that memory can hold",
                       t->name, shape.text, type->name);
    t->bytes = (size_t)(count / type->block) * type->bytes;
    t->loadable = type->loadable;
    t->dtype = type->dtype;
    return true;
}

// `name` has room for all that is left of the names.
static bool read_tensor(struct gguf_cursor *c, char *name, struct file_tensor *t) {
    struct gguf_string text;
    uint64_t begin;
    if (!gguf_string(c, &text)) return false;
    if (text.length == 0 || !json_is_text(text.text, text.length))
        return io_fail(c->err, c->name, "the name of a tensor at byte %zu: expected UTF-8 without NUL",
                       c->at - text.length);
    memcpy(name, text.text, text.length);
    name[text.length] = '\0';
    *t = (struct file_tensor){.name = name};
    if (!read_shape(c, t) || !read_type(c, t) || !gguf_u64(c, &begin)) return false;
    if (begin > c->size)
        return io_fail(c->err, c->name,
                       "tensor \"%.100s\": begins at byte %" PRIu64 " of the data, the file "
                       "has %zu",
                       t->name, begin, c->size);
    t->begin = (size_t)begin;
    return true;
}

// Bytes of all names with a NUL each. The cursor stays where it is.
static bool measure_names(struct gguf_cursor c, uint64_t count, size_t *bytes) {
    struct gguf_string text;
    uint32_t ndim;
    *bytes = 0;
    for (uint64_t i = 0; i < count; ++i) {
        if (!gguf_string(&c, &text) || !gguf_u32(&c, &ndim) || !gguf_skip(&c, ndim, sizeof(uint64_t)) ||
            !gguf_skip(&c, 1, sizeof(uint32_t) + sizeof(uint64_t)))
            return false;
        *bytes += text.length + 1;
    }
    return true;
}

static bool read_list(struct gguf_cursor *c, uint64_t count, struct gguf *file) {
    size_t bytes;
    if (!measure_names(*c, count, &bytes)) return false;
    file->tensors = calloc((size_t)count + 1, sizeof(*file->tensors));
    file->names = malloc(bytes + 1);
    if (!file->tensors || !file->names)
        return io_fail(c->err, c->name, "out of memory for %" PRIu64 " tensors", count);
    char *name = file->names;
    for (; file->count < count; ++file->count) {
        if (!read_tensor(c, name, &file->tensors[file->count])) return false;
        name += strlen(name) + 1;
    }
    return true;
}

static bool read_alignment(const struct gguf_cursor *c, const cJSON *metadata, size_t *alignment) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(metadata, "general.alignment");
    int64_t value = DEFAULT_ALIGNMENT;
    if (item && (!json_integer(item, 8, UINT32_MAX, &value) || value % 8))
        return io_fail(c->err, c->name, "general.alignment: expected a multiple of 8, got %s",
                       json_show(item).text);
    *alignment = (size_t)value;
    return true;
}

// The tensors, sorted by place, must lie one behind another, with or without gaps, inside the file.
static bool check_places(const struct gguf_cursor *c, size_t alignment, struct gguf *file) {
    const size_t rest = c->at % alignment, start = c->at + (rest ? alignment - rest : 0);
    const size_t size = start < c->size ? c->size - start : 0;
    size_t end = 0;
    qsort(file->tensors, file->count, sizeof(*file->tensors), file_tensor_by_place);
    for (size_t i = 0; i < file->count; ++i) {
        struct file_tensor *const t = &file->tensors[i];
        if (t->begin % alignment)
            return io_fail(c->err, c->name, "tensor \"%.100s\": begins at byte %zu, no multiple of %zu",
                           t->name, t->begin, alignment);
        if (t->begin > size || t->bytes > size - t->begin)
            return io_fail(c->err, c->name,
                           "tensor \"%.100s\": %zu bytes from byte %zu on, but the data has %zu: truncated?",
                           t->name, t->bytes, t->begin, size);
        if (t->begin < end)
            return io_fail(c->err, c->name,
                           "tensor \"%.100s\": begins at byte %zu, inside \"%.100s\" that ends at %zu",
                           t->name, t->begin, t[-1].name, end);
        end = t->begin + t->bytes;
        t->data = size ? c->bytes + start + t->begin : c->bytes + c->size;
    }
    qsort(file->tensors, file->count, sizeof(*file->tensors), file_tensor_by_name);
    for (size_t i = 1; i < file->count; ++i)
        if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
            return io_fail(c->err, c->name, "tensor \"%.100s\" is listed twice", file->tensors[i].name);
    return true;
}

bool gguf_parse(const char *name, const void *bytes, size_t size, struct gguf *out, struct io_error *err) {
    struct gguf_cursor c = {name, bytes, size, 0, "head", err};
    uint64_t tensors, keys;
    size_t alignment;
    *out = (struct gguf){0};
    if (!read_head(&c, &tensors, &keys)) return false;
    out->name = strdup(name);
    if (!out->name) {
        io_error_set(err, name, "out of memory");
        goto fail;
    }
    c.part = "metadata";
    out->metadata = gguf_metadata(&c, keys);
    if (!out->metadata || !read_alignment(&c, out->metadata, &alignment)) goto fail;
    c.part = "list of tensors";
    if (!read_list(&c, tensors, out) || !check_places(&c, alignment, out)) goto fail;
    return true;
fail:
    gguf_close(out);
    return false;
}

bool gguf_open(const char *path, struct gguf *out, struct io_error *err) {
    *out = (struct gguf){0};
    struct file_map map;
    if (!file_map_open(path, &map, err)) return false;
    if (!gguf_parse(path, map.data, map.size, out, err)) {
        file_map_close(&map);
        return false;
    }
    out->map = map;
    return true;
}

void gguf_close(struct gguf *file) {
    if (!file) return;
    free(file->name);
    free(file->tensors);
    free(file->names);
    cJSON_Delete(file->metadata);
    file_map_close(&file->map);
    *file = (struct gguf){0};
}

const struct file_tensor *gguf_find(const struct gguf *file, const char *name) {
    return file_tensor_find(file->tensors, file->count, name);
}
