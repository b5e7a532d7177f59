/* SPDX-License-Identifier: MIT */
#include "matmul_mma_blocks.h"

#include "matmul_few.h"
#include "matmul_rows.h"

/* Work-items, of which each has a row of w in a tile; steps of K of a stage of x. */
enum { ITEMS = 128, WAVE = 32, STAGE_STEPS = 128, EIGHT = 8 };
enum { FEATURE = CLMOE_FEATURE_NV_MMA, HELD = 12 }; /* numbers of a work-item that emulation keeps */
enum { LEAST_SCALED = 32 };                         /* steps that share a scale that lies apart */
enum { OFFERED = 48 << 10, MOST_LOCAL = 99 << 10 }; /* what drivers list, what every chip from sm_80 on has */
enum { UNIT_LOCAL = 100 << 10, UNIT_HOPPER = 228 << 10 }; /* of a unit, of every chip and of sm_90 */
enum { MORE = 1 << 10 };                                  /* than a work-group has, it takes of that */

/* Low tiles have so many pairs; UNIT_GROUPS of ITEMS live on a unit. */
enum { LOW = 32, MOST_WAYS = 4, UNIT_GROUPS = 4 };
enum { UNALIGNED_EDGE = 64 }; /* of the kernel for operands that 16 bytes do not divide */

/* Pairs of a tile. */
static const int heights[] = {16, 32, 64}; /* matmul_wgmma_blocks.c knows them */
enum { HEIGHTS = sizeof heights / sizeof *heights };

static bool scales_last(const struct matmul_problem *p) {
    return dtype_is_scaled(p->w_dtype) && p->w_scale.columns >= p->in;
}

static bool emulates(const struct device *dev) {
    return (dev->emulated & FEATURE) != 0;
}

/* A tile, of which K is split between `ways` times ITEMS work-items. */
struct shape {
    int pairs, stages, ways;
};

/* As cl/matmul/mma_blocks.cl has it. */
static uint64_t local_mem(const struct device *dev, const struct matmul_problem *p, const struct shape *s) {
    enum { COPY = 16, PARTS = 4 };
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const bool super = info->block > STAGE_STEPS, apart = dtype_is_scaled(p->w_dtype) && !scales_last(p);
    const bool eights = p->w_dtype == CLMOE_Q4_K || p->w_dtype == CLMOE_Q5_K || p->w_dtype == CLMOE_F4_E2M1;
    const int steps = super ? info->block : STAGE_STEPS, bytes = steps / info->block * info->bytes;
    const int pitch = ((bytes + 2 * (COPY - 1)) / COPY | 1) * COPY, slots = super ? 2 : s->stages;
    const int x = s->pairs * (STAGE_STEPS * 2 + (eights ? 64 : 32)) * s->stages, w = ITEMS * pitch * slots;
    const int numbers =
        s->pairs * PARTS + (apart ? 2 * PARTS * ITEMS : 1) + (emulates(dev) ? ITEMS * HELD : ITEMS / WAVE);
    return (uint64_t)(s->ways * (x + w + numbers * 4) + COPY + s->pairs * 24 + 3 * 8);
}

/* The driver lists 48 KiB of every chip: a caller who allows these allows what the chip has. */
static bool shape_fits(const struct device *dev, const struct matmul_problem *p, const struct shape *s) {
    const uint64_t needs = local_mem(dev, p, s);
    return dev->caps.max_work_group >= (size_t)(s->ways * ITEMS) &&
           dev->caps.local_mem >= (!emulates(dev) && needs > OFFERED ? OFFERED : needs);
}

/* Tiles of a row of y for each expert, and so work-groups where there are few pairs. */
static int64_t groups_of(const struct matmul_problem *p) {
    return p->experts * ceil_div(p->out, p->glu == CLMOE_GLU_NONE ? ITEMS : ITEMS / 2);
}

