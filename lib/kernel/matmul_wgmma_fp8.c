/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_fp8.h"

#include "matmul_rows.h"
#include "matmul_wgmma.h"

/* Two heights of tiles, chosen by each call. */
enum { HEIGHTS = 2 };

static const struct height { int tokens, stages; } heights[HEIGHTS] = {{32, 5}, {128, 3}};

/* Steps of K of a stage, over which a row of w has one scale. */
enum { STEPS = 128 };

enum { LOCAL = MATMUL_HOPPER_LOCAL, TILE_ROWS = 256, UNALIGNED_EDGE = 64, EIGHT = 8, SIXTEEN = 16 };

/* Columns of y in a tile. */
static int64_t columns_of(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE ? TILE_ROWS : TILE_ROWS / 2;
}

bool matmul_wgmma_fp8_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->x_dtype == CLMOE_F16 || p->x_dtype == CLMOE_BF16;
    const struct clmoe_w_scale *const scale = &p->w_scale;
    if (p->w_dtype != CLMOE_F8_E4M3) return refuse(why, "needs fp8 weights");
    if (!half || p->y_dtype != p->x_dtype) return refuse(why, "needs x and y both f16 or both bf16");
    if (scale->dtype != CLMOE_F32) return refuse(why, "needs scales of f32");
    if (scale->columns < STEPS && scale->columns < p->in)
        return refuse(why, "blocks of scales have %lld columns < %d", (long long)scale->columns, STEPS);
    if (p->in % EIGHT) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    if (p->glu != CLMOE_GLU_NONE && p->out % EIGHT)
        return refuse(why, "%lld columns of y from gate and up are no multiple of 8", (long long)p->out);
    return matmul_hopper_fits(dev, p, why);
}

bool matmul_wgmma_fp8_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_fp8_fits(dev, problem, &why);
}

/* The lowest that holds one and a half times the pairs of an average expert, or else the highest. */
static int height_of(const struct matmul_problem *p, int64_t pairs) {
    return 3 * pairs > 2 * (int64_t)heights[0].tokens * p->experts;
}

/* That of the largest call. Kernels of a plan are those of the heights up to it, then the one for operands that
 * tensor copies cannot address. */
static int highest(const struct matmul_problem *p) {
    return height_of(p, p->max_tokens * p->topk);
}

void matmul_wgmma_fp8_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    for (int i = 0; i <= highest(p); i++) {
        struct kernel_spec *const spec =
            matmul_add_kernel(p, recipe, "matmul/wgmma_fp8.cl", "matmul_wgmma_fp8", LOCAL);
        spec->retarget = spec->unlisted = true;
        spec_define(spec, "CONTIGUOUS", "%d", matmul_hopper_contiguous(p));
        spec_define(spec, "TOKENS", "%d", heights[i].tokens);
        spec_define(spec, "STAGES", "%d", heights[i].stages);
        spec_define(spec, "IS_BF16", "%d", p->x_dtype == CLMOE_BF16);
        spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
        spec_define(spec, "LIMITED", "%d", limited);
    }
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
    recipe->workspace = (uint64_t)dev->caps.compute_units * MATMUL_HOPPER_MAPS;
    recipe->counters = 2 * sizeof(cl_uint);
}

/* Tensor copies start at multiples of 16 bytes. */
static bool aligned(const struct columns *c) {
    return (c->skip | (uint64_t)c->expert | (uint64_t)c->column) % SIXTEEN == 0;
}

/* Gate and up are copied by one tensor map. */
static bool are_alike(const struct columns *gate, const struct columns *up) {
    return gate->column == up->column && gate->expert == up->expert;
}

/* Rows of x are counted by 32 bits, in chunks. */
static bool addressable(const struct matmul_call *c, const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) && aligned(&part->gate) &&
           (!part->up.mem || (aligned(&part->up) && are_alike(&part->gate, &part->up)));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(c, part)) return matmul_run_tile(run, highest(p) + 1, part, UNALIGNED_EDGE);
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

enum clmoe_status matmul_wgmma_fp8_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
