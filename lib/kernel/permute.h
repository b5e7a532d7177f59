/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_PERMUTE_H
#define CLMOE_KERNEL_PERMUTE_H

#include "row.h"

struct permute_problem {
    int64_t max_tokens;
    int32_t topk, experts;
};

struct permute_call {
    int64_t pairs;
    struct operand ids, counts, offsets, order, inverse; /* inverse may be absent */
};

extern const struct kernel_table permute_table;

#endif
