/* SPDX-License-Identifier: MIT */
#include "quant.h"

/* As in cl/quant/lanes.cl: elements of a lane. */
#define PACK_RUN 8
#define UNPACK_RUN 4
#define PACK_LANES (32 / PACK_RUN)

#define LOCAL 128

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct quant_problem *const p = problem;
    if (dev->features & CLMOE_FEATURE_CPU)
        return refuse(why, "a CPU gains nothing from neighbouring work-items on neighbouring addresses");
    if (p->mode == CLMOE_QUANT_PACK && p->block != CLMOE_Q8_0)
        return refuse(why, "packs q8_0 only: elements of other lanes share the bytes of %s",
                      dtype_info(p->block)->name);
    if (dev->caps.max_work_group < PACK_LANES)
        return refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, PACK_LANES);
    if (dev->caps.local_mem < LOCAL * 4)
        return refuse(why, "local memory %llu < %d", (unsigned long long)dev->caps.local_mem, LOCAL * 4);
    return true;
}

static bool block_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void add_kernel(const struct device *dev, const struct quant_problem *p, const char *file,
                       struct recipe *recipe) {
    const int64_t largest = floor_pow2((int64_t)dev->caps.max_work_group);
    struct kernel_spec *const spec =
        recipe_add(recipe, file, p->mode == CLMOE_QUANT_PACK ? "quant_pack" : "quant_unpack",
                   (size_t)(largest < LOCAL ? largest : LOCAL));
    spec_define(spec, "X_T", "%s", dtype_info(p->plain)->name);
    spec_define(spec, "Q_T", "%s", dtype_info(p->block)->name);
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/lanes.cl", recipe);
}

static void block_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/block.cl", recipe);
}

/* One work-item for every `part` elements of a row. */
static enum clmoe_status launch_parts(const struct run *run, int64_t part) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    const int64_t parts = p->n / part, all = c->rows * parts;
    struct bind b = run_bind(run, 0, c->x.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_view(&b, c->q.mem, c->q.offset);
    bind_i64(&b, c->q.stride[0] / dtype_info(p->block)->block);
    bind_i64(&b, parts);
    bind_i64(&b, all);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(all, (int64_t)run->local[0]),
                         run->local[0]);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    return launch_parts(run, p->mode == CLMOE_QUANT_PACK ? PACK_RUN : UNPACK_RUN);
}

static enum clmoe_status block_run(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    return launch_parts(run, p->mode == CLMOE_QUANT_PACK ? dtype_info(p->block)->block : 16);
}

static const struct kernel_row rows[] = {
    {"quant_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"quant_block", block_fits, block_prepare, block_run},
};

const struct kernel_table quant_table = {"quant", rows, sizeof rows / sizeof *rows};
