/* SPDX-License-Identifier: MIT */
#include "clmoe/tensor.h"

#include "base/dtype.h"

int64_t clmoe_dtype_bytes(enum clmoe_dtype dtype, int64_t count) {
    const struct dtype_info *const info = dtype_info(dtype);
    if (!info || count < 0 || count % info->block != 0) return -1;
    const int64_t blocks = count / info->block;
    return blocks > INT64_MAX / info->bytes ? -1 : blocks * info->bytes;
}

const char *clmoe_dtype_name(enum clmoe_dtype dtype) {
    const struct dtype_info *const info = dtype_info(dtype);
    return info ? info->name : NULL;
}
