// SPDX-License-Identifier: MIT
//
// A dense array in host memory: what the command reads from files and writes to them.
//
// Elements lie in C order (the last dimension is contiguous), without padding, little-endian, aligned at
// least to their own size. ndim 0 is a scalar of one element; a dimension of 0 makes an array of no elements.
// All sizes are 64-bit and every product is checked: a shape whose elements or bytes do not fit PTRDIFF_MAX
// is refused.
//
// Ownership: `memory` says where the data lives. array_free() gives back what the array owns and nothing
// else, and every function that makes an array leaves it `{0}` on failure, so that freeing it is always
// right.
#ifndef CLMOE_TOOLS_IO_ARRAY_H
#define CLMOE_TOOLS_IO_ARRAY_H

#include "error.h"
#include "map.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_MAX_DIMS 8

enum array_dtype {
    ARRAY_F32,
    ARRAY_F16,  // IEEE binary16
    ARRAY_BF16, // the upper half of a binary32
    ARRAY_F64,
    ARRAY_I8,
    ARRAY_U8,
    ARRAY_I16,
    ARRAY_U16,
    ARRAY_I32,
    ARRAY_U32,
    ARRAY_I64,
    ARRAY_U64,
    ARRAY_BOOL,    // one byte, zero or not
    ARRAY_F8_E4M3, // finite: no infinity, 0x7f and 0xff are NaN, largest 448
    ARRAY_F8_E5M2, // the upper half of a binary16
    ARRAY_DTYPE_COUNT
};

enum array_memory {
    ARRAY_EMPTY,    // `{0}`: there is no array
    ARRAY_OWNED,    // malloc, given back by array_free()
    ARRAY_MAPPED,   // inside `map`, unmapped by array_free(); read only: a write is a fault
    ARRAY_BORROWED, // somebody else's, who must outlive the array; read only
};

// Thread-safety: reading is safe from every thread; making and freeing belong to one.
struct array {
    enum array_dtype dtype;
    enum array_memory memory;
    int ndim;                      // 0..ARRAY_MAX_DIMS
    int64_t shape[ARRAY_MAX_DIMS]; // each >= 0; entries from ndim on are 0
    void *data;                    // never NULL in an array that was made, even with no elements
    size_t bytes;                  // elements * element size
    struct file_map map;           // of ARRAY_MAPPED
};

// "f32", "bf16", "i64", "bool", "f8_e4m3"...
const char *array_dtype_name(enum array_dtype dtype);

// Bytes of one element: 1, 2, 4 or 8.
size_t array_dtype_size(enum array_dtype dtype);

// True for the integer types; BOOL is none.
bool array_dtype_is_integer(enum array_dtype dtype);

// The number of elements of a shape, 1 for ndim 0. False when a dimension is negative or the product
// overflows (a zero dimension makes it 0 whatever the others are).
bool array_shape_count(int ndim, const int64_t *shape, int64_t *count);

// The same in bytes of `dtype`, at most PTRDIFF_MAX.
bool array_shape_bytes(enum array_dtype dtype, int ndim, const int64_t *shape, size_t *bytes);

// Room for any shape as text: "(3, 4)", "(3,)", "()" as numpy prints it.
#define ARRAY_SHAPE_TEXT 256
struct array_text {
    char text[ARRAY_SHAPE_TEXT];
};
struct array_text array_shape_text(int ndim, const int64_t *shape);

// Elements of an array that was made; it cannot overflow.
int64_t array_count(const struct array *a);

// A zero-filled array of its own. `name` stands in the error, which says the shape, or that memory ran out.
bool array_alloc(const char *name, enum array_dtype dtype, int ndim, const int64_t *shape, struct array *out,
                 struct io_error *err);

// An array over `data`, which holds at least the bytes of the shape: ARRAY_BORROWED when `data` is aligned
// for `dtype`, an owned copy when it is not.
bool array_view(const char *name, enum array_dtype dtype, int ndim, const int64_t *shape, const void *data,
                struct array *out, struct io_error *err);

// Hands `map` to an array that was viewed in it: a borrowed array becomes ARRAY_MAPPED; an owned one needs no
// map, which is closed. `map` is `{0}` afterwards.
void array_adopt_map(struct array *a, struct file_map *map);

// Gives back what the array owns and makes it `{0}`. Valid on `{0}` and NULL.
void array_free(struct array *a);

// Conversions. Each makes an owned array of the same shape.
//
// To f32, from every type: exact from f16, bf16, f8 and the integers of up to 16 bits, else rounded to
// nearest even; bool gives 0 and 1; NaN stays NaN.
bool array_to_f32(const char *name, const struct array *a, struct array *out, struct io_error *err);

// From an F32 array to F32, F16, BF16 or F64, rounded to nearest even, too large becomes infinity. Other
// types are an error.
bool array_from_f32(const char *name, const struct array *a, enum array_dtype dtype, struct array *out,
                    struct io_error *err);

// From an integer array to I32 (ids, indices). A value that does not fit is an error that says which and
// where.
bool array_to_i32(const char *name, const struct array *a, struct array *out, struct io_error *err);

// One element. Decoding is exact, NaN payloads included. Encoding rounds to nearest even, overflows to
// infinity, keeps the sign of zero and the upper payload bits of a NaN (never turning one into an infinity).
float array_f16_to_f32(uint16_t bits);
float array_bf16_to_f32(uint16_t bits);
float array_f8_e4m3_to_f32(uint8_t bits);
float array_f8_e5m2_to_f32(uint8_t bits);
uint16_t array_f32_to_f16(float value);
uint16_t array_f32_to_bf16(float value);

#endif
