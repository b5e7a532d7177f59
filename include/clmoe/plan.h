/* SPDX-License-Identifier: MIT
 *
 * A plan is an operation that is ready to run: arguments checked, kernels chosen and compiled, workspace
 * known. Making one may compile for seconds; enqueueing one allocates nothing, compiles nothing and looks
 * nothing up.
 *
 * A plan is made for a maximum number of rows and runs any smaller number, zero included.
 *
 * Thread-safety: a plan belongs to one thread at a time (it owns cl_kernel objects, whose arguments are
 * state). A plan that needs a workspace must not run twice at the same time on the device either: chain the
 * calls by an in-order queue or by events, or make a second plan.
 */
#ifndef CLMOE_PLAN_H
#define CLMOE_PLAN_H

#include "common.h"
#include "context.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clmoe_plan clmoe_plan;

/* Common to all operations; `{0}` is right for most callers. */
struct clmoe_plan_options {
    /* NULL: the first row of the kernel table that fits. Otherwise the names of the rows that may be used,
     * separated by commas, as clmoe_plan_describe prints them. In a layer a name restricts only the operation
     * it belongs to. CLMOE_E_INVALID if no operation of the plan knows a name; CLMOE_E_UNSUPPORTED if no
     * allowed row fits. */
    const char *kernel;
    /* 0: the plan allocates its own workspace when it is made. 1: the caller gives one with
     * clmoe_plan_set_workspace before the first enqueue, so that plans which never run at the same time can
     * share it. Counters, at most 128 bytes for each row that runs at a time, stay the plan's own. */
    int external_workspace;
};

/* Bytes of device memory the plan needs while it runs; 0 if none. What the bytes hold before a run does not
 * matter. */
CLMOE_API uint64_t clmoe_plan_workspace_size(const clmoe_plan *plan);

/* Binds `mem`, from byte `offset` (a multiple of 256) on, as the workspace. The caller keeps ownership and
 * keeps the buffer alive until the last run is over. CLMOE_E_INVALID: NULL arguments, a plan with its own
 * workspace, a buffer of another context or too small, a misaligned offset. */
CLMOE_API enum clmoe_status clmoe_plan_set_workspace(clmoe_plan *plan, cl_mem mem, uint64_t offset);

/* One line for each operation of the plan: its name, the chosen kernel, and for each better row why it was
 * refused, as in "topk: topk_bitonic (topk_lanes: n = 4096 > 1024)". A row whose program does not build is
 * refused, too: the reason has the first error of the compiler, and a warning in the context's log says so,
 * behind the whole build log. Lives as long as the plan. */
CLMOE_API const char *clmoe_plan_describe(const clmoe_plan *plan);

/* The rows of the kernel table of one operation ("topk", "scatter", "route", "permute", "matmul",
 * "matmul_pack", "combine", "adapter", "quant", "offload"), best first: returns the name of row `index`, NULL
 * past the last or for an unknown operation. Thread-safety: safe. */
CLMOE_API const char *clmoe_kernel_name(const char *op, int index);

/* What `clmoe tune` may change in a row (context.h has how). */
struct clmoe_parameter {
    const char *name;  /* as in "TK" */
    const int *values; /* that it may have; not all of them go together, or on every device */
    int n_values;
};

/* Parameter `index` of the row called `kernel`: 1, or 0 past the last one and for an unknown row. Plans that
 * run a tuned row say so: "matmul: matmul_tile_64x64 [TK=32 ...]". Thread-safety: safe. */
CLMOE_API int clmoe_kernel_parameter(const char *kernel, int index, struct clmoe_parameter *parameter);

/* Releases a plan. Kernels that were enqueued still run to their end. */
CLMOE_API void clmoe_plan_destroy(clmoe_plan **plan);

/* About every enqueue function, said once:
 * - `queue` must be of the plan's context and device; in-order and out-of-order queues both work.
 * - The work starts after the `n_wait` events of `wait` (NULL with 0). `*event`, if `event` is not NULL,
 * completes after the last kernel; the caller releases it. It is set also when there was nothing to do.
 * - Buffers must stay alive until the work is over.
 * - CLMOE_E_INVALID: an argument breaks a rule; nothing was enqueued. CLMOE_E_OPENCL: a call failed on the
 * way; kernels that were already enqueued may still run, and outputs are undefined. `*event` is NULL after
 * any failure. */

#ifdef __cplusplus
}
#endif
#endif
