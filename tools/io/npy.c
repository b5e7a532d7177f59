// SPDX-License-Identifier: MIT
//
// The bytes of an npy file: magic, version, header length, header text (npy_header.c), data.
#include "npy.h"
#include "npy_header.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER_ALIGN 64 // of the data, from the start of the file
#define PREFIX_BYTES 10 // of version 1.0: magic, version, two bytes of length
#define MAX_HEADER 65535

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

// As numpy writes them. One-byte types have no byte order there; cnpy writes them with '<', which is read
// too.
static const struct {
    char descr[4];
    enum array_dtype dtype;
} descrs[] = {
    {"<f4", ARRAY_F32}, {"<f2", ARRAY_F16}, {"<V2", ARRAY_BF16}, {"<f8", ARRAY_F64}, {"|i1", ARRAY_I8},
    {"|u1", ARRAY_U8},  {"<i2", ARRAY_I16}, {"<u2", ARRAY_U16},  {"<i4", ARRAY_I32}, {"<u4", ARRAY_U32},
    {"<i8", ARRAY_I64}, {"<u8", ARRAY_U64}, {"|b1", ARRAY_BOOL},
};

#define DESCR_COUNT (sizeof(descrs) / sizeof(descrs[0]))

static bool find_dtype(const char *name, const char *descr, bool bf16, enum array_dtype *dtype,
                       struct io_error *err) {
    const bool void2 = strcmp(descr, "<V2") == 0 || strcmp(descr, "|V2") == 0;
    if (bf16 && (void2 || strcmp(descr, "<u2") == 0)) {
        *dtype = ARRAY_BF16;
        return true;
    }
    if (void2) {
        return io_fail(err, name, "descr '%s' has no type: say that it is bf16 (--bf16)", descr);
    }
    for (size_t i = 0; i < DESCR_COUNT; ++i) {
        const bool same_order =
            descr[0] == descrs[i].descr[0] || (descr[0] == '<' && descrs[i].descr[0] == '|');
        if (same_order && strcmp(descrs[i].descr + 1, descr + 1) == 0) {
            *dtype = descrs[i].dtype;
            return true;
        }
    }
    if (descr[0] == '>')
        return io_fail(err, name, "descr '%s' is big-endian: only little-endian is read", descr);
    if (strcmp(descr, "|O") == 0 || strcmp(descr, "O") == 0) {
        return io_fail(err, name, "descr '%s' is an array of Python objects: save numbers", descr);
    }
    return io_fail(err, name, "descr '%s' is not a supported type", descr);
}

// Finds the header text; the data follows it.
static bool find_header(const char *name, const uint8_t *bytes, size_t size, size_t *begin, size_t *end,
                        struct io_error *err) {
    if (size == 0) return io_fail(err, name, "is empty, expected an npy file");
    if (size < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0) {
        const bool zip = size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
        return io_fail(err, name, "is not an npy file: %s",
                       zip ? "it is a zip archive, perhaps .npz" : "it does not start with \\x93NUMPY");
    }
    if (size < PREFIX_BYTES) return io_fail(err, name, "ends after %zu bytes, inside the prefix", size);
    const unsigned major = bytes[6], minor = bytes[7];
    if (major < 1 || major > 3 || minor != 0) {
        return io_fail(err, name, "npy version %u.%u: expected 1.0, 2.0 or 3.0", major, minor);
    }
    size_t length = bytes[8] | (size_t)bytes[9] << 8;
    *begin = PREFIX_BYTES;
    if (major > 1) {
        *begin += 2;
        if (size < *begin) return io_fail(err, name, "ends after %zu bytes, inside the prefix", size);
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    }
    if (length > MAX_HEADER) {
        return io_fail(err, name, "header of %zu bytes: expected at most %d", length, MAX_HEADER);
    }
    if (length > size - *begin) {
        return io_fail(err, name, "header of %zu bytes, but only %zu follow", length, size - *begin);
    }
    *end = *begin + length;
    return true;
}

