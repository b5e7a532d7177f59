/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_coded.h"

#include "matmul_rows.h"
#include "matmul_wgmma.h"

/* Two heights of tiles, chosen by each call. The lower one leaves half of what local memory could take to the
 * cache, where lines wait for copies by words. */
enum { HEIGHTS = 2 };

static const struct height {
    int tokens, steps, stages; /* steps of K in a stage */
} heights[HEIGHTS] = {{64, 128, 5}, {256, 64, 4}};

enum { LOCAL = MATMUL_HOPPER_LOCAL, W_ROWS = 128, UNALIGNED_EDGE = 64, CODES = 32, EIGHT = 8 };

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
    return 3 * pairs > 2 * (int64_t)heights[0].tokens * p->experts;
}

/* That of the largest call. Kernels of a plan are those of the heights up to it, then the one for operands that
 * copies of 16 bytes cannot address. */
static int highest(const struct matmul_problem *p) {
    return height_of(p, p->max_tokens * p->topk);
}

void matmul_wgmma_coded_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)dev;
    const struct matmul_problem *const p = problem;
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    for (int i = 0; i <= highest(p); i++) {
        struct kernel_spec *const spec =
            matmul_add_kernel(p, recipe, "matmul/wgmma_coded.cl", "matmul_wgmma_coded", LOCAL);
        spec->retarget = spec->unlisted = true;
        spec_define(spec, "TOKENS", "%d", heights[i].tokens);
        spec_define(spec, "TK", "%d", heights[i].steps);
        spec_define(spec, "STAGES", "%d", heights[i].stages);
        spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
        spec_define(spec, "LIMITED", "%d", limited);
    }
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
    recipe->counters = 2 * sizeof(cl_uint);
}

/* Rows of codes alone begin at multiples of 16 bytes; blocks begin anywhere. What an expert has is counted by 32
 * bits. */
static bool within_reach(const struct matmul_problem *p, const struct columns *c) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const int64_t row_bytes = c->column / info->block * info->bytes;
    return p->out <= UINT32_MAX / (row_bytes + 1) - 1 &&
           (p->w_dtype == CLMOE_MXFP4 ||
            (c->skip % (CODES / 2) == 0 && ((uint64_t)c->expert | (uint64_t)c->column) % CODES == 0));
}

static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) && within_reach(p, &part->gate) &&
           (!part->up.mem || within_reach(p, &part->up));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(p, c, part)) return matmul_run_tile(run, highest(p) + 1, part, UNALIGNED_EDGE);
    const int height = height_of(p, c->tokens * p->topk);
    const uint64_t tiles = matmul_slots_times_columns(run, part, heights[height].tokens, columns_of(p));
    const uint64_t units = run->dev->caps.compute_units;
    struct bind b = matmul_bind_part(run, height, part);
    bind_mem(&b, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[height], tiles < units ? tiles : units,
                         run->local[height]);
}

enum clmoe_status matmul_wgmma_coded_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
