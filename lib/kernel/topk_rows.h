/* SPDX-License-Identifier: MIT
 * Rows of topk's table that have files of their own: for each the three functions of struct kernel_row. */
#ifndef CLMOE_KERNEL_TOPK_ROWS_H
#define CLMOE_KERNEL_TOPK_ROWS_H

#include "row.h"

bool topk_radix_fits(const struct device *dev, const void *problem, struct reason *why);
void topk_radix_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status topk_radix_run(const struct run *run);

bool topk_cpu_fits(const struct device *dev, const void *problem, struct reason *why);
void topk_cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status topk_cpu_run(const struct run *run);

#endif
