/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_bytes.h"

#include "matmul_hopper.h"

static const struct hopper_height heights[HOPPER_HEIGHTS] = {{32, 256, 5, 1}, {160, 256, 3, 1}};

enum { EIGHT = 8, SIXTEEN = 16 };

bool matmul_wgmma_bytes_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->x_dtype == CLMOE_F16 || p->x_dtype == CLMOE_BF16;
    const struct clmoe_w_scale *const scale = &p->w_scale;
    if (p->w_dtype != CLMOE_F8_E4M3 && p->w_dtype != CLMOE_I8)
        return refuse(why, "needs fp8 or int8 weights");
    if (!half || p->y_dtype != p->x_dtype) return refuse(why, "needs x and y both f16 or both bf16");
    if (scale->dtype != CLMOE_F32) return refuse(why, "needs scales of f32");
    if (scale->columns < MATMUL_BYTES_STEPS && scale->columns < p->in)
        return refuse(why, "blocks of scales have %lld columns < %d", (long long)scale->columns,
                      MATMUL_BYTES_STEPS);
    if (p->in % EIGHT) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    if (p->glu != CLMOE_GLU_NONE && p->out % EIGHT)
        return refuse(why, "%lld columns of y from gate and up are no multiple of 8", (long long)p->out);
    return hopper_fits(dev, p, hopper_local(p), why);
}

bool matmul_wgmma_bytes_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_bytes_fits(dev, problem, &why);
}

void matmul_wgmma_bytes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    for (int i = 0; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec = hopper_add_kernel(
            p, recipe, "matmul/wgmma_bytes.cl", "matmul_wgmma_bytes", &heights[i], hopper_local(p));
        spec_define(spec, "CONTIGUOUS", "%d", hopper_contiguous(p));
        spec_define(spec, "INTEGERS", "%d", p->w_dtype == CLMOE_I8);
        spec_define(spec, "STAGE_SCALES", "%d", p->w_scale.columns < p->in);
        spec_define(spec, "IS_BF16", "%d", p->x_dtype == CLMOE_BF16);
    }
    hopper_end(dev, p, heights, recipe);
}

/* Tensor copies start at multiples of 16 bytes. */
static bool aligned(const struct columns *c) {
    return (c->skip | (uint64_t)c->expert | (uint64_t)c->column) % SIXTEEN == 0;
}

/* Rows of x are counted by 32 bits, in chunks. */
static bool addressable(const struct matmul_call *c, const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1) && aligned(&part->gate) &&
           (!part->up.mem || (aligned(&part->up) && hopper_alike(part)));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(c, part)) return hopper_run_other(run, part, heights);
    return hopper_run(run, part, heights, hopper_height(p, heights, c->tokens * p->topk));
}

enum clmoe_status matmul_wgmma_bytes_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
