/* SPDX-License-Identifier: MIT */
#include "quant.h"

/* As in cl/quant/lanes.cl: elements of a lane. */
#define PACK_RUN 8
#define UNPACK_RUN 4
#define PACK_LANES (32 / PACK_RUN)

#define LOCAL 128
#define LOCAL_FEW 16

static bool in_blocks(const struct quant_problem *p, struct reason *why) {
    if (dtype_is_scaled(p->block)) return refuse(why, "scales of %s lie apart", dtype_info(p->block)->name);
    return true;
}

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct quant_problem *const p = problem;
    if (!in_blocks(p, why)) return false;
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
    (void)dev;
    return in_blocks(problem, why);
}

static bool scaled_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct quant_problem *const p = problem;
    (void)dev;
    if (!dtype_is_scaled(p->block))
        return refuse(why, "%s has its scales in its blocks", dtype_info(p->block)->name);
    if (p->block == CLMOE_I32) return refuse(why, "8 codes share a word");
    return true;
}

static bool words_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct quant_problem *const p = problem;
    (void)dev;
    if (p->block != CLMOE_I32) return refuse(why, "%s has no words", dtype_info(p->block)->name);
    return true;
}

static int64_t lower(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A power of two of work-items, at most `most`. */
static struct kernel_spec *add_kernel(const struct device *dev, const struct quant_problem *p,
                                      const char *file, int64_t most, struct recipe *recipe) {
    const int64_t local = floor_pow2(lower((int64_t)dev->caps.max_work_group, most));
    struct kernel_spec *const spec =
        recipe_add(recipe, file, p->mode == CLMOE_QUANT_PACK ? "quant_pack" : "quant_unpack", (size_t)local);
    spec_define(spec, "X_T", "%s", dtype_info(p->plain)->name);
    const char *const words = p->order == CLMOE_W_AWQ ? "awq" : "gptq";
    spec_define(spec, "Q_T", "%s", p->block == CLMOE_I32 ? words : dtype_info(p->block)->name);
    return spec;
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/lanes.cl", LOCAL, recipe);
}

static void block_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, "quant/block.cl", LOCAL, recipe);
}

/* Bytes of codes that lie side by side in a block of scales, or the power of two below. */
static int64_t scaled_along(const struct quant_problem *p) {
    return floor_pow2(p->scale.columns / dtype_info(p->block)->block);
}

/* Fewer work-items where a block of scales has fewer bytes of codes. */
static void scaled_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct quant_problem *const p = problem;
    const struct clmoe_w_scale *const s = &p->scale;
    const bool few = lower(scaled_along(p), LOCAL) * lower(s->rows, LOCAL) < LOCAL;
    struct kernel_spec *const spec = add_kernel(dev, p, "quant/scaled.cl", few ? LOCAL_FEW : LOCAL, recipe);
    spec_define(spec, "S_T", "%s", s->dtype == CLMOE_U8 ? "e8m0" : dtype_info(s->dtype)->name);
}

static void words_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct quant_problem *const p = problem;
    const enum clmoe_zero zero = p->scale.zero;
    struct kernel_spec *const spec = add_kernel(dev, p, "quant/words.cl", LOCAL, recipe);
    spec_define(spec, "S_T", "%s", dtype_info(p->scale.dtype)->name);
    spec_define(spec, "ZERO_GIVEN", "%d", zero != CLMOE_ZERO_EIGHT);
    spec_define(spec, "ZERO_BASE", "%d", zero == CLMOE_ZERO_EIGHT ? 8 : zero == CLMOE_ZERO_PLUS_ONE);
}

/* Begins with x and q, which all kernels have. */
static struct bind bind_rows(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->x.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_view(&b, c->q.mem, c->q.offset);
    bind_i64(&b, c->q.stride[0] / dtype_info(p->block)->block);
    return b;
}

/* One work-item for every `part` elements of a row. */
static enum clmoe_status launch_parts(const struct run *run, int64_t part) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    const int64_t parts = p->n / part, all = c->rows * parts;
    struct bind b = bind_rows(run);
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

/* One work-group for each block of scales. */
static enum clmoe_status scaled_run(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    const int64_t bands = c->scale.shape[0], groups = c->scale.shape[1];
    struct bind b = bind_rows(run);
    bind_view(&b, c->scale.mem, c->scale.offset);
    bind_i64(&b, c->scale.stride[0]);
    bind_i64(&b, c->rows);
    bind_i64(&b, p->n);
    bind_i64(&b, p->scale.rows);
    bind_i64(&b, p->scale.columns);
    bind_i64(&b, groups);
    bind_i32(&b, ceil_log2(lower(scaled_along(p), (int64_t)run->local[0])));
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(bands * groups), run->local[0]);
}

/* One work-item for a group of QUANT_IN_WORD rows. */
static enum clmoe_status words_run(const struct run *run) {
    const struct quant_problem *const p = run->problem;
    const struct quant_call *const c = run->call;
    const int64_t eights = c->rows / QUANT_IN_WORD, all = eights * c->scale.shape[0];
    struct bind b = bind_rows(run);
    bind_view(&b, c->scale.mem, c->scale.offset);
    bind_i64(&b, c->scale.stride[0]);
    bind_view(&b, c->zero.mem, c->zero.offset);
    bind_i64(&b, c->zero.stride[0]);
    bind_i64(&b, p->n);
    bind_i64(&b, p->scale.columns);
    bind_i64(&b, eights);
    bind_i64(&b, all);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(all, (int64_t)run->local[0]),
                         run->local[0]);
}

static const struct kernel_row rows[] = {
    {"quant_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"quant_block", block_fits, block_prepare, block_run},
    {"quant_scaled", scaled_fits, scaled_prepare, scaled_run},
    {"quant_words", words_fits, words_prepare, words_run},
};

const struct kernel_table quant_table = {"quant", rows, sizeof rows / sizeof *rows};
