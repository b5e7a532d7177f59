/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma.h"

#include "matmul_hopper.h"

static const struct hopper_height heights[HOPPER_HEIGHTS] = {{32, 128, 10, 1}, {176, 256, 4, 1}};

enum { EIGHT = 8 };

bool matmul_wgmma_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->w_dtype == CLMOE_F16 || p->w_dtype == CLMOE_BF16;
    if (!half || p->x_dtype != p->w_dtype || p->y_dtype != p->w_dtype)
        return refuse(why, "needs x, w and y all f16 or all bf16");
    if (p->in % EIGHT) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    if (p->out % EIGHT) return refuse(why, "%lld columns of y are no multiple of 8", (long long)p->out);
    return hopper_fits(dev, p, hopper_local(p), why);
}

bool matmul_wgmma_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_fits(dev, problem, &why);
}

void matmul_wgmma_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    for (int i = 0; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec =
            hopper_add_kernel(p, recipe, "matmul/wgmma.cl", "matmul_wgmma", &heights[i], hopper_local(p));
        spec_define(spec, "CONTIGUOUS", "%d", hopper_contiguous(p));
        spec_define(spec, "IS_BF16", "%d", p->w_dtype == CLMOE_BF16);
    }
    hopper_end(dev, p, heights, recipe);
}

/* Tensor copies and those of rows of x and y start at multiples of 16 bytes: 8 elements. */
static bool aligned(const struct columns *c) {
    return (c->skip | (uint64_t)c->expert | (uint64_t)c->column) % EIGHT == 0;
}

/* Rows, too, of which the kernels count what lies before one in 32 bits. */
static bool aligned_rows(const struct operand *o) {
    const uint64_t eights = (uint64_t)o->shape[0] * (uint64_t)o->stride[0] / EIGHT;
    return (o->offset | (uint64_t)o->stride[0]) % EIGHT == 0 && eights <= UINT32_MAX;
}

static bool addressable(const struct matmul_call *c, const struct matmul_part *part) {
    return aligned_rows(&c->x) && aligned_rows(&c->y) && aligned(&part->gate) &&
           (!part->up.mem || (aligned(&part->up) && hopper_alike(part)));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(c, part)) return hopper_run_other(run, part, heights);
    return hopper_run(run, part, heights, hopper_height(p, heights, c->tokens * p->topk));
}

enum clmoe_status matmul_wgmma_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
