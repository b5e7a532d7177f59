/* SPDX-License-Identifier: MIT */
#include "topk.h"

/* Bits of `flags` in cl/topk/output.cl, beside those of enum clmoe_topk_output. */
enum {
    FLAG_SMALLEST = 32,
    FLAG_NAN_LOWEST = 64,
    FLAG_BY_INDEX = 128,
    FLAG_SCALED = 256,
};

#define LISTS (CLMOE_TOPK_VALUES | CLMOE_TOPK_INDICES)

static int32_t flags_of(const struct topk_problem *p) {
    return (int32_t)p->outputs | (p->smallest ? FLAG_SMALLEST : 0) |
           (p->nan == CLMOE_NAN_LOWEST ? FLAG_NAN_LOWEST : 0) |
           (p->order == CLMOE_ORDER_INDEX ? FLAG_BY_INDEX : 0) | (p->scale != 1.0f ? FLAG_SCALED : 0);
}

/* X_PARAMS, LIST_PARAMS and CELL_PARAMS of cl/topk/output.cl. */
static void bind_x(struct bind *b, const struct run *run) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    bind_view(b, c->x.mem, c->x.offset);
    bind_i64(b, c->x.stride[0]);
    bind_i32(b, p->n);
    bind_i32(b, p->k);
    bind_i32(b, flags_of(p));
}

static void bind_operand(struct bind *b, const struct operand *o) {
    bind_view(b, o->mem, o->offset);
    bind_i64(b, o->stride[0]);
}

static void bind_lists(struct bind *b, const struct run *run) {
    const struct topk_call *const c = run->call;
    bind_operand(b, &c->values);
    bind_operand(b, &c->indices);
}

static void bind_cells(struct bind *b, const struct run *run) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    bind_operand(b, &c->mask);
    bind_operand(b, &c->bitmask);
    bind_operand(b, &c->dense);
    bind_u64(b, p->fill);
    bind_f32(b, p->scale);
}

/* A kernel with the arguments that all one-launch rows share. */
static struct bind bind_all(const struct run *run) {
    const struct topk_call *const c = run->call;
    struct bind b = bind_begin(run->kernels[0], c->x.mem);
    bind_x(&b, run);
    bind_lists(&b, run);
    bind_cells(&b, run);
    return b;
}

/* Options that only the coming rows have. */
static bool plain_fits(const struct topk_problem *p, struct reason *why) {
    if (!dtype_is_float(p->dtype)) return refuse(why, "dtype %s", dtype_info(p->dtype)->name);
    if (p->n > INT32_MAX) return refuse(why, "n = %lld", (long long)p->n);
    if (p->pad || p->row_begin || p->row_length || p->row_k) return refuse(why, "windows or padding");
    if (p->nan == CLMOE_NAN_TOTAL_ORDER || p->ties != CLMOE_TIES_LOWEST || p->index_dtype != CLMOE_I32)
        return refuse(why, "total order, ties by the highest index or 64-bit indices");
    if (p->outputs & (CLMOE_TOPK_THRESHOLD | CLMOE_TOPK_COUNTS))
        return refuse(why, "outputs = 0x%x", p->outputs);
    return true;
}

/* Whether a call leaves anything to write. */
static bool idle(const struct run *run) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    return c->rows == 0 || (p->k == 0 && !(p->outputs & ~(uint32_t)LISTS));
}

static int64_t group_size(const struct device *dev, int64_t wanted) {
    const int64_t most = floor_pow2((int64_t)dev->caps.max_work_group);
    return most < wanted ? most : wanted;
}

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
    if (!plain_fits(p, why)) return false;
    const int64_t local = group_size(dev, LANES_GROUP), lanes = lanes_of_row(p);
    const uint64_t bytes = (uint64_t)local * ((LANES_PER + 1) * 6 + 18);
    if (lanes > local)
        return refuse(why, "n = %d > %d elements of %lld lanes", (int)p->n, (int)(LANES_PER * local),
                      (long long)local);
    if (p->n > LANES_RANK_ALL && p->k > lanes)
        return refuse(why, "n = %d > %d with k = %d > %lld lanes of a row", (int)p->n, LANES_RANK_ALL,
                      (int)p->k, (long long)lanes);
    if (bytes > dev->caps.local_mem)
        return refuse(why, "needs %llu bytes of local memory of %llu", (unsigned long long)bytes,
                      (unsigned long long)dev->caps.local_mem);
    return true;
}

static void lanes_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    struct kernel_spec *const spec =
        recipe_add(recipe, "topk/lanes.cl", "topk_lanes", (size_t)group_size(dev, LANES_GROUP));
    spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
    spec_define(spec, "PER", "%d", LANES_PER);
}

