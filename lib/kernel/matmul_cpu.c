/* SPDX-License-Identifier: MIT */
#include "matmul_cpu.h"

#include "matmul_rows.h"

/* Parameters of all rows, in this order in recipe.params: rows of a slot, and steps of K in a piece. */
enum { TM, TK };

static void add_kernel(const struct device *dev, const struct matmul_problem *p, struct recipe *recipe,
                       const char *row, int steps, const struct tunable *tunables, const char *file,
                       const char *entry) {
    recipe->params[TM] = 64;
    recipe->params[TK] = steps;
    recipe->tuned = tune_params(dev, row, matmul_class_of(p).text, tunables, recipe->params);
    struct kernel_spec *const spec = matmul_add_kernel(p, recipe, file, entry, 1);
    spec_define(spec, "TM", "%d", recipe->params[TM]);
    spec_define(spec, "TK", "%d", recipe->params[TK]);
}

/* ---- matmul_cpu_8x32 ---- */

const struct tunable matmul_cpu_tunables[] = {{"TM", {16, 32, 64, 128}}, {"TK", {64, 128, 256, 512}}, {NULL}};

/* Columns of w that stand side by side are what the vectors are made of. */
bool matmul_cpu_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev;
    const struct matmul_problem *const p = problem;
    const int64_t lanes = matmul_panel_lanes(p);
    if (p->w_order != CLMOE_W_EKN && p->w_order != CLMOE_W_PACKED)
        return refuse(why, "needs packed weights or the order EKN");
    if (p->w_order == CLMOE_W_EKN && p->out < lanes)
        return refuse(why, "%lld columns < %lld, not packed", (long long)p->out, (long long)lanes);
    return true;
}

void matmul_cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, recipe, "matmul_cpu_8x32", 128, matmul_cpu_tunables, "matmul/cpu.cl",
               "matmul_cpu");
}

/* Where ids are not sorted each pair is a slot, and where fewer pairs than slots are sorted, each
 * position. */
static uint64_t cpu_slots(const struct run *run, const struct matmul_part *part, int64_t width) {
    const struct matmul_problem *const p = run->problem;
    const uint64_t pairs = matmul_pairs_times_columns(run, width);
    if (!p->sorted && !p->dense) return pairs;
    const uint64_t slots = matmul_slots_times_columns(run, part, run->params[TM], width);
    return pairs < slots && !p->dense ? pairs : slots;
}

static uint64_t cpu_groups(const struct run *run, const struct matmul_part *part) {
    return cpu_slots(run, part, matmul_panel_lanes(run->problem));
}

enum clmoe_status matmul_cpu_run(const struct run *run) {
    return matmul_run_parts(run, cpu_groups);
}

/* ---- matmul_cpu_dot_4x4 ---- */

enum { DOT_COLUMNS = 16 };

const struct tunable matmul_cpu_dot_tunables[] = {
    {"TM", {16, 32, 64, 128}}, {"TK", {256, 512, 1024, 2048}}, {NULL}};

bool matmul_cpu_dot_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev;
    const struct matmul_problem *const p = problem;
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "needs weights in the order ENK");
    return true;
}

void matmul_cpu_dot_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, recipe, "matmul_cpu_dot_4x4", 1024, matmul_cpu_dot_tunables, "matmul/cpu_dot.cl",
               "matmul_cpu_dot");
}

static uint64_t cpu_dot_groups(const struct run *run, const struct matmul_part *part) {
    return cpu_slots(run, part, DOT_COLUMNS);
}

enum clmoe_status matmul_cpu_dot_run(const struct run *run) {
    return matmul_run_parts(run, cpu_dot_groups);
}

/* ---- matmul_cpu_words ---- */

enum { WORDS_COLUMNS = 128 };

bool matmul_cpu_words_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev;
    const struct matmul_problem *const p = problem;
    if (!matmul_in_words(p->w_order)) return refuse(why, "w_order = %d: no words", (int)p->w_order);
    return true;
}

void matmul_cpu_words_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, recipe, "matmul_cpu_words", 128, matmul_cpu_tunables, "matmul/cpu_words.cl",
               "matmul_cpu_words");
}

static uint64_t cpu_words_groups(const struct run *run, const struct matmul_part *part) {
    return cpu_slots(run, part, WORDS_COLUMNS);
}

enum clmoe_status matmul_cpu_words_run(const struct run *run) {
    return matmul_run_parts(run, cpu_words_groups);
}
