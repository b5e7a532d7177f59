/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_COMBINE_H
#define CLMOE_KERNEL_COMBINE_H

#include "row.h"

struct combine_problem {
    int64_t max_tokens, hidden;
    int32_t topk, experts;
    enum clmoe_dtype x_dtype, y_dtype;
    bool sorted, ids, gamma, residual, shared;
    float scale; /* 1 by default */
};

struct combine_call {
    int64_t tokens;
    struct operand x, ids, inverse, gamma, residual, shared, y;
};

extern const struct kernel_table combine_table;

#endif
