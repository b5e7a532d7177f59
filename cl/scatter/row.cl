// SPDX-License-Identifier: MIT
// What the scatter kernels share: their parameters, a row of a call, and what one slot brings.
//
//   s = scale * (slot_scale[r,j] if given) * (column_scale[i] if given), in this order, in fp32
//
// Rows have two numbers, b and a: those along the outer dimension and along the inner one, in the order that the host
// finds better; neighbours in a work-group follow a. A view is (offset, stride of b, stride of a, stride along a row),
// all in elements:
//   element i of row (b, a) of t is  t[t_at.s0 + b * t_at.s1 + a * t_at.s2 + i * t_at.s3]
//
// `source` is values, of slots, or x, of elements. Elements move as bits wherever s is 1: through fp32 a NaN could lose
// its payload and a denormal its value. Products and sums stay apart (no fma), so that every device rounds the same
// way.
#include "common/dtype.cl"

#pragma OPENCL FP_CONTRACT OFF

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef X_T
#error "X_T: f32, f16 or bf16 where there is arithmetic; b8, b16, b32 or b64, bits of that size, where there is none"
#endif
#ifndef FOLD
#error "FOLD: 0: slots are placed (SET, MASK), 1: added or multiplied"
#endif

typedef uchar cell_b8;
typedef ushort cell_b16;
typedef uint cell_b32;
typedef ulong cell_b64;
typedef uint cell_f32;
typedef ushort cell_f16;
typedef ushort cell_bf16;
#define CELL CAT(cell_, X_T)
#define CELL_BYTES ((int)sizeof(CELL))

#define moves_b8 1
#define moves_b16 1
#define moves_b32 1
#define moves_b64 1
#define moves_f32 0
#define moves_f16 0
#define moves_bf16 0
#define MOVES CAT(moves_, X_T)

inline uint cell_of_f32(float v) { return as_uint(v); }
inline ushort cell_of_f16(float v) { return round_f16(v); }
inline ushort cell_of_bf16(float v) { return round_bf16(v); }

// Bits of `flags`.
#define HAS_SLOT_SCALE 1
#define HAS_COLUMN_SCALE 2
#define WIDE_IDS 4     // indices are 64 bits wide
#define OF_ELEMENTS 8  // source is x
#define MULTIPLIES 16  // else adds
#define NO_VALUES 32   // all are 1
#define ROWS_FIRST 64  // neighbours in memory are rows, not elements of one row
#define IN_PLACE 128   // x is y
#define MAY_SHIFT 256  // the host counts tiles so that they may begin before their columns

#define NONE 0xffffffffu // an index out of range; n is at most 2^31

struct row {
    const global int *narrow;
    const global long *wide;
    const global CELL *source;
    const global float *slot_scale, *column_scale;
    global CELL *y;
    long id_step, source_step, slot_step, column_step, y_step;
    ulong n;
    int flags;
    float scale;
};

#define START(t, b, a) (t##_at.s0 + (b) * t##_at.s1 + (a) * t##_at.s2)

#define ROW_PARAMS                                                                                                     \
    const global int *indices, long4 indices_at, const global CELL *source, long4 source_at,                           \
        const global float *slot_scale, long4 slot_scale_at, const global float *column_scale, long4 column_scale_at,  \
        global CELL *y, long4 y_at, long a_count, long n, uint k, int flags, ulong fill, float scale

#define ROW_AT(b, a)                                                                                                   \
    {                                                                                                                  \
        indices + START(indices, b, a), (const global long *)indices + START(indices, b, a),                           \
            source + START(source, b, a), slot_scale + START(slot_scale, b, a), column_scale + column_scale_at.s0,     \
            y + START(y, b, a), indices_at.s3, source_at.s3, slot_scale_at.s3, column_scale_at.s3, y_at.s3, (ulong)n,  \
            flags, scale                                                                                               \
    }

// Row `at` of all is (b, a).
#define B_OF(at) ((at) < a_count ? 0 : (at) / a_count)
#define A_OF(at, b) ((at) - (b) * a_count)

inline uint id_at(const struct row *r, uint j) {
    const long at = (long)j * r->id_step;
    const long id = r->flags & WIDE_IDS ? r->wide[at] : (long)r->narrow[at];
    return (ulong)id < r->n ? (uint)id : NONE;
}

#if !MOVES
inline float factor(const struct row *r, uint j, uint i) {
    float s = r->scale;
    if (r->flags & HAS_SLOT_SCALE) s *= r->slot_scale[(long)j * r->slot_step];
    if (r->flags & HAS_COLUMN_SCALE) s *= r->column_scale[(long)i * r->column_step];
    return s;
}

inline float load(const global CELL *p) { return LOAD(X_T, (const global ELEM(X_T) *)p, 0); }
inline CELL cell_of(float v) { return CAT(cell_of_, X_T)(v); }
#endif

#if FOLD
// What y[i] becomes by slot j, which names it.
inline float folded(const struct row *r, float y, uint j, uint i) {
    float term = factor(r, j, i);
    if (!(r->flags & NO_VALUES)) term *= load(r->source + (long)j * r->source_step);
    return r->flags & MULTIPLIES ? y * term : y + term;
}
#else
// What y[i] becomes where slot j names it.
inline CELL placed(const struct row *r, uint j, uint i) {
    const global CELL *const from = r->source + (r->flags & OF_ELEMENTS ? (long)i : (long)j) * r->source_step;
#if MOVES
    return *from;
#else
    const float s = factor(r, j, i);
    return s == 1.0f ? *from : cell_of(s * load(from));
#endif
}
#endif
