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

enum { EACH = 8 }; /* columns of a work-item */

/* Of a row's place in its buffer, in bytes, the bits that say how it is aligned. */
static uint64_t place(const struct operand *rows, enum clmoe_dtype dtype) {
    return rows->mem ? (rows->offset | (uint64_t)rows->stride[0]) * (uint64_t)clmoe_dtype_bytes(dtype, 1) : 0;
}

/* Whether the columns of every row may be read by eights, 16 bytes at a time. */
static bool wide(const struct combine_problem *p, const struct combine_call *c) {
    const uint64_t places = place(&c->x, p->x_dtype) | place(&c->shared, p->shared_dtype) |
                            place(&c->residual, p->y_dtype) | place(&c->identity_x, p->y_dtype) |
                            place(&c->y, p->y_dtype);
    return p->hidden % EACH == 0 && places % 16 == 0;
}

static void bind_views(struct bind *b, const struct operand *v, const struct operand *w) {
    bind_long4(b, (int64_t[]){(int64_t)v->offset, v->stride[0], (int64_t)w->offset, w->stride[0]});
}

static enum clmoe_status rows_run(const struct run *run) {
    const struct combine_problem *const p = run->problem;
    const struct combine_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->y.mem);
    const cl_mem buffers[] = {c->x.mem,        c->ids.mem,        c->inverse.mem,
                              c->gamma.mem,    c->residual.mem,   c->shared.mem,
                              c->identity.mem, c->identity_x.mem, c->y.mem};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        bind_mem(&b, buffers[i]);
    bind_views(&b, &c->x, &c->y);
    bind_views(&b, &c->ids, &c->gamma);
    bind_views(&b, &c->residual, &c->shared);
    bind_long4(&b, (int64_t[]){(int64_t)c->identity.offset, (int64_t)c->identity_x.offset,
                               c->identity_x.stride[0], (int64_t)c->inverse.offset});
    bind_long4(&b, (int64_t[]){p->topk, p->experts, p->hidden, wide(p, c)});
    bind_float4(&b, (float[]){p->scale, p->shared_scale, 0.0f, 0.0f});
    TRY(bind_end(&b, run->launch->log));
    const int64_t column_groups = ceil_div(p->hidden, EACH * (int64_t)run->local[0]);
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(c->tokens * column_groups), run->local[0]);
}

static const struct kernel_row rows[] = {
    {"combine_rows", rows_fits, rows_prepare, rows_run},
};

const struct kernel_table combine_table = {"combine", rows, sizeof rows / sizeof *rows};
