// SPDX-License-Identifier: MIT
#include "array.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files are little-endian and their data is used as it lies: this host is not"
#endif

static const struct {
    const char *name;
    size_t size;
    bool integer;
} types[ARRAY_DTYPE_COUNT] = {
    [ARRAY_F32] = {"f32", 4, false},
    [ARRAY_F16] = {"f16", 2, false},
    [ARRAY_BF16] = {"bf16", 2, false},
    [ARRAY_F64] = {"f64", 8, false},
    [ARRAY_I8] = {"i8", 1, true},
    [ARRAY_U8] = {"u8", 1, true},
    [ARRAY_I16] = {"i16", 2, true},
    [ARRAY_U16] = {"u16", 2, true},
    [ARRAY_I32] = {"i32", 4, true},
    [ARRAY_U32] = {"u32", 4, true},
    [ARRAY_I64] = {"i64", 8, true},
    [ARRAY_U64] = {"u64", 8, true},
    [ARRAY_BOOL] = {"bool", 1, false},
    [ARRAY_F8_E4M3] = {"f8_e4m3", 1, false},
    [ARRAY_F8_E5M2] = {"f8_e5m2", 1, false},
};

const char *array_dtype_name(enum array_dtype dtype) {
    return types[dtype].name;
}

size_t array_dtype_size(enum array_dtype dtype) {
    return types[dtype].size;
}

bool array_dtype_is_integer(enum array_dtype dtype) {
    return types[dtype].integer;
}

bool array_shape_count(int ndim, const int64_t *shape, int64_t *count) {
    bool empty = false;
    for (int i = 0; i < ndim; ++i) {
        if (shape[i] < 0) return false;
        if (shape[i] == 0) empty = true;
    }
    int64_t product = empty ? 0 : 1;
    for (int i = 0; i < ndim && !empty; ++i) {
        if (product > INT64_MAX / shape[i]) return false;
        product *= shape[i];
    }
    *count = product;
    return true;
}

bool array_shape_bytes(enum array_dtype dtype, int ndim, const int64_t *shape, size_t *bytes) {
    int64_t count;
    if (!array_shape_count(ndim, shape, &count)) return false;
    const size_t size = types[dtype].size;
    if ((uint64_t)count > (uint64_t)PTRDIFF_MAX / size) return false;
    *bytes = (size_t)count * size;
    return true;
}

struct array_text array_shape_text(int ndim, const int64_t *shape) {
    struct array_text out = {"("};
    size_t used = 1;
    for (int i = 0; i < ndim && i < ARRAY_MAX_DIMS; ++i) {
        const int n =
            snprintf(out.text + used, sizeof(out.text) - used, "%s%" PRId64, i ? ", " : "", shape[i]);
        if (n > 0) used += (size_t)n; // 8 numbers of 20 characters fit
    }
    (void)snprintf(out.text + used, sizeof(out.text) - used, ndim == 1 ? ",)" : ")");
    return out;
}

int64_t array_count(const struct array *a) {
    return (int64_t)(a->bytes / types[a->dtype].size);
}

// Everything but the data. The arrays made here cannot have a shape that overflows.
static bool describe(const char *name, enum array_dtype dtype, int ndim, const int64_t *shape,
                     struct array *out, struct io_error *err) {
    *out = (struct array){0};
    if (ndim < 0 || ndim > ARRAY_MAX_DIMS) {
        return io_fail(err, name, "%d dimensions, expected 0..%d", ndim, ARRAY_MAX_DIMS);
    }
    struct array a = {.dtype = dtype, .ndim = ndim};
    if (!array_shape_bytes(dtype, ndim, shape, &a.bytes)) {
        return io_fail(err, name, "shape %s of %s: not a size that memory can hold",
                       array_shape_text(ndim, shape).text, types[dtype].name);
    }
    if (ndim > 0) memcpy(a.shape, shape, (size_t)ndim * sizeof(*shape));
    *out = a;
    return true;
}

bool array_alloc(const char *name, enum array_dtype dtype, int ndim, const int64_t *shape, struct array *out,
                 struct io_error *err) {
    if (!describe(name, dtype, ndim, shape, out, err)) return false;
    const size_t bytes = out->bytes;
    out->data = calloc(bytes ? bytes : 1, 1);
    if (!out->data) {
        *out = (struct array){0};
        return io_fail(err, name, "out of memory for %zu bytes", bytes);
    }
    out->memory = ARRAY_OWNED;
    return true;
}

bool array_view(const char *name, enum array_dtype dtype, int ndim, const int64_t *shape, const void *data,
                struct array *out, struct io_error *err) {
    if ((uintptr_t)data % types[dtype].size != 0) {
        if (!array_alloc(name, dtype, ndim, shape, out, err)) return false;
        memcpy(out->data, data, out->bytes);
        return true;
    }
    if (!describe(name, dtype, ndim, shape, out, err)) return false;
    out->data = (void *)(uintptr_t)data; // read only by contract
    out->memory = ARRAY_BORROWED;
    return true;
}

void array_adopt_map(struct array *a, struct file_map *map) {
    if (a->memory == ARRAY_BORROWED) {
        a->map = *map;
        a->memory = ARRAY_MAPPED;
        *map = (struct file_map){0};
    }
    file_map_close(map);
}

void array_free(struct array *a) {
    if (!a) return;
    if (a->memory == ARRAY_OWNED) free(a->data);
    if (a->memory == ARRAY_MAPPED) file_map_close(&a->map);
    *a = (struct array){0};
}
