/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma.h"

#include "matmul_rows.h"

/* Three heights of tiles, chosen by each call: where experts have few pairs, less of x is copied for nothing,
 * and more of the weights is on its way at a time. Then a kernel for operands that tensor copies cannot
 * address. */
enum { HEIGHTS = 3, UNALIGNED = HEIGHTS };

static const struct height {
    int tokens, stages, wide;
} heights[HEIGHTS] = {{32, 6, 0}, {64, 5, 0}, {128, 4, 1}};

/* What the driver says such a chip has: less is a limit that the caller set. */
enum { OFFERED = 48 << 10 };

enum { LOCAL = 384, TILE_W = 128, MAPS = 256, UNALIGNED_EDGE = 64 };

static int64_t columns_of(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE ? 2 * TILE_W : TILE_W;
}

bool matmul_wgmma_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->w_dtype == CLMOE_F16 || p->w_dtype == CLMOE_BF16;
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (!half || p->x_dtype != p->w_dtype || p->y_dtype != p->w_dtype)
        return refuse(why, "needs x, w and y all f16 or all bf16");
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "needs weights in the order ENK");
    if (p->in % 8) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    if (p->add || p->limit != CLMOE_LIMIT_NONE) return refuse(why, "has no addends and no limits");
    if (dev->caps.local_mem < OFFERED)
        return refuse(why, "%llu bytes of local memory < %d", (unsigned long long)dev->caps.local_mem,
                      OFFERED);
    return dev->caps.max_work_group >= LOCAL ||
           refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, LOCAL);
}

bool matmul_wgmma_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_fits(dev, problem, &why);
}

void matmul_wgmma_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const bool bf16 = p->w_dtype == CLMOE_BF16;
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    for (int i = 0; i < HEIGHTS; i++) {
        struct kernel_spec *const spec =
            matmul_add_kernel(p, recipe, "matmul/wgmma.cl", "matmul_wgmma", LOCAL);
        spec->retarget = spec->unlisted = true;
        spec_define(spec, "WIDE", "%d", heights[i].wide);
        spec_define(spec, "TOKENS", "%d", heights[i].tokens);
        spec_define(spec, "STAGES", "%d", heights[i].stages);
        spec_define(spec, "IS_BF16", "%d", bf16);
        spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
        spec_define(spec, "LIMITED", "%d", limited);
    }
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
    recipe->workspace = (uint64_t)dev->caps.compute_units * MAPS;
    recipe->counters = 2 * sizeof(cl_uint);
}

/* Tensor copies and those of x start at multiples of 16 bytes: 8 elements. */
static bool aligned(const struct columns *c) {
    return (c->skip | (uint64_t)c->expert | (uint64_t)c->column) % 8 == 0;
}

static bool addressable(const struct matmul_call *c, const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % 8 == 0 && aligned(&part->gate) &&
           (!part->up.mem || aligned(&part->up));
}

/* The lowest that holds one and a half times the pairs of an average expert, or else the highest. */
static int height_of(const struct matmul_problem *p, int64_t pairs) {
    int height = 0;
    while (height < HEIGHTS - 1 && 3 * pairs > 2 * (int64_t)heights[height].tokens * p->experts)
        height++;
    return height;
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(c, part)) return matmul_run_tile(run, UNALIGNED, part, UNALIGNED_EDGE);
    const int height = height_of(p, c->tokens * p->topk);
    const uint64_t tiles = matmul_slots_times_columns(run, part, heights[height].tokens, columns_of(p));
    const uint64_t units = run->dev->caps.compute_units;
    struct bind b = matmul_bind_part(run, height, part);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_mem(&b, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[height], tiles < units ? tiles : units,
                         run->local[height]);
}

enum clmoe_status matmul_wgmma_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
