/* SPDX-License-Identifier: MIT
 * Rows of topk that are made of teams of 32 work-items: with inline PTX teams are warps, else they exchange
 * values through local memory ("_local"). Bounds and tiles were measured on an H200. */
#include "topk_bind.h"
#include "topk_rows.h"

#define TEAM 32

static bool narrow_keys(const struct topk_problem *p, struct reason *why) {
    return topk_key_bytes(p) == 4 || refuse(why, "keys of 64 bits");
}

/* What cl/common/team.cl and cl/topk/quick.cl want to know. */
static void define_team(const struct device *dev, struct kernel_spec *spec, const struct topk_problem *p,
                        bool ptx) {
    const bool sm80 = dev->features & DEVICE_PTX_SM80;
    const bool quick = ptx && sm80 && p->dtype == CLMOE_F32 && p->nan == CLMOE_NAN_GREATEST;
    spec_define(spec, "PTX", "%d", ptx);
    spec_define(spec, "QUICK_KEY", "%d", quick);
    spec_define(spec, "SMALLEST_FIRST", "%d", quick && p->smallest);
}

static bool room_for(const struct device *dev, int64_t bytes, struct reason *why) {
    return (uint64_t)bytes <= dev->caps.local_mem ||
           refuse(why, "needs %lld bytes of local memory of %llu", (long long)bytes,
                  (unsigned long long)dev->caps.local_mem);
}

/* Local memory of struct group and what it points to. */
static int64_t group_bytes(int64_t local, int64_t cap, bool ptx) {
    return 8 * cap + 8 * (ptx ? 1 : local) + 8 * (local / TEAM + 2) + 4 * 512 + 64;
}

/* ---- topk_packed: short rows, several a team ---- */

#define PACKED_MAX_K 16
#define PACKED_MAX_N 256 /* past this topk_team has fewer keys to sort */

struct packed_shape {
    int64_t local, lanes;
    int per, kmax_log2, id_bits;
};

static struct packed_shape packed_shape(const struct device *dev, const struct topk_problem *p) {
    struct packed_shape s = {.local = topk_group(dev, 128)};
    s.per = p->n <= 16 && p->k <= 8 ? 8 : p->n > 128 && p->k <= 8 ? 32 : 16;
    s.lanes = ceil_pow2(ceil_div(p->n, s.per));
    s.kmax_log2 = p->k <= 8 ? 3 : 4;
    s.id_bits = ceil_log2(s.per * s.lanes);
    return s;
}

static bool packed_fits(const struct device *dev, const struct topk_problem *p, struct reason *why) {
    const struct packed_shape s = packed_shape(dev, p);
    if (!narrow_keys(p, why)) return false;
    if (p->n > PACKED_MAX_N) return refuse(why, "n = %lld > %d", (long long)p->n, PACKED_MAX_N);
    if (p->k > PACKED_MAX_K) return refuse(why, "k = %lld > %d", (long long)p->k, PACKED_MAX_K);
    return s.local >= TEAM || refuse(why, "work-groups of %lld < %d", (long long)s.local, TEAM);
}

static void packed_prepare(const struct device *dev, const struct topk_problem *p, bool ptx,
                           struct recipe *recipe) {
    const struct packed_shape s = packed_shape(dev, p);
    /* Code takes as long to come as short rows do: there is no more than the plan needs. */
    struct kernel_spec *const spec = topk_kernel(recipe, p, "topk/packed.cl", "topk_packed", s.local, ptx);
    define_team(dev, spec, p, ptx);
    if (s.per == 32) spec->resident = 6; /* else the compiler lets 4 */
    spec_define(spec, "LANES", "%d", (int)s.lanes);
    spec_define(spec, "PER", "%d", s.per);
    spec_define(spec, "KMAX_LOG2", "%d", s.kmax_log2);
    spec_define(spec, "ID_BITS", "%d", s.id_bits);
    spec_define(spec, "WHOLE", "%d", p->n == s.per * s.lanes && !p->row_begin && !p->row_length);
    topk_prepare_counts(dev, p, recipe);
}

enum clmoe_status topk_packed_run(const struct run *run) {
    return topk_run_rows(run, (int64_t)run->local[0] / packed_shape(run->dev, run->problem).lanes);
}

