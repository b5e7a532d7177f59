/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_coded.h"

#include "matmul_hopper.h"

/* Heights of tiles, with what only this row has: steps of K of a stage, and rows of w of a warp where the
 * kernel is mma_coded.cl; else 0. */
struct coded_heights {
    struct hopper_height of[HOPPER_HEIGHTS];
    int steps[HOPPER_HEIGHTS], warp_rows[HOPPER_HEIGHTS];
};

/* Up to which one tensor copies have boxes. */
enum { BOXES = 32, MANY = 256 };

/* Decoding is what takes time in the lower ones, and what a warp does for a tile beside: the more rows it has
 * of w the fewer instructions, as far as its sums leave registers for that. Wide rows of a stage are fetched
 * faster, but boxes of tensor copies have no more than 256 bytes of one. Where a tile's x is as much as half of
 * its weights, one work-group of 192 rows on a unit reads less of it than two of 128, and leaves its warps more
 * registers. */
static const struct coded_heights of_codes = {
    {{8, 128, 3, 2}, {16, 192, 4, 1}, {24, 192, 3, 1}, {BOXES, 128, 5, 2}, {MANY, 128, 4, 1}},
    {384, 384, 384, 128, 64},
    {32, 32, 32}};
static const struct coded_heights of_blocks = {
    {{8, 128, 3, 2}, {16, 192, 4, 1}, {24, 192, 3, 1}, {BOXES, 192, 3, 1}, {MANY, 128, 4, 1}},
    {384, 384, 384, 384, 64},
    {32, 32, 32, 32}};

/* Where tiles are fewer, those of 192 rows would leave units without. */
static const struct coded_heights of_fewer_codes = {
    {{8, 128, 3, 2}, {16, 128, 3, 2}, {BOXES, 128, 5, 2}, {MANY, 128, 4, 1}}, {384, 256, 128, 64}, {32, 32}};
static const struct coded_heights of_fewer_blocks = {
    {{8, 128, 3, 2}, {16, 128, 3, 2}, {BOXES, 128, 3, 2}, {MANY, 128, 4, 1}},
    {384, 256, 256, 64},
    {32, 32, 16}};

/* Where tiles are few, those of 64 rows share the work more evenly. */
static const struct coded_heights of_few_codes = {
    {{8, 64, 4, 2}, {16, 128, 3, 2}, {BOXES, 128, 5, 2}, {MANY, 128, 4, 1}}, {512, 256, 128, 64}, {32, 32}};
static const struct coded_heights of_few_blocks = {
    {{8, 64, 5, 2}, {16, 128, 3, 2}, {BOXES, 128, 3, 2}, {MANY, 128, 4, 1}},
    {384, 256, 256, 64},
    {32, 32, 16}};

/* Tiles of 128 rows are few where they are not three for each work-group, even in the largest call. Halves of
 * them help, but not where they are one for most, which would have two. */
static const struct coded_heights *heights_of(const struct device *dev, const struct matmul_problem *p) {
    enum { ROWS = 128, GROUPS = 2, ROUNDS = 3 };
    const int64_t pairs = p->max_tokens * p->topk, experts = pairs < p->experts ? pairs : p->experts;
    const int64_t rows = p->out * (p->glu == CLMOE_GLU_NONE ? 1 : 2);
    const int64_t tiles = experts * ceil_div(rows, ROWS), groups = (int64_t)GROUPS * dev->caps.compute_units;
    const bool blocks = p->w_dtype == CLMOE_MXFP4;
    if (tiles >= ROUNDS * groups) return blocks ? &of_blocks : &of_codes;
    if (tiles > groups || 2 * tiles <= groups) return blocks ? &of_few_blocks : &of_few_codes;
    return blocks ? &of_fewer_blocks : &of_fewer_codes;
}

/* A warp that plans, one that fetches and eight that multiply; twelve where a work-group has a unit alone. */
enum { MMA_LOCAL = 320, MMA_LOCAL_ALONE = 448 };

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
static int period_of_bytes(const struct matmul_problem *p, int64_t bytes) {
    int period = 1;
    while (bytes * matmul_row_step(p) * period % ALIGNED)
        period *= 2;
    return period;
}

static int period_of(const struct matmul_problem *p) {
    return period_of_bytes(p, hopper_bytes_of(p, p->in));
}

/* Of scales that lie apart. */
static int scale_period_of(const struct matmul_problem *p) {
    return period_of_bytes(p, p->in / CODES);
}

void matmul_wgmma_coded_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const struct coded_heights *const heights = heights_of(dev, p);
    for (int i = 0; i <= hopper_highest(p, heights->of); i++) {
        const struct hopper_height *const own = &heights->of[i];
        const int warp_rows = heights->warp_rows[i];
        const int local = own->groups > 1 ? MMA_LOCAL : MMA_LOCAL_ALONE;
        struct kernel_spec *const spec =
            warp_rows ? hopper_add_kernel(p, recipe, "matmul/mma_coded.cl", "matmul_mma_coded", own, local)
                      : hopper_add_kernel(p, recipe, "matmul/wgmma_coded.cl", "matmul_wgmma_coded", own,
                                          HOPPER_LOCAL);
        if (warp_rows) {
            spec_define(spec, "W_ROWS", "%d", own->rows);
            spec_define(spec, "WARP_ROWS", "%d", warp_rows);
            if (dtype_is_scaled(p->w_dtype)) spec_define(spec, "SCALE_PERIOD", "%d", scale_period_of(p));
        }
        spec_define(spec, "TK", "%d", heights->steps[i]);
        spec_define(spec, "PERIOD", "%d", own->pairs > BOXES ? 1 : period_of(p));
    }
    hopper_end(dev, p, heights->of, recipe);
}

/* Tensor copies take every period-th row of all experts; a box of them has 128 bytes or a multiple. */
static bool fits_boxes(const struct matmul_problem *p, int period, int64_t column, int64_t expert) {
    return p->out % period == 0 && period <= ALIGNED / (p->glu == CLMOE_GLU_NONE ? 1 : 2) &&
           column * period % ALIGNED == 0 && expert % ALIGNED == 0 && column <= UINT32_MAX / ALIGNED - 1;
}

/* Rows of codes alone begin at multiples of 16 bytes; blocks begin anywhere. */
static bool within_reach(const struct matmul_problem *p, const struct columns *c, const struct scales *s,
                         int pairs) {
    const bool apart = p->w_dtype != CLMOE_MXFP4;
    if (apart && (c->skip % ALIGNED || ((uint64_t)c->expert | (uint64_t)c->column) % CODES)) return false;
    if (pairs > BOXES) return hopper_within_reach(p, c);
    return fits_boxes(p, period_of(p), hopper_bytes_of(p, c->column), hopper_bytes_of(p, c->expert)) &&
           (!apart || fits_boxes(p, scale_period_of(p), s->row * matmul_row_step(p), s->expert));
}

static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part, int pairs) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) &&
           within_reach(p, &part->gate, &part->gate_scales, pairs) &&
           (!part->up.mem || within_reach(p, &part->up, &part->up_scales, pairs));
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
