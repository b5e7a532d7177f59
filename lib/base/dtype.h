/* SPDX-License-Identifier: MIT
 * What the host layer knows of each dtype. */
#ifndef CLMOE_BASE_DTYPE_H
#define CLMOE_BASE_DTYPE_H

#include "clmoe/tensor.h"

#include <stdbool.h>

enum dtype_kind {
    KIND_UNSIGNED = 0,
    KIND_SIGNED,
    KIND_FLOAT,
    KIND_BLOCKS, /* of a quantised format */
    KIND_CODES,  /* of one, with scales elsewhere */
};

struct dtype_info {
    const char *name; /* also the suffix of load_*, elem_* .. in cl/common/dtype.cl and blocks.cl */
    int block;        /* elements of a block; 1 for plain types */
    int bytes;        /* bytes of a block */
    int unit;         /* bytes of elem_*, what pointers in kernels count in; offsets are multiples of it */
    enum dtype_kind kind;
};

/* NULL for a value outside the enum. */
const struct dtype_info *dtype_info(enum clmoe_dtype dtype);

/* CLMOE_F32, CLMOE_F16 or CLMOE_BF16. */
bool dtype_is_float(enum clmoe_dtype dtype);

/* A block format. */
bool dtype_is_block(enum clmoe_dtype dtype);

/* As weights it has scales in a tensor of their own. */
bool dtype_is_scaled(enum clmoe_dtype dtype);

/* Any integer or floating dtype, of which each element is a number by itself. */
bool dtype_is_plain(enum clmoe_dtype dtype);

/* Whether an element can be `v`: any number for floating dtypes, one in range for integers. For plain
 * dtypes. */
bool dtype_holds(enum clmoe_dtype dtype, union clmoe_scalar v);

/* The element `v`, which must be held, as it lies in memory: in the low bits, rounded to nearest, ties to
 * even. For plain dtypes. */
uint64_t dtype_bits(enum clmoe_dtype dtype, union clmoe_scalar v);

#endif