/* ---- topk_team: a row in a team ---- */

#define TEAM_MAX_K 16
#define TEAM_MAX_N 1024

static bool team_fits(const struct device *dev, const struct topk_problem *p, struct reason *why) {
    if (!narrow_keys(p, why)) return false;
    if (p->n > TEAM_MAX_N) return refuse(why, "n = %lld > %d", (long long)p->n, TEAM_MAX_N);
    if (p->k > TEAM_MAX_K) return refuse(why, "k = %lld > %d", (long long)p->k, TEAM_MAX_K);
    return topk_group(dev, 128) >= TEAM || refuse(why, "work-groups below %d", TEAM);
}

static void team_prepare(const struct device *dev, const struct topk_problem *p, bool ptx,
                         struct recipe *recipe) {
    struct kernel_spec *const spec =
        topk_kernel(recipe, p, "topk/team.cl", "topk_team", topk_group(dev, 128), ptx && topk_is_plain(p));
    define_team(dev, spec, p, ptx);
    spec_define(spec, "PER", "%d", (int)ceil_pow2(ceil_div(p->n, TEAM)));
    spec_define(spec, "CAP", "%d", TEAM);
    topk_prepare_counts(dev, p, recipe);
}

enum clmoe_status topk_team_run(const struct run *run) {
    return topk_run_rows(run, (int64_t)run->local[0] / TEAM);
}

/* ---- topk_group: a row in a work-group ---- */

#define GROUP_MAX_N 16384 /* past this a row is cheaper to filter than to hold */

struct group_shape {
    int64_t local, per, cap;
};

/* Half of the work-items' best keys are at least the bound, and a work-item holds up to 32 positions. */
static struct group_shape group_shape(const struct device *dev, const struct topk_problem *p) {
    struct group_shape s;
    int64_t wanted = ceil_pow2(2 * p->k > 128 ? 2 * p->k : 128);
    const int64_t holding = ceil_pow2(ceil_div(p->n, 32));
    if (wanted < holding) wanted = holding;
    s.local = topk_group(dev, wanted);
    s.per = ceil_pow2(ceil_div(p->n, s.local));
    s.cap = 4 * s.local > 1024 ? 2 * s.local : 4 * s.local;
    return s;
}

bool topk_group_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    const struct group_shape s = group_shape(dev, p);
    if (!narrow_keys(p, why)) return false;
    const int64_t most = s.per > 32 ? 32 * s.local : GROUP_MAX_N;
    if (p->n > most) return refuse(why, "n = %lld > %lld", (long long)p->n, (long long)most);
    if (2 * p->k > s.local || s.local < 64)
        return refuse(why, "k = %lld, half a work-group is %lld", (long long)p->k, (long long)(s.local / 2));
    return room_for(dev, group_bytes(s.local, s.cap, true), why);
}

void topk_group_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    const struct group_shape s = group_shape(dev, p);
    struct kernel_spec *const spec =
        topk_kernel(recipe, p, "topk/group.cl", "topk_group", s.local, topk_is_plain(p));
    define_team(dev, spec, p, true);
    spec_define(spec, "PER", "%d", (int)s.per);
    spec_define(spec, "CAP", "%d", (int)s.cap);
    topk_prepare_counts(dev, p, recipe);
}

/* ---- topk_filter: a long row, read once ---- */

#define FILTER_MAX_K 2048
#define FILTER_WORKSPACE ((int64_t)16 << 20)
#define FILTER_UNIT 2048   /* work-items that a unit shall hold */
#define FILTER_SPANS 264   /* of a row: each takes a ticket at the same place */
#define FILTER_PIECES 8    /* of a span */
#define FILTER_COUNTERS 32 /* uints of a row: COUNTER_STRIDE of cl/topk/filter.cl */

struct filter_shape {
    int64_t local, unroll, cap, each, listed, spans, piece, resident, room, slab;
    uint64_t bytes; /* of the workspace */
};

/* Candidates that are expected: cut_of in cl/topk/filter.cl. */
static double expected_candidates(const struct topk_problem *p, int64_t samples, double *rank) {
    const double expected = (double)p->k * (double)samples / (double)p->n;
    double root = expected > 1 ? expected : 1;
    for (int i = 0; i < 20; i++)
        root = 0.5 * (root + expected / root);
    *rank = expected + 4 * root + 4.5;
    return *rank * (double)p->n / (double)samples;
}

