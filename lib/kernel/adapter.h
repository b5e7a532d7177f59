/* SPDX-License-Identifier: MIT
 * adapter: expert ids and adapter ids -> ids of virtual experts, one for each adapter of each expert. */
#ifndef CLMOE_KERNEL_ADAPTER_H
#define CLMOE_KERNEL_ADAPTER_H

#include "row.h"

struct adapter_problem {
    int32_t topk, experts, adapters;
};

struct adapter_call {
    int64_t pairs;
    struct operand ids, adapters, scales, virtuals, weights; /* scales may be absent */
};

extern const struct kernel_table adapter_table;

#endif
