/* SPDX-License-Identifier: MIT */
#include "matmul.h"

#include "matmul_parts.h"

/* Bits of `flags`; the same list is in cl/matmul/pair.cl. */
enum {
    X_TOKEN = 1,
    X_SORTED = 2,
    Y_SORTED = 4,
    SORTED = 8,
    HAS_BIAS = 16,
    HAS_EXPERT_SCALE = 32,
    GAMMA_OUTPUT = 64,
    GAMMA_INPUT = 128,
    K_FASTEST = 256,
    DENSE = 512,
};

static int flags_of(const struct matmul_problem *p) {
    int flags = p->x_rows == CLMOE_ROWS_TOKEN ? X_TOKEN : p->x_rows == CLMOE_ROWS_SORTED ? X_SORTED : 0;
    if (p->y_rows == CLMOE_ROWS_SORTED) flags |= Y_SORTED;
    if (p->sorted) flags |= SORTED;
    if (p->bias) flags |= HAS_BIAS;
    if (p->expert_scale) flags |= HAS_EXPERT_SCALE;
    if (p->gamma == CLMOE_GAMMA_OUTPUT) flags |= GAMMA_OUTPUT;
    if (p->gamma == CLMOE_GAMMA_INPUT) flags |= GAMMA_INPUT;
    if (p->w_order == CLMOE_W_ENK) flags |= K_FASTEST;
    if (p->dense) flags |= DENSE;
    return flags;
}

static struct kernel_spec *add_kernel(const struct matmul_problem *p, struct recipe *recipe, const char *file,
                                      const char *entry, int64_t local) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)local);
    spec_define(spec, "X_T", "%s", dtype_info(p->x_dtype)->name);
    spec_define(spec, "W_T", "%s", dtype_info(p->w_dtype)->name);
    spec_define(spec, "Y_T", "%s", dtype_info(p->y_dtype)->name);
    spec_define(spec, "BIAS_T", "%s", dtype_info(p->bias_dtype)->name);
    spec_define(spec, "GLU", "%d", p->glu != CLMOE_GLU_NONE);
    spec_define(spec, "ACT", "%d", (int)p->act.kind);
    return spec;
}

static void bind_columns(struct bind *b, const struct columns *c) {
    bind_view(b, c->mem, c->skip);
    bind_i64(b, c->expert);
    bind_i64(b, c->column);
}

/* MATMUL_ARGS of cl/matmul/pair.cl, in its order. */
static enum clmoe_status bind_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    struct columns bias, bias_up;
    matmul_bias_columns(p, c, &bias, &bias_up);
    struct bind b = bind_begin(run->kernels[0], c->y.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_columns(&b, &part->gate);
    bind_i64(&b, part->gate.depth);
    bind_columns(&b, &part->up);
    bind_i64(&b, part->up.depth);
    bind_columns(&b, &bias);
    bind_columns(&b, &bias_up);
    bind_view(&b, c->expert_scale.mem, c->expert_scale.offset);
    bind_view(&b, c->gamma.mem, c->gamma.offset);
    bind_i64(&b, c->gamma.stride[0]);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->offsets.mem, c->offsets.offset);
    bind_view(&b, c->order.mem, c->order.offset);
    bind_view(&b, c->y.mem, c->y.offset);
    bind_i64(&b, c->y.stride[0]);
    bind_i64(&b, c->tokens * p->topk);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    bind_i32(&b, part->first);
    bind_i32(&b, part->count);
    bind_i64(&b, p->in);
    bind_i64(&b, p->out);
    bind_i32(&b, p->w_order != CLMOE_W_PACKED ? 0 : p->glu == CLMOE_GLU_NONE ? 5 : 4);
    bind_f32(&b, p->act.alpha);
    bind_f32(&b, p->act.gate_max);
    bind_f32(&b, p->act.up_max);
    bind_f32(&b, p->act.up_add);
    bind_i32(&b, flags_of(p));
    return bind_end(&b, run->launch->log);
}

/* One launch for each part; `groups_of` says how many work-groups a part with `count` experts takes. */
static enum clmoe_status run_parts(const struct run *run,
                                   uint64_t (*groups_of)(const struct run *, const struct matmul_part *)) {
    const struct matmul_call *const c = run->call;
    if (c->tokens == 0) return CLMOE_OK;
    int32_t first = 0;
    for (int32_t i = 0; i < c->n_w; i++) {
        const struct matmul_part part = matmul_part_at(run->problem, c->w, c->w_up, i, first);
        TRY(bind_part(run, &part));
        TRY(launch_kernel(run->launch, run->kernels[0], groups_of(run, &part), run->local[0]));
        first += part.count;
    }
    return CLMOE_OK;
}

/* Pairs of a call, times the blocks of `width` columns. */
static uint64_t pairs_times_columns(const struct run *run, int64_t width) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    return (uint64_t)(c->tokens * p->topk) * (uint64_t)ceil_div(p->out, width);
}

/* ---- matmul_ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const int64_t local = dev->caps.max_work_group < 64 ? floor_pow2((int64_t)dev->caps.max_work_group) : 64;
    add_kernel(p, recipe, "matmul/ref.cl", "matmul_ref", local);
}

static uint64_t ref_groups(const struct run *run, const struct matmul_part *part) {
    (void)part;
    return pairs_times_columns(run, (int64_t)run->local[0]);
}

static enum clmoe_status ref_run(const struct run *run) {
    return run_parts(run, ref_groups);
}

static const struct kernel_row rows[] = {
    {"matmul_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table matmul_table = {"matmul", rows, sizeof rows / sizeof *rows};
