/* SPDX-License-Identifier: MIT
 *
 * A tensor is a view of a buffer that the caller owns: cl_mem, byte offset, dtype, shape and strides. It owns
 * nothing and retains nothing; it is a plain value that can be built on the stack for each call.
 *
 * `{0}` is the absent tensor: pass it for optional operands that are not used.
 */
#ifndef CLMOE_TENSOR_H
#define CLMOE_TENSOR_H

#include "common.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_dtype {
    CLMOE_F32 = 0,
    CLMOE_F16,  /* IEEE binary16; needs no cl_khr_fp16 */
    CLMOE_BF16, /* the upper half of an f32 */
    CLMOE_I32,
    CLMOE_U32,
    CLMOE_U8,
    CLMOE_Q8_0, /* a block format, as are those at the end of the list */
    CLMOE_F64,  /* IEEE binary64; only compared and copied, so it needs no cl_khr_fp64 */
    CLMOE_I8,
    CLMOE_I16,
    CLMOE_U16,
    CLMOE_I64,
    CLMOE_U64,
    CLMOE_Q4_0, /* block formats of GGUF files, bit by bit: see quant.h */
    CLMOE_Q5_0,
    CLMOE_Q4_K,
    CLMOE_Q5_K,
    CLMOE_Q6_K,
    CLMOE_MXFP4,
    CLMOE_F8_E4M3, /* codes of weights, whose scales lie in a tensor of their own: see scale.h */
    CLMOE_F4_E2M1,
};
#define CLMOE_DTYPE_COUNT 21

/* One element of any dtype: `f` for floating dtypes, `i` for signed integers, `u` for unsigned ones. {0} is
 * zero for all of them. */
union clmoe_scalar {
    double f;
    int64_t i;
    uint64_t u;
};

#define CLMOE_MAX_DIMS 4

/* Element (i0, i1, ...) lies at byte `offset + size(dtype) * (i0*stride[0] + i1*stride[1] + ...)` of `mem`.
 * Shapes and strides count elements, also in block formats, where every stride but the last must be a
 * multiple of the block length (quant.h; 2 for CLMOE_F4_E2M1). Strides of all zero mean "contiguous, last
 * dimension fastest". Otherwise every stride must be >= 0; the manual page of each operation says for which
 * operands the last stride must be 1. `offset` must be a multiple of the element size (of 2 for block
 * formats, any for CLMOE_MXFP4 and CLMOE_F4_E2M1). Sizes are 64 bits wide everywhere. `mem` must be a buffer
 * (or sub-buffer); one made with CL_MEM_READ_ONLY cannot be an output, one made with CL_MEM_WRITE_ONLY not an
 * input. */
struct clmoe_tensor {
    cl_mem mem;
    uint64_t offset;
    enum clmoe_dtype dtype;
    int32_t ndim;
    int64_t shape[CLMOE_MAX_DIMS];
    int64_t stride[CLMOE_MAX_DIMS];
};

/* Contiguous views of a buffer from its first byte on. */
static inline struct clmoe_tensor clmoe_tensor_1d(cl_mem mem, enum clmoe_dtype dtype, int64_t n) {
    struct clmoe_tensor t = {mem, 0, dtype, 1, {n, 0, 0, 0}, {0, 0, 0, 0}};
    return t;
}
static inline struct clmoe_tensor clmoe_tensor_2d(cl_mem mem, enum clmoe_dtype dtype, int64_t rows,
                                                  int64_t n) {
    struct clmoe_tensor t = {mem, 0, dtype, 2, {rows, n, 0, 0}, {0, 0, 0, 0}};
    return t;
}
static inline struct clmoe_tensor clmoe_tensor_3d(cl_mem mem, enum clmoe_dtype dtype, int64_t d0, int64_t d1,
                                                  int64_t d2) {
    struct clmoe_tensor t = {mem, 0, dtype, 3, {d0, d1, d2, 0}, {0, 0, 0, 0}};
    return t;
}

/* Bytes of a contiguous tensor of `count` elements; -1 if that overflows, `count` is negative, the dtype is
 * unknown or `count` is not a whole number of blocks. Thread-safety: safe. */
CLMOE_API int64_t clmoe_dtype_bytes(enum clmoe_dtype dtype, int64_t count);

/* "f32", "f16", "bf16", "i32", "u32", "u8", "q8_0", "f64", "i8", "i16", "u16", "i64", "u64", "q4_0", "q5_0",
 * "q4_k", "q5_k", "q6_k", "mxfp4", "f8_e4m3", "f4_e2m1"; NULL for anything else. Thread-safety: safe. */
CLMOE_API const char *clmoe_dtype_name(enum clmoe_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
