/* SPDX-License-Identifier: MIT
 * The row of matmul on sm_90a for 4-bit codes in words, as AWQ and GPTQ store them. */
#ifndef CLMOE_KERNEL_MATMUL_WGMMA_WORDS_H
#define CLMOE_KERNEL_MATMUL_WGMMA_WORDS_H

#include "row.h"

/* So many for each expert, or fewer, are matmul_words_mma's, in calls of this row's plans, too (H200, Mixtral,
 * 8: GPTQ 297 and 143 us there, 310 and 153 here; 16: 447 and 215, 311 and 152). */
enum { MATMUL_WORDS_FEW_PAIRS = 8 };
bool matmul_wgmma_words_here(const struct device *dev, const void *problem);

bool matmul_wgmma_words_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_wgmma_words_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_wgmma_words_run(const struct run *run);

#endif
