/* SPDX-License-Identifier: MIT
 * Life of a plan: layers, workspace, enqueue, destruction. Choosing a row is in dispatch.c. */
#include "plan.h"

#include "device/clerr.h"
#include "dispatch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_ALIGN 256

void clmoe_plan_destroy(clmoe_plan **handle) {
    if (!handle || !*handle) return;
    clmoe_plan *const plan = *handle;
    for (int i = 0; i < plan->n_stages; i++)
        clmoe_plan_destroy(&plan->stages[i]);
    for (int i = 0; i < plan->n_kernels; i++)
        clReleaseKernel(plan->kernels[i]);
    if (plan->workspace && !plan->workspace_external) clReleaseMemObject(plan->workspace);
    if (plan->counters) clReleaseMemObject(plan->counters);
    free(plan->bound);
    str_free(&plan->description);
    context_release(plan->ctx);
    free(plan->problem);
    free(plan->host);
    free(plan);
    *handle = NULL;
}

uint64_t clmoe_plan_workspace_size(const clmoe_plan *plan) {
    return plan ? plan->workspace_size : 0;
}

const char *clmoe_plan_describe(const clmoe_plan *plan) {
    return plan && plan->description.text ? plan->description.text : "";
}

/* A layer's stages use the part behind the layer's own bytes. What kernels are bound to is forgotten: a new
 * buffer may have the handle of one that is no more. */
static void bind_workspace(clmoe_plan *plan, cl_mem mem, const struct buffer *is, uint64_t offset) {
    plan->workspace = mem;
    plan->workspace_is = *is;
    plan->workspace_offset = offset;
    if (plan->bound) memset(plan->bound, 0, (size_t)plan->n_kernels * sizeof *plan->bound);
    for (int i = 0; i < plan->n_stages; i++)
        bind_workspace(plan->stages[i], mem, is, offset + plan->own_bytes);
}

enum clmoe_status clmoe_plan_set_workspace(clmoe_plan *plan, cl_mem mem, uint64_t offset) {
    if (!plan) return CLMOE_E_INVALID;
    const struct log *const log = &plan->ctx->log;
    REQUIRE(log, mem != NULL, "mem is NULL");
    REQUIRE(log, plan->workspace_external, "the plan was made with external_workspace = 0 and has its own");
    REQUIRE(log, offset % WORKSPACE_ALIGN == 0, "offset = %llu", (unsigned long long)offset);
    struct buffer is;
    TRY(buffer_read(log, mem, &is));
    REQUIRE(log, is.context == plan->ctx->dev.context, "the buffer belongs to another context");
    REQUIRE(log, offset <= is.size && plan->workspace_size <= is.size - offset,
            "workspace_size = %llu, offset = %llu, buffer of %zu bytes",
            (unsigned long long)plan->workspace_size, (unsigned long long)offset, is.size);
    bind_workspace(plan, mem, &is, offset);
    return CLMOE_OK;
}

static enum clmoe_status allocate_workspace(clmoe_plan *plan) {
    if (plan->workspace_external || plan->workspace_size == 0) return CLMOE_OK;
    const struct log *const log = &plan->ctx->log;
    if (plan->workspace_size > plan->ctx->dev.caps.max_alloc) {
        log_msg(log, CLMOE_LOG_ERROR, "%s: a workspace of %llu bytes, but a buffer may have %llu", plan->op,
                (unsigned long long)plan->workspace_size, (unsigned long long)plan->ctx->dev.caps.max_alloc);
        return CLMOE_E_UNSUPPORTED;
    }
    cl_int err;
    const cl_mem mem =
        clCreateBuffer(plan->ctx->dev.context, CL_MEM_READ_WRITE, (size_t)plan->workspace_size, NULL, &err);
    if (err != CL_SUCCESS) return clerr_report(log, err, "clCreateBuffer(workspace)");
    struct buffer is;
    const enum clmoe_status status = buffer_read(log, mem, &is);
    if (status == CLMOE_OK)
        bind_workspace(plan, mem, &is, 0);
    else
        clReleaseMemObject(mem);
    return status;
}

/* Counters are small, and the plan's own even if the caller gives the workspace: what that holds is unknown.
 */
static enum clmoe_status allocate_counters(clmoe_plan *plan) {
    if (plan->counters_size == 0) return CLMOE_OK;
    void *const zeros = calloc(1, (size_t)plan->counters_size);
    if (!zeros) return CLMOE_E_NO_MEMORY;
    cl_int err;
    plan->counters = clCreateBuffer(plan->ctx->dev.context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                    (size_t)plan->counters_size, zeros, &err);
    free(zeros);
    return err == CL_SUCCESS ? CLMOE_OK : clerr_report(&plan->ctx->log, err, "clCreateBuffer(counters)");
}

static enum clmoe_status allocate_bound(clmoe_plan *plan) {
    plan->bound = calloc((size_t)plan->n_kernels + 1, sizeof *plan->bound);
    return plan->bound ? CLMOE_OK : CLMOE_E_NO_MEMORY;
}

struct clmoe_plan_options plan_stage_options(const struct clmoe_plan_options *options) {
    return (struct clmoe_plan_options){.kernel = options->kernel, .external_workspace = 1};
}

