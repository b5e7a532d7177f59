/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_words.h"

#include "matmul_hopper.h"
#include "matmul_words.h"

/* Of the lower tiles two are at work on a unit: there decoding is what takes time. */
static const struct hopper_height heights[HOPPER_HEIGHTS] = {{32, 128, 5, 2}, {160, 128, 4, 1}};

/* Work-items of a work-group: a group of four warps that plans and fetches x, two that multiply, one that
 * fetches w. */
enum { LOCAL = 512 };

enum { EIGHT = 8, STEPS = 32 };

bool matmul_wgmma_words_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->x_dtype == CLMOE_F16 || p->x_dtype == CLMOE_BF16;
    if (!matmul_in_words(p->w_order)) return refuse(why, "w_order = %d: no words", (int)p->w_order);
    if (!half || p->y_dtype != p->x_dtype) return refuse(why, "needs x and y both f16 or both bf16");
    if (p->w_scale.dtype == CLMOE_U8) return refuse(why, "needs scales with a mantissa");
    if (matmul_words_scale_steps(p) < STEPS)
        return refuse(why, "groups have %lld columns < %d", (long long)p->w_scale.columns, STEPS);
    if (p->in % EIGHT) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    return hopper_fits(dev, p, LOCAL, why);
}

bool matmul_wgmma_words_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_words_fits(dev, problem, &why);
}

void matmul_wgmma_words_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    for (int i = 0; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec =
            hopper_add_kernel(p, recipe, "matmul/wgmma_words.cl", "matmul_wgmma_words", &heights[i], LOCAL);
        spec_define(spec, "CONTIGUOUS", "%d", hopper_contiguous(p));
        spec_define(spec, "IS_BF16", "%d", p->x_dtype == CLMOE_BF16);
        spec_define(spec, "SCALE_STEPS", "%d", matmul_words_scale_steps(p));
    }
    matmul_words_add_lowest(dev, p, recipe);
    hopper_space(dev, heights, recipe);
}

/* Rows of x begin at multiples of 16 bytes and are counted by 32 bits, in chunks of these. */
static bool addressable(const struct matmul_call *c) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1);
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int64_t pairs = c->tokens * p->topk;
    if (!addressable(c) || pairs <= (int64_t)MATMUL_WORDS_FEW_PAIRS * p->experts)
        return matmul_words_run_lowest(run, hopper_highest(p, heights) + 1, part);
    return hopper_run(run, part, heights, hopper_height(p, heights, pairs));
}

enum clmoe_status matmul_wgmma_words_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
