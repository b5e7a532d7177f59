/* SPDX-License-Identifier: MIT
 * Rows of topk's table that have files of their own: for each the three functions of struct kernel_row. */
#ifndef CLMOE_KERNEL_TOPK_ROWS_H
#define CLMOE_KERNEL_TOPK_ROWS_H

#include "row.h"

#define TOPK_ROW_FUNCTIONS(name)                                                                             \
    bool name##_fits(const struct device *dev, const void *problem, struct reason *why);                     \
    void name##_prepare(const struct device *dev, const void *problem, struct recipe *recipe);               \
    enum clmoe_status name##_run(const struct run *run)

TOPK_ROW_FUNCTIONS(topk_radix);
TOPK_ROW_FUNCTIONS(topk_packed);
TOPK_ROW_FUNCTIONS(topk_team);
TOPK_ROW_FUNCTIONS(topk_filter);

bool topk_group_fits(const struct device *dev, const void *problem, struct reason *why);
void topk_group_prepare(const struct device *dev, const void *problem, struct recipe *recipe);

/* The same without inline PTX; the run functions are shared. */
void topk_packed_local_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
void topk_team_local_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
bool topk_filter_local_fits(const struct device *dev, const void *problem, struct reason *why);
void topk_filter_local_prepare(const struct device *dev, const void *problem, struct recipe *recipe);

bool topk_cpu_fits(const struct device *dev, const void *problem, struct reason *why);
void topk_cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status topk_cpu_run(const struct run *run);

#endif