static enum clmoe_status new_plan(struct clmoe_context *ctx, const char *op, const void *problem, size_t size,
                                  bool external, clmoe_plan **out) {
    clmoe_plan *const plan = calloc(1, sizeof *plan);
    if (!plan) return CLMOE_E_NO_MEMORY;
    plan->ctx = ctx;
    plan->op = op;
    plan->workspace_external = external;
    context_retain(ctx);
    plan->problem = malloc(size);
    if (!plan->problem) {
        clmoe_plan_destroy((clmoe_plan *[]){plan});
        return CLMOE_E_NO_MEMORY;
    }
    memcpy(plan->problem, problem, size);
    *out = plan;
    return CLMOE_OK;
}

enum clmoe_status plan_make(struct clmoe_context *ctx, const struct kernel_table *table, const void *problem,
                            size_t problem_size, const struct clmoe_plan_options *options, bool stage,
                            clmoe_plan **out) {
    clmoe_plan *plan = NULL;
    TRY(new_plan(ctx, table->op, problem, problem_size, options->external_workspace, &plan));
    enum clmoe_status status = dispatch(plan, table, options->kernel, stage);
    if (status == CLMOE_OK) status = allocate_bound(plan);
    if (status == CLMOE_OK) status = allocate_workspace(plan);
    if (status == CLMOE_OK) status = allocate_counters(plan);
    if (status != CLMOE_OK) clmoe_plan_destroy(&plan);
    *out = plan;
    return status;
}

enum clmoe_status plan_make_layer(struct clmoe_context *ctx, const char *op, const void *problem,
                                  size_t problem_size, const struct clmoe_plan_options *options,
                                  clmoe_plan **plan) {
    TRY(dispatch_check_names(&ctx->log, options->kernel, NULL));
    return new_plan(ctx, op, problem, problem_size, options->external_workspace, plan);
}

void plan_add_stage(clmoe_plan *layer, clmoe_plan *stage) {
    assert(layer->n_stages < PLAN_STAGES);
    layer->stages[layer->n_stages++] = stage;
}

enum clmoe_status plan_finish_layer(clmoe_plan *layer, const char *names, uint64_t own_bytes) {
    uint64_t shared = 0;
    const char *ops[PLAN_STAGES + 1] = {NULL};
    for (int i = 0; i < layer->n_stages; i++)
        ops[i] = layer->stages[i]->op;
    TRY(dispatch_check_names(&layer->ctx->log, names, ops));
    for (int i = 0; i < layer->n_stages; i++) {
        const clmoe_plan *const stage = layer->stages[i];
        if (stage->workspace_size > shared) shared = stage->workspace_size;
        str_printf(&layer->description, "%s%s", i ? "\n" : "", clmoe_plan_describe(stage));
    }
    if (layer->description.failed) return CLMOE_E_NO_MEMORY;
    layer->own_bytes = (own_bytes + WORKSPACE_ALIGN - 1) / WORKSPACE_ALIGN * WORKSPACE_ALIGN;
    layer->workspace_size = layer->own_bytes + shared;
    return allocate_workspace(layer);
}

enum clmoe_status plan_check_enqueue(const clmoe_plan *plan, const char *op, cl_command_queue queue,
                                     const void *args, cl_uint n_wait, const cl_event *wait,
                                     cl_event *event) {
    if (event) *event = NULL;
    if (!plan) return CLMOE_E_INVALID;
    const struct log *const log = &plan->ctx->log;
    REQUIRE(log, strcmp(plan->op, op) == 0, "the plan is for %s, not %s", plan->op, op);
    REQUIRE(log, queue != NULL, "queue is NULL");
    REQUIRE(log, args != NULL, "args is NULL");
    REQUIRE(log, (n_wait == 0) == (wait == NULL), "n_wait = %u, wait = %p", (unsigned)n_wait,
            (const void *)wait);
    for (cl_uint i = 0; i < n_wait; i++)
        REQUIRE(log, wait[i] != NULL, "wait[%u] is NULL", (unsigned)i);
    cl_context context = NULL;
    cl_device_id device = NULL;
    TRY_CL(log, clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL));
    TRY_CL(log, clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof device, &device, NULL));
    REQUIRE(log, context == plan->ctx->dev.context, "the queue belongs to another context");
    REQUIRE(log, device == plan->ctx->dev.id, "the queue belongs to another device");
    REQUIRE(log, plan->workspace_size == 0 || plan->workspace,
            "the plan needs a workspace of %llu bytes: clmoe_plan_set_workspace",
            (unsigned long long)plan->workspace_size);
    return CLMOE_OK;
}

enum clmoe_status plan_launch(const clmoe_plan *plan, const void *call, struct launch *launch) {
    const struct run run = {
        .dev = &plan->ctx->dev,
        .problem = plan->problem,
        .call = call,
        .kernels = plan->kernels,
        .local = plan->local,
        .bound = plan->bound,
        .workspace = plan->workspace,
        .workspace_offset = plan->workspace_offset,
        .counters = plan->counters,
        .params = plan->params,
        .n_kernels = plan->n_kernels,
        .launch = launch,
    };
    return plan->row->run(&run);
}

enum clmoe_status plan_enqueue(const clmoe_plan *plan, const void *call, cl_command_queue queue,
                               cl_uint n_wait, const cl_event *wait, cl_event *event) {
    struct launch launch;
    TRY(launch_begin(&launch, &plan->ctx->log, queue, n_wait, wait, event));
    return launch_end(&launch, plan_launch(plan, call, &launch));
}
