/* SPDX-License-Identifier: MIT
 * matmul's row for 4-bit codes in words, as AWQ and GPTQ store them, on NVIDIA's tensor cores. */
#ifndef CLMOE_KERNEL_MATMUL_WORDS_H
#define CLMOE_KERNEL_MATMUL_WORDS_H

#include "matmul.h"

bool matmul_words_mma_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_words_mma_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_words_mma_run(const struct run *run);
extern const struct tunable matmul_words_mma_tunables[];

#endif
