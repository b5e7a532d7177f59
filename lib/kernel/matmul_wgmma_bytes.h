/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a for weights of 8 bits: fp8 and int8, with scales. */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_BYTES_H
#define CLMOE_KERNEL_MATMUL_WGMMA_BYTES_H

#include "row.h"

/* As MATMUL_FEW_TOKENS, for these weights (H200, DeepSeek-V3: as fast as matmul_few_mma at 2 tokens, 1.14
 * times at 4, 1.27 at 8). */
enum { MATMUL_BYTES_FEW_TOKENS = 2 };

/* Steps of K that have one scale at least, if not all have. */
enum { MATMUL_BYTES_STEPS = 128 };
bool matmul_wgmma_bytes_here(const struct device *dev, const void *problem);

bool matmul_wgmma_bytes_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_bytes_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_bytes_run(const struct run *run);

#endif
