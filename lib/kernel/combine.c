/* SPDX-License-Identifier: MIT */
#include "combine.h"

static bool rows_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void rows_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct combine_problem *const p = problem;
    const int64_t local =
        dev->caps.max_work_group < 128 ? floor_pow2((int64_t)dev->caps.max_work_group) : 128;
    struct kernel_spec *const spec = recipe_add(recipe, "combine/rows.cl", "combine_rows", (size_t)local);
    spec_define(spec, "X_T", "%s", dtype_info(p->x_dtype)->name);
    spec_define(spec, "Y_T", "%s", dtype_info(p->y_dtype)->name);
    spec_define(spec, "SHARED_T", "%s", dtype_info(p->shared_dtype)->name);
    spec_define(spec, "SORTED", "%d", p->sorted);
    spec_define(spec, "HAS_IDS", "%d", p->ids);
    spec_define(spec, "HAS_GAMMA", "%d", p->gamma);
    spec_define(spec, "HAS_RESIDUAL", "%d", p->residual);
    spec_define(spec, "HAS_SHARED", "%d", p->shared);
    spec_define(spec, "HAS_IDENTITY", "%d", p->identity);
}

static enum clmoe_status rows_run(const struct run *run) {
    const struct combine_problem *const p = run->problem;
    const struct combine_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->y.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->inverse.mem, c->inverse.offset);
    bind_view(&b, c->gamma.mem, c->gamma.offset);
    bind_i64(&b, c->gamma.stride[0]);
    bind_view(&b, c->residual.mem, c->residual.offset);
    bind_i64(&b, c->residual.stride[0]);
    bind_view(&b, c->shared.mem, c->shared.offset);
    bind_i64(&b, c->shared.stride[0]);
    bind_view(&b, c->identity.mem, c->identity.offset);
    bind_view(&b, c->identity_x.mem, c->identity_x.offset);
    bind_i64(&b, c->identity_x.stride[0]);
    bind_view(&b, c->y.mem, c->y.offset);
    bind_i64(&b, c->y.stride[0]);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    bind_i64(&b, p->hidden);
    bind_f32(&b, p->scale);
    bind_f32(&b, p->shared_scale);
    TRY(bind_end(&b, run->launch->log));
    const int64_t column_groups = ceil_div(p->hidden, (int64_t)run->local[0]);
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(c->tokens * column_groups), run->local[0]);
}

static const struct kernel_row rows[] = {
    {"combine_rows", rows_fits, rows_prepare, rows_run},
};

const struct kernel_table combine_table = {"combine", rows, sizeof rows / sizeof *rows};
