/* SPDX-License-Identifier: MIT */
#include "matmul_pack.h"

#include "matmul_parts.h"

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const int64_t most = (int64_t)dev->caps.max_work_group;
    const int64_t local = most < 128 ? floor_pow2(most) : 128;
    struct kernel_spec *const spec = recipe_add(recipe, "matmul/pack.cl", "matmul_pack", (size_t)local);
    spec_define(spec, "W_T", "%s", dtype_info(p->w_dtype)->name);
    spec_define(spec, "GLU", "%d", p->glu != CLMOE_GLU_NONE);
}

static void bind_source(struct bind *b, const struct columns *c) {
    bind_view(b, c->mem, c->skip);
    bind_i64(b, c->expert);
    bind_i64(b, c->column);
    bind_i64(b, c->depth);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_pack_call *const c = run->call;
    const int64_t panels = matmul_panels(p);
    for (int32_t i = 0; i < c->n_w; i++) {
        const struct matmul_part part = matmul_part_at(p, c->w, c->w_up, i, 0);
        const struct clmoe_tensor *const packed = &c->packed[i];
        struct bind b = run_bind(run, 0, packed->mem);
        bind_source(&b, &part.gate);
        bind_source(&b, &part.up);
        bind_view(&b, packed->mem, packed->offset / (uint64_t)dtype_info(p->w_dtype)->unit);
        bind_i64(&b, panels);
        bind_i64(&b, p->in);
        bind_i64(&b, p->out);
        const int64_t items = part.count * panels * (p->in / dtype_info(p->w_dtype)->block) * MATMUL_PANEL;
        bind_i64(&b, items);
        TRY(bind_end(&b, run->launch->log));
        TRY(launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(items, (int64_t)run->local[0]),
                          run->local[0]));
    }
    return CLMOE_OK;
}

static const struct kernel_row rows[] = {
    {"matmul_pack_lanes", lanes_fits, lanes_prepare, lanes_run},
};

const struct kernel_table matmul_pack_table = {"matmul_pack", rows, sizeof rows / sizeof *rows};
