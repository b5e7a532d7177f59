/* SPDX-License-Identifier: MIT */
#include "matmul_few.h"

#include "matmul_rows.h"
#include "matmul_wgmma.h"
#include "matmul_wgmma_coded.h"

#include <string.h>

/* Parameters of both rows, in this order in recipe.params; the last is matmul_few's alone. */
enum { FEW_LOCAL, FEW_PER_ITEM, FEW_WAYS, FEW_STEPS };

/* With more pairs than PAIRS_PER_EXPERT for each expert, tiles that read weights once for all of them win. */
enum { PAIRS_PER_EXPERT = 4 };

static bool pays(const struct device *dev, const struct matmul_problem *p, struct reason *why) {
    const int64_t pairs = p->max_tokens * p->topk, most = (int64_t)PAIRS_PER_EXPERT * p->experts;
    if (!p->sorted && !p->dense) return true;
    if (pairs > most)
        return refuse(why, "%lld pairs > %d for each of %d experts", (long long)pairs, PAIRS_PER_EXPERT,
                      (int)p->experts);
    if (p->max_tokens > MATMUL_FEW_TOKENS && matmul_wgmma_here(dev, p))
        return refuse(why, "%lld tokens > %d, and there is matmul_wgmma", (long long)p->max_tokens,
                      MATMUL_FEW_TOKENS);
    if (p->max_tokens > MATMUL_CODED_FEW_TOKENS && matmul_wgmma_coded_here(dev, p))
        return refuse(why, "%lld tokens > %d, and there is matmul_wgmma_coded", (long long)p->max_tokens,
                      MATMUL_CODED_FEW_TOKENS);
    return true;
}

/* A sum of each work-item for each of its rows of weights meets there. */
static uint64_t local_mem(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    const int rows = p->glu == CLMOE_GLU_NONE ? 1 : 2;
    return (uint64_t)(params[FEW_LOCAL] * params[FEW_PER_ITEM] * rows) * sizeof(float);
}

static bool has_room(const struct device *dev, const struct matmul_problem *p, const int params[ROW_PARAMS],
                     struct reason *why) {
    const uint64_t needs = local_mem(p, params);
    if (needs <= dev->caps.local_mem) return true;
    return refuse(why, "needs %llu bytes of local memory of %llu", (unsigned long long)needs,
                  (unsigned long long)dev->caps.local_mem);
}

/* Puts tuned numbers in place of the row's own, if a work-group can be of that shape; whether it did. */
static bool tune(const struct device *dev, const struct matmul_problem *p, const char *row,
                 const struct tunable *tunables, int params[ROW_PARAMS]) {
    int tuned[ROW_PARAMS];
    memcpy(tuned, params, sizeof tuned);
    if (!tune_params(dev, row, matmul_class_of(p).text, tunables, tuned) ||
        (size_t)tuned[FEW_LOCAL] > dev->caps.max_work_group || tuned[FEW_WAYS] > tuned[FEW_LOCAL] ||
        local_mem(p, tuned) > dev->caps.local_mem)
        return false;
    memcpy(params, tuned, sizeof tuned);
    return true;
}

static int local_of(const struct device *dev) {
    const int64_t most = (int64_t)dev->caps.max_work_group;
    return most < 128 ? (int)floor_pow2(most) : 128;
}

/* Work-groups for each pair have the columns of all their teams. */
static uint64_t groups_of(const struct run *run, const struct matmul_part *part) {
    (void)part;
    const int *const params = run->params;
    return matmul_pairs_times_columns(run, params[FEW_LOCAL] / params[FEW_WAYS] * params[FEW_PER_ITEM]);
}

/* ---- matmul_few ---- */

const struct tunable matmul_few_tunables[] = {
    {"LOCAL", {32, 64, 128, 256}},
    {"PER_ITEM", {1, 2, 4, 8}},
    {"WAYS", {8, 16, 32, 64, 128}},
    {"STEPS", {1, 2, 3, 4, 6, 8}},
    {NULL},
};

/* Four rows of weights a team, and three rounds of them if K has so many: 192 bytes of each work-item are on
 * their way, of a unit with 512 work-items 96 KiB. Codes are numbers as soon as they are loaded, which takes
 * more registers. */
static bool few_params(const struct device *dev, const struct matmul_problem *p, int params[ROW_PARAMS]) {
    const bool coded = dtype_is_block(p->w_dtype) || dtype_is_scaled(p->w_dtype);
    const int local = local_of(dev), ways = local < 32 ? local : 32, run = coded ? 16 : 8;
    const int64_t rounds = ceil_div(p->in, ways * run), most = coded ? 1 : p->w_dtype == CLMOE_F32 ? 2 : 3;
    params[FEW_LOCAL] = local;
    params[FEW_PER_ITEM] = p->glu == CLMOE_GLU_NONE ? 4 : 2;
    params[FEW_WAYS] = ways;
    params[FEW_STEPS] = (int)(rounds < most ? rounds : most);
    return tune(dev, p, "matmul_few", matmul_few_tunables, params);
}

bool matmul_few_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    int params[ROW_PARAMS] = {0};
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "w_order = %d: K is not fastest", (int)p->w_order);
    few_params(dev, p, params);
    return pays(dev, p, why) && has_room(dev, p, params, why);
}

void matmul_few_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    int *const params = recipe->params;
    recipe->tuned = few_params(dev, problem, params);
    struct kernel_spec *const spec =
        matmul_add_kernel(problem, recipe, "matmul/few.cl", "matmul_few", params[FEW_LOCAL]);
    spec_define(spec, "PER_ITEM", "%d", params[FEW_PER_ITEM]);
    spec_define(spec, "WAYS", "%d", params[FEW_WAYS]);
    spec_define(spec, "STEPS", "%d", params[FEW_STEPS]);
}

enum clmoe_status matmul_few_run(const struct run *run) {
    return matmul_run_parts(run, groups_of);
}

/* ---- matmul_few_columns ---- */

const struct tunable matmul_few_columns_tunables[] = {
    {"LOCAL", {32, 64, 128, 256}},
    {"PER_ITEM", {1, 2, 4, 8}},
    {"WAYS", {1, 2, 4, 8, 16}},
    {NULL},
};

static bool columns_params(const struct device *dev, const struct matmul_problem *p, int params[ROW_PARAMS]) {
    const int local = local_of(dev);
    params[FEW_LOCAL] = local;
    params[FEW_PER_ITEM] = 4;
    params[FEW_WAYS] = local < 4 ? local : 4;
    return tune(dev, p, "matmul_few_columns", matmul_few_columns_tunables, params);
}

bool matmul_few_columns_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    int params[ROW_PARAMS] = {0};
    if (p->w_order == CLMOE_W_ENK) return refuse(why, "w_order = %d: K is fastest", (int)p->w_order);
    columns_params(dev, p, params);
    return pays(dev, p, why) && has_room(dev, p, params, why);
}

void matmul_few_columns_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    int *const params = recipe->params;
    recipe->tuned = columns_params(dev, problem, params);
    struct kernel_spec *const spec =
        matmul_add_kernel(problem, recipe, "matmul/few_columns.cl", "matmul_few_columns", params[FEW_LOCAL]);
    spec_define(spec, "PER_ITEM", "%d", params[FEW_PER_ITEM]);
    spec_define(spec, "WAYS", "%d", params[FEW_WAYS]);
}

enum clmoe_status matmul_few_columns_run(const struct run *run) {
    return matmul_run_parts(run, groups_of);
}
