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

/* Formats as numbers of cl/matmul/few_words.cl; 0: none of them. What comes before the first one
 * matmul_few has on tensor cores, too, and is no slower. */
static int by_words(const struct matmul_problem *p) {
    enum { FIRST = 4 };
    const int words = matmul_few_words(p->w_dtype);
    return words < FIRST ? 0 : words;
}

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

/* Rounds of x in local memory: all, so that it is made ready once, or what there is room for. Powers of
 * two, from 4 on, so that programs are few. */
static int panel_rounds(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    enum { LEAST_ROUNDS = 4, MOST_SEGMENTS = 64 };
    const int64_t waves = params[FEW_LOCAL] / WAVE, most = MOST_SEGMENTS / waves;
    const int64_t rounds = ceil_div(ceil_div(p->in, SEGMENT), waves >> slot_bits_of(p, params));
    return (int)least(ceil_pow2(rounds < LEAST_ROUNDS ? LEAST_ROUNDS : rounds), most);
}

static uint64_t local_mem(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    enum { COPY = 16, MOST_PARTS = 8, SUMS = 4 };
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    const int bytes = SEGMENT / info->block * info->bytes, chunks = (bytes + 2 * (COPY - 1)) / COPY | 1;
    const int waves = params[FEW_LOCAL] / WAVE, segments = waves * panel_rounds(p, params);
    const int ring = waves * params[FEW_STAGES] * params[FEW_PAIRS] * ROWS * chunks * COPY + COPY;
    const int panel = segments * (SEGMENT * 2 + 4 * MOST_PARTS * 4);
    return (uint64_t)(ring + panel + (params[FEW_LOCAL] * SUMS + waves * ROWS) * params[FEW_PAIRS] * 4);
}

/* The driver lists 48 KiB of every chip: a caller who allows these allows what the chip has. */
static bool shape_fits(const struct device *dev, const struct matmul_problem *p,
                       const int params[ROW_PARAMS]) {
    const uint64_t needs = local_mem(p, params), listed = !emulates(dev) && needs > OFFERED ? OFFERED : needs;
    return needs <= MOST_LOCAL && dev->caps.max_work_group >= (size_t)params[FEW_LOCAL] &&
           dev->caps.local_mem >= listed;
}

/* Of a unit of sm_90, which has room for four times 128 work-items with the registers that these take. */
static int64_t groups_of_unit(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    enum { UNIT_ITEMS = 512, UNIT_LOCAL = 227 << 10 };
    const int64_t by_local = (int64_t)(UNIT_LOCAL / (local_mem(p, params) + 1024));
    return least(by_local, UNIT_ITEMS / params[FEW_LOCAL]);
}

/* Four waves to a tile of rows, of which each has as many segments in its ring as there is room for, up to
 * three. */
static bool few_params(const struct device *dev, const struct matmul_problem *p, int params[ROW_PARAMS]) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    params[FEW_LOCAL] = 128;
    params[FEW_PAIRS] = 1;
    params[FEW_STAGES] = info->bytes < info->block ? 3 : 2;
    if (!shape_fits(dev, p, params)) params[FEW_LOCAL] = 64, params[FEW_STAGES] = 2;
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
    if (!by_words(p)) return refuse(why, "needs coded weights");
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
    spec_define(spec, "BY_WORDS", "%d", by_words(p));
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
