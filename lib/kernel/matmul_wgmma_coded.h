/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a for weights of four bits with scales that are powers of two. */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_CODED_H
#define CLMOE_KERNEL_MATMUL_WGMMA_CODED_H

#include "row.h"

/* As MATMUL_FEW_TOKENS, for these weights: kernels that read them for every pair decode as much for it as
 * this row for all pairs of an expert, so that it loses where experts have one. */
enum { MATMUL_CODED_FEW_TOKENS = 4 };
bool matmul_wgmma_coded_here(const struct device *dev, const void *problem);

bool matmul_wgmma_coded_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_coded_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_coded_run(const struct run *run);

#endif
