/* SPDX-License-Identifier: MIT */
#include "adapter.h"

static bool pairs_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void pairs_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)problem;
    const int64_t local = dev->caps.max_work_group < 64 ? floor_pow2((int64_t)dev->caps.max_work_group) : 64;
    recipe_add(recipe, "adapter/pairs.cl", "adapter_pairs", (size_t)local);
}

static enum clmoe_status pairs_run(const struct run *run) {
    const struct adapter_problem *const p = run->problem;
    const struct adapter_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->virtuals.mem);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->adapters.mem, c->adapters.offset);
    bind_view(&b, c->scales.mem, c->scales.offset);
    bind_i32(&b, c->scales.mem != NULL);
    bind_view(&b, c->virtuals.mem, c->virtuals.offset);
    bind_i64(&b, c->virtuals.stride[0]);
    bind_view(&b, c->weights.mem, c->weights.offset);
    bind_i64(&b, c->weights.stride[0]);
    bind_i64(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    bind_i32(&b, p->adapters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->pairs, (int64_t)run->local[0]),
                         run->local[0]);
}

static const struct kernel_row rows[] = {
    {"adapter_pairs", pairs_fits, pairs_prepare, pairs_run},
};

const struct kernel_table adapter_table = {"adapter", rows, sizeof rows / sizeof *rows};
