/* SPDX-License-Identifier: MIT */
#include "topk_bind.h"
#include "topk_rows.h"

/* ---- topk_lanes ---- */

#define LANES_GROUP 128
#define LANES_PER 8 /* elements of a lane */
/* Ranking all elements of a row takes n * n / lanes steps, which loses against sorting past this. With few
 * enough k only a handful of candidates is ranked. */
#define LANES_RANK_ALL 256

static int64_t lanes_of_row(const struct topk_problem *p) {
    return ceil_pow2(ceil_div(p->n, LANES_PER));
}

static bool lanes_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    const int64_t local = topk_group(dev, LANES_GROUP), lanes = lanes_of_row(p);
    const uint64_t pair = (uint64_t)topk_key_bytes(p) + 2;
    const uint64_t bytes = (uint64_t)local * ((LANES_PER + 3) * pair + 6);
    if (lanes > local)
        return refuse(why, "n = %lld > %lld elements of %lld lanes", (long long)p->n,
                      (long long)(LANES_PER * local), (long long)local);
    if (p->n > LANES_RANK_ALL && p->k > lanes)
        return refuse(why, "n = %lld > %d with k = %lld > %lld lanes of a row", (long long)p->n,
                      LANES_RANK_ALL, (long long)p->k, (long long)lanes);
    if (bytes > dev->caps.local_mem)
        return refuse(why, "needs %llu bytes of local memory of %llu", (unsigned long long)bytes,
                      (unsigned long long)dev->caps.local_mem);
    return true;
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    struct kernel_spec *const spec =
        topk_kernel(recipe, p, "topk/lanes.cl", "topk_lanes", topk_group(dev, LANES_GROUP), false);
    spec_define(spec, "PER", "%d", LANES_PER);
    topk_prepare_counts(dev, p, recipe);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    bool done;
    TRY(topk_begin(run, 1, &done));
    if (done) return CLMOE_OK;
    const int64_t lanes = lanes_of_row(run->problem);
    int lane_bits = 0;
    while (1 << lane_bits < lanes)
        lane_bits++;
    struct bind b = run_bind(run, 0, c->x.mem);
    bind_topk(&b, run);
    bind_i32(&b, lane_bits);
    TRY(bind_end(&b, run->launch->log));
    const int64_t rows_of_group = (int64_t)run->local[0] / lanes;
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->rows, rows_of_group),
                         run->local[0]);
}

/* ---- topk_bitonic ---- */

#define BITONIC_MIN_TILE 1024 /* below, smaller tiles only add variants to compile */
/* Where a work-group does not pay any more: sorting a whole row, and reading one. topk_radix spreads both. */
#define BITONIC_SORT_ALL 8192
#define BITONIC_MAX_N 262144

struct bitonic_shape {
    int64_t local, need, tile; /* tile 0: there is no room for `need` candidates */
    int key_bytes, id_bytes;
    bool filter;
};

static struct bitonic_shape bitonic_shape(const struct device *dev, const struct topk_problem *p) {
    struct bitonic_shape s = {.key_bytes = topk_key_bytes(p), .id_bytes = p->n <= 65536 ? 2 : 4};
    /* Only as many candidates as lanes can be filtered, and long rows need many loads in flight; but the
     * filter takes local^2 steps. */
    s.local = topk_group(dev, p->n > 16384 || p->k > 256 ? 512 : 256);
    s.filter = p->k >= 1 && p->k <= s.local && p->n > 4 * s.local;
    s.need = s.filter ? ceil_div(p->n, s.local) * p->k : p->n;
    if (s.need > p->n) s.need = p->n;
    if (s.need < s.local) s.need = s.local;
    const int64_t spare = s.filter ? 24 : 0; /* its counter and threshold */
    const int64_t most = ((int64_t)dev->caps.local_mem - spare) / (s.key_bytes + s.id_bytes);
    const int64_t round = ceil_pow2(s.need < BITONIC_MIN_TILE ? BITONIC_MIN_TILE : s.need);
    s.tile = round <= most ? round : s.need <= most ? most : 0;
    return s;
}

static bool bitonic_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    const struct bitonic_shape s = bitonic_shape(dev, p);
    if (p->n > BITONIC_MAX_N) return refuse(why, "n = %lld > %d", (long long)p->n, BITONIC_MAX_N);
    if (!s.filter && p->n > BITONIC_SORT_ALL)
        return refuse(why, "n = %lld > %d with k = %lld, not 1 to %lld", (long long)p->n, BITONIC_SORT_ALL,
                      (long long)p->k, (long long)s.local);
    if (s.tile == 0)
        return refuse(why, "n = %lld, k = %lld: %lld candidates of %d bytes > %llu bytes of local memory",
                      (long long)p->n, (long long)p->k, (long long)s.need, s.key_bytes + s.id_bytes,
                      (unsigned long long)dev->caps.local_mem);
    return true;
}

static void bitonic_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    const struct bitonic_shape s = bitonic_shape(dev, p);
    struct kernel_spec *const spec =
        topk_kernel(recipe, p, "topk/bitonic.cl", "topk_bitonic", s.local, false);
    spec_define(spec, "ID_T", "%s", s.id_bytes == 2 ? "ushort" : "uint");
    spec_define(spec, "TILE", "%lld", (long long)s.tile);
    spec_define(spec, "FILTER", "%d", s.filter);
    topk_prepare_counts(dev, p, recipe);
}

/* ---- topk_ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    topk_kernel(recipe, p, "topk/ref.cl", "topk_ref", topk_group(dev, 64), false);
    topk_prepare_counts(dev, p, recipe);
}

static enum clmoe_status ref_run(const struct run *run) {
    return topk_run_rows(run, (int64_t)run->local[0]);
}

#define WITH_PTX .needs = CLMOE_FEATURE_NV_PTX
#define ON_GPU .needs = CLMOE_FEATURE_GPU

static const struct kernel_row rows[] = {
    {"topk_cpu", topk_cpu_fits, topk_cpu_prepare, topk_cpu_run, CLMOE_FEATURE_CPU},
    {"topk_packed", topk_packed_fits, topk_packed_prepare, topk_packed_run, WITH_PTX},
    {"topk_team", topk_team_fits, topk_team_prepare, topk_team_run, WITH_PTX},
    {"topk_group", topk_group_fits, topk_group_prepare, topk_run_row_each, WITH_PTX},
    {"topk_filter", topk_filter_fits, topk_filter_prepare, topk_filter_run, WITH_PTX},
    {"topk_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"topk_bitonic", bitonic_fits, bitonic_prepare, topk_run_row_each},
    {"topk_filter_local", topk_filter_local_fits, topk_filter_local_prepare, topk_filter_run, ON_GPU},
    {"topk_team_local", topk_team_fits, topk_team_local_prepare, topk_team_run, ON_GPU},
    {"topk_packed_local", topk_packed_fits, topk_packed_local_prepare, topk_packed_run, ON_GPU},
    {"topk_radix", topk_radix_fits, topk_radix_prepare, topk_radix_run},
    {"topk_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table topk_table = {"topk", rows, sizeof rows / sizeof *rows};