static enum clmoe_status lanes_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    if (idle(run)) return CLMOE_OK;
    const int64_t lanes = lanes_of_row(run->problem);
    int lane_bits = 0;
    while (1 << lane_bits < lanes)
        lane_bits++;
    struct bind b = bind_all(run);
    bind_i64(&b, c->rows);
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
    int id_bytes;
    bool filter;
};

static struct bitonic_shape bitonic_shape(const struct device *dev, const struct topk_problem *p) {
    struct bitonic_shape s = {.id_bytes = p->n <= 65536 ? 2 : 4};
    /* Only as many candidates as lanes can be filtered, and long rows need many loads in flight; but the
     * filter takes local^2 steps. */
    s.local = group_size(dev, p->n > 16384 || p->k > 256 ? 512 : 256);
    s.filter = p->k >= 1 && p->k <= s.local && p->n > 4 * s.local;
    s.need = s.filter ? ceil_div(p->n, s.local) * p->k : p->n;
    if (s.need > p->n) s.need = p->n;
    if (s.need < s.local) s.need = s.local;
    const int64_t spare = s.filter ? 16 : 0; /* its counter and threshold */
    const int64_t most = ((int64_t)dev->caps.local_mem - spare) / (4 + s.id_bytes);
    const int64_t round = ceil_pow2(s.need < BITONIC_MIN_TILE ? BITONIC_MIN_TILE : s.need);
    s.tile = round <= most ? round : s.need <= most ? most : 0;
    return s;
}

static bool bitonic_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    if (!plain_fits(p, why)) return false;
    const struct bitonic_shape s = bitonic_shape(dev, p);
    if (p->n > BITONIC_MAX_N) return refuse(why, "n = %d > %d", (int)p->n, BITONIC_MAX_N);
    if (!s.filter && p->n > BITONIC_SORT_ALL)
        return refuse(why, "n = %d > %d with k = %d, not 1 to %lld", (int)p->n, BITONIC_SORT_ALL, (int)p->k,
                      (long long)s.local);
    if (s.tile == 0)
        return refuse(why, "n = %d, k = %d: %lld candidates of %d bytes > %llu bytes of local memory",
                      (int)p->n, (int)p->k, (long long)s.need, 4 + s.id_bytes,
                      (unsigned long long)dev->caps.local_mem);
    return true;
}

static void bitonic_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    const struct bitonic_shape s = bitonic_shape(dev, p);
    struct kernel_spec *const spec = recipe_add(recipe, "topk/bitonic.cl", "topk_bitonic", (size_t)s.local);
    spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
    spec_define(spec, "ID_T", "%s", s.id_bytes == 2 ? "ushort" : "uint");
    spec_define(spec, "TILE", "%lld", (long long)s.tile);
    spec_define(spec, "FILTER", "%d", s.filter);
}

static enum clmoe_status bitonic_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    if (idle(run)) return CLMOE_OK;
    struct bind b = bind_all(run);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)c->rows, run->local[0]);
}

/* ---- topk_radix ---- */

#define RADIX_GROUP 256
#define RADIX_PER 16         /* elements of a work-item in a tile */
#define RADIX_SORT_TILE 2048 /* pairs a work-group sorts: 16 KiB */
#define RADIX_MAX_SPANS 1024 /* of a row; more only make the scan longer */
#define RADIX_GROUPS_PER_UNIT 16
/* Rows are processed in slabs, so that the workspace is at most this, or else what one row needs: 8 bytes for
 * each of the k pairs (only if values or indices are wanted best first) and less than 10 KiB. */
#define RADIX_WORKSPACE ((int64_t)16 << 20)

enum { RADIX_BEGIN, RADIX_COUNT, RADIX_PICK, RADIX_TALLY, RADIX_SCAN, RADIX_EMIT, RADIX_SORT, RADIX_STEP };

struct radix_shape {
    int64_t local, spans, span, slab;
    uint64_t state, histogram, tallies, pairs, bytes; /* of the workspace */
    int digits; /* of 8 bits, which decide: the rest of a widened 16-bit key follows from them */
    bool sorted;
};

