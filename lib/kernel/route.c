/* SPDX-License-Identifier: MIT */
#include "route.h"

#include "route_bind.h"

#define SUM_PARTS 64 /* of cl/route/score.cl */

static void define_problem(struct kernel_spec *spec, const struct route_problem *p) {
    spec_define(spec, "LOGIT_T", "%s", dtype_info(p->logits_dtype)->name);
    spec_define(spec, "SCORE", "%d", (int)p->score);
    spec_define(spec, "HAS_BIAS", "%d", p->bias);
    spec_define(spec, "GROUP", "%d", (int)p->group);
    spec_define(spec, "EXTRAS", "%d", route_has_extras(p));
}

/* With renormalised weights p / sum the sum cancels, up to eps * sum beside a total of at least 1: that of
 * the largest p, which all ways to choose by logits take. */
#define EPS_IS_NOTHING 1e-12f

static bool needs_sum(const struct route_problem *p) {
    return !p->renorm || p->capacity || p->eps > EPS_IS_NOTHING || p->bias || p->given ||
           p->group == ROUTE_GROUP_TOP2_SUM;
}

static enum clmoe_status launch_tokens(const struct run *run, int64_t tokens_per_group) {
    const struct route_call *const c = run->call;
    return route_launch(run, ceil_div(c->tokens, tokens_per_group));
}

/* ---- packed: warps, by inline PTX ---- */

#define PACKED_LOCAL 256
#define PACKED_MAX_K 16
#define PACKED_MAX_EXPERTS 512

static int packed_per(const struct route_problem *p) {
    return p->experts > 128 && p->topk <= 8 ? 32 : 16;
}

static int64_t packed_lanes(const struct route_problem *p) {
    return ceil_pow2(ceil_div(p->experts, packed_per(p)));
}

/* A work-item has four experts side by side, and then those that lie behind the other work-items' ones. */
static bool packed_groups(const struct route_problem *p) {
    const int64_t lanes = packed_lanes(p);
    return p->experts == packed_per(p) * lanes && p->experts / p->n_group % (4 * lanes) == 0;
}

static bool packed_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct route_problem *const p = problem;
    if (p->given) return refuse(why, "has nothing to choose: the ids are given");
    if (p->score == CLMOE_SCORE_SPARSEMIXER) return refuse(why, "score sparsemixer needs all logits again");
    if (p->experts > PACKED_MAX_EXPERTS || p->topk > PACKED_MAX_K)
        return refuse(why, "%d of %d experts > %d of %d", (int)p->topk, (int)p->experts, PACKED_MAX_K,
                      PACKED_MAX_EXPERTS);
    if (p->score == CLMOE_SCORE_SOFTMAX && (p->bias || p->group == ROUTE_GROUP_TOP2_SUM))
        return refuse(why, "chooses by scores of softmax, which sums up in another order");
    if (p->group == ROUTE_GROUP_EACH) return refuse(why, "chooses in each of %d groups", (int)p->n_group);
    if (p->group != ROUTE_GROUP_NONE && !packed_groups(p))
        return refuse(why, "%d groups of %d experts, a group is no multiple of %d", (int)p->n_group,
                      (int)p->experts, 4 * (int)packed_lanes(p));
    return dev->caps.max_work_group >= PACKED_LOCAL ||
           refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, PACKED_LOCAL);
}

#define PACKED_SORT_EXPERTS 1024

struct permute_problem route_sorted(const struct route_problem *p) {
    return (struct permute_problem){p->max_tokens, p->topk + p->shared_slots, p->permute_experts};
}

static bool packed_sorts(const struct device *dev, const struct route_problem *p) {
    const struct permute_problem sorted = route_sorted(p);
    return p->permute_experts > 0 && p->permute_experts <= PACKED_SORT_EXPERTS && !p->capacity &&
           permute_sort_bytes(p->permute_experts, ROUTE_SORT_PAIRS, PACKED_LOCAL) <= dev->caps.local_mem &&
           permute_counted_fits(dev, &sorted);
}

static void packed_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct route_problem *const p = problem;
    const int64_t lanes = packed_lanes(p), per = packed_per(p);
    struct kernel_spec *const spec = recipe_add(recipe, "route/packed.cl", "route_packed", PACKED_LOCAL);
    define_problem(spec, p);
    const bool plain = !p->bias && p->group == ROUTE_GROUP_NONE; /* else 3 would spill */
    if (per == 32 && plain) spec->resident = 3;                  /* else the compiler lets 2 */
    spec_define(spec, "PTX", "1");
    spec_define(spec, "SUM", "%d", needs_sum(p));
    spec_define(spec, "LANES", "%d", (int)lanes);
    spec_define(spec, "PER", "%d", (int)per);
    spec_define(spec, "KMAX_LOG2", "%d", ceil_log2(p->topk));
    spec_define(spec, "ID_BITS", "%d", ceil_log2(per * lanes));
    spec_define(spec, "WHOLE", "%d", p->experts == per * lanes);
    if (p->group != ROUTE_GROUP_NONE) spec_define(spec, "GROUP_SIZE", "%d", (int)(p->experts / p->n_group));
    spec_define(spec, "SORTS", "%d", packed_sorts(dev, p));
    if (packed_sorts(dev, p)) {
        const struct permute_problem sorted = route_sorted(p);
        permute_define_sort(spec, p->permute_experts, ROUTE_SORT_PAIRS);
        permute_counted_prepare(dev, &sorted, recipe);
    }
    route_prepare_capacity(dev, p, recipe);
}

