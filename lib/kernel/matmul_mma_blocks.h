/* SPDX-License-Identifier: MIT
 * The row of matmul's table for coded weights on mma.sync (cl/matmul/mma_blocks.cl). */
#ifndef CLMOE_KERNEL_MATMUL_MMA_BLOCKS_H
#define CLMOE_KERNEL_MATMUL_MMA_BLOCKS_H

#include "row.h"

/* Up to so many pairs kernels that read weights for every pair win: at 14, 2 for each expert that has any,
 * both took as long on an H200 (Mixtral, q4_0). */
static inline int64_t matmul_blocks_few_pairs(int64_t experts) {
    return experts * 7 / 4;
}
bool matmul_mma_blocks_here(const struct device *dev, const void *problem);

bool matmul_mma_blocks_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_mma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_mma_blocks_run(const struct run *run);

#endif
