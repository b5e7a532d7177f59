/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma.h"

#include "matmul_rows.h"

/* Two heights of tiles, chosen by each call. */
enum { HEIGHTS = 2 };

static const struct height {
    int tokens, stages, rows; /* of w */
} heights[HEIGHTS] = {{32, 10, 128}, {176, 4, 256}};

/* What the driver says such a chip has: less is a limit that the caller set. */
enum { OFFERED = 48 << 10 };

enum { GATHERING = 128, UNALIGNED_EDGE = 64, EIGHT = 8 };

/* Columns of y in a tile. */
static int64_t columns_of(const struct matmul_problem *p, int height) {
    return heights[height].rows / (p->glu == CLMOE_GLU_NONE ? 1 : 2);
}

bool matmul_hopper_contiguous(const struct matmul_problem *p) {
    return p->x_rows == CLMOE_ROWS_SORTED || (p->dense && p->topk == 1);
}

/* Where rows of x are no neighbours, four warps more gather them. */
static int local_of(const struct matmul_problem *p) {
    return MATMUL_HOPPER_LOCAL + (matmul_hopper_contiguous(p) ? 0 : GATHERING);
}

bool matmul_hopper_fits(const struct device *dev, const struct matmul_problem *p, struct reason *why) {
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "needs weights in the order ENK");
    if (p->add || p->limit != CLMOE_LIMIT_NONE) return refuse(why, "has no addends and no limits");
    if (dev->caps.local_mem < OFFERED)
        return refuse(why, "%llu bytes of local memory < %d", (unsigned long long)dev->caps.local_mem,
                      OFFERED);
    return dev->caps.max_work_group >= MATMUL_HOPPER_LOCAL ||
           refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, MATMUL_HOPPER_LOCAL);
}

bool matmul_wgmma_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->w_dtype == CLMOE_F16 || p->w_dtype == CLMOE_BF16;
    if (!half || p->x_dtype != p->w_dtype || p->y_dtype != p->w_dtype)
        return refuse(why, "needs x, w and y all f16 or all bf16");
    if (p->in % EIGHT) return refuse(why, "%lld columns of x are no multiple of 8", (long long)p->in);
    if (p->out % EIGHT) return refuse(why, "%lld columns of y are no multiple of 8", (long long)p->out);
    return matmul_hopper_fits(dev, p, why) &&
           (dev->caps.max_work_group >= (size_t)local_of(p) ||
            refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, local_of(p)));
}

bool matmul_wgmma_here(const struct device *dev, const void *problem) {
    struct reason why;
    return dev->features & CLMOE_FEATURE_NV_WGMMA && matmul_wgmma_fits(dev, problem, &why);
}

/* The lowest that holds one and a half times the pairs of an average expert, or else the highest. */
static int height_of(const struct matmul_problem *p, int64_t pairs) {
    int height = 0;
    while (height < HEIGHTS - 1 && 3 * pairs > 2 * (int64_t)heights[height].tokens * p->experts)
        height++;
    return height;
}

/* That of the largest call. Kernels of a plan are those of the heights up to it, then the one for operands that
 * tensor copies cannot address. */
static int highest(const struct matmul_problem *p) {
    return height_of(p, p->max_tokens * p->topk);
}

void matmul_wgmma_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const bool bf16 = p->w_dtype == CLMOE_BF16;
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    for (int i = 0; i <= highest(p); i++) {
        struct kernel_spec *const spec =
            matmul_add_kernel(p, recipe, "matmul/wgmma.cl", "matmul_wgmma", local_of(p));
        spec->retarget = spec->unlisted = true;
        spec_define(spec, "CONTIGUOUS", "%d", matmul_hopper_contiguous(p));
        spec_define(spec, "TOKENS", "%d", heights[i].tokens);
        spec_define(spec, "STAGES", "%d", heights[i].stages);
        spec_define(spec, "IS_BF16", "%d", bf16);
        spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
        spec_define(spec, "LIMITED", "%d", limited);
    }
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
    recipe->workspace = (uint64_t)dev->caps.compute_units * MATMUL_HOPPER_MAPS;
    recipe->counters = 2 * sizeof(cl_uint);
}

/* Tensor copies and those of rows of x and y start at multiples of 16 bytes: 8 elements. */
static bool aligned(const struct columns *c) {
    return (c->skip | (uint64_t)c->expert | (uint64_t)c->column) % EIGHT == 0;
}

/* Gate and up are copied by one tensor map. */
static bool are_alike(const struct columns *gate, const struct columns *up) {
    return gate->column == up->column && gate->expert == up->expert;
}

/* Rows, too, of which the kernels count what lies before one in 32 bits. */
static bool aligned_rows(const struct operand *o) {
    const uint64_t eights = (uint64_t)o->shape[0] * (uint64_t)o->stride[0] / EIGHT;
    return (o->offset | (uint64_t)o->stride[0]) % EIGHT == 0 && eights <= UINT32_MAX;
}

static bool addressable(const struct matmul_call *c, const struct matmul_part *part) {
    return aligned_rows(&c->x) && aligned_rows(&c->y) && aligned(&part->gate) &&
           (!part->up.mem || (aligned(&part->up) && are_alike(&part->gate, &part->up)));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!addressable(c, part)) return matmul_run_tile(run, highest(p) + 1, part, UNALIGNED_EDGE);
    const int height = height_of(p, c->tokens * p->topk);
    const uint64_t tiles =
        matmul_slots_times_columns(run, part, heights[height].tokens, columns_of(p, height));
    const uint64_t units = run->dev->caps.compute_units;
    struct bind b = matmul_bind_part(run, height, part);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_mem(&b, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[height], tiles < units ? tiles : units,
                         run->local[height]);
}

enum clmoe_status matmul_wgmma_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
