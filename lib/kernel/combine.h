/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_COMBINE_H
#define CLMOE_KERNEL_COMBINE_H

#include "row.h"

struct combine_problem {
    int64_t max_tokens, hidden;
    int32_t topk, experts;
    enum clmoe_dtype x_dtype, y_dtype;
    enum clmoe_dtype shared_dtype;
    bool sorted, ids, gamma, residual, shared, identity;
    float scale, shared_scale; /* 1 by default */
};

struct combine_call {
    int64_t tokens;
    struct operand x, ids, inverse, gamma, residual, shared, identity, identity_x, y;
};

extern const struct kernel_table combine_table;

#endif
