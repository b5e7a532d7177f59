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

/* Pairs that one work-group sorts at most: their buckets are held. */
enum { PERMUTE_GROUP_PAIRS = 4096 };

/* -D options of cl/permute/sort.cl, of which the including kernel has defined PTX; the bytes of local memory
 * that it takes of a work-group of `local`. */
void permute_define_sort(struct kernel_spec *spec, int32_t experts, int64_t held);
uint64_t permute_sort_bytes(int32_t experts, int64_t held, int64_t local);

/* For a kernel before that sorts up to PERMUTE_GROUP_PAIRS pairs, and counts more of them along the way
 * (cl/route/packed.cl): the kernel that then places these, in plans for so many, and the table that both
 * share in the plan's counters. Devices with PTX only. Where the pairs are counted and cannot be placed, the
 * next call would find the counts: permute_counted_forget. */
bool permute_counted_fits(const struct device *dev, const struct permute_problem *p);
void permute_counted_prepare(const struct device *dev, const struct permute_problem *p,
                             struct recipe *recipe);
/* tickets, table, and the pairs of a chunk: 0 where this call counts none */
void permute_counted_bind(struct bind *b, const struct permute_problem *p, cl_mem counters, bool counts);
enum clmoe_status permute_counted_run(const struct run *run, int kernel, const struct permute_problem *p,
                                      const struct permute_call *c);
enum clmoe_status permute_counted_forget(const struct run *run, const struct permute_problem *p);

extern const struct kernel_table permute_table;

#endif
