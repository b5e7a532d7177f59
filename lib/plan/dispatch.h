/* SPDX-License-Identifier: MIT
 * First fit: the choice of a kernel row, with the reasons why better rows were refused. */
#ifndef CLMOE_PLAN_DISPATCH_H
#define CLMOE_PLAN_DISPATCH_H

#include "plan.h"

/* Fills row, kernels, workspace_size and description of a new plan. `names`: NULL or the allowed rows. */
enum clmoe_status dispatch(clmoe_plan *plan, const struct kernel_table *table, const char *names, bool stage);

/* CLMOE_E_INVALID if a name in the list belongs to none of the operations `ops` (ends with NULL). `ops` may
 * be NULL: all operations. */
enum clmoe_status dispatch_check_names(const struct log *log, const char *names, const char *const *ops);

#endif
