/* SPDX-License-Identifier: MIT */
#include "matmul_few.h"

#include "matmul_mma_blocks.h"
#include "matmul_rows.h"
#include "matmul_wgmma.h"
#include "matmul_wgmma_coded.h"
#include "matmul_wgmma_bytes.h"

#include <string.h>

/* Parameters of both rows, in this order in recipe.params; the last is matmul_few's alone. */
enum { FEW_LOCAL, FEW_PER_ITEM, FEW_WAYS, FEW_STEPS };

/* With more pairs than PAIRS_PER_EXPERT for each expert, tiles that read weights once for all of them win. */
enum { PAIRS_PER_EXPERT = 4 };

bool matmul_few_pays(const struct device *dev, const struct matmul_problem *p, struct reason *why) {
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
    if (p->max_tokens > MATMUL_BYTES_FEW_TOKENS && matmul_wgmma_bytes_here(dev, p))
        return refuse(why, "%lld tokens > %d, and there is matmul_wgmma_bytes", (long long)p->max_tokens,
                      MATMUL_BYTES_FEW_TOKENS);
    /* Where codes have rows of Hopper's, these have said above when they win. */
    const bool hopper = matmul_wgmma_coded_here(dev, p) || matmul_wgmma_bytes_here(dev, p);
    const int64_t few = hopper && dtype_is_scaled(p->w_dtype) ? most : matmul_mma_blocks_few(dev, p);
    if (pairs > few)
        return refuse(why, "%lld pairs > %lld of %d experts, and there is matmul_mma_blocks",
                      (long long)pairs, (long long)few, (int)p->experts);
    return true;
}

/* Columns that are finished at once. */
static int finished(const int params[ROW_PARAMS]) {
    return params[FEW_LOCAL] / params[FEW_WAYS] * params[FEW_PER_ITEM];
}

/* A sum of each work-item for each of its rows of weights meets there, and what is finished. */
static uint64_t local_mem(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    const int rows = p->glu == CLMOE_GLU_NONE ? 1 : 2;
    return (uint64_t)(params[FEW_LOCAL] * params[FEW_PER_ITEM] * rows + finished(params)) * sizeof(float);
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
        finished(tuned) > tuned[FEW_LOCAL] || local_mem(p, tuned) > dev->caps.local_mem)
        return false;
    memcpy(params, tuned, sizeof tuned);
    return true;
}

static int local_of(const struct device *dev) {
    const int64_t most = (int64_t)dev->caps.max_work_group;
    return most < 128 ? (int)floor_pow2(most) : 128;
}

/* ---- matmul_few ---- */

const struct tunable matmul_few_tunables[] = {
    {"LOCAL", {32, 64, 128, 256}},
    {"PER_ITEM", {1, 2, 4, 8}},
    {"WAYS", {8, 16, 32, 64, 128}},
    {"STEPS", {1, 2, 3, 4, 6, 8}},
    {NULL},
};

/* Work-items of matmul_few that a unit holds at once. */
enum { UNIT_ITEMS = 512, UNIT_ITEMS_BLOCKS = 384 };

/* Bits of `sum_flags`; the same list is in cl/matmul/few_sums.cl. */
enum { SUM = 1, SUM_RESIDUAL = 2, SUM_SHARED = 4, SUM_SHARED_F32 = 8 };

int matmul_few_words(enum clmoe_dtype dtype) {
    switch (dtype) {
    case CLMOE_Q8_0: return 1;
    case CLMOE_Q4_0: return 2;
    case CLMOE_Q5_0: return 3;
    case CLMOE_MXFP4: return 4;
    case CLMOE_Q4_K: return 5;
    case CLMOE_Q5_K: return 6;
    case CLMOE_Q6_K: return 7;
    case CLMOE_I8: return 8;
    case CLMOE_F8_E4M3: return 9;
    case CLMOE_F4_E2M1: return 10;
    default: return 0;
    }
}

/* Formats whose blocks are loaded by words; 0: by runs of 16 steps. A super-block takes 16 work-items of a
 * team. */
enum { WAYS_OF_WORDS = 16 };
static int by_words(const struct matmul_problem *p, const int params[ROW_PARAMS]) {
    return params[FEW_WAYS] < WAYS_OF_WORDS || !dtype_is_block(p->w_dtype) ? 0 : matmul_few_words(p->w_dtype);
}

/* Where a few work-groups would be left over for a second wave of them, teams of half the size take twice the
 * columns, and all run at once. */
static bool second_wave(const struct device *dev, const struct matmul_problem *p, int local, int columns) {
    const int64_t groups = p->max_tokens * p->topk * ceil_div(p->out, columns);
    const int64_t resident = (int64_t)dev->caps.compute_units * (UNIT_ITEMS / local);
    return groups > resident && groups <= 2 * resident;
}

/* Four rows of weights a team, and three rounds of them if K has so many: 192 bytes of each work-item are on
 * their way, of a unit's UNIT_ITEMS 96 KiB. Of f32 two rounds are as much, always: for one Intel's compiler
 * chooses vectors so wide that it spills. Codes are numbers as soon as they are loaded, which takes
 * more registers. */