static void filter_spread(const struct device *dev, const struct topk_problem *p, double candidates,
                          struct filter_shape *s) {
    const int64_t rows = p->max_rows < 1 ? 1 : p->max_rows, units = dev->caps.compute_units;
    const int64_t tile = s->unroll * s->local, most = ceil_div(p->n, tile);
    s->spans = 2 * rows > units ? 1 : FILTER_UNIT / s->local * units / rows;
    if (s->spans > FILTER_SPANS) s->spans = FILTER_SPANS;
    if (s->spans > most) s->spans = most;
    const int64_t pieces = p->n / (s->spans * FILTER_PIECES * tile);
    s->piece = s->spans == 1 ? p->n : (pieces < 1 ? 1 : pieces) * tile;
    s->resident = ceil_div(s->spans * rows, units);
    if (s->resident > FILTER_UNIT / s->local) s->resident = FILTER_UNIT / s->local;
    s->room = s->cap;
    while ((double)s->room < 4 * candidates)
        s->room *= 2;
    s->slab = s->spans > 1 ? FILTER_WORKSPACE / (8 * s->room) : rows;
    if (s->slab > rows) s->slab = rows;
    s->bytes = s->spans > 1 ? (uint64_t)s->slab * 8 * (uint64_t)s->room : 0;
}

/* One group a row where there are enough rows, as large as lets the units hold all of them at once. */
static int64_t filter_group(const struct device *dev, const struct topk_problem *p) {
    const int64_t rows = p->max_rows, units = dev->caps.compute_units;
    if (2 * rows <= units) return topk_group(dev, 512);
    const int64_t all = FILTER_UNIT * units / rows, least = p->k > 256 ? 512 : 256;
    return topk_group(dev, all < least ? least : all > 1024 ? 1024 : floor_pow2(all));
}

static struct filter_shape filter_shape(const struct device *dev, const struct topk_problem *p) {
    struct filter_shape s = {.local = filter_group(dev, p)};
    const bool small_sample = p->n <= 65536 && p->k <= 128, huge = p->n >= 1 << 22;
    s.each = huge ? 32 : small_sample ? ceil_div(1024, s.local) : s.local > 512 ? 4 : 8;
    s.unroll =
        huge ? 8 : 16; /* smaller tiles spread neighbours, which may all be candidates, over more groups */
    double rank;
    const double candidates = expected_candidates(p, s.each * s.local, &rank);
    s.listed = rank <= 2.0 * (double)(s.local / TEAM) ? 4 : 8;
    s.cap = 2 * s.local;
    while (s.cap < 2 * p->k || s.cap < 256 || (s.cap < 4096 && (double)s.cap < 2.5 * candidates))
        s.cap *= 2;
    filter_spread(dev, p, candidates, &s);
    return s;
}

static bool filter_fits(const struct device *dev, const struct topk_problem *p, bool ptx,
                        struct reason *why) {
    const struct filter_shape s = filter_shape(dev, p);
    double rank;
    const double candidates = expected_candidates(p, s.each * s.local, &rank);
    if (!narrow_keys(p, why)) return false;
    if (p->k > FILTER_MAX_K) return refuse(why, "k = %lld > %d", (long long)p->k, FILTER_MAX_K);
    if (s.local < 64) return refuse(why, "work-groups of %lld < 64", (long long)s.local);
    if (rank > (double)(s.listed * s.local / TEAM) || candidates > (double)p->n / 4)
        return refuse(why, "n = %lld: a sample of %lld does not tell the best %lld", (long long)p->n,
                      (long long)(s.each * s.local), (long long)p->k);
    if (s.bytes > (uint64_t)FILTER_WORKSPACE || s.slab < 1)
        return refuse(why, "n = %lld, k = %lld: %lld candidates", (long long)p->n, (long long)p->k,
                      (long long)candidates);
    return room_for(dev, group_bytes(s.local, s.cap, ptx) + 4 * s.listed * s.local / TEAM, why);
}

