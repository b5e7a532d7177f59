/* SPDX-License-Identifier: MIT
 * What the host layer knows of each dtype. */
#ifndef CLMOE_BASE_DTYPE_H
#define CLMOE_BASE_DTYPE_H

#include "clmoe/tensor.h"

#include <stdbool.h>

struct dtype_info {
    const char *name; /* also the suffix of load_*, store_* and elem_* in cl/common/dtype.cl */
    int block;        /* elements of a block; 1 for plain types */
    int bytes;        /* bytes of a block */
    int unit;         /* bytes of elem_*, what pointers in kernels count in; offsets are multiples of it */
};

/* NULL for a value outside the enum. */
const struct dtype_info *dtype_info(enum clmoe_dtype dtype);

/* CLMOE_F32, CLMOE_F16 or CLMOE_BF16. */
bool dtype_is_float(enum clmoe_dtype dtype);

#endif
