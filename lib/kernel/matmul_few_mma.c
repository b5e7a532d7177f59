/* SPDX-License-Identifier: MIT */
#include "matmul_few_mma.h"

#include "matmul_few.h"

#include <string.h>

/* Parameters, in this order in recipe.params. */
enum { FEW_LOCAL, FEW_STAGES, FEW_PAIRS };

const struct tunable matmul_few_mma_tunables[] = {
    {"LOCAL", {64, 128, 256}},
    {"STAGES", {2, 3, 4}},
    {"PAIRS", {1, 2}},
    {NULL},
};

enum { FEATURE = CLMOE_FEATURE_NV_MMA, WAVE = 32, SEGMENT = 256, ROWS = 16, LEAST_STEPS = 32 };
enum { OFFERED = 48 << 10, MOST_LOCAL = 99 << 10 }; /* what drivers list, what every chip from sm_80 on has */

/* Steps of a segment that share a scale. */
static int scale_steps(const struct matmul_problem *p) {
    int steps = 1;
    while (steps < SEGMENT && steps < p->w_scale.columns)
        steps *= 2;
    return steps;
}

static bool emulates(const struct device *dev) {
    return (dev->emulated & FEATURE) != 0;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Log2 of the slots of a token between which the waves of a work-group are split. */
static int slot_bits_of(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    int bits = 0;
    while (p->may_sum && 1 << bits < params[FEW_LOCAL] / WAVE && 1 << bits < p->topk)
        bits++;
    return bits;
}

/* Of work-groups that a unit of sm_90 has at once: registers are there for UNIT_ITEMS work-items. */
enum { UNIT_ITEMS = 512, UNIT_LOCAL = 227 << 10, EACH_GROUP = 1 << 10 };

/* With `rounds` of x: the ring of each wave, x and a number for each part of it, and sums of rows. */
static uint64_t local_mem_with(const struct matmul_problem *p, const int params[ROW_PARAMS], int rounds) {
    enum { COPY = 16, SECTOR = 32, MOST_PARTS = 4, SUMS = 3 };
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const int begin_at = dtype_is_block(p->w_dtype) && p->w_dtype != CLMOE_MXFP4 ? 2 : 1;
    const int bytes = SEGMENT / info->block * info->bytes;
    const int chunks = (bytes + SECTOR - begin_at + COPY - 1) / COPY | 1;
    const int waves = params[FEW_LOCAL] / WAVE;
    const int ring = waves * params[FEW_STAGES] * params[FEW_PAIRS] * ROWS * chunks * COPY + COPY;
    const int panel = waves * rounds * (SEGMENT * 2 + 4 * MOST_PARTS * 4);
    return (uint64_t)(ring + panel + (waves * ROWS * SUMS * params[FEW_PAIRS] + 1) * 4);
}

/* Rounds of x in local memory: all, so that it is made ready once, or as many as let a unit have as many
 * work-groups as it has registers for. Powers of two, from 4 on, so that programs are few. */
static int panel_rounds(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    enum { LEAST_ROUNDS = 4, MOST_ROUNDS = 16 };
    const int64_t ways = params[FEW_LOCAL] / WAVE >> slot_bits_of(p, params);
    const int64_t all = ceil_pow2(ceil_div(ceil_div(p->in, SEGMENT), ways));
    const int64_t room = least(UNIT_LOCAL / (UNIT_ITEMS / params[FEW_LOCAL]) - EACH_GROUP, MOST_LOCAL);
    int rounds = (int)least(all, MOST_ROUNDS);
    while (rounds > LEAST_ROUNDS && (int64_t)local_mem_with(p, params, rounds) > room)
        rounds /= 2;
    return rounds < LEAST_ROUNDS ? LEAST_ROUNDS : rounds;
}

static uint64_t local_mem(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    return local_mem_with(p, params, panel_rounds(p, params));
}

/* The driver lists 48 KiB of every chip: a caller who allows these allows what the chip has. */
static bool shape_fits(const struct device *dev, const struct matmul_problem *p,
                       const int params[ROW_PARAMS]) {
    const uint64_t needs = local_mem(p, params), listed = !emulates(dev) && needs > OFFERED ? OFFERED : needs;
    return needs <= MOST_LOCAL && dev->caps.max_work_group >= (size_t)params[FEW_LOCAL] &&
           dev->caps.local_mem >= listed;
}

static int64_t groups_of_unit(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    return least((int64_t)(UNIT_LOCAL / (local_mem(p, params) + EACH_GROUP)), UNIT_ITEMS / params[FEW_LOCAL]);
}

/* Four waves to a tile of rows. A third stage of each takes room from L1: 1.06 times as long (H200, MXFP4). */
static bool few_params(const struct device *dev, const struct matmul_problem *p, int params[ROW_PARAMS]) {
    params[FEW_LOCAL] = 128;
    params[FEW_PAIRS] = 1;
    params[FEW_STAGES] = 2;
    if (!shape_fits(dev, p, params)) params[FEW_LOCAL] = 64;
    int tuned[ROW_PARAMS];
    memcpy(tuned, params, sizeof tuned);
    if (!tune_params(dev, "matmul_few_mma", matmul_class_of(p).text, matmul_few_mma_tunables, tuned) ||
        !shape_fits(dev, p, tuned))
        return false;
    memcpy(params, tuned, sizeof tuned);
    return true;
}

bool matmul_few_mma_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    int params[ROW_PARAMS] = {0};
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "w_order = %d: K is not fastest", (int)p->w_order);
    if (!matmul_few_words(p->w_dtype)) return refuse(why, "needs coded weights");
    if (p->x_dtype != CLMOE_F16 && p->x_dtype != CLMOE_BF16) return refuse(why, "needs x of 16 bits");
    if (p->w_dtype == CLMOE_F8_E4M3 && !emulates(dev) && !(dev->features & CLMOE_FEATURE_NV_WGMMA))
        return refuse(why, "the device does not convert fp8");
    if (dtype_is_scaled(p->w_dtype) && scale_steps(p) < LEAST_STEPS)
        return refuse(why, "blocks of scales have %lld columns < %d", (long long)p->w_scale.columns,
                      LEAST_STEPS);
    few_params(dev, p, params);
    if (!shape_fits(dev, p, params))
        return refuse(why,
                      "needs work-groups of %d and %llu bytes of local memory, the device has %zu and %llu",
                      params[FEW_LOCAL], (unsigned long long)local_mem(p, params), dev->caps.max_work_group,
                      (unsigned long long)dev->caps.local_mem);
    return matmul_few_pays(dev, p, why);
}

