/* SPDX-License-Identifier: MIT */
#include "matmul_words.h"

#include "matmul_rows.h"
#include "matmul_wgmma_words.h"

#include <string.h>

/* Parameters, in this order in recipe.params. */
enum { WORDS_LOCAL, WORDS_STAGES };

const struct tunable matmul_words_mma_tunables[] = {
    {"LOCAL", {64, 128, 256, 512}},
    {"STAGES", {2, 3, 4, 6}},
    {NULL},
};

/* cl/matmul/words_mma.cl: columns of y of a tile, steps of a stage and of a segment */
enum { COLUMNS = 64, STEPS = 32, SEGMENT = 128, WAVE = 32 };
enum { FEATURE = CLMOE_FEATURE_NV_MMA, HELD = 12 };
enum { OFFERED = 48 << 10, MOST_LOCAL = 99 << 10 }; /* what drivers list, what every chip from sm_80 on has */

/* Fragments of 8 rows of x that a tile has; a call takes the first that its experts do not fill in the mean,
 * or the last. Without sorting a tile has one row. */
static const int fragments[] = {1, 2, 4};
enum { SHAPES = sizeof fragments / sizeof *fragments };

static bool single(const struct matmul_problem *p) {
    return !p->sorted && !p->dense;
}

static int shape_of(const struct matmul_problem *p, int64_t pairs) {
    int i = 0;
    while (!single(p) && i + 1 < SHAPES && pairs > (int64_t)8 * fragments[i] * p->experts)
        i++;
    return i;
}

static bool emulates(const struct device *dev) {
    return (dev->emulated & FEATURE) != 0;
}

static uint64_t local_mem(const struct device *dev, const struct matmul_problem *p, int shape,
                          const int params[ROW_PARAMS]) {
    const int waves = params[WORDS_LOCAL] / WAVE, rows = single(p) ? 1 : 8 * fragments[shape];
    const int x_chunks = single(p) ? 4 : WAVE * fragments[shape], chunks = COLUMNS * STEPS / 32 + x_chunks;
    const int ring = waves * params[WORDS_STAGES] * chunks * 16, parts = waves * rows * (COLUMNS + 4) * 4;
    const int scratch = emulates(dev) ? params[WORDS_LOCAL] * HELD : waves;
    return (uint64_t)((ring > parts ? ring : parts) + scratch * 4 + 3 * 8);
}

/* The driver lists 48 KiB of every chip: a caller who allows these allows what the chip has. */
static bool shape_fits(const struct device *dev, const struct matmul_problem *p, int shape,
                       const int params[ROW_PARAMS]) {
    const uint64_t needs = local_mem(dev, p, shape, params);
    const uint64_t listed = !emulates(dev) && needs > OFFERED ? OFFERED : needs;
    return needs <= MOST_LOCAL && dev->caps.max_work_group >= (size_t)params[WORDS_LOCAL] &&
           dev->caps.local_mem >= listed;
}

/* Of few tiles each takes more waves, so that all units have as many as keep memory busy. */
static int waves_of(const struct device *dev, const struct matmul_problem *p, int last) {
    const int64_t tiles = p->max_tokens * p->topk * ceil_div(p->out, COLUMNS),
                  units = dev->caps.compute_units;
    if (!single(p)) return last + 1 == SHAPES ? 4 : 8;
    return tiles >= 4 * units ? 4 : tiles >= units ? 8 : 16;
}

/* Of a recipe whose last shape this is. */
static bool words_params(const struct device *dev, const struct matmul_problem *p, int last,
                         int params[ROW_PARAMS]) {
    const int waves = waves_of(dev, p, last);
    params[WORDS_LOCAL] = waves * WAVE;
    params[WORDS_STAGES] = waves == 4 || (single(p) && waves == 8) ? 4 : 3;
    while (params[WORDS_LOCAL] > 2 * WAVE && !shape_fits(dev, p, last, params))
        params[WORDS_LOCAL] /= 2, params[WORDS_STAGES] = 2;
    int tuned[ROW_PARAMS];
    memcpy(tuned, params, sizeof tuned);
    if (!tune_params(dev, "matmul_words_mma", matmul_class_of(p).text, matmul_words_mma_tunables, tuned) ||
        !shape_fits(dev, p, last, tuned))
        return false;
    memcpy(params, tuned, sizeof tuned);
    return true;
}

