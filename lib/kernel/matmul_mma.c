/* SPDX-License-Identifier: MIT */
#include "matmul_mma.h"

#include "matmul_rows.h"

#include <string.h>

/* Waves and fragments of cl/matmul/mma.cl, steps of K in a stage, stages. */
struct shape {
    int waves_m, waves_n, fragments_m, fragments_n, steps, stages;
};

/* Chosen by each call: `few` for experts with few pairs, where as much of w as possible shall be on its way
 * and several work-groups live on a compute unit; `many`, which can be tuned, has the fewest bytes for a
 * product. Both take more local memory than NVIDIA's driver says there is, but no more than every chip from
 * sm_80 on has (99 KiB). `small` is for callers that allow less. */
static const struct shape few = {1, 4, 2, 4, 64, 3}, many = {2, 4, 4, 8, 32, 4}, small = {1, 2, 2, 4, 32, 3};

const struct tunable matmul_mma_async_tunables[] = {
    {"WAVES_M", {1, 2, 4}},
    {"WAVES_N", {1, 2, 4}},
    {"FRAGMENTS_M", {1, 2, 4}},
    {"FRAGMENTS_N", {4, 8}},
    {"TK", {32, 64}},
    {"STAGES", {2, 3, 4}},
    {NULL},
};

/* Kernels of the recipe: for the fewest and for the most pairs, then what takes operands of any alignment. */
enum { FEWEST, MOST, ANY };

enum { FEATURE = CLMOE_FEATURE_NV_MMA, LANES = 32, HELD = 12, OFFERED = 48 << 10, ALIGNED = 8 };
enum { MOST_LOCAL = 227 << 10 }; /* of sm_90 */

static int items_of(const struct shape *s) {
    return s->waves_m * s->waves_n * LANES;
}
static int rows_of(const struct shape *s) {
    return s->waves_m * s->fragments_m * 16;
}
/* Rows of w: gate and up together. */
static int w_rows_of(const struct shape *s) {
    return s->waves_n * s->fragments_n * 8;
}

static bool emulates(const struct device *dev) {
    return (dev->emulated & FEATURE) != 0;
}

static uint64_t local_mem_of(const struct device *dev, const struct shape *s) {
    const int rows = rows_of(s), ring = (rows + w_rows_of(s)) * s->steps * 2 * s->stages;
    const int scratch = emulates(dev) ? items_of(s) * HELD : s->waves_m * s->waves_n;
    return (uint64_t)(ring + rows * 16 + 3 * 8 + scratch * 4);
}

/* The driver lists 48 KiB of every chip: a caller who allows these allows what the chip has. */
static bool shape_fits(const struct device *dev, const struct shape *s) {
    const uint64_t needs = local_mem_of(dev, s), listed = !emulates(dev) && needs > OFFERED ? OFFERED : needs;
    return dev->caps.max_work_group >= (size_t)items_of(s) && dev->caps.local_mem >= listed;
}

/* What cl/matmul/mma.cl wants of a shape, as many sums as there are registers for, and as much local memory
 * as any chip has. */
static bool is_legal(const struct device *dev, const struct matmul_problem *p, const struct shape *s) {
    const int items = items_of(s), each = items / (s->steps / 8), w = w_rows_of(s);
    const bool enk = p->w_order == CLMOE_W_ENK;
    const int w_each = enk ? each : items / (w / 8), columns = p->glu == CLMOE_GLU_NONE ? w : w / 2;
    const uint64_t ring = (uint64_t)((rows_of(s) + w) * s->steps * 2 * s->stages);
    return each % 8 == 0 && rows_of(s) % each == 0 && w_each > 0 && w_each % 8 == 0 &&
           (enk ? columns % each : items % (w / 8)) == 0 && s->fragments_m * s->fragments_n <= 32 &&
           (uint64_t)(items / LANES * 16 * (s->fragments_n * 8 + 8) * 4) <= ring &&
           local_mem_of(dev, s) <= MOST_LOCAL && shape_fits(dev, s);
}

/* `many` as it is tuned, if that goes on this device. */
static bool tuned_many(const struct device *dev, const struct matmul_problem *p, int v[ROW_PARAMS]) {
    const int own[ROW_PARAMS] = {many.waves_m,     many.waves_n, many.fragments_m,
                                 many.fragments_n, many.steps,   many.stages};
    memcpy(v, own, sizeof own);
    const bool changed =
        tune_params(dev, "matmul_mma_async", matmul_class_of(p).text, matmul_mma_async_tunables, v);
    const struct shape tuned = {v[0], v[1], v[2], v[3], v[4], v[5]};
    if (changed && is_legal(dev, p, &tuned)) return true;
    memcpy(v, own, sizeof own);
    return false;
}

static bool are_few(const struct matmul_problem *p, int64_t pairs) {
    return pairs <= (int64_t)rows_of(&few) * p->experts;
}