/* Whether units have room for all work-groups of few pairs at a time. */
static bool live_at_once(const struct device *dev, const struct matmul_problem *p, const struct shape *s) {
    const int64_t each = ceil_div(groups_of(p), dev->caps.compute_units);
    const uint64_t room = dev->features & CLMOE_FEATURE_NV_WGMMA || emulates(dev) ? UNIT_HOPPER : UNIT_LOCAL;
    return each * s->ways <= UNIT_GROUPS && (uint64_t)each * (local_mem(dev, p, s) + MORE) <= room;
}

/* Of super-blocks, which arrive whole, x has a third stage where there is room for it. Else two are faster:
 * more work-groups live on a compute unit. Low tiles, of which one is enough for most experts, may be too few
 * to keep units busy: then K is split. */
static struct shape shape_of(const struct device *dev, const struct matmul_problem *p, int pairs) {
    const bool super = dtype_info(p->w_dtype)->block > STAGE_STEPS;
    struct shape s = {pairs, super ? 3 : 2, 1};
    if (local_mem(dev, p, &s) > MOST_LOCAL) s.stages = 2;
    for (struct shape more = {pairs, 2, 2}; pairs <= LOW && more.ways <= MOST_WAYS; more.ways *= 2)
        if (live_at_once(dev, p, &more) && shape_fits(dev, p, &more)) s = more;
    return s;
}

/* Neighbouring stages share sectors of rows of w, which L1 keeps: 1.08 times as fast on an H200 (8 tokens, q4_0).
 * But of the memory that a unit has for both, L1 is what work-groups leave, and where its lines are fewer than
 * those on their way, copies by way of it wait (64 tokens, int8: 1.27 times as long). */
static bool w_through_l1(const struct device *dev, const struct matmul_problem *p, const struct shape *s) {
    enum { LEAVES_L1 = 164 << 10 };
    const uint64_t each = local_mem(dev, p, s) + MORE;
    const uint64_t room = UNIT_HOPPER / each, most = (uint64_t)(UNIT_GROUPS / s->ways);
    return s->pairs > LOW || (room < most ? room : most) * each <= LEAVES_L1;
}

static bool height_fits(const struct device *dev, const struct matmul_problem *p, int pairs) {
    const struct shape s = shape_of(dev, p, pairs);
    return shape_fits(dev, p, &s);
}

/* The lowest tile that holds one and a half times the pairs of an average expert. */
static int height_of(const struct device *dev, const struct matmul_problem *p, int64_t pairs) {
    int i = 0;
    while (i + 1 < HEIGHTS && 3 * pairs > 2 * (int64_t)heights[i] * p->experts &&
           height_fits(dev, p, heights[i + 1]))
        i++;
    return i;
}

static int highest(const struct device *dev, const struct matmul_problem *p) {
    return height_of(dev, p, p->max_tokens * p->topk);
}

bool matmul_mma_blocks_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "w_order = %d: K is not fastest", (int)p->w_order);
    if (!matmul_few_words(p->w_dtype)) return refuse(why, "needs coded weights");
    if (p->x_dtype != CLMOE_F16 && p->x_dtype != CLMOE_BF16) return refuse(why, "needs x of 16 bits");
    if (p->limit == CLMOE_LIMIT_IN) return refuse(why, "has no limits of K");
    if (dtype_is_scaled(p->w_dtype) && !scales_last(p) && p->w_scale.columns < LEAST_SCALED)
        return refuse(why, "blocks of scales have %lld columns < %d", (long long)p->w_scale.columns,
                      LEAST_SCALED);
    if (dev->caps.max_work_group < ITEMS)
        return refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, ITEMS);
    return height_fits(dev, p, heights[0]) ||
           refuse(why, "%llu bytes of local memory are too few", (unsigned long long)dev->caps.local_mem);
}

/* Where tiles are fewer than units, more: 4 pairs of one expert take 68 us, by this row 119 (4096 columns of
 * 14336 steps, q8_0), but with 28672 columns 113 and 69. */
