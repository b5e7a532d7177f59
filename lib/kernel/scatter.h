/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_SCATTER_H
#define CLMOE_KERNEL_SCATTER_H

#include "clmoe/scatter.h"
#include "row.h"

struct scatter_problem {
    int64_t max_rows, n, k;
    enum clmoe_dtype dtype;
    enum clmoe_scatter_mode mode;
    float fill, scale; /* scale 1 by default */
    bool slot_scale, column_scale;
};

struct scatter_call {
    int64_t rows;
    struct operand indices, values, x, slot_scale, column_scale, y;
};

extern const struct kernel_table scatter_table;

#endif
