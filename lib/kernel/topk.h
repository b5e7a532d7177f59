/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_TOPK_H
#define CLMOE_KERNEL_TOPK_H

#include "row.h"
#include "clmoe/topk.h"

struct topk_problem {
    int64_t max_rows;
    int32_t n, k;
    enum clmoe_dtype dtype;
    bool smallest, nan_lowest;
    enum clmoe_topk_order order;
    uint32_t outputs;  /* at least one */
    float fill, scale; /* scale: 1 by default */
};

struct topk_call {
    int64_t rows;
    struct operand x, values, indices, mask, bitmask, dense;
};

extern const struct kernel_table topk_table;

#endif