int matmul_words_scale_steps(const struct matmul_problem *p) {
    const int64_t columns = p->w_scale.columns;
    return columns >= p->in || columns > SEGMENT ? SEGMENT : (int)columns;
}

bool matmul_words_mma_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    int params[ROW_PARAMS] = {0};
    if (!matmul_in_words(p->w_order)) return refuse(why, "w_order = %d: no words", (int)p->w_order);
    if (p->x_dtype != CLMOE_F16 && p->x_dtype != CLMOE_BF16) return refuse(why, "needs x of 16 bits");
    if (p->w_scale.dtype == CLMOE_U8) return refuse(why, "needs scales with a mantissa");
    if (matmul_words_scale_steps(p) < STEPS)
        return refuse(why, "groups have %lld columns < %d", (long long)p->w_scale.columns, STEPS);
    if (p->max_tokens * p->topk > (int64_t)MATMUL_WORDS_FEW_PAIRS * p->experts &&
        matmul_wgmma_words_here(dev, p))
        return refuse(why, "%lld pairs > %d for each of %d experts, and there is matmul_wgmma_words",
                      (long long)(p->max_tokens * p->topk), MATMUL_WORDS_FEW_PAIRS, (int)p->experts);
    const int last = shape_of(p, p->max_tokens * p->topk);
    words_params(dev, p, last, params);
    if (!shape_fits(dev, p, last, params))
        return refuse(why,
                      "needs work-groups of %d and %llu bytes of local memory, the device has %zu and %llu",
                      params[WORDS_LOCAL], (unsigned long long)local_mem(dev, p, last, params),
                      dev->caps.max_work_group, (unsigned long long)dev->caps.local_mem);
    return true;
}

static void add_shape(const struct device *dev, const struct matmul_problem *p, int shape,
                      const int params[ROW_PARAMS], struct recipe *recipe) {
    enum { UNIT_ITEMS = 512, UNIT_ITEMS_MANY = 256 }; /* that a unit has registers for */
    const int items = fragments[shape] > 2 ? UNIT_ITEMS_MANY : UNIT_ITEMS, local = params[WORDS_LOCAL];
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/words_mma.cl", "matmul_words_mma", local);
    spec->unlisted = !emulates(dev) && local_mem(dev, p, shape, params) > OFFERED;
    spec->resident = local < items ? items / local : 1;
    spec_define(spec, "EMULATED", "%d", emulates(dev));
    spec_define(spec, "STAGES", "%d", params[WORDS_STAGES]);
    spec_define(spec, "FRAGMENTS", "%d", fragments[shape]);
    spec_define(spec, "SINGLE", "%d", single(p));
    spec_define(spec, "SCALE_STEPS", "%d", matmul_words_scale_steps(p));
}

void matmul_words_mma_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const int last = shape_of(p, p->max_tokens * p->topk);
    recipe->tuned = words_params(dev, p, last, recipe->params);
    for (int i = 0; i <= last; i++)
        add_shape(dev, p, i, recipe->params, recipe);
}

void matmul_words_add_lowest(const struct device *dev, const struct matmul_problem *p,
                             struct recipe *recipe) {
    int params[ROW_PARAMS] = {0};
    words_params(dev, p, 0, params);
    add_shape(dev, p, 0, params, recipe);
}

static enum clmoe_status run_tiles(const struct run *run, int kernel, int shape,
                                   const struct matmul_part *part) {
    return matmul_launch_part(run, kernel, part,
                              matmul_slots_times_columns(run, part, 8 * fragments[shape], COLUMNS));
}

enum clmoe_status matmul_words_run_lowest(const struct run *run, int kernel, const struct matmul_part *part) {
    return run_tiles(run, kernel, 0, part);
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int shape = shape_of(p, c->tokens * p->topk);
    if (single(p)) return matmul_launch_part(run, shape, part, matmul_pairs_times_columns(run, COLUMNS));
    return run_tiles(run, shape, shape, part);
}

enum clmoe_status matmul_words_mma_run(const struct run *run) {
    return matmul_each_part(run, run_part);
}
