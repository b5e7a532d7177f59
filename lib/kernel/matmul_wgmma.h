/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a. */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_H
#define CLMOE_KERNEL_MATMUL_WGMMA_H

#include "matmul.h"

/* Where that row is, it reads weights once for all pairs of an expert: from so many tokens on sorted pairs
 * win over kernels that read them for every pair (H200, bf16, Mixtral, Qwen3-30B, gpt-oss, DeepSeek-V3: at 1
 * token they lose 1.0 to 1.7 times, at 8 they win 1.05 to 2.3 times). */
enum { MATMUL_FEW_TOKENS = 2 };
bool matmul_wgmma_here(const struct device *dev, const void *problem);

bool matmul_wgmma_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_run(const struct run *run);

#endif
