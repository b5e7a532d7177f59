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

/* counts, offsets, order and inverse, as all of permute's kernels take them. */
void permute_bind_outputs(struct bind *b, const struct permute_call *c);

/* -D options of cl/permute/sort.cl, of which the including kernel has defined PTX; the bytes of local memory
 * that it takes of a work-group of `local`. */
void permute_define_sort(struct kernel_spec *spec, int32_t experts);
uint64_t permute_sort_bytes(int32_t experts, int64_t local);

extern const struct kernel_table permute_table;

#endif
