/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_coded.h"

#include "matmul_hopper.h"

/* Heights of tiles, with what only this row has: steps of K of a stage, and rows of w of a warp where the
 * kernel is mma_coded.cl; else 0. */
struct coded_heights {
    struct hopper_height of[HOPPER_HEIGHTS];
    int steps[HOPPER_HEIGHTS], warp_rows[HOPPER_HEIGHTS];
};

/* Up to which one tensor copies have boxes: two work-groups are at work on a unit then. */
enum { BOXES = 32, MANY = 256 };

/* Decoding is what takes time in the lower ones, and what a warp does for a tile beside: the more rows it has
 * of w the fewer instructions, as far as its sums leave registers for that. Wide rows of a stage are fetched
 * faster, but boxes of tensor copies have no more than 256 bytes of one. */
static const struct coded_heights of_codes = {
    {{8, 128, 3, 2}, {16, 128, 3, 2}, {BOXES, 128, 5, 2}, {MANY, 128, 4, 1}}, {384, 256, 128, 64}, {32, 32}};
static const struct coded_heights of_blocks = {
    {{8, 128, 3, 2}, {16, 128, 3, 2}, {BOXES, 128, 3, 2}, {MANY, 128, 4, 1}},
    {384, 256, 256, 64},
    {32, 16, 16}};

/* Where tiles are few, those of 64 rows share the work more evenly. */
static const struct coded_heights of_few_codes = {
    {{8, 64, 4, 2}, {16, 128, 3, 2}, {BOXES, 128, 5, 2}, {MANY, 128, 4, 1}}, {512, 256, 128, 64}, {32, 32}};
static const struct coded_heights of_few_blocks = {
    {{8, 64, 5, 2}, {16, 128, 3, 2}, {BOXES, 128, 3, 2}, {MANY, 128, 4, 1}},
    {384, 256, 256, 64},
    {32, 16, 16}};

/* Whether the lowest tiles of 128 rows are not three for each work-group, even in the largest call; but not
 * where they are one for most: halves of them would be two. */
static bool has_few_tiles(const struct device *dev, const struct matmul_problem *p) {
    enum { ROWS = 128, GROUPS = 2, ROUNDS = 3 };
    const int64_t pairs = p->max_tokens * p->topk, experts = pairs < p->experts ? pairs : p->experts;
    const int64_t rows = p->out * (p->glu == CLMOE_GLU_NONE ? 1 : 2);
    const int64_t tiles = experts * ceil_div(rows, ROWS), groups = (int64_t)GROUPS * dev->caps.compute_units;
    return tiles < ROUNDS * groups && (tiles > groups || 2 * tiles <= groups);
}

static const struct coded_heights *heights_of(const struct device *dev, const struct matmul_problem *p) {
    const bool few = has_few_tiles(dev, p);
    if (p->w_dtype == CLMOE_MXFP4) return few ? &of_few_blocks : &of_blocks;
    return few ? &of_few_codes : &of_codes;
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
    const struct coded_heights *const heights = heights_of(dev, p);
    for (int i = 0; i <= hopper_highest(p, heights->of); i++) {
        const struct hopper_height *const own = &heights->of[i];
        const int warp_rows = heights->warp_rows[i];
        struct kernel_spec *const spec =
            warp_rows
                ? hopper_add_kernel(p, recipe, "matmul/mma_coded.cl", "matmul_mma_coded", own, MMA_LOCAL)
                : hopper_add_kernel(p, recipe, "matmul/wgmma_coded.cl", "matmul_wgmma_coded", own,
                                    HOPPER_LOCAL);
        if (warp_rows) {
            spec_define(spec, "W_ROWS", "%d", own->rows);
            spec_define(spec, "WARP_ROWS", "%d", warp_rows);
        }
        spec_define(spec, "TK", "%d", heights->steps[i]);
        spec_define(spec, "PERIOD", "%d", own->pairs > BOXES ? 1 : period_of(p));
    }
    hopper_end(dev, p, heights->of, recipe);
}

/* Tensor copies take every period-th row of all experts; a box of them has 128 bytes or a multiple. */
static bool fits_boxes(const struct matmul_problem *p, const struct columns *c) {
    const int64_t period = period_of(p);
    return p->out % period == 0 && period <= ALIGNED / (p->glu == CLMOE_GLU_NONE ? 1 : 2) &&
           hopper_bytes_of(p, c->column) * period % ALIGNED == 0 &&
           hopper_bytes_of(p, c->expert) % ALIGNED == 0 &&
           hopper_bytes_of(p, c->column) <= UINT32_MAX / ALIGNED - 1;
}

/* Rows of codes alone begin at multiples of 16 bytes; blocks begin anywhere. */
static bool within_reach(const struct matmul_problem *p, const struct columns *c, int pairs) {
    const bool aligned = c->skip % ALIGNED == 0 && ((uint64_t)c->expert | (uint64_t)c->column) % CODES == 0;
    return (p->w_dtype == CLMOE_MXFP4 || aligned) &&
           (pairs > BOXES ? hopper_within_reach(p, c) : fits_boxes(p, c));
}

static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part, int pairs) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) &&
           within_reach(p, &part->gate, pairs) && (!part->up.mem || within_reach(p, &part->up, pairs));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct hopper_height *const heights = heights_of(run->dev, p)->of;
    const int height = hopper_height(p, heights, c->tokens * p->topk);
    if (!addressable(p, c, part, heights[height].pairs)) return hopper_run_other(run, part, heights);
    return hopper_run(run, part, heights, height);
}

enum clmoe_status matmul_wgmma_coded_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
