/* SPDX-License-Identifier: MIT
 * Rows of matmul's table that run on matrix instructions (cl/matmul/matrix.cl): for each the three functions
 * of struct kernel_row. */
#ifndef CLMOE_KERNEL_MATMUL_MATRIX_H
#define CLMOE_KERNEL_MATMUL_MATRIX_H

#include "row.h"

#define MATMUL_ROW_FUNCTIONS(name)                                                                           \
    bool name##_fits(const struct device *dev, const void *problem, struct reason *why);                     \
    void name##_prepare(const struct device *dev, const void *problem, struct recipe *recipe);               \
    enum clmoe_status name##_run(const struct run *run)

MATMUL_ROW_FUNCTIONS(matmul_mfma);
MATMUL_ROW_FUNCTIONS(matmul_wmma_11);
MATMUL_ROW_FUNCTIONS(matmul_wmma_12);
MATMUL_ROW_FUNCTIONS(matmul_dpas_8);
MATMUL_ROW_FUNCTIONS(matmul_dpas_16);
MATMUL_ROW_FUNCTIONS(matmul_mma);

#endif
