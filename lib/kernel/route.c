/* SPDX-License-Identifier: MIT */
#include "route.h"

#define SUM_PARTS 64 /* of cl/route/score.cl */

static void define_problem(struct kernel_spec *spec, const struct route_problem *p) {
    spec_define(spec, "LOGIT_T", "%s", dtype_info(p->logits_dtype)->name);
    spec_define(spec, "SCORE", "%d", (int)p->score);
    spec_define(spec, "HAS_BIAS", "%d", p->bias);
    spec_define(spec, "GROUP", "%d", (int)p->group);
}

/* All rows take the same arguments. */
static enum clmoe_status launch(const struct run *run, int64_t tokens_per_group) {
    const struct route_problem *const p = run->problem;
    const struct route_call *const c = run->call;
    if (c->tokens == 0 || p->topk == 0) return CLMOE_OK;
    struct bind b = bind_begin(run->kernels[0], c->gamma.mem);
    bind_view(&b, c->logits.mem, c->logits.offset);
    bind_i64(&b, c->logits.stride[0]);
    bind_view(&b, c->bias.mem, c->bias.offset);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->gamma.mem, c->gamma.offset);
    bind_i64(&b, c->gamma.stride[0]);
    bind_i64(&b, c->tokens);
    bind_i32(&b, p->experts);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->n_group);
    bind_i32(&b, p->topk_group);
    bind_i32(&b, p->renorm);
    bind_f32(&b, p->eps);
    bind_f32(&b, p->scale);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->tokens, tokens_per_group),
                         run->local[0]);
}

/* ---- packed: warps, by inline PTX ---- */

#define PACKED_LOCAL 128
#define PACKED_MAX_K 16
#define PACKED_MAX_EXPERTS 512
/* With renormalised weights p / sum the sum cancels, up to eps * sum beside a total of at least 1. */
#define EPS_IS_NOTHING 1e-12f

static int packed_per(const struct route_problem *p) {
    return p->experts > 128 && p->topk <= 8 ? 32 : 16;
}

static int64_t packed_lanes(const struct route_problem *p) {
    return ceil_pow2(ceil_div(p->experts, packed_per(p)));
}

static bool packed_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct route_problem *const p = problem;
    if (p->bias || p->group != ROUTE_GROUP_NONE) return refuse(why, "chooses by scores with bias or groups");
    if (p->experts > PACKED_MAX_EXPERTS || p->topk > PACKED_MAX_K)
        return refuse(why, "%d of %d experts > %d of %d", (int)p->topk, (int)p->experts, PACKED_MAX_K,
                      PACKED_MAX_EXPERTS);
    return dev->caps.max_work_group >= PACKED_LOCAL ||
           refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, PACKED_LOCAL);
}

static void packed_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)dev;
    const struct route_problem *const p = problem;
    const int64_t lanes = packed_lanes(p), per = packed_per(p);
    int id_bits = 0;
    while ((int64_t)1 << id_bits < per * lanes)
        id_bits++;
    struct kernel_spec *const spec = recipe_add(recipe, "route/packed.cl", "route_packed", PACKED_LOCAL);
    define_problem(spec, p);
    spec_define(spec, "PTX", "1");
    spec_define(spec, "SUM", "%d", !p->renorm || p->eps > EPS_IS_NOTHING);
    spec_define(spec, "LANES", "%d", (int)lanes);
    spec_define(spec, "PER", "%d", (int)per);
    spec_define(spec, "KMAX_LOG2", "%d", p->topk <= 8 ? 3 : 4);
    spec_define(spec, "ID_BITS", "%d", id_bits);
    spec_define(spec, "WHOLE", "%d", p->experts == per * lanes);
}

static enum clmoe_status packed_run(const struct run *run) {
    return launch(run, PACKED_LOCAL / packed_lanes(run->problem));
}

/* ---- lanes ---- */

struct lanes_shape {
    int64_t local, lanes, capacity;
    uint64_t bytes; /* of local memory, as the kernel declares it */
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A lane has up to EXPERTS_A_LANE experts; where that takes more lanes, the whole work-group has them. */
#define LANES_LOCAL 128
#define EXPERTS_A_LANE 4

static struct lanes_shape lanes_shape(const struct device *dev, const struct route_problem *p) {
    struct lanes_shape s = {.capacity = ceil_pow2(p->experts < 8 ? 8 : p->experts)};
    s.local = smaller(LANES_LOCAL, floor_pow2((int64_t)dev->caps.max_work_group));
    s.lanes = smaller(s.capacity / EXPERTS_A_LANE, s.local);
    const int64_t tokens = s.local / s.lanes, room = smaller(s.capacity, SUM_PARTS);
    const int64_t small_arrays = p->group == ROUTE_GROUP_NONE ? 2 : 3;
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
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct lanes_shape s = lanes_shape(run->dev, run->problem);
    return launch(run, s.local / s.lanes);
}

/* ---- ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const int64_t local = smaller(64, floor_pow2((int64_t)dev->caps.max_work_group));
    define_problem(recipe_add(recipe, "route/ref.cl", "route_ref", (size_t)local), problem);
}

static enum clmoe_status ref_run(const struct run *run) {
    return launch(run, (int64_t)run->local[0]);
}

static const struct kernel_row rows[] = {
    {"route_packed", packed_fits, packed_prepare, packed_run, .needs = CLMOE_FEATURE_NV_PTX},
    {"route_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"route_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table route_table = {"route", rows, sizeof rows / sizeof *rows};
