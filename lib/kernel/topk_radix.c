/* SPDX-License-Identifier: MIT */
#include "topk_bind.h"
#include "topk_rows.h"

#define RADIX_GROUP 256
#define RADIX_PER 16          /* elements of a work-item in a tile */
#define RADIX_SORT_LOCAL 8192 /* bytes of keys a work-group sorts; positions come on top */
#define RADIX_MAX_SPANS 1024  /* of a row; more only make the scan longer */
#define RADIX_GROUPS_PER_UNIT 16
/* Rows are processed in slabs, so that the workspace is at most this, or else what one row needs: a key and 4
 * bytes for each of the k pairs (only if values or indices are wanted best first) and less than 10 KiB. */
#define RADIX_WORKSPACE ((int64_t)16 << 20)

enum {
    RADIX_BEGIN,
    RADIX_COUNT,
    RADIX_PICK,
    RADIX_TALLY,
    RADIX_SCAN,
    RADIX_EMIT,
    RADIX_FINISH,
    RADIX_SORT,
    RADIX_STEP
};
#define STATE_BYTES 24 /* of a row */
#define HISTOGRAM_BYTES 1024

struct radix_shape {
    int64_t local, spans, span, slab, sort_tile;
    uint64_t state, histogram, tallies, keys, ids, bytes; /* of the workspace */
    bool sorted, finished;
};

/* Pairs of a row: only as many as can be selected. */
static int64_t radix_pairs(const struct topk_problem *p) {
    return p->k < p->n ? p->k : p->n;
}

static struct radix_shape radix_shape(const struct device *dev, const struct topk_problem *p) {
    struct radix_shape s = {.local = topk_group(dev, RADIX_GROUP)};
    const int64_t key = topk_key_bytes(p);
    s.sort_tile = RADIX_SORT_LOCAL / key;
    s.sorted = p->order == CLMOE_ORDER_SORTED && (p->outputs & TOPK_LISTS) && p->k > 0;
    s.finished =
        (p->outputs & (TOPK_CELLS | CLMOE_TOPK_THRESHOLD)) || ((p->outputs & TOPK_LISTS) && topk_pads(p));
    const int64_t pairs_bytes = s.sorted ? (key + 4) * radix_pairs(p) : 0;
    const int64_t row_bytes = STATE_BYTES + HISTOGRAM_BYTES + pairs_bytes;
    const int64_t max_rows = p->max_rows < 1 ? 1 : p->max_rows;
    int64_t slab = RADIX_WORKSPACE / row_bytes;
    slab = slab < 1 ? 1 : slab > max_rows ? max_rows : slab;
    /* A span is at least a tile, and there are enough to fill the device. */
    const int64_t tile = s.local * RADIX_PER, tiles = ceil_div(p->n, tile);
    int64_t spans = ceil_div((int64_t)dev->caps.compute_units * RADIX_GROUPS_PER_UNIT, slab);
    if (spans > RADIX_MAX_SPANS) spans = RADIX_MAX_SPANS;
    s.span = (spans < tiles ? ceil_div(tiles, spans) : 1) * tile;
    s.spans = ceil_div(p->n, s.span);
    s.slab = (RADIX_WORKSPACE - 5 * 256) / (row_bytes + 8 * s.spans);
    if (s.slab < 1) s.slab = 1;
    if (s.slab > slab) s.slab = slab;
    const uint64_t rows = (uint64_t)s.slab;
    s.state = workspace_part(&s.bytes, rows * STATE_BYTES);
    s.histogram = workspace_part(&s.bytes, rows * HISTOGRAM_BYTES);
    s.tallies = workspace_part(&s.bytes, rows * 8 * (uint64_t)s.spans);
    s.keys = workspace_part(&s.bytes, s.sorted ? rows * (uint64_t)(key * radix_pairs(p)) : 0);
    s.ids = workspace_part(&s.bytes, s.sorted ? rows * (uint64_t)(4 * radix_pairs(p)) : 0);
    return s;
}

bool topk_radix_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    const struct radix_shape s = radix_shape(dev, p);
    const int64_t sort_bytes = s.sort_tile * (topk_key_bytes(p) + 4);
    if (s.local < 16) return refuse(why, "work-groups of %lld < 16", (long long)s.local);
    if (dev->caps.local_mem < (uint64_t)sort_bytes)
        return refuse(why, "needs %lld bytes of local memory of %llu", (long long)sort_bytes,
                      (unsigned long long)dev->caps.local_mem);
    if (s.bytes > dev->caps.max_alloc)
        return refuse(why, "a workspace of %llu bytes, but a buffer may have %llu",
                      (unsigned long long)s.bytes, (unsigned long long)dev->caps.max_alloc);
    return true;
}

void topk_radix_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    static const char *const entries[] = {"radix_begin",  "radix_count", "radix_pick",
                                          "radix_tally",  "radix_scan",  "radix_emit",
                                          "radix_finish", "radix_sort",  "radix_step"};
    const struct topk_problem *const p = problem;
    const struct radix_shape s = radix_shape(dev, p);
    for (int i = 0; i <= (s.sorted ? RADIX_STEP : RADIX_FINISH); i++) {
        struct kernel_spec *const spec = topk_kernel(recipe, p, "topk/radix.cl", entries[i], s.local, false);
        spec_define(spec, "PER", "%d", RADIX_PER);
        spec_define(spec, "SORT_TILE", "%lld", (long long)s.sort_tile);
    }
    topk_prepare_counts(dev, p, recipe);
    recipe->workspace = s.bytes;
}

