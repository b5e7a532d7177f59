/* SPDX-License-Identifier: MIT */
#include "matmul_wgmma_blocks.h"

#include "matmul_hopper.h"
#include "matmul_mma_blocks.h"

/* The lower tiles are those of matmul_mma_blocks, in its order, and have no stages here: at 16 pairs an expert
 * both took as long on an H200 (Mixtral, q4_0, 64 tokens), at 32 and more the higher one took 5/6 and less. The
 * highest one decodes for more pairs, for which it took 0.92 times as long where codes have 4 bits and 0.82 where
 * they have 5 (512 and 4096 tokens); of 8 bits, whose scales are what limits, it took 1.07 times as long. */
static const struct hopper_height byte_heights[HOPPER_HEIGHTS] = {
    {16, 128, 0, 1}, {32, 128, 0, 1}, {128, 128, 5, 1}};
static const struct hopper_height bit_heights[HOPPER_HEIGHTS] = {
    {16, 128, 0, 1}, {32, 128, 0, 1}, {128, 128, 5, 1}, {192, 128, 5, 1}};

/* Of blocks of 256, as many stages as have the steps of one. At 32 pairs an expert the lower tiles took 0.86 to
 * 0.91 of what the higher one took, at 64 1.24 to 1.31 (first product of Mixtral, bf16). */
static const struct hopper_height super_heights[HOPPER_HEIGHTS] = {
    {16, 128, 0, 1}, {32, 128, 0, 1}, {64, 128, 0, 1}, {128, 128, 4, 1}};

/* Steps of K of a stage. */
enum { STEPS = 64 };

enum { EIGHT = 8 };

/* Sums of x, where blocks have minima: of each so many steps a row has SUM_BYTES (cl/matmul/wgmma_x_sums.cl). */
enum { SUMMING_LOCAL = 128, SUM_STEPS = 32, SUM_BYTES = 8 };

static bool has_blocks(const struct matmul_problem *p) {
    return p->w_dtype == CLMOE_Q4_0 || p->w_dtype == CLMOE_Q5_0 || p->w_dtype == CLMOE_Q8_0;
}

static bool has_minima(const struct matmul_problem *p) {
    return p->w_dtype == CLMOE_Q4_K || p->w_dtype == CLMOE_Q5_K;
}

static const struct hopper_height *heights_of(const struct matmul_problem *p) {
    return !has_blocks(p) ? super_heights : p->w_dtype == CLMOE_Q8_0 ? byte_heights : bit_heights;
}

/* The lowest height that is not of matmul_mma_blocks. */
static int many_of(const struct hopper_height *heights) {
    int i = 0;
    while (!heights[i].stages)
        i++;
    return i;
}

bool matmul_wgmma_blocks_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    const bool half = p->x_dtype == CLMOE_F16 || p->x_dtype == CLMOE_BF16;
    if (!has_blocks(p) && !has_minima(p) && p->w_dtype != CLMOE_Q6_K)
        return refuse(why, "needs weights in blocks with f16 scales");
    if (!half || p->y_dtype != p->x_dtype) return refuse(why, "needs x and y both f16 or both bf16");
    if (hopper_highest(p, heights_of(p)) < many_of(heights_of(p)))
        return refuse(why, "%lld pairs are few for %d experts", (long long)(p->max_tokens * p->topk),
                      (int)p->experts);
    return hopper_fits(dev, p, HOPPER_LOCAL, why);
}

static int64_t x_rows_of(const struct matmul_problem *p, int64_t tokens) {
    return p->x_rows == CLMOE_ROWS_TOKEN ? tokens : tokens * p->topk;
}

static void add_sums(const struct matmul_problem *p, struct recipe *recipe) {
    const uint64_t bytes = (uint64_t)(x_rows_of(p, p->max_tokens) * (p->in / SUM_STEPS)) * SUM_BYTES;
    struct kernel_spec *const spec =
        recipe_add(recipe, "matmul/wgmma_x_sums.cl", "matmul_x_sums", SUMMING_LOCAL);
    spec_define(spec, "X_T", "%s", dtype_info(p->x_dtype)->name);
    if (recipe->workspace < bytes) recipe->workspace = bytes;
}

/* To the workspace, where the kernel of a part finds them. */
static enum clmoe_status sum_x(const struct run *run) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int64_t blocks = p->in / SUM_STEPS, items = x_rows_of(p, c->tokens) * blocks;
    const int kernel =
        hopper_highest(p, heights_of(p)) + 2; /* behind those of heights and that for other operands */
    struct bind b = run_bind(run, kernel, c->y.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_view(&b, run->workspace, run->workspace_offset / sizeof(cl_ushort));
    bind_i64(&b, blocks);
    bind_i64(&b, items);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel], (uint64_t)ceil_div(items, SUMMING_LOCAL),
                         SUMMING_LOCAL);
}

void matmul_wgmma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const struct hopper_height *const heights = heights_of(p);
    const int many = many_of(heights);
    for (int i = 0; i < many; i++)
        matmul_mma_blocks_add(dev, p, i, recipe);
    for (int i = many; i <= hopper_highest(p, heights); i++) {
        struct kernel_spec *const spec = hopper_add_kernel(p, recipe, "matmul/wgmma_coded.cl",
                                                           "matmul_wgmma_coded", &heights[i], HOPPER_LOCAL);
        spec_define(spec, "TK", "%d", STEPS);
        spec_define(spec, "PERIOD", "1");
    }
    hopper_end(dev, p, heights, recipe);
    if (has_minima(p)) add_sums(p, recipe);
}

/* Rows of x are counted by 32 bits, in chunks. */
static bool x_addressable(const struct matmul_call *c) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 &&
           c->x.shape[0] <= UINT32_MAX / (c->x.stride[0] / EIGHT + 1);
}

static bool addressable(const struct matmul_problem *p, const struct matmul_call *c,
                        const struct matmul_part *part) {
    return x_addressable(c) && hopper_within_reach(p, &part->gate) &&
           (!part->up.mem || hopper_within_reach(p, &part->up));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct hopper_height *const heights = heights_of(p);
    const int height = hopper_height(p, heights, c->tokens * p->topk);
    const bool low = height < many_of(heights);
    if (!(low ? matmul_mma_blocks_reaches(p, c, part) : addressable(p, c, part)))
        return hopper_run_other(run, part, heights);
    return low ? matmul_mma_blocks_launch(run, part, height) : hopper_run(run, part, heights, height);
}

enum clmoe_status matmul_wgmma_blocks_run(const struct run *run) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct hopper_height *const heights = heights_of(p);
    const bool low = hopper_height(p, heights, c->tokens * p->topk) < many_of(heights);
    if (has_minima(p) && !low && x_addressable(c)) TRY(sum_x(run));
    return matmul_each_part(run, run_part);
}
