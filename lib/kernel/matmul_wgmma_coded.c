/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_coded.h"

#include "matmul_hopper.h"

/* Of the lower tiles two are at work on a unit: there decoding is what takes time. Where rows of stages are as
 * wide as they may be, tiles of 64 rows of w are as fast as those of 128, and share work more evenly. */
enum { FEW, SOME, MANY, HEIGHTS };
static const struct hopper_height of_codes[HOPPER_HEIGHTS] = {
    {8, 64, 4, 2}, {32, 128, 5, 2}, {256, 128, 4, 1}};
static const struct hopper_height of_blocks[HOPPER_HEIGHTS] = {
    {16, 128, 3, 2}, {32, 128, 5, 2}, {256, 128, 4, 1}};

/* Wide rows of a stage are fetched faster, but boxes of tensor copies have no more than 256 bytes of one. */
static const int codes_steps[HEIGHTS] = {512, 128, 64}, blocks_steps[HEIGHTS] = {256, 128, 64};

static const struct hopper_height *heights_of(const struct matmul_problem *p) {
    return p->w_dtype == CLMOE_MXFP4 ? of_blocks : of_codes;
}

/* A warp that plans, one that fetches and eight that multiply. */
enum { MMA_LOCAL = 320 };

enum { CODES = 32, EIGHT = 8, ALIGNED = 16 };

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
    return hopper_fits(dev, p, HOPPER_LOCAL, why);
}

bool matmul_wgmma_coded_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_coded_fits(dev, problem, &why);
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
    const struct hopper_height *const heights = heights_of(p);
    const int *const steps = p->w_dtype == CLMOE_MXFP4 ? blocks_steps : codes_steps;
    for (int i = 0; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec =
            i == FEW ? hopper_add_kernel(p, recipe, "matmul/mma_coded.cl", "matmul_mma_coded", &heights[i],
                                         MMA_LOCAL)
                     : hopper_add_kernel(p, recipe, "matmul/wgmma_coded.cl", "matmul_wgmma_coded",
                                         &heights[i], HOPPER_LOCAL);
        if (i == FEW) spec_define(spec, "W_ROWS", "%d", heights[i].rows);
        spec_define(spec, "TK", "%d", steps[i]);
        spec_define(spec, "PERIOD", "%d", i == MANY ? 1 : period_of(p));
    }
    hopper_end(dev, p, heights, recipe);
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
    return (p->w_dtype == CLMOE_MXFP4 || aligned) && (height == MANY ? fits_copies(p, c) : fits_boxes(p, c));
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
    const struct hopper_height *const heights = heights_of(p);
    const int height = hopper_height(p, heights, c->tokens * p->topk);
    if (!addressable(p, c, part, height)) return hopper_run_other(run, part, heights);
    return hopper_run(run, part, heights, height);
}

enum clmoe_status matmul_wgmma_coded_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
