/* SPDX-License-Identifier: MIT
 * The row of matmul's table for coded weights on mma.sync (cl/matmul/mma_blocks.cl). */
#ifndef CLMOE_KERNEL_MATMUL_MMA_BLOCKS_H
#define CLMOE_KERNEL_MATMUL_MMA_BLOCKS_H

#include "matmul_rows.h"

/* Up to so many pairs kernels that read weights for every pair win: on an H200 both take as long at 1.3 to 1.7
 * pairs for each expert of Mixtral (q4_0, q8_0, q4_K, int8), at 1 of Qwen3-30B-A3B, at less of gpt-oss (q4_0,
 * q8_0). */
static inline int64_t matmul_blocks_few_pairs(int64_t experts) {
    return experts * 5 / 4;
}

/* The same for a problem, INT64_MAX where this row is not. */
int64_t matmul_mma_blocks_few(const struct device *dev, const struct matmul_problem *p);

bool matmul_mma_blocks_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_mma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_mma_blocks_run(const struct run *run);

/* Of the row's heights one by itself, for a row that has others above it: adds its kernel, which has to be as
 * many in the recipe; whether it can load what a call has; a part by it. */
void matmul_mma_blocks_add(const struct device *dev, const struct matmul_problem *p, int height,
                           struct recipe *recipe);
bool matmul_mma_blocks_reaches(const struct matmul_problem *p, const struct matmul_call *c,
                               const struct matmul_part *part);
enum clmoe_status matmul_mma_blocks_launch(const struct run *run, const struct matmul_part *part, int height);

#endif
