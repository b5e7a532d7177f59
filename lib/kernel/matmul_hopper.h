/* SPDX-License-Identifier: MIT
 * What the rows of matmul on sm_90a share: they have kernels for tiles of a few heights, of which each call
 * takes one, and behind these the one for operands that the kernels' copies cannot address. */
#ifndef CLMOE_KERNEL_MATMUL_HOPPER_H
#define CLMOE_KERNEL_MATMUL_HOPPER_H

#include "matmul_rows.h"

/* Work-items of a work-group: a group of four warps that fetches and two that multiply. */
enum { HOPPER_LOCAL = 384, HOPPER_UNALIGNED_EDGE = 64 };

/* A height: pairs and rows of w of a tile, stages of the ring, work-groups on a unit. A row of the table has
 * some, from the lowest on, which has most work-groups on a unit; behind the highest one `pairs` is 0. */
struct hopper_height {
    int pairs, rows, stages, groups;
};
enum { HOPPER_HEIGHTS = 6 };

/* What all ask of a problem and of the device, whose work-groups have `local` work-items. */
bool hopper_fits(const struct device *dev, const struct matmul_problem *p, int local, struct reason *why);

/* Whether the pair at position i has row i of x. */
bool hopper_contiguous(const struct matmul_problem *p);

/* Work-items of a work-group with four warps more that gather rows of x, where these are no neighbours. */
int hopper_local(const struct matmul_problem *p);

/* The lowest one that holds one and a half times the pairs of an average expert, or the last one. */
int hopper_height(const struct matmul_problem *p, const struct hopper_height *heights, int64_t pairs);

/* That of the largest call: a plan has no kernels for higher ones. */
int hopper_highest(const struct matmul_problem *p, const struct hopper_height *heights);

/* Adds the kernel of a height, with what all define. */
struct kernel_spec *hopper_add_kernel(const struct matmul_problem *p, struct recipe *recipe, const char *file,
                                      const char *entry, const struct hopper_height *height, int local);

/* Behind the last of them: the kernel for other operands, tensor maps and counters. */
void hopper_end(const struct device *dev, const struct matmul_problem *p, const struct hopper_height *heights,
                struct recipe *recipe);

/* Of these only room for tensor maps and counters. */
void hopper_space(const struct device *dev, const struct hopper_height *heights, struct recipe *recipe);

/* Whether one tensor map can have both gate and up. */
bool hopper_alike(const struct matmul_part *part);

/* Bytes of so many weights that follow one another. */
int64_t hopper_bytes_of(const struct matmul_problem *p, int64_t elements);

/* Whether kernels that count what an expert has by 32 bits reach all of it. */
bool hopper_within_reach(const struct matmul_problem *p, const struct columns *c);

/* A part by the kernel of a height, or by that for other operands. */
enum clmoe_status hopper_run(const struct run *run, const struct matmul_part *part,
                             const struct hopper_height *heights, int height);
enum clmoe_status hopper_run_other(const struct run *run, const struct matmul_part *part,
                                   const struct hopper_height *heights);

#endif
