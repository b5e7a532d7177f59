/* SPDX-License-Identifier: MIT */
#include "offload.h"

static bool numbers_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void numbers_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)problem;
    const int64_t local = dev->caps.max_work_group < 64 ? floor_pow2((int64_t)dev->caps.max_work_group) : 64;
    recipe_add(recipe, "offload/numbers.cl", "offload_numbers", (size_t)local);
}

static enum clmoe_status numbers_run(const struct run *run) {
    const struct offload_problem *const p = run->problem;
    const struct offload_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->numbers.mem);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->map.mem, c->map.offset);
    bind_view(&b, c->numbers.mem, c->numbers.offset);
    bind_i64(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->pairs, (int64_t)run->local[0]),
                         run->local[0]);
}

static const struct kernel_row rows[] = {
    {"offload_numbers", numbers_fits, numbers_prepare, numbers_run},
};

const struct kernel_table offload_table = {"offload", rows, sizeof rows / sizeof *rows};
