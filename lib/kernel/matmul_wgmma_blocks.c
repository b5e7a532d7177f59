/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_blocks.h"

#include "matmul_hopper.h"
#include "matmul_mma_blocks.h"

/* The lower tiles are those of matmul_mma_blocks: at 16 pairs an expert both took as long on an H200 (Mixtral,
 * q4_0, 64 tokens), at 32 and more the higher one took 5/6 and less. The highest one decodes for more pairs, for
 * which it took 0.92 times as long where codes have 4 bits and 0.82 where they have 5 (512 and 4096 tokens); of 8 bits,
 * whose scales are what limits, it took 1.07 times as long. */
enum { FEW, SOME, MANY };
static const struct hopper_height heights_of_bytes[HOPPER_HEIGHTS] = {
    {16, 128, 0, 1}, {32, 128, 0, 1}, {128, 128, 5, 1}};
static const struct hopper_height heights_of_bits[HOPPER_HEIGHTS] = {
    {16, 128, 0, 1}, {32, 128, 0, 1}, {128, 128, 5, 1}, {192, 128, 5, 1}};

static const struct hopper_height *heights_of(const struct matmul_problem *p) {
    return p->w_dtype == CLMOE_Q8_0 ? heights_of_bytes : heights_of_bits;
}

/* Steps of K of a stage. */
enum { STEPS = 64 };

enum { EIGHT = 8 };

bool matmul_wgmma_blocks_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->x_dtype == CLMOE_F16 || p->x_dtype == CLMOE_BF16;
    if (p->w_dtype != CLMOE_Q4_0 && p->w_dtype != CLMOE_Q5_0 && p->w_dtype != CLMOE_Q8_0)
        return refuse(why, "needs weights in blocks of 32 with f16 scales");
    if (!half || p->y_dtype != p->x_dtype) return refuse(why, "needs x and y both f16 or both bf16");
    if (hopper_highest(p, heights_of(p)) < MANY)
        return refuse(why, "%lld pairs are few for %d experts", (long long)(p->max_tokens * p->topk),
                      (int)p->experts);
    return hopper_fits(dev, p, HOPPER_LOCAL, why);
}

void matmul_wgmma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const struct hopper_height *const heights = heights_of(p);
    for (int i = FEW; i < MANY; i++)
        matmul_mma_blocks_add(dev, p, i, recipe);
    for (int i = MANY; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec = hopper_add_kernel(p, recipe, "matmul/wgmma_coded.cl",
                                                           "matmul_wgmma_coded", &heights[i], HOPPER_LOCAL);
        spec_define(spec, "TK", "%d", STEPS);
        spec_define(spec, "PERIOD", "1");
    }
    hopper_end(dev, p, heights, recipe);
}

/* Rows of x are counted by 32 bits, in chunks. */
static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) &&
           hopper_within_reach(p, &part->gate) && (!part->up.mem || hopper_within_reach(p, &part->up));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct hopper_height *const heights = heights_of(p);
    const int height = hopper_height(p, heights, c->tokens * p->topk);
    if (!(height < MANY ? matmul_mma_blocks_reaches(p, c, part) : addressable(p, c, part)))
        return hopper_run_other(run, part, heights);
    return height < MANY ? matmul_mma_blocks_launch(run, part, height)
                         : hopper_run(run, part, heights, height);
}

enum clmoe_status matmul_wgmma_blocks_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
