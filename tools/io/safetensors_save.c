// SPDX-License-Identifier: MIT
#include "json.h"
#include "output.h"
#include "safetensors.h"
#include "safetensors_types.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES                                                                                         \
    8                 // the header's length; the header is padded so that the data begins at a multiple of it
#define RAW_BYTES 256 // of a shape or a pair of offsets as JSON

// cJSON prints large numbers with an exponent, which other readers refuse for a size: these go in as text.
static bool add_raw(cJSON *entry, const char *key, const char *text) {
    return cJSON_AddRawToObject(entry, key, text) != NULL;
}

static bool add_entry(cJSON *root, const char *name, const struct array *a, uint64_t begin) {
    cJSON *entry = cJSON_AddObjectToObject(root, name);
    if (!entry) return false;
    char shape[RAW_BYTES], offsets[RAW_BYTES];
    const struct array_text text = array_shape_text(a->ndim, a->shape);
    // "(3, 4)" becomes "[3, 4]"; "(3,)" becomes "[3]".
    const size_t inside = strcspn(text.text + 1, a->ndim == 1 ? ",)" : ")");
    (void)snprintf(shape, sizeof(shape), "[%.*s]", (int)inside, text.text + 1);
    (void)snprintf(offsets, sizeof(offsets), "[%" PRIu64 ",%" PRIu64 "]", begin, begin + a->bytes);
    return cJSON_AddStringToObject(entry, "dtype", safetensors_type_name(a->dtype)) &&
           add_raw(entry, "shape", shape) && add_raw(entry, "data_offsets", offsets);
}

// Arrays in the order of their data: `order` is 0, 1, 2... with wide types first.
static void order_by_width(size_t count, const struct array *arrays, size_t *order) {
    size_t n = 0;
    for (size_t width = 8; width > 0; width /= 2) {
        for (size_t i = 0; i < count; ++i) {
            if (array_dtype_size(arrays[i].dtype) == width) order[n++] = i;
        }
    }
}

// The header as text. The caller frees it with cJSON_free().
static char *make_header(const char *path, size_t count, const char *const *names, const struct array *arrays,
                         const size_t *order, struct io_error *err) {
    cJSON *root = cJSON_CreateObject();
    bool ok = root != NULL;
    uint64_t begin = 0;
    for (size_t i = 0; i < count && ok; ++i) {
        ok = add_entry(root, names[order[i]], &arrays[order[i]], begin);
        begin += arrays[order[i]].bytes;
    }
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text) io_error_set(err, path, "out of memory for the header of %zu tensors", count);
    return text;
}

// Reads the header back, so that nothing is written that the reader would refuse: bad UTF-8, a name given
// twice.
static bool check_header(const char *path, const char *text, struct io_error *err) {
    cJSON *root = json_parse(path, text, strlen(text), &safetensors_limits, err);
    if (!root) return false;
    const bool reserved = cJSON_HasObjectItem(root, "__metadata__");
    cJSON_Delete(root);
    return !reserved || io_fail(err, path, "a tensor cannot be called __metadata__");
}

static bool write_file(const char *path, const char *text, size_t count, const struct array *arrays,
                       const size_t *order, struct io_error *err) {
    const size_t length = strlen(text);
    const size_t padding = (PREFIX_BYTES - length % PREFIX_BYTES) % PREFIX_BYTES;
    uint8_t prefix[PREFIX_BYTES];
    for (int i = 0; i < PREFIX_BYTES; ++i)
        prefix[i] = (uint8_t)((uint64_t)(length + padding) >> (8 * i));

    struct output out;
    if (!output_open(path, &out, err)) return false;
    bool ok = output_write(&out, prefix, sizeof(prefix), err) && output_write(&out, text, length, err) &&
              output_write(&out, "        ", padding, err);
    for (size_t i = 0; i < count && ok; ++i) {
        ok = output_write(&out, arrays[order[i]].data, arrays[order[i]].bytes, err);
    }
    return output_commit(&out, ok, err);
}

bool safetensors_save(const char *path, size_t count, const char *const *names, const struct array *arrays,
                      struct io_error *err) {
    size_t *order = calloc(count ? count : 1, sizeof(*order));
    if (!order) return io_fail(err, path, "out of memory for %zu tensors", count);
    order_by_width(count, arrays, order);
    char *text = make_header(path, count, names, arrays, order, err);
    const bool ok =
        text && check_header(path, text, err) && write_file(path, text, count, arrays, order, err);
    cJSON_free(text);
    free(order);
    return ok;
}
