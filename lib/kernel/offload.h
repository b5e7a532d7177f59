/* SPDX-License-Identifier: MIT
 * offload: expert ids -> numbers of slots, and of experts that are in none. */
#ifndef CLMOE_KERNEL_OFFLOAD_H
#define CLMOE_KERNEL_OFFLOAD_H

#include "row.h"

struct offload_problem {
    int32_t topk, experts;
};

struct offload_call {
    int64_t pairs;
    struct operand ids, map, numbers; /* numbers is contiguous */
};

extern const struct kernel_table offload_table;

#endif