/* `v`: what is in force of the tunables */
static struct shape choose(const struct device *dev, const struct matmul_problem *p, int64_t pairs,
                           const int v[ROW_PARAMS]) {
    const struct shape best = are_few(p, pairs) ? few : (struct shape){v[0], v[1], v[2], v[3], v[4], v[5]};
    return shape_fits(dev, &best) ? best : small;
}

bool matmul_mma_async_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    if (p->in % ALIGNED)
        return refuse(why, "%lld columns of x are no multiple of %d", (long long)p->in, ALIGNED);
    if (p->w_order == CLMOE_W_EKN && p->out % ALIGNED)
        return refuse(why, "%lld columns of w are no multiple of %d", (long long)p->out, ALIGNED);
    if (p->limit == CLMOE_LIMIT_IN) return refuse(why, "has no limits of K");
    if (!shape_fits(dev, &small))
        return refuse(why,
                      "needs work-groups of %d and %llu bytes of local memory, the device has %zu and %llu",
                      items_of(&small), (unsigned long long)local_mem_of(dev, &small),
                      dev->caps.max_work_group, (unsigned long long)dev->caps.local_mem);
    return matmul_mma_fits(dev, problem, why);
}

static void add_shape(const struct device *dev, const struct matmul_problem *p, const struct shape *s,
                      struct recipe *recipe) {
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    struct kernel_spec *const spec = matmul_add_kernel(p, recipe, "matmul/mma.cl", "matmul_mma", items_of(s));
    spec->unlisted = !emulates(dev) && local_mem_of(dev, s) > OFFERED;
    spec_define(spec, "LAYOUT", "MMA_16");
    spec_define(spec, "EMULATED", "%d", emulates(dev));
    spec_define(spec, "WAVES_M", "%d", s->waves_m);
    spec_define(spec, "WAVES_N", "%d", s->waves_n);
    spec_define(spec, "FRAGMENTS_M", "%d", s->fragments_m);
    spec_define(spec, "FRAGMENTS_N", "%d", s->fragments_n);
    spec_define(spec, "ENK", "%d", p->w_order == CLMOE_W_ENK);
    spec_define(spec, "LIMITED", "%d", limited);
    spec_define(spec, "THROUGH_L1", "%d", (dev->features & CLMOE_FEATURE_NV_WGMMA) != 0);
    spec_define(spec, "TK", "%d", s->steps);
    spec_define(spec, "STAGES", "%d", s->stages);
}

void matmul_mma_async_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    recipe->tuned = tuned_many(dev, p, recipe->params);
    const struct shape fewest = choose(dev, p, 0, recipe->params),
                       most = choose(dev, p, p->max_tokens * p->topk, recipe->params);
    add_shape(dev, p, &fewest, recipe);
    add_shape(dev, p, &most, recipe);
    matmul_mma_prepare(dev, p, recipe);
}

static bool aligned(const struct matmul_problem *p, const struct columns *c) {
    const int64_t row = p->w_order == CLMOE_W_ENK ? c->column : c->depth;
    return (c->skip | (uint64_t)c->expert | (uint64_t)row) % ALIGNED == 0;
}

/* Whether chunks of 8 elements begin at multiples of 16 bytes. Where gate and up columns alternate they are
 * in the same chunks. */
static bool addressable(const struct matmul_problem *p, const struct matmul_call *c) {
    const bool mixed = p->w_order == CLMOE_W_EKN && p->glu == CLMOE_GLU_INTERLEAVED;
    bool yes = (c->x.offset | (uint64_t)c->x.stride[0]) % ALIGNED == 0;
    for (int32_t i = 0; i < c->n_w && yes; i++) {
        const struct matmul_part part = matmul_part_at(p, c->w, c->w_up, i, 0);
        yes = aligned(p, &part.gate) && (!part.up.mem || mixed || aligned(p, &part.up));
    }
    return yes;
}

static uint64_t groups(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct shape s = choose(run->dev, p, c->tokens * p->topk, run->params);
    const int columns = p->glu == CLMOE_GLU_NONE ? w_rows_of(&s) : w_rows_of(&s) / 2;
    return matmul_slots_times_columns(run, part, rows_of(&s), columns);
}

/* The run as a row sees it whose only kernel this is. */
static struct run with_kernel(const struct run *run, int kernel) {
    struct run one = *run;
    one.kernels += kernel;
    one.local += kernel;
    one.n_kernels = 1;
    return one;
}

enum clmoe_status matmul_mma_async_run(const struct run *run) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const bool any = !addressable(p, c);
    const int kernel = any ? ANY : are_few(p, c->tokens * p->topk) ? FEWEST : MOST;
    const struct run one = with_kernel(run, kernel);
    return any ? matmul_mma_run(&one) : matmul_run_parts(&one, groups);
}
