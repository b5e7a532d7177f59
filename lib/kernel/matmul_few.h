/* SPDX-License-Identifier: MIT
 * Rows of matmul's table for few rows of x on any GPU: cl/matmul/few.cl where K is fastest in the weights,
 * cl/matmul/few_columns.cl for every other order. */
#ifndef CLMOE_KERNEL_MATMUL_FEW_H
#define CLMOE_KERNEL_MATMUL_FEW_H

#include "matmul_rows.h"

extern const struct tunable matmul_few_tunables[], matmul_few_columns_tunables[];

bool matmul_few_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_few_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_few_run(const struct run *run);

bool matmul_few_columns_fits(const struct device *dev, const void *problem, struct reason *why);
void matmul_few_columns_prepare(const struct device *dev, const void *problem, struct recipe *recipe);
enum clmoe_status matmul_few_columns_run(const struct run *run);

/* ---- for the other rows of few rows of x ---- */

/* Formats as numbers of cl/matmul/few_words.cl; 0: none of them. */
int matmul_few_words(enum clmoe_dtype dtype);

/* Whether so few rows are best read straight from the ids. */
bool matmul_few_pays(const struct device *dev, const struct matmul_problem *p, struct reason *why);

/* SUMS and SUM_T of cl/matmul/few_sums.cl. */
void matmul_few_define_sums(const struct matmul_problem *p, struct kernel_spec *spec);

/* Calls `part_run` for each part of the weights, of a call whose y is where the sums go if it asks for
 * them. */
enum clmoe_status matmul_few_each_part(const struct run *run,
                                       enum clmoe_status (*part_run)(const struct run *,
                                                                     const struct matmul_part *));

/* MATMUL_ARGS SUM_ARGS of the recipe's only kernel, which may take more. */
struct bind matmul_few_bind(const struct run *run, const struct matmul_part *part, int slot_bits);

#endif