int64_t matmul_mma_blocks_few(const struct device *dev, const struct matmul_problem *p) {
    const int64_t idle = dev->caps.compute_units / groups_of(p), few = matmul_blocks_few_pairs(p->experts);
    struct reason why;
    if (!(dev->features & FEATURE) || !matmul_mma_blocks_fits(dev, p, &why)) return INT64_MAX;
    return idle > 1 ? few * idle : few;
}

void matmul_mma_blocks_add(const struct device *dev, const struct matmul_problem *p, int height,
                           struct recipe *recipe) {
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    const bool hopper = (dev->features & CLMOE_FEATURE_NV_WGMMA) != 0;
    const struct shape s = shape_of(dev, p, heights[height]);
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/mma_blocks.cl", "matmul_mma_blocks", s.ways * ITEMS);
    spec->unlisted = !emulates(dev) && local_mem(dev, p, &s) > OFFERED;
    if (s.ways > 1) spec->resident = UNIT_GROUPS / s.ways;
    spec_define(spec, "LAYOUT", "MMA_16");
    spec_define(spec, "EMULATED", "%d", emulates(dev));
    spec_define(spec, "FRAGMENTS_N", "%d", heights[height] / EIGHT);
    spec_define(spec, "STAGES", "%d", s.stages);
    spec_define(spec, "WAYS", "%d", s.ways);
    spec_define(spec, "BY_WORDS", "%d", matmul_few_words(p->w_dtype));
    spec_define(spec, "SCALES_LAST", "%d", scales_last(p));
    spec_define(spec, "LIMITED", "%d", limited);
    spec_define(spec, "X_THROUGH_L1", "%d", hopper);
    spec_define(spec, "W_THROUGH_L1", "%d", hopper && w_through_l1(dev, p, &s));
}

void matmul_mma_blocks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    for (int i = 0; i <= highest(dev, p); i++)
        matmul_mma_blocks_add(dev, p, i, recipe);
    matmul_prepare_tile(p, UNALIGNED_EDGE, recipe);
}

/* Whether blocks begin where the kernel can load their words: of two blocks of 32 the first and of Q4_K and
 * Q5_K all, as in whole tensors whose K is a multiple of 64. Others are loaded from any byte on. Codes whose
 * scales lie apart are loaded by words, too. */
static bool aligned(const struct matmul_problem *p, const struct columns *c) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const bool by_bytes = p->w_dtype == CLMOE_Q6_K || p->w_dtype == CLMOE_MXFP4;
    const uint64_t to = by_bytes ? 1 : info->block > STAGE_STEPS ? 16 : 4, block = (uint64_t)info->bytes;
    const uint64_t strides = (uint64_t)(c->expert / info->block) | (uint64_t)(c->column / info->block);
    return !c->mem || (c->skip * (uint64_t)info->unit % to == 0 && strides * block % to == 0);
}

bool matmul_mma_blocks_reaches(const struct matmul_problem *p, const struct matmul_call *c,
                               const struct matmul_part *part) {
    return (c->x.offset | (uint64_t)c->x.stride[0]) % EIGHT == 0 && aligned(p, &part->gate) &&
           aligned(p, &part->up);
}

enum clmoe_status matmul_mma_blocks_launch(const struct run *run, const struct matmul_part *part,
                                           int height) {
    const struct matmul_problem *const p = run->problem;
    const int columns = p->glu == CLMOE_GLU_NONE ? ITEMS : ITEMS / 2;
    return matmul_launch_part(run, height, part,
                              matmul_slots_times_columns(run, part, heights[height], columns));
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    if (!matmul_mma_blocks_reaches(p, c, part))
        return matmul_run_tile(run, highest(run->dev, p) + 1, part, UNALIGNED_EDGE);
    return matmul_mma_blocks_launch(run, part, height_of(run->dev, p, c->tokens * p->topk));
}

enum clmoe_status matmul_mma_blocks_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
