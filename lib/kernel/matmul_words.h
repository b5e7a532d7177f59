/* SPDX-License-Identifier: MIT
 * matmul's row for 4-bit codes in words, as AWQ and GPTQ store them, on NVIDIA's tensor cores. */
#ifndef CLMOE_KERNEL_MATMUL_WORDS_H
#define CLMOE_KERNEL_MATMUL_WORDS_H

#include "matmul_parts.h"

/* Steps that share a scale: of more than 128 as many. */
int matmul_words_scale_steps(const struct matmul_problem *p);

bool matmul_words_mma_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_words_mma_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_words_mma_run(const struct run *run);
extern const struct tunable matmul_words_mma_tunables[];

/* Its lowest tiles, of 8 rows, as kernel `kernel` of another row's recipe; for sorted or dense pairs. */
void matmul_words_add_lowest(const struct device *dev, const struct matmul_problem *p, struct recipe *recipe);
enum clmoe_status matmul_words_run_lowest(const struct run *run, int kernel, const struct matmul_part *part);

#endif
