/* SPDX-License-Identifier: MIT
 * What the rows of topk's table share: cl/topk/output.cl and cl/topk/counts.cl seen from the host. */
#ifndef CLMOE_KERNEL_TOPK_BIND_H
#define CLMOE_KERNEL_TOPK_BIND_H

#include "topk.h"

#define TOPK_LISTS (CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES)
#define TOPK_CELLS (CLMOE_TOPK_MASK | CLMOE_TOPK_BITMASK | CLMOE_TOPK_DENSE)

/* Work-items of a work-group: `wanted`, or as many as there may be; a power of two. */
int64_t topk_group(const struct device *dev, int64_t wanted);

/* Bytes of KEY_T: 4 or 8. Its bits that are used: those of an element. */
int topk_key_bytes(const struct topk_problem *p);
int topk_key_bits(const struct topk_problem *p);

/* Whether the best values and indices are all that is wanted, by the defaults of every option. */
bool topk_is_plain(const struct topk_problem *p);

/* Whether rows may have slots that are padding. */
bool topk_pads(const struct topk_problem *p);

/* Adds a kernel of a file that includes topk/output.cl: defines X_T and LOCAL_SIZE. */
struct kernel_spec *topk_kernel(struct recipe *recipe, const struct topk_problem *p, const char *file,
                                const char *entry, int64_t local, bool of_plan);

/* Every recipe ends with this, every run begins with it: counts that are wanted are zeroed by a kernel of
 * their own, the last of the recipe, `kernel` in a run. *done says that nothing else is left to do. */
void topk_prepare_counts(const struct device *dev, const struct topk_problem *p, struct recipe *recipe);
enum clmoe_status topk_begin(const struct run *run, int kernel, bool *done);

/* TOPK_PARAMS. */
void bind_topk(struct bind *b, const struct run *run);

/* Runs of rows with one kernel: a work-group takes one row, or `rows_of_group` rows. */
enum clmoe_status topk_run_row_each(const struct run *run);
enum clmoe_status topk_run_rows(const struct run *run, int64_t rows_of_group);

/* Launches topk_zero on `count` uints. */
enum clmoe_status topk_launch_zero(const struct run *run, int kernel, cl_mem mem, uint64_t offset,
                                   int64_t count);

#endif