void matmul_few_mma_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    int *const params = recipe->params;
    recipe->tuned = few_params(dev, p, params);
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/few_mma.cl", "matmul_few_mma", params[FEW_LOCAL]);
    spec->unlisted = !emulates(dev) && local_mem(p, params) > OFFERED;
    spec_define(spec, "EMULATED", "%d", emulates(dev));
    spec_define(spec, "STAGES", "%d", params[FEW_STAGES]);
    spec->resident = (int)groups_of_unit(p, params);
    spec_define(spec, "PANEL_ROUNDS", "%d", panel_rounds(p, params));
    spec_define(spec, "PAIRS", "%d", params[FEW_PAIRS]);
    spec_define(spec, "BY_WORDS", "%d", matmul_few_words(p->w_dtype));
    spec_define(spec, "SCALE_STEPS", "%d", dtype_is_scaled(p->w_dtype) ? scale_steps(p) : SEGMENT);
    matmul_few_define_sums(p, spec);
}

/* Work-groups that run at once have as many tiles each as there are; all slots of one tile where these
 * come in turns. */
static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int slot_bits = slot_bits_of(p, run->params);
    const int64_t positions = p->may_sum ? c->tokens : c->tokens * p->topk;
    const int64_t columns = (p->glu == CLMOE_GLU_NONE ? ROWS : ROWS / 2) * run->params[FEW_PAIRS];
    const int64_t tiles = ceil_div(p->out, columns);
    const int64_t resident = (int64_t)run->dev->caps.compute_units * groups_of_unit(p, run->params);
    const bool in_turns = p->may_sum && 1 << slot_bits < p->topk;
    const int64_t span = in_turns ? 1 : ceil_div(positions * tiles, resident);
    struct bind b = matmul_few_bind(run, part, slot_bits);
    bind_i32(&b, (int32_t)span);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(positions * ceil_div(tiles, span)),
                         run->local[0]);
}

enum clmoe_status matmul_few_mma_run(const struct run *run) {
    return matmul_few_each_part(run, run_part);
}