/* One slab of a run. */
struct radix_slab {
    const struct run *run;
    struct radix_shape shape;
    int64_t first, rows;
};

/* WORK_PARAMS of cl/topk/radix.cl. */
static void bind_work(struct bind *b, const struct radix_slab *r) {
    const uint64_t base = r->run->workspace_offset;
    bind_view(b, r->run->workspace, (base + r->shape.state) / 4);
    bind_u64(b, (base + r->shape.histogram) / 4);
    bind_u64(b, (base + r->shape.tallies) / 4);
    bind_u64(b, (base + r->shape.keys) / 4);
    bind_u64(b, (base + r->shape.ids) / 4);
}

/* A kernel that looks at elements: all parameters, and the first row of the slab. */
static struct bind radix_bind(const struct radix_slab *r, int kernel) {
    const struct topk_call *const c = r->run->call;
    struct bind b = run_bind(r->run, kernel, c->x.mem);
    bind_topk(&b, r->run);
    bind_work(&b, r);
    bind_i64(&b, r->first);
    return b;
}

/* The same, by spans. */
static struct bind radix_bind_spans(const struct radix_slab *r, int kernel) {
    struct bind b = radix_bind(r, kernel);
    bind_i32(&b, r->shape.spans);
    bind_u64(&b, (uint64_t)r->shape.span);
    return b;
}

/* One that looks at the workspace only. */
static struct bind radix_bind_work(const struct radix_slab *r, int kernel) {
    struct bind b = run_bind(r->run, kernel, r->run->workspace);
    bind_work(&b, r);
    return b;
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
    TRY(radix_launch(r, RADIX_BEGIN, &b, 1));
    for (int shift = topk_key_bits(p) - 8; shift >= 0 && p->k > 0; shift -= 8) {
        b = radix_bind_spans(r, RADIX_COUNT);
        bind_i32(&b, shift);
        TRY(radix_launch(r, RADIX_COUNT, &b, r->shape.spans));
        b = radix_bind_work(r, RADIX_PICK);
        bind_i32(&b, shift);
        TRY(radix_launch(r, RADIX_PICK, &b, 1));
    }
    return CLMOE_OK;
}

/* Everything by position: outputs, or the pairs to sort. */
static enum clmoe_status radix_write(const struct radix_slab *r) {
    struct bind b = radix_bind_spans(r, RADIX_TALLY);
    TRY(radix_launch(r, RADIX_TALLY, &b, r->shape.spans));
    b = radix_bind_work(r, RADIX_SCAN);
    bind_i32(&b, r->shape.spans);
    TRY(radix_launch(r, RADIX_SCAN, &b, 1));
    b = radix_bind_spans(r, RADIX_EMIT);
    bind_i32(&b, r->shape.sorted);
    TRY(radix_launch(r, RADIX_EMIT, &b, r->shape.spans));
    if (!r->shape.finished) return CLMOE_OK;
    b = radix_bind_spans(r, RADIX_FINISH);
    return radix_launch(r, RADIX_FINISH, &b, r->shape.spans);
}

static enum clmoe_status radix_tiles(const struct radix_slab *r, bool merge, bool last) {
    const int64_t blocks = ceil_div(radix_pairs(r->run->problem), r->shape.sort_tile);
    struct bind b = radix_bind(r, RADIX_SORT);
    bind_i32(&b, blocks);
    bind_i32(&b, merge);
    bind_i32(&b, last);
    return radix_launch(r, RADIX_SORT, &b, blocks);
}

static enum clmoe_status radix_step(const struct radix_slab *r, int64_t stride, bool mirror) {
    const struct topk_problem *const p = r->run->problem;
    const int64_t groups = ceil_div(ceil_pow2(radix_pairs(p)) / 2, r->shape.local);
    struct bind b = radix_bind_work(r, RADIX_STEP);
    bind_u32(&b, radix_pairs(p));
    bind_i32(&b, groups);
    bind_u32(&b, stride);
    bind_i32(&b, mirror);
    return radix_launch(r, RADIX_STEP, &b, groups);
}

/* cl/topk/sort.cl over rows of pairs: distances below a tile in local memory, the others a launch each. */
static enum clmoe_status radix_sort(const struct radix_slab *r) {
    const int64_t pairs = radix_pairs(r->run->problem), tile = r->shape.sort_tile;
    TRY(radix_tiles(r, false, pairs <= tile));
    for (int64_t half = tile; half < pairs; half *= 2) {
        TRY(radix_step(r, half, true));
        for (int64_t stride = half / 2; stride >= tile; stride /= 2)
            TRY(radix_step(r, stride, false));
        TRY(radix_tiles(r, true, 2 * half >= pairs));
    }
    return CLMOE_OK;
}

enum clmoe_status topk_radix_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    struct radix_slab r = {.run = run, .shape = radix_shape(run->dev, run->problem)};
    bool done;
    TRY(topk_begin(run, r.shape.sorted ? RADIX_STEP + 1 : RADIX_FINISH + 1, &done));
    for (; !done && r.first < c->rows; r.first += r.shape.slab) {
        const int64_t left = c->rows - r.first;
        r.rows = left < r.shape.slab ? left : r.shape.slab;
        TRY(radix_select(&r));
        TRY(radix_write(&r));
        if (r.shape.sorted) TRY(radix_sort(&r));
    }
    return CLMOE_OK;
}
