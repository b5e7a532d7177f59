/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a for fp8 weights. */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_FP8_H
#define CLMOE_KERNEL_MATMUL_WGMMA_FP8_H

#include "row.h"

/* As MATMUL_FEW_TOKENS, for these weights: twice MATMUL_CODED_FEW_TOKENS, not measured. */
enum { MATMUL_FP8_FEW_TOKENS = 8 };
bool matmul_wgmma_fp8_here(const struct device *dev, const void *problem);

bool matmul_wgmma_fp8_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_fp8_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_fp8_run(const struct run *run);

#endif