static void filter_prepare(const struct device *dev, const struct topk_problem *p, bool ptx,
                           struct recipe *recipe) {
    const struct filter_shape s = filter_shape(dev, p);
    static const char *const entries[] = {"topk_filter", "topk_filter_finish"};
    for (int i = 0; i < (s.spans > 1 && !ptx ? 2 : 1); i++) {
        struct kernel_spec *const spec =
            topk_kernel(recipe, p, "topk/filter.cl", entries[i], s.local, ptx && topk_is_plain(p));
        define_team(dev, spec, p, ptx);
        spec->resident = (int)s.resident;
        spec_define(spec, "SPANNED", "%d", s.spans > 1);
        spec_define(spec, "TICKET", "%d", ptx);
        spec_define(spec, "EACH", "%d", (int)s.each);
        spec_define(spec, "LISTED", "%d", (int)s.listed);
        spec_define(spec, "UNROLL", "%d", (int)s.unroll);
        spec_define(spec, "CAP", "%d", (int)s.cap);
    }
    if (s.spans > 1 && !ptx) recipe_add(recipe, "topk/counts.cl", "topk_zero", (size_t)s.local);
    topk_prepare_counts(dev, p, recipe);
    recipe->workspace = s.bytes;
    recipe->counters = s.spans > 1 ? (uint64_t)s.slab * 4 * FILTER_COUNTERS : 0;
}

enum { FILTER_COLLECT, FILTER_FINISH, FILTER_ZERO, FILTER_KERNELS };

static struct bind filter_bind(const struct run *run, const struct filter_shape *s, int kernel,
                               int64_t first) {
    const struct topk_call *const c = run->call;
    struct bind b = run_bind(run, kernel, c->x.mem);
    bind_topk(&b, run);
    bind_i64(&b, first);
    bind_u32(&b, s->spans);
    bind_i64(&b, s->piece);
    bind_u32(&b, s->room);
    bind_view(&b, run->workspace, run->workspace_offset / 8);
    bind_mem(&b, run->counters);
    return b;
}

static enum clmoe_status filter_launch(const struct run *run, const struct filter_shape *s, int kernel,
                                       int64_t first, int64_t groups) {
    const struct bind b = filter_bind(run, s, kernel, first);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel], (uint64_t)groups, run->local[kernel]);
}

enum clmoe_status topk_filter_run(const struct run *run) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    const struct filter_shape s = filter_shape(run->dev, p);
    const int n_kernels = run->n_kernels - (p->outputs & CLMOE_TOPK_COUNTS ? 1 : 0);
    const bool several = n_kernels == FILTER_KERNELS; /* launches; else the last group of a row ends it */
    bool done;
    TRY(topk_begin(run, n_kernels, &done));
    if (done) return CLMOE_OK;
    for (int64_t first = 0; first < c->rows; first += s.slab) {
        const int64_t rows = c->rows - first < s.slab ? c->rows - first : s.slab;
        /* Before each, so that a call that failed between its launches leaves nothing behind. */
        if (several) TRY(topk_launch_zero(run, FILTER_ZERO, run->counters, 0, rows * FILTER_COUNTERS));
        TRY(filter_launch(run, &s, FILTER_COLLECT, first, rows * s.spans));
        if (several) TRY(filter_launch(run, &s, FILTER_FINISH, first, rows));
    }
    return CLMOE_OK;
}

/* ---- each with PTX and without ---- */

#define BOTH(name)                                                                                           \
    void topk_##name##_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {       \
        name##_prepare(dev, problem, true, recipe);                                                          \
    }                                                                                                        \
    void topk_##name##_local_prepare(const struct device *dev, const void *problem, struct recipe *recipe) { \
        name##_prepare(dev, problem, false, recipe);                                                         \
    }

BOTH(packed)
BOTH(team)
BOTH(filter)

bool topk_packed_fits(const struct device *dev, const void *problem, struct reason *why) {
    return packed_fits(dev, problem, why);
}

bool topk_team_fits(const struct device *dev, const void *problem, struct reason *why) {
    return team_fits(dev, problem, why);
}

bool topk_filter_fits(const struct device *dev, const void *problem, struct reason *why) {
    return filter_fits(dev, problem, true, why);
}

bool topk_filter_local_fits(const struct device *dev, const void *problem, struct reason *why) {
    return filter_fits(dev, problem, false, why);
}