static bool few_params(const struct device *dev, const struct matmul_problem *p, int params[ROW_PARAMS]) {
    const bool coded = dtype_is_block(p->w_dtype) || dtype_is_scaled(p->w_dtype);
    const int local = local_of(dev), columns = p->glu == CLMOE_GLU_NONE ? 4 : 2;
    /* Where sums may be wanted, all slots of a token shall find teams, if these have 8 work-items. */
    int ways = local < 32 ? local : 32;
    while (p->may_sum && ways > 8 && local / ways < p->topk)
        ways /= 2;
    if (!coded && ways == 32 && second_wave(dev, p, local, local / ways * columns)) ways /= 2;
    params[FEW_LOCAL] = local;
    params[FEW_WAYS] = ways;
    const int64_t rounds = ceil_div(p->in, ways * (coded ? 16 : 8));
    const int64_t most = coded ? 1 : p->w_dtype == CLMOE_F32 ? 2 : 3;
    params[FEW_PER_ITEM] = columns;
    params[FEW_STEPS] = (int)(rounds < most && p->w_dtype != CLMOE_F32 ? rounds : most);
    return tune(dev, p, "matmul_few", matmul_few_tunables, params);
}

bool matmul_few_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct matmul_problem *const p = problem;
    int params[ROW_PARAMS] = {0};
    if (p->w_order != CLMOE_W_ENK) return refuse(why, "w_order = %d: K is not fastest", (int)p->w_order);
    few_params(dev, p, params);
    return matmul_few_pays(dev, p, why) && has_room(dev, p, params, why);
}

void matmul_few_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    int *const params = recipe->params;
    recipe->tuned = few_params(dev, p, params);
    struct kernel_spec *const spec =
        matmul_add_kernel(p, recipe, "matmul/few.cl", "matmul_few", params[FEW_LOCAL]);
    /* Around the loop over slots the compiler would keep so much in registers that a unit had half of
     * them. */
    const int words = by_words(p, params), items = words ? UNIT_ITEMS_BLOCKS : UNIT_ITEMS;
    if (p->may_sum) spec->resident = params[FEW_LOCAL] < items ? items / params[FEW_LOCAL] : 1;
    spec_define(spec, "PER_ITEM", "%d", params[FEW_PER_ITEM]);
    spec_define(spec, "WAYS", "%d", params[FEW_WAYS]);
    spec_define(spec, "STEPS", "%d", params[FEW_STEPS]);
    spec_define(spec, "BY_WORDS", "%d", words);
    matmul_few_define_sums(p, spec);
}

void matmul_few_define_sums(const struct matmul_problem *p, struct kernel_spec *spec) {
    spec_define(spec, "SUMS", "%d", p->may_sum);
    spec_define(spec, "SUM_T", "%s", dtype_info(p->sum_dtype)->name);
}

/* SUM_ARGS of cl/matmul/few_sums.cl, in its order. */
static void bind_sum(struct bind *b, const struct matmul_call *c, int slot_bits) {
    static const struct combine_problem no_sum = {0};
    static const struct combine_call no_call = {0};
    const struct combine_problem *const p = c->sum ? c->sum : &no_sum;
    const struct combine_call *const s = c->sum ? c->sum_call : &no_call;
    int flags = c->sum ? SUM : 0;
    if (p->residual) flags |= SUM_RESIDUAL;
    if (p->shared) flags |= SUM_SHARED;
    if (p->shared_dtype == CLMOE_F32) flags |= SUM_SHARED_F32;
    bind_mem(b, s->residual.mem);
    bind_mem(b, s->shared.mem);
    bind_long4(b, (int64_t[]){(int64_t)s->residual.offset, s->residual.stride[0], (int64_t)s->shared.offset,
                              s->shared.stride[0]});
    bind_float4(b, (float[]){p->scale, p->shared_scale, 0.0f, 0.0f});
    bind_i32(b, slot_bits);
    bind_i32(b, flags);
}

struct bind matmul_few_bind(const struct run *run, const struct matmul_part *part, int slot_bits) {
    const struct matmul_problem *const p = run->problem;
    struct bind b = matmul_bind_part(run, 0, part);
    if (p->may_sum) bind_sum(&b, run->call, slot_bits);
    return b;
}

static enum clmoe_status run_part(const struct run *run, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int teams = run->params[FEW_LOCAL] / run->params[FEW_WAYS];
    int slot_bits = 0;
    while (c->sum && 1 << slot_bits < teams && 1 << slot_bits < p->topk)
        slot_bits++;
    const int64_t rows = c->sum ? c->tokens : c->tokens * p->topk;
    const int64_t groups = ceil_div(p->out, finished(run->params) >> slot_bits);
    struct bind b = matmul_few_bind(run, part, slot_bits);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)(rows * groups), run->local[0]);
}

enum clmoe_status matmul_few_each_part(const struct run *run,
                                       enum clmoe_status (*part_run)(const struct run *,
                                                                     const struct matmul_part *)) {
    struct matmul_call call = *(const struct matmul_call *)run->call;
    struct run summing = *run;
    if (call.sum) call.y = call.sum_call->y;
    summing.call = &call;
    return matmul_each_part(&summing, part_run);
}

enum clmoe_status matmul_few_run(const struct run *run) {
    return matmul_few_each_part(run, run_part);
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
    return matmul_few_pays(dev, p, why) && has_room(dev, p, params, why);
}

void matmul_few_columns_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    int *const params = recipe->params;
    recipe->tuned = columns_params(dev, problem, params);
    struct kernel_spec *const spec =
        matmul_add_kernel(problem, recipe, "matmul/few_columns.cl", "matmul_few_columns", params[FEW_LOCAL]);
    spec_define(spec, "PER_ITEM", "%d", params[FEW_PER_ITEM]);
    spec_define(spec, "WAYS", "%d", params[FEW_WAYS]);
}

static uint64_t columns_groups(const struct run *run, const struct matmul_part *part) {
    (void)part;
    return matmul_pairs_times_columns(run, finished(run->params));
}

enum clmoe_status matmul_few_columns_run(const struct run *run) {
    return matmul_run_parts(run, columns_groups);
}
