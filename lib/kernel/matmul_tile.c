/* SPDX-License-Identifier: MIT */
#include "matmul_tile.h"

#include "matmul_rows.h"

/* Parameters of cl/matmul/tile.cl. Rows of w: gate and up rows together. */
struct tile {
    int rows, w_rows, steps; /* TM, TN, TK */
    int item_m, item_n;      /* WM, WN */
    int buffers, resident;
};

static bool gated(const struct matmul_problem *p) {
    return p->glu != CLMOE_GLU_NONE;
}

/* Weights that the kernel decodes in runs of 16 steps. */
static bool in_runs(const struct matmul_problem *p) {
    return !dtype_is_float(p->w_dtype) && !matmul_in_words(p->w_order);
}

/* 64 sums in registers let 128 registers do, and two work-groups live on a unit, as long as few steps are on
 * their way. A work-item of gate and up columns has two quads of them. */
static struct tile tile_of(const struct matmul_problem *p, int edge) {
    const int more = gated(p) ? 2 : 1;
    if (edge == 128)
        return in_runs(p) ? (struct tile){128, 128, 16, 8, 8, 2, 0} : (struct tile){128, 128, 8, 8, 8, 2, 2};
    return (struct tile){edge, edge * more, 16, 4, 4 * more, 2, 0};
}

static int items_of(const struct tile *t) {
    return t->rows / t->item_m * (t->w_rows / t->item_n);
}

/* Columns of y: they are the edge, but for the largest tile of gate and up. */
static int columns_of(const struct matmul_problem *p, int edge) {
    return tile_of(p, edge).w_rows / (gated(p) ? 2 : 1);
}

static uint64_t local_mem_of(const struct tile *t) {
    return (uint64_t)(t->buffers * t->steps * (t->rows + 4 + t->w_rows + 4) * 4 + 3 * 8);
}

/* A call with fewer pairs for each expert than half a tile has runs the small one, of which less is wasted.
 * The sums are the same. */
enum { SMALL = 32 };

static bool too_few(const struct matmul_problem *p, int64_t pairs, int edge) {
    return edge > SMALL && pairs <= (int64_t)(edge / 2) * p->experts;
}

/* Large tiles also have to be as many as there are compute units. */
static bool fits(const struct device *dev, const struct matmul_problem *p, int edge, struct reason *why) {
    const struct tile t = tile_of(p, edge);
    const int64_t pairs = p->max_tokens * p->topk;
    const int64_t tiles = ceil_div(pairs, edge) * ceil_div(p->out, columns_of(p, edge));
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (dev->caps.max_work_group < (size_t)items_of(&t))
        return refuse(why, "needs work-groups of %d, the device has %zu", items_of(&t),
                      dev->caps.max_work_group);
    if (dev->caps.local_mem < local_mem_of(&t))
        return refuse(why, "needs %llu bytes of local memory of %llu", (unsigned long long)local_mem_of(&t),
                      (unsigned long long)dev->caps.local_mem);
    if (too_few(p, pairs, edge))
        return refuse(why, "%lld pairs <= %d for each of %d experts", (long long)pairs, edge / 2,
                      (int)p->experts);
    if (edge > SMALL && tiles < (int64_t)dev->caps.compute_units)
        return refuse(why, "%lld tiles for %u compute units", (long long)tiles,
                      (unsigned)dev->caps.compute_units);
    return true;
}

void matmul_prepare_tile(const struct matmul_problem *p, int edge, struct recipe *recipe) {
    const struct tile t = tile_of(p, edge);
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/tile.cl", "matmul_tile", items_of(&t));
    spec->resident = t.resident;
    spec_define(spec, "TM", "%d", t.rows);
    spec_define(spec, "TN", "%d", t.w_rows);
    spec_define(spec, "TK", "%d", t.steps);
    spec_define(spec, "WM", "%d", t.item_m);
    spec_define(spec, "WN", "%d", t.item_n);
    spec_define(spec, "BUFFERS", "%d", t.buffers);
}

enum clmoe_status matmul_run_tile(const struct run *run, int kernel, const struct matmul_part *part,
                                  int edge) {
    return matmul_launch_part(run, kernel, part,
                              matmul_slots_times_columns(run, part, edge, columns_of(run->problem, edge)));
}

static void prepare(const struct matmul_problem *p, int edge, struct recipe *recipe) {
    matmul_prepare_tile(p, edge, recipe);
    if (edge > SMALL) matmul_prepare_tile(p, SMALL, recipe);
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part, int edge) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    return too_few(p, c->tokens * p->topk, edge) ? matmul_run_tile(run, 1, part, SMALL)
                                                 : matmul_run_tile(run, 0, part, edge);
}

#define ROW(edge)                                                                                            \
    bool matmul_tile_##edge##_fits(const struct device *dev, const void *problem, struct reason *why) {      \
        return fits(dev, problem, edge, why);                                                                \
    }                                                                                                        \
    void matmul_tile_##edge##_prepare(const struct device *dev, const void *problem,                         \
                                      struct recipe *recipe) {                                               \
        (void)dev;                                                                                           \
        prepare(problem, edge, recipe);                                                                      \
    }                                                                                                        \
    static enum clmoe_status run_part_##edge(const struct run *run, const struct matmul_part *part) {        \
        return run_part(run, part, edge);                                                                    \
    }                                                                                                        \
    enum clmoe_status matmul_tile_##edge##_run(const struct run *run) {                                      \
        return matmul_each_part(run, run_part_##edge);                                                       \
    }

ROW(128)
ROW(64)
ROW(32)
