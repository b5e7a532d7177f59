/* SPDX-License-Identifier: MIT */
#include "dtype.h"

static const struct dtype_info infos[CLMOE_DTYPE_COUNT] = {
    [CLMOE_F32] = {"f32", 1, 4, 4},     [CLMOE_F16] = {"f16", 1, 2, 2}, [CLMOE_BF16] = {"bf16", 1, 2, 2},
    [CLMOE_I32] = {"i32", 1, 4, 4},     [CLMOE_U32] = {"u32", 1, 4, 4}, [CLMOE_U8] = {"u8", 1, 1, 1},
    [CLMOE_Q8_0] = {"q8_0", 32, 34, 2},
};

const struct dtype_info *dtype_info(enum clmoe_dtype dtype) {
    return (unsigned)dtype < CLMOE_DTYPE_COUNT ? &infos[dtype] : NULL;
}

bool dtype_is_float(enum clmoe_dtype dtype) {
    return dtype == CLMOE_F32 || dtype == CLMOE_F16 || dtype == CLMOE_BF16;
}