static struct radix_shape radix_shape(const struct device *dev, const struct topk_problem *p) {
    struct radix_shape s = {.local = group_size(dev, RADIX_GROUP)};
    s.digits = p->dtype == CLMOE_F32 ? 4 : p->dtype == CLMOE_F16 ? 3 : 2;
    s.sorted = p->order == CLMOE_ORDER_SORTED && (p->outputs & LISTS) && p->k > 0;
    const int64_t row_bytes = 4 * (2 + 256) + (s.sorted ? 8 * (int64_t)p->k : 0);
    const int64_t max_rows = p->max_rows < 1 ? 1 : p->max_rows;
    int64_t slab = RADIX_WORKSPACE / row_bytes;
    slab = slab < 1 ? 1 : slab > max_rows ? max_rows : slab;
    /* A span is at least a tile, and there are enough to fill the device. */
    const int64_t tile = s.local * RADIX_PER, tiles = ceil_div(p->n, tile);
    int64_t spans = ceil_div((int64_t)dev->caps.compute_units * RADIX_GROUPS_PER_UNIT, slab);
    if (spans > RADIX_MAX_SPANS) spans = RADIX_MAX_SPANS;
    s.span = (spans < tiles ? ceil_div(tiles, spans) : 1) * tile;
    s.spans = ceil_div(p->n, s.span);
    s.slab = (RADIX_WORKSPACE - 1024) / (row_bytes + 8 * s.spans);
    if (s.slab < 1) s.slab = 1;
    if (s.slab > slab) s.slab = slab;
    const uint64_t rows = (uint64_t)s.slab;
    s.state = workspace_part(&s.bytes, rows * 8);
    s.histogram = workspace_part(&s.bytes, rows * 1024);
    s.tallies = workspace_part(&s.bytes, rows * 8 * (uint64_t)s.spans);
    s.pairs = workspace_part(&s.bytes, s.sorted ? rows * 8 * (uint64_t)p->k : 0);
    return s;
}

static bool radix_fits(const struct device *dev, const void *problem, struct reason *why) {
    if (!plain_fits(problem, why)) return false;
    const struct radix_shape s = radix_shape(dev, problem);
    if (s.local < 16) return refuse(why, "work-groups of %lld < 16", (long long)s.local);
    if (dev->caps.local_mem < RADIX_SORT_TILE * 8)
        return refuse(why, "needs %d bytes of local memory of %llu", RADIX_SORT_TILE * 8,
                      (unsigned long long)dev->caps.local_mem);
    if (s.bytes > dev->caps.max_alloc)
        return refuse(why, "a workspace of %llu bytes, but a buffer may have %llu",
                      (unsigned long long)s.bytes, (unsigned long long)dev->caps.max_alloc);
    return true;
}

static void radix_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    static const char *const entries[] = {"radix_begin", "radix_count", "radix_pick", "radix_tally",
                                          "radix_scan",  "radix_emit",  "radix_sort", "radix_step"};
    const struct topk_problem *const p = problem;
    const struct radix_shape s = radix_shape(dev, p);
    for (int i = 0; i <= (s.sorted ? RADIX_STEP : RADIX_EMIT); i++) {
        struct kernel_spec *const spec = recipe_add(recipe, "topk/radix.cl", entries[i], (size_t)s.local);
        spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
        spec_define(spec, "PER", "%d", RADIX_PER);
        spec_define(spec, "SORT_TILE", "%d", RADIX_SORT_TILE);
    }
    recipe->workspace = s.bytes;
}

/* One slab of a run. */
struct radix_slab {
    const struct run *run;
    struct radix_shape shape;
    int64_t first, rows;
};

static struct bind radix_bind(const struct radix_slab *r, int kernel) {
    const struct topk_call *const c = r->run->call;
    return bind_begin(r->run->kernels[kernel], c->x.mem);
}

/* WORK_PARAMS of cl/topk/radix.cl. */
static void bind_work(struct bind *b, const struct radix_slab *r) {
    const uint64_t base = r->run->workspace_offset;
    bind_view(b, r->run->workspace, (base + r->shape.state) / 4);
    bind_i64(b, (int64_t)((base + r->shape.histogram) / 4));
    bind_i64(b, (int64_t)((base + r->shape.tallies) / 4));
    bind_i64(b, (int64_t)((base + r->shape.pairs) / 4));
}

static enum clmoe_status radix_launch(const struct radix_slab *r, int kernel, const struct bind *b,
                                      int64_t groups_of_row) {
    TRY(bind_end(b, r->run->launch->log));
    return launch_kernel(r->run->launch, r->run->kernels[kernel], (uint64_t)(r->rows * groups_of_row),
                         r->run->local[kernel]);
}

/* The digits of the k-th key, highest first. */
static enum clmoe_status radix_select(const struct radix_slab *r) {
    const struct topk_problem *const p = r->run->problem;
    struct bind b = radix_bind(r, RADIX_BEGIN);
    bind_work(&b, r);
    bind_i32(&b, p->k);
    TRY(radix_launch(r, RADIX_BEGIN, &b, 1));
    for (int digit = 0; digit < r->shape.digits && p->k > 0; digit++) {
        const int shift = 24 - 8 * digit;
        b = radix_bind(r, RADIX_COUNT);
        bind_x(&b, r->run);
        bind_work(&b, r);
        bind_i64(&b, r->first);
        bind_i32(&b, r->shape.spans);
        bind_i64(&b, r->shape.span);
        bind_i32(&b, shift);
        TRY(radix_launch(r, RADIX_COUNT, &b, r->shape.spans));
        b = radix_bind(r, RADIX_PICK);
        bind_work(&b, r);
        bind_i32(&b, p->k);
        bind_i32(&b, shift);
        TRY(radix_launch(r, RADIX_PICK, &b, 1));
    }
    return CLMOE_OK;
}