// Element (i0, i1, ...) of `from` lies at i0 + shape[0] * (i1 + shape[1] * ...).
static void copy_fortran(const uint8_t *from, struct array *to) {
    const size_t size = array_dtype_size(to->dtype);
    int64_t stride[ARRAY_MAX_DIMS] = {0}, index[ARRAY_MAX_DIMS] = {0};
    int64_t step = (int64_t)size;
    for (int d = 0; d < to->ndim; ++d) {
        stride[d] = step;
        step *= to->shape[d];
    }
    const int64_t count = array_count(to);
    uint8_t *at = to->data;
    for (int64_t i = 0, offset = 0; i < count; ++i, at += size) {
        memcpy(at, from + offset, size);
        for (int d = to->ndim - 1; d >= 0; --d) {
            offset += stride[d];
            if (++index[d] < to->shape[d]) break;
            offset -= stride[d] * to->shape[d];
            index[d] = 0;
        }
    }
}

bool npy_parse(const char *name, const void *bytes, size_t size, bool bf16, struct array *out,
               struct io_error *err) {
    *out = (struct array){0};
    size_t begin, end;
    if (!find_header(name, bytes, size, &begin, &end, err)) return false;
    struct npy_header header;
    if (!npy_header_parse(name, (const char *)bytes + begin, end - begin, &header, err)) return false;
    enum array_dtype dtype;
    if (!find_dtype(name, header.descr, bf16, &dtype, err)) return false;

    const struct array_text shape = array_shape_text(header.ndim, header.shape);
    size_t needed;
    if (!array_shape_bytes(dtype, header.ndim, header.shape, &needed)) {
        return io_fail(err, name, "shape %s of %s: not a size that memory can hold", shape.text,
                       array_dtype_name(dtype));
    }
    if (needed != size - end) {
        return io_fail(err, name, "shape %s of %s needs %zu bytes of data, the file has %zu", shape.text,
                       array_dtype_name(dtype), needed, size - end);
    }
    const uint8_t *data = (const uint8_t *)bytes + end;
    if (header.fortran_order && header.ndim > 1 && needed > 0) {
        if (!array_alloc(name, dtype, header.ndim, header.shape, out, err)) return false;
        copy_fortran(data, out);
        return true;
    }
    return array_view(name, dtype, header.ndim, header.shape, data, out, err);
}

bool npy_load(const char *path, bool bf16, struct array *out, struct io_error *err) {
    *out = (struct array){0};
    struct file_map map;
    if (!file_map_open(path, &map, err)) return false;
    const bool ok = npy_parse(path, map.data, map.size, bf16, out, err);
    array_adopt_map(out, &map);
    return ok;
}

bool npy_save(const char *path, const struct array *a, struct io_error *err) {
    const char *descr = NULL;
    for (size_t i = 0; i < DESCR_COUNT; ++i) {
        if (descrs[i].dtype == a->dtype) descr = descrs[i].descr;
    }
    if (!descr) return io_fail(err, path, "npy has no type for %s", array_dtype_name(a->dtype));

    char head[512]; // 8 dimensions of 20 characters, rounded up to HEADER_ALIGN
    memset(head, ' ', sizeof(head));
    memcpy(head, magic, sizeof(magic));
    head[6] = 1;
    head[7] = 0;
    const int written = snprintf(head + PREFIX_BYTES, sizeof(head) - PREFIX_BYTES,
                                 "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr,
                                 array_shape_text(a->ndim, a->shape).text);
    if (written < 0) return io_fail(err, path, "cannot write the header");
    const size_t text = PREFIX_BYTES + (size_t)written;
    const size_t total = (text + 1 + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    head[text] = ' '; // snprintf's NUL
    head[total - 1] = '\n';
    head[8] = (char)((total - PREFIX_BYTES) & 0xff);
    head[9] = (char)((total - PREFIX_BYTES) >> 8);

    struct output out;
    if (!output_open(path, &out, err)) return false;
    const bool ok = output_write(&out, head, total, err) && output_write(&out, a->data, a->bytes, err);
    return output_commit(&out, ok, err);
}