static enum clmoe_status packed_run(const struct run *run) {
    return launch_tokens(run, PACKED_LOCAL / packed_lanes(run->problem));
}

bool route_sorts(const struct device *dev, const struct kernel_row *row, const struct route_problem *p,
                 int64_t pairs) {
    return row->run == packed_run && packed_sorts(dev, p) && pairs > 0;
}

/* ---- cpu ---- */

/* Work-groups, of one work-item each, for each compute unit: enough to even out those that take longer. */
#define GROUPS_PER_UNIT 8

static bool any_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct route_problem *const p = problem;
    struct kernel_spec *const spec = recipe_add(recipe, "route/cpu.cl", "route_cpu", 1);
    define_problem(spec, p);
    spec_define(spec, "CAPACITY", "%d", (int)ceil_pow2(p->experts < 16 ? 16 : p->experts));
    spec_define(spec, "SUM", "%d", needs_sum(p));
    spec_define(spec, "GIVEN", "%d", p->given);
    route_prepare_capacity(dev, p, recipe);
}

static enum clmoe_status cpu_run(const struct run *run) {
    const struct route_call *const c = run->call;
    const int64_t most = (int64_t)run->dev->caps.compute_units * GROUPS_PER_UNIT;
    return route_launch(run, c->tokens < most ? c->tokens : most);
}

/* ---- lanes ---- */

struct lanes_shape {
    int64_t local, lanes, capacity;
    uint64_t bytes; /* of local memory, as the kernel declares it */
};

/* A lane has up to EXPERTS_A_LANE experts; where that takes more lanes, the whole work-group has them. */
#define LANES_LOCAL 128
#define EXPERTS_A_LANE 4

static struct lanes_shape lanes_shape(const struct device *dev, const struct route_problem *p) {
    const int64_t most = p->experts > p->topk ? p->experts : p->topk; /* given ids may be more than experts */
    struct lanes_shape s = {.capacity = ceil_pow2(most < 8 ? 8 : most)};
    s.local = route_local(dev, LANES_LOCAL);
    s.lanes = s.capacity / EXPERTS_A_LANE < s.local ? s.capacity / EXPERTS_A_LANE : s.local;
    const int64_t tokens = s.local / s.lanes, room = s.capacity < SUM_PARTS ? s.capacity : SUM_PARTS;
    const int64_t small_arrays = p->group == ROUTE_GROUP_NONE || p->group == ROUTE_GROUP_EACH ? 2 : 3;
    s.bytes = (uint64_t)(tokens * (s.capacity + s.lanes + small_arrays * room) * 4 + s.local * 2 * 8);
    return s;
}

/* Counting ranks looks at E/lanes * E keys, k rounds at k * E/lanes and at the other lanes' offers. */
static bool by_rank(const struct route_problem *p) {
    return p->experts <= 64;
}

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct route_problem *const p = problem;
    const struct lanes_shape s = lanes_shape(dev, p);
    if (s.bytes > dev->caps.local_mem)
        return refuse(why, "%d experts need %llu bytes of local memory of %llu", (int)p->experts,
                      (unsigned long long)s.bytes, (unsigned long long)dev->caps.local_mem);
    return true;
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct route_problem *const p = problem;
    const struct lanes_shape s = lanes_shape(dev, p);
    struct kernel_spec *const spec = recipe_add(recipe, "route/lanes.cl", "route_lanes", (size_t)s.local);
    define_problem(spec, p);
    spec_define(spec, "LANES", "%d", (int)s.lanes);
    spec_define(spec, "CAPACITY", "%d", (int)s.capacity);
    spec_define(spec, "BY_RANK", "%d", by_rank(p));
    spec_define(spec, "GIVEN", "%d", p->given);
    route_prepare_capacity(dev, p, recipe);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct lanes_shape s = lanes_shape(run->dev, run->problem);
    return launch_tokens(run, s.local / s.lanes);
}

/* ---- ref ---- */

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct route_problem *const p = problem;
    struct kernel_spec *const spec =
        recipe_add(recipe, "route/ref.cl", "route_ref", (size_t)route_local(dev, 64));
    define_problem(spec, p);
    spec_define(spec, "GIVEN", "%d", p->given);
    route_prepare_capacity(dev, p, recipe);
}

static enum clmoe_status ref_run(const struct run *run) {
    return launch_tokens(run, (int64_t)run->local[0]);
}

static const struct kernel_row rows[] = {
    {"route_packed", packed_fits, packed_prepare, packed_run, .needs = CLMOE_FEATURE_NV_PTX},
    {"route_cpu", any_fits, cpu_prepare, cpu_run, .needs = CLMOE_FEATURE_CPU},
    {"route_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"route_ref", any_fits, ref_prepare, ref_run},
};

const struct kernel_table route_table = {"route", rows, sizeof rows / sizeof *rows};
