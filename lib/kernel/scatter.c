/* SPDX-License-Identifier: MIT */
#include "scatter.h"

/* Elements of a row that a work-group owns: 8 KiB of local memory, since ADD keeps two numbers of each. */
static int64_t segment_length(const struct scatter_problem *p) {
    return p->mode == CLMOE_SCATTER_ADD ? 1024 : 2048;
}

#define SEGMENT_LOCAL_MEM 8192

/* Up to here elements that look at all slots themselves are cheaper than a work-group with two barriers
 * (measured on PoCL: n = 100, k = 2 three times, n = 128, k = 8 as fast; n = 2048, k = 4 half as fast). */
#define SMALL_WORK 1024
#define SMALL_K 16

static bool segment_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct scatter_problem *const p = problem;
    if (dev->caps.local_mem < SEGMENT_LOCAL_MEM)
        return refuse(why, "local memory %llu < %d", (unsigned long long)dev->caps.local_mem,
                      SEGMENT_LOCAL_MEM);
    if (p->k <= SMALL_K && p->n * p->k <= SMALL_WORK)
        return refuse(why, "k = %lld <= %d and n * k = %lld <= %d", (long long)p->k, SMALL_K,
                      (long long)(p->n * p->k), SMALL_WORK);
    return true;
}

static struct kernel_spec *add_kernel(const struct device *dev, const struct scatter_problem *p,
                                      int64_t wanted, const char *file, const char *entry,
                                      struct recipe *recipe) {
    static const char *const modes[] = {"MODE_SET", "MODE_MASK", "MODE_ADD"};
    const int64_t largest = floor_pow2((int64_t)dev->caps.max_work_group);
    struct kernel_spec *const spec =
        recipe_add(recipe, file, entry, (size_t)(largest < wanted ? largest : wanted));
    spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
    spec_define(spec, "MODE", "%s", modes[p->mode]);
    return spec;
}

static void segment_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct scatter_problem *const p = problem;
    struct kernel_spec *const spec = add_kernel(dev, p, 256, "scatter/segment.cl", "scatter_segment", recipe);
    spec_define(spec, "SEGMENT", "%lld", (long long)segment_length(p));
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, 128, "scatter/ref.cl", "scatter_ref", recipe);
}

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

/* Work-groups take `columns` elements of one row. */
static enum clmoe_status launch_columns(const struct run *run, int64_t columns) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    if (p->mode == CLMOE_SCATTER_ADD && p->k == 0) return CLMOE_OK;
    const struct operand *const source = p->mode == CLMOE_SCATTER_MASK ? &c->x : &c->values;
    struct bind b = bind_begin(run->kernels[0], c->y.mem);
    bind_view(&b, c->indices.mem, c->indices.offset);
    bind_i64(&b, c->indices.stride[0]);
    bind_view(&b, source->mem, source->offset);
    bind_i64(&b, source->stride[0]);
    bind_view(&b, c->slot_scale.mem, c->slot_scale.offset);
    bind_i64(&b, c->slot_scale.stride[0]);
    bind_i32(&b, p->slot_scale);
    bind_view(&b, c->column_scale.mem, c->column_scale.offset);
    bind_i32(&b, p->column_scale);
    bind_view(&b, c->y.mem, c->y.offset);
    bind_i64(&b, c->y.stride[0]);
    bind_i64(&b, p->n);
    bind_i32(&b, p->k);
    bind_f32(&b, p->fill);
    bind_f32(&b, p->scale);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(c->rows * ceil_div(p->n, columns)),
                         run->local[0]);
}

static enum clmoe_status segment_run(const struct run *run) {
    return launch_columns(run, segment_length(run->problem));
}

static enum clmoe_status ref_run(const struct run *run) {
    return launch_columns(run, (int64_t)run->local[0]);
}

static const struct kernel_row rows[] = {
    {"scatter_segment", segment_fits, segment_prepare, segment_run},
    {"scatter_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table scatter_table = {"scatter", rows, sizeof rows / sizeof *rows};