/* Everything in index order: outputs, or the pairs to sort. */
static enum clmoe_status radix_write(const struct radix_slab *r) {
    const int shift = 32 - 8 * r->shape.digits;
    struct bind b = radix_bind(r, RADIX_TALLY);
    bind_x(&b, r->run);
    bind_work(&b, r);
    bind_i64(&b, r->first);
    bind_i32(&b, r->shape.spans);
    bind_i64(&b, r->shape.span);
    bind_i32(&b, shift);
    TRY(radix_launch(r, RADIX_TALLY, &b, r->shape.spans));
    b = radix_bind(r, RADIX_SCAN);
    bind_work(&b, r);
    bind_i32(&b, r->shape.spans);
    TRY(radix_launch(r, RADIX_SCAN, &b, 1));
    b = radix_bind(r, RADIX_EMIT);
    bind_x(&b, r->run);
    bind_lists(&b, r->run);
    bind_cells(&b, r->run);
    bind_work(&b, r);
    bind_i64(&b, r->first);
    bind_i32(&b, r->shape.spans);
    bind_i64(&b, r->shape.span);
    bind_i32(&b, shift);
    bind_i32(&b, r->shape.sorted);
    return radix_launch(r, RADIX_EMIT, &b, r->shape.spans);
}

static enum clmoe_status radix_tiles(const struct radix_slab *r, bool merge, bool last) {
    const struct topk_problem *const p = r->run->problem;
    const int64_t blocks = ceil_div(p->k, RADIX_SORT_TILE);
    struct bind b = radix_bind(r, RADIX_SORT);
    bind_x(&b, r->run);
    bind_lists(&b, r->run);
    bind_work(&b, r);
    bind_i64(&b, r->first);
    bind_i32(&b, blocks);
    bind_i32(&b, merge);
    bind_i32(&b, last);
    return radix_launch(r, RADIX_SORT, &b, blocks);
}

static enum clmoe_status radix_step(const struct radix_slab *r, int64_t stride, bool mirror) {
    const struct topk_problem *const p = r->run->problem;
    const int64_t groups = ceil_div(ceil_pow2(p->k) / 2, r->shape.local);
    struct bind b = radix_bind(r, RADIX_STEP);
    bind_work(&b, r);
    bind_i32(&b, p->k);
    bind_i32(&b, groups);
    bind_i32(&b, stride);
    bind_i32(&b, mirror);
    return radix_launch(r, RADIX_STEP, &b, groups);
}

/* cl/topk/sort.cl over rows of k pairs: distances below a tile in local memory, the others a launch each. */
static enum clmoe_status radix_sort(const struct radix_slab *r) {
    const struct topk_problem *const p = r->run->problem;
    TRY(radix_tiles(r, false, p->k <= RADIX_SORT_TILE));
    for (int64_t half = RADIX_SORT_TILE; half < p->k; half *= 2) {
        TRY(radix_step(r, half, true));
        for (int64_t stride = half / 2; stride >= RADIX_SORT_TILE; stride /= 2)
            TRY(radix_step(r, stride, false));
        TRY(radix_tiles(r, true, 2 * half >= p->k));
    }
    return CLMOE_OK;
}

static enum clmoe_status radix_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    if (idle(run)) return CLMOE_OK;
    struct radix_slab r = {.run = run, .shape = radix_shape(run->dev, run->problem)};
    for (; r.first < c->rows; r.first += r.shape.slab) {
        const int64_t left = c->rows - r.first;
        r.rows = left < r.shape.slab ? left : r.shape.slab;
        TRY(radix_select(&r));
        TRY(radix_write(&r));
        if (r.shape.sorted) TRY(radix_sort(&r));
    }
    return CLMOE_OK;
}

/* ---- topk_ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev;
    return plain_fits(problem, why);
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct topk_problem *const p = problem;
    struct kernel_spec *const spec =
        recipe_add(recipe, "topk/ref.cl", "topk_ref", (size_t)group_size(dev, 64));
    spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
}

static enum clmoe_status ref_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    if (idle(run)) return CLMOE_OK;
    struct bind b = bind_all(run);
    bind_i64(&b, c->rows);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->rows, (int64_t)run->local[0]),
                         run->local[0]);
}

static const struct kernel_row rows[] = {
    {"topk_lanes", lanes_fits, lanes_prepare, lanes_run},
    {"topk_bitonic", bitonic_fits, bitonic_prepare, bitonic_run},
    {"topk_radix", radix_fits, radix_prepare, radix_run},
    {"topk_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table topk_table = {"topk", rows, sizeof rows / sizeof *rows};
