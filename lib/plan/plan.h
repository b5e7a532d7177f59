/* SPDX-License-Identifier: MIT
 * The plan object. Two kinds: a plan of one operation has a row of its kernel table and that row's kernels; a
 * layer has stages, which are plans that share its workspace. */
#ifndef CLMOE_PLAN_PLAN_H
#define CLMOE_PLAN_PLAN_H

#include "clmoe/plan.h"
#include "base/str.h"
#include "context.h"
#include "device/buffer.h"
#include "kernel/row.h"

#define PLAN_STAGES 32

struct clmoe_plan {
    struct clmoe_context *ctx;
    const char *op;
    void *problem; /* owned copy of the operation's problem struct */
    struct str description;

    const struct kernel_row *row; /* NULL for a layer */
    int params[ROW_PARAMS];       /* of the row's recipe */
    bool tuned;                   /* they are not the row's own */
    cl_kernel kernels[RECIPE_KERNELS];
    size_t local[RECIPE_KERNELS];
    int n_kernels;
    struct bound *bound; /* owned: of each kernel, with the plan's workspace and counters for its own */

    clmoe_plan *stages[PLAN_STAGES]; /* owned */
    int n_stages;
    uint64_t own_bytes; /* layer: bytes of the workspace before the part the stages share */

    uint64_t workspace_size;
    bool workspace_external;
    cl_mem workspace; /* owned unless external */
    struct buffer workspace_is;
    uint64_t workspace_offset;

    void *host; /* owned: of a layer that works on the host, too */

    uint64_t counters_size;
    cl_mem counters; /* owned; zero at first */
};

/* Makes a plan of one operation: copies the problem, takes the first row of `table` that fits and is allowed,
 * builds its kernels, allocates the workspace unless the options say otherwise. `stage` says that the plan is
 * part of a layer, so that names of other operations in options->kernel are no error. */
enum clmoe_status plan_make(struct clmoe_context *ctx, const struct kernel_table *table, const void *problem,
                            size_t problem_size, const struct clmoe_plan_options *options, bool stage,
                            clmoe_plan **plan);

/* Options for a stage of a layer that was given `options`. */
struct clmoe_plan_options plan_stage_options(const struct clmoe_plan_options *options);

/* Makes a layer without stages. */
enum clmoe_status plan_make_layer(struct clmoe_context *ctx, const char *op, const void *problem,
                                  size_t problem_size, const struct clmoe_plan_options *options,
                                  clmoe_plan **plan);

/* The layer takes the stage over. */
void plan_add_stage(clmoe_plan *layer, clmoe_plan *stage);

/* After the last stage: the workspace is `own_bytes` of the layer, then the largest workspace of a stage.
 * Each of `names`, which the caller allowed, must be a kernel of some stage. */
enum clmoe_status plan_finish_layer(clmoe_plan *layer, const char *names, uint64_t own_bytes);

/* Checks that come before an operation looks at its own args: handles, kind of plan, queue, wait list,
 * workspace. */
enum clmoe_status plan_check_enqueue(const clmoe_plan *plan, const char *op, cl_command_queue queue,
                                     const void *args, cl_uint n_wait, const cl_event *wait, cl_event *event);

/* Runs the kernels of a one-operation plan inside a chain of launches. */
enum clmoe_status plan_launch(const clmoe_plan *plan, const void *call, struct launch *launch);

/* Runs a one-operation plan as a chain of its own. */
enum clmoe_status plan_enqueue(const clmoe_plan *plan, const void *call, cl_command_queue queue,
                               cl_uint n_wait, const cl_event *wait, cl_event *event);

#endif
