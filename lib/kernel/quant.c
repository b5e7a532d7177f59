/* SPDX-License-Identifier: MIT */
#include "quant.h"

#define PACK_LANES 4 /* as in q8_0_lanes.cl */
#define UNPACK_LANES 8
#define LOCAL 128

static const char *entry(const struct quant_problem *p) {
    return p->mode == CLMOE_QUANT_PACK ? "q8_0_pack" : "q8_0_unpack";
}

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)problem;
    if (dev->features & CLMOE_FEATURE_CPU)
        return refuse(why, "a CPU gains nothing from neighbouring work-items on neighbouring addresses");
    if (dev->caps.max_work_group < UNPACK_LANES)
        return refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, UNPACK_LANES);
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
        recipe_add(recipe, file, entry(p), (size_t)(largest < LOCAL ? largest : LOCAL));
    spec_define(spec, "X_T", "%s", dtype_info(p->plain)->name);
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/q8_0_lanes.cl", recipe);
}

static void block_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/q8_0_block.cl", recipe);
}

static enum clmoe_status launch_blocks(const struct run *run, int64_t lanes) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    const int64_t length = dtype_info(p->block)->block, blocks = c->rows * (p->n / length);
    struct bind b = bind_begin(run->kernels[0], c->x.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_view(&b, c->q.mem, c->q.offset);
    bind_i64(&b, c->q.stride[0] / length);
    bind_i64(&b, p->n / length);
    bind_i64(&b, blocks);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0],
                         (uint64_t)ceil_div(blocks * lanes, (int64_t)run->local[0]), run->local[0]);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    return launch_blocks(run, p->mode == CLMOE_QUANT_PACK ? PACK_LANES : UNPACK_LANES);
}

static enum clmoe_status block_run(const struct run *run) {
    return launch_blocks(run, 1);
}

static const struct kernel_row rows[] = {
    {"quant_q8_0_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"quant_q8_0_block", block_fits, block_prepare, block_run},
};

const struct kernel_table quant_table = {"quant", rows, sizeof rows / sizeof *rows};
