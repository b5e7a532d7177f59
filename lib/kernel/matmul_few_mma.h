/* SPDX-License-Identifier: MIT
 * The row of matmul's table for few rows of x and coded weights on NVIDIA's tensor cores:
 * cl/matmul/few_mma.cl. */
#ifndef CLMOE_KERNEL_MATMUL_FEW_MMA_H
#define CLMOE_KERNEL_MATMUL_FEW_MMA_H

#include "row.h"

extern const struct tunable matmul_few_mma_tunables[];

bool matmul_few_mma_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_few_mma_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_few_mma_run(const struct run *run);

#endif
