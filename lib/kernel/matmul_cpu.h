/* SPDX-License-Identifier: MIT
 * The rows of matmul's table for CPU devices. */
#ifndef CLMOE_KERNEL_MATMUL_CPU_H
#define CLMOE_KERNEL_MATMUL_CPU_H

#include "row.h"

extern const struct tunable matmul_cpu_tunables[], matmul_cpu_dot_tunables[];

/* Columns of w in the lanes of vectors: packed weights, or [E, K, R]. */
bool matmul_cpu_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_cpu_run(const struct run *run);

/* Steps of K in the lanes: [E, R, K] as it is. */
bool matmul_cpu_dot_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_cpu_dot_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_cpu_dot_run(const struct run *run);

/* Words of 4-bit codes, as AWQ and GPTQ have them. Its tunables are matmul_cpu_tunables. */
bool matmul_cpu_words_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_cpu_words_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_cpu_words_run(const struct run *run);

#endif
