/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a for GGUF blocks with scales of 16 bits (cl/matmul/wgmma_coded.cl). */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_BLOCKS_H
#define CLMOE_KERNEL_MATMUL_WGMMA_BLOCKS_H

#include "row.h"

bool matmul_wgmma_blocks_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_blocks_run(const struct run *run);

#endif
