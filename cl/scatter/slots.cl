// SPDX-License-Identifier: MIT
// What the scatter kernels share: their parameters, and what one slot brings.
//
//   s = scale * (slot_scale[r,j] if given) * (column_scale[i] if given), in this order, in fp32
//
// `source` is values [rows, k] for SET and ADD, x [rows, n] for MASK. Where s is 1 elements are copied as bits: through
// fp32 a NaN could lose its payload and a denormal its value. Products and sums stay apart (no fma), so that every
// device rounds the same way.
#include "common/dtype.cl"

#pragma OPENCL FP_CONTRACT OFF

#define MODE_SET 0
#define MODE_MASK 1
#define MODE_ADD 2

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef X_T
#error "X_T: f32, f16 or bf16, of values, x and y"
#endif
#ifndef MODE
#error "MODE: MODE_SET, MODE_MASK or MODE_ADD"
#endif

typedef uint bits_f32;
typedef ushort bits_f16;
typedef ushort bits_bf16;
#define BITS CAT(bits_, X_T)

// Everything of one row.
struct row {
    const global int *indices;
    const global ELEM(X_T) *source;
    const global float *slot_scale, *column_scale;
    global ELEM(X_T) *y;
    int has_slot_scale, has_column_scale;
    float scale;
};

inline float factor(const struct row *r, uint j, long i) {
    float s = r->scale;
    if (r->has_slot_scale) s *= r->slot_scale[j];
    if (r->has_column_scale) s *= r->column_scale[i];
    return s;
}

// SET and MASK: y[i] from slot j.
inline void put(const struct row *r, uint j, long i) {
    const ulong from = MODE == MODE_MASK ? (ulong)i : (ulong)j;
    const float s = factor(r, j, i);
    if (s == 1.0f)
        ((global BITS *)r->y)[i] = ((const global BITS *)r->source)[from];
    else
        STORE(X_T, r->y, i, s * LOAD(X_T, r->source, from));
}

// ADD: y[i] plus the slots first..last that name i. There is at least one.
inline void add(const struct row *r, uint first, uint last, long i) {
    float sum = LOAD(X_T, r->y, i);
    for (uint j = first; j <= last; j++) {
        if (r->indices[j] != i) continue;
        const float term = factor(r, j, i) * LOAD(X_T, r->source, j);
        sum += term;
    }
    STORE(X_T, r->y, i, sum);
}

#define ROW_PARAMS                                                                                               \
    const global int *indices, ulong indices_skip, long indices_stride, const global ELEM(X_T) *source,          \
        ulong source_skip, long source_stride, const global float *slot_scale, ulong slot_scale_skip,            \
        long slot_scale_stride, int has_slot_scale, const global float *column_scale, ulong column_scale_skip,   \
        int has_column_scale, global ELEM(X_T) *y, ulong y_skip, long y_stride, long n, int k, float fill,       \
        float scale

#define ROW_AT(at)                                                                                               \
    {indices + indices_skip + (at) * indices_stride, source + source_skip + (at) * source_stride,                \
     slot_scale + slot_scale_skip + (at) * slot_scale_stride, column_scale + column_scale_skip,                  \
     y + y_skip + (at) * y_stride, has_slot_scale, has_column_scale, scale}
