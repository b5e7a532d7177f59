/* SPDX-License-Identifier: MIT
 * Rows of matmul's table for few rows of x on any GPU: cl/matmul/few.cl where K is fastest in the weights,
 * cl/matmul/few_columns.cl for every other order. */
#ifndef CLMOE_KERNEL_MATMUL_FEW_H
#define CLMOE_KERNEL_MATMUL_FEW_H

#include "row.h"

extern const struct tunable matmul_few_tunables[], matmul_few_columns_tunables[];

bool matmul_few_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_few_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_few_run(const struct run *run);

bool matmul_few_columns_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_few_columns_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_few_columns_run(const struct run *run);

#endif
