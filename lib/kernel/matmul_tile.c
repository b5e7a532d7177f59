/* SPDX-License-Identifier: MIT */
#include "matmul_tile.h"

#include "matmul_rows.h"

#include <string.h>

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
    return !dtype_is_float(p->w_dtype) && !matmul_in_words(p->w_order) && p->w_order != CLMOE_W_PACKED;
}

/* 64 sums in registers and 16 steps on their way want 150 registers: a work-group for itself on a unit of
 * NVIDIA's beats two that spill. A work-item of gate and up columns has two quads of them. */
static struct tile usual(const struct matmul_problem *p, int edge) {
    const int more = gated(p) ? 2 : 1;
    if (edge == 128) return (struct tile){128, 128, 16, 8, 8, 2, 1};
    return (struct tile){edge, edge * more, 16, 4, 4 * more, 2, 1};
}

static int items_of(const struct tile *t) {
    return t->rows / t->item_m * (t->w_rows / t->item_n);
}

/* Columns of y: they are the edge, but for the largest tile of gate and up. */
static int columns_of(const struct matmul_problem *p, int edge) {
    return usual(p, edge).w_rows / (gated(p) ? 2 : 1);
}

static uint64_t local_mem_of(const struct tile *t) {
    return (uint64_t)(t->buffers * t->steps * (t->rows + 4 + t->w_rows + 4) * 4 + 3 * 8);
}

const struct tunable matmul_tile_tunables[] = {
    {"TK", {8, 16, 32}},        {"WM", {4, 8}}, {"WN", {4, 8, 16}}, {"BUFFERS", {1, 2}},
    {"RESIDENT", {1, 2, 3, 4}}, {NULL},
};

/* Work-items are few enough, 64 or more, and each fetches as much as the others; sums are few enough for
 * registers. */
static bool is_legal(const struct device *dev, const struct matmul_problem *p, const struct tile *t) {
    const int items = items_of(t), runs = in_runs(p);
    return items >= 64 && (size_t)items <= dev->caps.max_work_group && t->item_n % (gated(p) ? 8 : 4) == 0 &&
           t->steps >= (runs ? 16 : 8) && t->rows * t->steps % (4 * items) == 0 &&
           (runs || t->w_rows * t->steps % (4 * items) == 0) && local_mem_of(t) <= dev->caps.local_mem;
}

/* As it is tuned, if that goes on this device. Where local memory is small, half of the steps do. */
static struct tile tile_of(const struct device *dev, const struct matmul_problem *p, int edge,
                           struct recipe *recipe) {
    static const char *const names[] = {"matmul_tile_32x32", "matmul_tile_64x64", "matmul_tile_128x128"};
    struct tile own = usual(p, edge);
    if (edge == 128 && !in_runs(p) && local_mem_of(&own) > dev->caps.local_mem) own.steps = 8;
    int v[ROW_PARAMS] = {own.steps, own.item_m, own.item_n, own.buffers, own.resident};
    const bool changed = tune_params(dev, names[edge / 64], matmul_class_of(p).text, matmul_tile_tunables, v);
    const struct tile tuned = {own.rows, own.w_rows, v[0], v[1], v[2], v[3], v[4]};
    if (!changed || !is_legal(dev, p, &tuned)) return own;
    if (recipe) {
        recipe->tuned = true;
        memcpy(recipe->params, v, sizeof v);
    }
    return tuned;
}

/* A call with fewer pairs for each expert than half a tile has runs the small one, of which less is wasted.
 * The sums are the same. */
enum { SMALL = 32 };

static bool too_few(const struct matmul_problem *p, int64_t pairs, int edge) {
    return edge > SMALL && pairs <= (int64_t)(edge / 2) * p->experts;
}

/* Large tiles also have to be as many as there are compute units. */
static bool fits(const struct device *dev, const struct matmul_problem *p, int edge, struct reason *why) {
    const struct tile t = tile_of(dev, p, edge, NULL);
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

/* Of kernels that are told by each call. */
enum { ANY_FLAGS = -1 };

static void add_tile(const struct matmul_problem *p, const struct tile *t, int plan_flags,
                     struct recipe *recipe) {
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/tile.cl", "matmul_tile", items_of(t));
    spec->resident = t->resident > 1 ? t->resident : 0;
    spec_define(spec, "TM", "%d", t->rows);
    spec_define(spec, "TN", "%d", t->w_rows);
    spec_define(spec, "TK", "%d", t->steps);
    spec_define(spec, "WM", "%d", t->item_m);
    spec_define(spec, "WN", "%d", t->item_n);
    spec_define(spec, "BUFFERS", "%d", t->buffers);
    spec_define(spec, "PLAN_FLAGS", "%d", plan_flags);
}

void matmul_prepare_tile(const struct matmul_problem *p, int edge, struct recipe *recipe) {
    const struct tile t = usual(p, edge);
    add_tile(p, &t, matmul_flags(p), recipe);
}

enum clmoe_status matmul_run_tile(const struct run *run, int kernel, const struct matmul_part *part,
                                  int edge) {
    return matmul_launch_part(run, kernel, part,
                              matmul_slots_times_columns(run, part, edge, columns_of(run->problem, edge)));
}

static void prepare(const struct device *dev, const struct matmul_problem *p, int edge,
                    struct recipe *recipe) {
    const struct tile t = tile_of(dev, p, edge, recipe), small = tile_of(dev, p, SMALL, NULL);
    add_tile(p, &t, ANY_FLAGS, recipe);
    if (edge > SMALL) add_tile(p, &small, ANY_FLAGS, recipe);
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
        prepare(dev, problem, edge, recipe);                                                                 \
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
