/* SPDX-License-Identifier: MIT
 * The row of matmul's table for mma.sync with asynchronous copies (cl/matmul/mma.cl). */
#ifndef CLMOE_KERNEL_MATMUL_MMA_H
#define CLMOE_KERNEL_MATMUL_MMA_H

#include "matmul_matrix.h"

MATMUL_ROW_FUNCTIONS(matmul_mma_async);
extern const struct tunable matmul_mma_async_tunables[];

#endif
