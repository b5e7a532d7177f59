/* SPDX-License-Identifier: MIT
 * What rows of matmul's table share, for those that have files of their own. */
#ifndef CLMOE_KERNEL_MATMUL_ROWS_H
#define CLMOE_KERNEL_MATMUL_ROWS_H

#include "matmul.h"
#include "matmul_parts.h"

/* The class of a problem for tuning, as in "f32.q8_0.glu". */
struct matmul_class {
    char text[32];
};
struct matmul_class matmul_class_of(const struct matmul_problem *p);

/* A kernel that takes MATMUL_ARGS of cl/matmul/pair.cl, with what these want defined. */
struct kernel_spec *matmul_add_kernel(const struct matmul_problem *p, struct recipe *recipe, const char *file,
                                      const char *entry, int64_t local);

/* `flags` of all calls of a plan. */
int32_t matmul_flags(const struct matmul_problem *p);

/* Calls `part_run` for each part of the weights. */
enum clmoe_status matmul_each_part(const struct run *run,
                                   enum clmoe_status (*part_run)(const struct run *,
                                                                 const struct matmul_part *));

/* MATMUL_ARGS of cl/matmul/pair.cl, for a kernel of the recipe that may take more. */
struct bind matmul_bind_part(const struct run *run, int kernel, const struct matmul_part *part);

/* Launches a kernel that takes no more. */
enum clmoe_status matmul_launch_part(const struct run *run, int kernel, const struct matmul_part *part,
                                     uint64_t groups);

/* Tiles of 128, 64 or 32 rows (`edge`): as a kernel of another row's recipe. */
void matmul_prepare_tile(const struct matmul_problem *p, int edge, struct recipe *recipe);
enum clmoe_status matmul_run_tile(const struct run *run, int kernel, const struct matmul_part *part,
                                  int edge);

/* One launch for each part; `groups_of` says how many work-groups a part takes. */
enum clmoe_status matmul_run_parts(const struct run *run,
                                   uint64_t (*groups_of)(const struct run *, const struct matmul_part *));

/* Pairs of a call, times the blocks of `width` columns. */
uint64_t matmul_pairs_times_columns(const struct run *run, int64_t width);

/* Slots of cl/matmul/slot.cl, of `height` rows, times blocks of `width` columns. */
uint64_t matmul_slots_times_columns(const struct run *run, const struct matmul_part *part, int64_t height,
                                    int64_t width);

#endif
