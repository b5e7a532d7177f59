/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_coded.h"

#include "matmul_rows.h"
#include "matmul_wgmma.h"

/* Two heights of tiles, chosen by each call. Of the lower ones two are at work on a unit: there decoding is what
 * takes time. */
enum { FEW, MANY, HEIGHTS };

static const struct height {
    int tokens, steps, stages, groups; /* steps of K in a stage; work-groups on a unit */
} heights[HEIGHTS] = {{32, 128, 5, 2}, {256, 64, 4, 1}};

enum {
    LOCAL = MATMUL_HOPPER_LOCAL,
    W_ROWS = 128,
    UNALIGNED_EDGE = 64,
    CODES = 32,
    EIGHT = 8,
    ALIGNED = 16,
    MAPS = 256
};

static int64_t columns_of(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE ? W_ROWS : W_ROWS / 2;
}

/* Blocks of 32 codes with one scale of 8 bits. */
static bool has_codes(const struct matmul_problem *p) {
    return p->w_dtype == CLMOE_MXFP4 || (p->w_dtype == CLMOE_F4_E2M1 && p->w_scale.dtype == CLMOE_U8 &&
                                         p->w_scale.rows == 1 && p->w_scale.columns == CODES);
}

bool matmul_wgmma_coded_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    if (!has_codes(p)) return refuse(why, "needs MXFP4 weights");
    if (p->x_dtype != CLMOE_BF16 || p->y_dtype != CLMOE_BF16) return refuse(why, "needs x and y of bf16");
    if (p->in % CODES) return refuse(why, "%lld columns of x are no multiple of %d", (long long)p->in, CODES);
    return matmul_hopper_fits(dev, p, why);
}

bool matmul_wgmma_coded_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_coded_fits(dev, problem, &why);
}

/* The lowest that holds one and a half times the pairs of an average expert, or else the highest. */
static int height_of(const struct matmul_problem *p, int64_t pairs) {
    return 3 * pairs > 2 * (int64_t)heights[FEW].tokens * p->experts ? MANY : FEW;
}

/* That of the largest call. Kernels of a plan are those of the heights up to it, then the one for operands that
 * copies of 16 bytes cannot address. */
static int highest(const struct matmul_problem *p) {
    return height_of(p, p->max_tokens * p->topk);
}

/* Rows after which one begins at the same byte of ALIGNED again, where none is left out. */
static int period_of(const struct matmul_problem *p) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const int64_t bytes = p->in / info->block * info->bytes * matmul_row_step(p);
    int period = 1;
    while (bytes * period % ALIGNED)
        period *= 2;
    return period;
}

void matmul_wgmma_coded_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    for (int i = 0; i <= highest(p); i++) {
        struct kernel_spec *const spec =
            matmul_add_kernel(p, recipe, "matmul/wgmma_coded.cl", "matmul_wgmma_coded", LOCAL);
        spec->retarget = spec->unlisted = true;
        spec->resident = heights[i].groups > 1 ? heights[i].groups : 0;
        spec_define(spec, "TOKENS", "%d", heights[i].tokens);
        spec_define(spec, "TK", "%d", heights[i].steps);
        spec_define(spec, "STAGES", "%d", heights[i].stages);
        spec_define(spec, "PERIOD", "%d", i == FEW ? period_of(p) : 1);
        spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
        spec_define(spec, "LIMITED", "%d", limited);
    }
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
    recipe->workspace = (uint64_t)dev->caps.compute_units * heights[FEW].groups * MAPS;
    recipe->counters = 2 * sizeof(cl_uint);
}

static int64_t bytes_of(const struct matmul_problem *p, int64_t elements) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    return elements / info->block * info->bytes;
}

/* Tensor copies take every period-th row of all experts; a box of them has 128 bytes or a multiple. */
static bool fits_boxes(const struct matmul_problem *p, const struct columns *c) {
    const int64_t period = period_of(p);
    return p->out % period == 0 && period <= ALIGNED / (p->glu == CLMOE_GLU_NONE ? 1 : 2) &&
           bytes_of(p, c->column) * period % ALIGNED == 0 && bytes_of(p, c->expert) % ALIGNED == 0 &&
           bytes_of(p, c->column) <= UINT32_MAX / ALIGNED - 1;
}

/* What an expert has is counted by 32 bits. */
static bool fits_copies(const struct matmul_problem *p, const struct columns *c) {
    return p->out <= UINT32_MAX / (bytes_of(p, c->column) + 1) - 1;
}

/* Rows of codes alone begin at multiples of 16 bytes; blocks begin anywhere. */
static bool within_reach(const struct matmul_problem *p, const struct columns *c, int height) {
    const bool aligned = c->skip % ALIGNED == 0 && ((uint64_t)c->expert | (uint64_t)c->column) % CODES == 0;
    return (p->w_dtype == CLMOE_MXFP4 || aligned) && (height == FEW ? fits_boxes(p, c) : fits_copies(p, c));
}

static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part, int height) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) &&
           within_reach(p, &part->gate, height) && (!part->up.mem || within_reach(p, &part->up, height));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int height = height_of(p, c->tokens * p->topk);
    if (!addressable(p, c, part, height)) return matmul_run_tile(run, highest(p) + 1, part, UNALIGNED_EDGE);
    const uint64_t tiles = matmul_slots_times_columns(run, part, heights[height].tokens, columns_of(p));
    const uint64_t units = run->dev->caps.compute_units * (uint64_t)heights[height].groups;
    struct bind b = matmul_bind_part(run, height, part);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_mem(&b, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[height], tiles < units ? tiles : units,
                         run->local[height]);
}

enum clmoe_status matmul_wgmma_coded_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
