/* SPDX-License-Identifier: MIT */
#include "matmul_mma.h"

#include "matmul_rows.h"

/* Waves and fragments of cl/matmul/mma.cl, steps of K in a stage, stages. */
struct shape {
    int waves_m, waves_n, fragments_m, fragments_n, steps, stages;
};

/* Chosen by each call: `few` for experts with few pairs, where as much of w as possible shall be on its way and
 * several work-groups live on a compute unit; `many` has the fewest bytes for a product. Both take more local
 * memory than NVIDIA's driver says there is, but no more than every chip from sm_80 on has (99 KiB). `small` is
 * for callers that allow less. */
static const struct shape few = {1, 4, 2, 4, 64, 3}, many = {2, 4, 4, 8, 32, 4}, small = {1, 2, 2, 4, 32, 3};

/* Kernels of the recipe: for the fewest and for the most pairs, then what takes operands of any alignment. */
enum { FEWEST, MOST, ANY };

enum { FEATURE = CLMOE_FEATURE_NV_MMA, LANES = 32, HELD = 12, OFFERED = 48 << 10, ALIGNED = 8 };

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

static bool shape_fits(const struct device *dev, const struct shape *s) {
    const bool unlisted = s != &small && !emulates(dev);
    return dev->caps.max_work_group >= (size_t)items_of(s) &&
           dev->caps.local_mem >= (unlisted ? OFFERED : local_mem_of(dev, s));
}

static const struct shape *choose(const struct device *dev, const struct matmul_problem *p, int64_t pairs) {
    const struct shape *const best = pairs <= (int64_t)rows_of(&few) * p->experts ? &few : &many;
    return shape_fits(dev, best) ? best : &small;
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
    struct kernel_spec *const spec = matmul_add_kernel(p, recipe, "matmul/mma.cl", "matmul_mma", items_of(s));
    spec->unlisted = s != &small;
    spec_define(spec, "LAYOUT", "MMA_16");
    spec_define(spec, "EMULATED", "%d", emulates(dev));
    spec_define(spec, "WAVES_M", "%d", s->waves_m);
    spec_define(spec, "WAVES_N", "%d", s->waves_n);
    spec_define(spec, "FRAGMENTS_M", "%d", s->fragments_m);
    spec_define(spec, "FRAGMENTS_N", "%d", s->fragments_n);
    spec_define(spec, "ENK", "%d", p->w_order == CLMOE_W_ENK);
    spec_define(spec, "TK", "%d", s->steps);
    spec_define(spec, "STAGES", "%d", s->stages);
}

void matmul_mma_async_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    add_shape(dev, p, choose(dev, p, 0), recipe);
    add_shape(dev, p, choose(dev, p, p->max_tokens * p->topk), recipe);
    matmul_mma_prepare(dev, p, recipe);
}

static bool aligned(const struct matmul_problem *p, const struct columns *c) {
    const int64_t row = p->w_order == CLMOE_W_ENK ? c->column : c->depth;
    return (c->skip | (uint64_t)c->expert | (uint64_t)row) % ALIGNED == 0;
}

/* Whether chunks of 8 elements begin at multiples of 16 bytes. Where gate and up columns alternate they are in
 * the same chunks. */
static bool addressable(const struct matmul_problem *p, const struct matmul_call *c) {
    const bool mixed = p->w_order == CLMOE_W_EKN && p->glu == CLMOE_GLU_INTERLEAVED;
    bool yes = (c->x.offset | (uint64_t)c->x.stride[0]) % ALIGNED == 0;
    for (int32_t i = 0; i < c->n_w && yes; i++) {
        const struct matmul_part part = matmul_part_at(p, c->w, c->w_up, i, 0);
        yes = aligned(p, &part.gate) && (!part.up.mem || mixed || aligned(p, &part.up));
    }
    return yes;
}

static const struct shape *shape_of(const struct run *run) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    return choose(run->dev, p, c->tokens * p->topk);
}

static uint64_t groups(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct shape *const s = shape_of(run);
    const int columns = p->glu == CLMOE_GLU_NONE ? w_rows_of(s) : w_rows_of(s) / 2;
    return matmul_slots_times_columns(run, part, rows_of(s), columns);
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
    const bool any = !addressable(p, run->call);
    const int kernel = any ? ANY : shape_of(run) == choose(run->dev, p, 0) ? FEWEST : MOST;
    const struct run one = with_kernel(run, kernel);
    return any ? matmul_mma_run(&one) : matmul_run_parts(&one, groups);
}
