/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_SCATTER_H
#define CLMOE_KERNEL_SCATTER_H

#include "clmoe/scatter.h"
#include "row.h"

struct scatter_problem {
    int64_t max_rows, n, k; /* n and k at most 2^31 */
    enum clmoe_dtype dtype, index_dtype;
    enum clmoe_scatter_mode mode;
    uint64_t fill; /* as an element lies in memory */
    float scale;   /* 1 by default */
    bool slot_scale, column_scale, from_x, no_values;
};

/* Dimension 1 of operands is along a row; those of two dimensions have stride 0 along dimension 2. */
struct scatter_call {
    int64_t outer, inner; /* rows */
    struct operand indices, values, x, slot_scale, column_scale, y;
};

extern const struct kernel_table scatter_table;

#endif
