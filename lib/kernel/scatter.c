/* SPDX-License-Identifier: MIT */
#include "scatter.h"

/* As in cl/scatter/row.cl. */
enum {
    FLAG_SLOT_SCALE = 1,
    FLAG_COLUMN_SCALE = 2,
    FLAG_WIDE_IDS = 4,
    FLAG_OF_ELEMENTS = 8,
    FLAG_MULTIPLIES = 16,
    FLAG_NO_VALUES = 32,
    FLAG_ROWS_FIRST = 64,
    FLAG_IN_PLACE = 128,
    FLAG_MAY_SHIFT = 256,
};

static bool folds(const struct scatter_problem *p) {
    return p->mode == CLMOE_SCATTER_ADD || p->mode == CLMOE_SCATTER_MULTIPLY;
}

static int64_t cell_bytes(const struct scatter_problem *p) {
    return dtype_info(p->dtype)->bytes;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- rows of a call ---- */

/* Which dimension of the operands neighbours of a work-group follow (a), and which the other rows (b). */
struct layout {
    int a, b;
    int64_t a_count, b_count;
    bool rows_first; /* rows along a are nearer to each other than the elements of one */
};

static struct layout layout_of(const struct scatter_problem *p, const struct scatter_call *c) {
    const bool along_inner = c->inner > 1 && (c->inner >= 32 || c->inner >= c->outer);
    struct layout l = {0, 2, c->outer, c->inner, false};
    if (along_inner) l = (struct layout){2, 0, c->inner, c->outer, false};
    l.rows_first = l.a_count > 1 && (p->n == 1 || c->y.stride[l.a] < c->y.stride[1]);
    return l;
}

static bool same_cells(const struct operand *a, const struct operand *b) {
    bool same = a->mem == b->mem && a->offset == b->offset;
    for (int d = 0; d < 3; d++)
        same &= a->stride[d] == b->stride[d] || a->shape[d] <= 1;
    return same;
}

static void bind_rows(struct bind *b, const struct operand *o, const struct layout *l) {
    const int64_t at[4] = {(int64_t)o->offset, o->stride[l->b], o->stride[l->a], o->stride[1]};
    bind_mem(b, o->mem);
    bind_long4(b, at);
}

static int32_t flags_of(const struct scatter_problem *p, const struct layout *l) {
    return (p->slot_scale ? FLAG_SLOT_SCALE : 0) | (p->column_scale ? FLAG_COLUMN_SCALE : 0) |
           (p->index_dtype == CLMOE_I64 ? FLAG_WIDE_IDS : 0) |
           (p->mode == CLMOE_SCATTER_MASK ? FLAG_OF_ELEMENTS : 0) |
           (p->mode == CLMOE_SCATTER_MULTIPLY ? FLAG_MULTIPLIES : 0) | (p->no_values ? FLAG_NO_VALUES : 0) |
           (l->rows_first ? FLAG_ROWS_FIRST : 0);
}

/* ROW_PARAMS. */
static struct bind bind_call(const struct run *run, int kernel, const struct layout *l, int32_t flags) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const int64_t column_scale[4] = {(int64_t)c->column_scale.offset, 0, 0, c->column_scale.stride[0]};
    struct bind b = run_bind(run, kernel, c->y.mem);
    bind_rows(&b, &c->indices, l);
    bind_rows(&b, p->mode == CLMOE_SCATTER_MASK ? &c->x : &c->values, l);
    bind_rows(&b, &c->slot_scale, l);
    bind_mem(&b, c->column_scale.mem);
    bind_long4(&b, column_scale);
    bind_rows(&b, &c->y, l);
    bind_i64(&b, l->a_count);
    bind_i64(&b, p->n);
    bind_u32(&b, p->k);
    bind_i32(&b, flags);
    bind_u64(&b, p->fill);
    bind_f32(&b, p->scale);
    return b;
}

/* Binds what is left and runs `items` work-items. */
static enum clmoe_status launch_items(const struct run *run, int kernel, const struct bind *b,
                                      int64_t items) {
    TRY(bind_end(b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel],
                         (uint64_t)ceil_div(items, (int64_t)run->local[kernel]), run->local[kernel]);
}

static struct kernel_spec *add_kernel(const struct device *dev, const struct scatter_problem *p,
                                      int64_t wanted, const char *file, const char *entry,
                                      struct recipe *recipe) {
    static const char *const moves[] = {[1] = "b8", [2] = "b16", [4] = "b32", [8] = "b64"};
    const bool scaled = p->scale != 1.0f || p->slot_scale || p->column_scale;
    const int64_t largest = floor_pow2((int64_t)dev->caps.max_work_group);
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)least(largest, wanted));
    spec_define(spec, "X_T", "%s",
                scaled || folds(p) ? dtype_info(p->dtype)->name : moves[dtype_info(p->dtype)->bytes]);
    spec_define(spec, "FOLD", "%d", folds(p));
    return spec;
}

static bool any_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

/* ---- tiles, of scatter_tile and of copies ---- */

#define SEGMENT 4096
#define TILE_GROUP 256

struct tiles {
    int log_rows;
    int64_t row_tiles, column_tiles;
    int32_t flags;
};

static bool aligned(const struct operand *o, int64_t bytes) {
    return (int64_t)o->offset * bytes % 16 == 0 && o->stride[0] * bytes % 16 == 0 &&
           o->stride[2] * bytes % 16 == 0;
}

/* `k`: ids of a row that each of its tiles reads. Rows side by side: a few of them, so that tiles have many
 * columns and ids are read seldom, but at least 32 bytes. */
static struct tiles tiles_of(const struct run *run, const struct layout *l, int64_t k) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const int64_t bytes = cell_bytes(p);
    int64_t rows = p->n > SEGMENT / 2 ? 1 : SEGMENT / ceil_pow2(p->n);
    if (l->rows_first && p->n > 1) rows = most(k <= 64 ? 32 : 32 / bytes, rows);
    rows = least(rows, ceil_pow2(l->a_count));
    while (rows > 1 && k * rows > 1 << 30)
        rows /= 2;
    struct tiles t = {.log_rows = ceil_log2(rows), .flags = flags_of(p, l)};
    const bool shifts = rows == 1 && !aligned(&c->y, bytes);
    if (rows == 1) t.flags &= ~FLAG_ROWS_FIRST;
    if (shifts) t.flags |= FLAG_MAY_SHIFT;
    t.row_tiles = ceil_div(l->a_count, rows);
    t.column_tiles = ceil_div(p->n + (shifts ? 16 / bytes - 1 : 0), SEGMENT / rows);
    return t;
}

static enum clmoe_status launch_tiles(const struct run *run, int kernel, struct bind *b,
                                      const struct layout *l, const struct tiles *t) {
    bind_i64(b, t->row_tiles);
    bind_i64(b, t->column_tiles);
    bind_i32(b, t->log_rows);
    const int64_t groups = l->b_count * t->row_tiles * t->column_tiles;
    return launch_items(run, kernel, b, groups * (int64_t)run->local[kernel]);
}

static void add_copy(const struct device *dev, const struct scatter_problem *p, struct recipe *recipe) {
    if (p->from_x)
        spec_define(add_kernel(dev, p, TILE_GROUP, "scatter/tile.cl", "scatter_copy", recipe), "SEGMENT",
                    "%d", SEGMENT);
}

/* y = x where x is given and another view; the kernel is the last one of the recipe. */
static enum clmoe_status copy_x(const struct run *run, int kernel) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    if (!p->from_x || same_cells(&c->x, &c->y)) return CLMOE_OK;
    const struct layout l = layout_of(p, c);
    const struct tiles t = tiles_of(run, &l, 0);
    struct bind b = run_bind(run, kernel, c->y.mem);
    bind_rows(&b, &c->x, &l);
    bind_rows(&b, &c->y, &l);
    bind_i64(&b, l.a_count);
    bind_i64(&b, p->n);
    bind_i32(&b, t.flags);
    return launch_tiles(run, kernel, &b, &l, &t);
}

static bool tile_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct scatter_problem *const p = problem;
    const int64_t tiles = ceil_div(p->n, SEGMENT);
    if (folds(p)) return refuse(why, "no sums or products");
    if (dev->caps.local_mem < SEGMENT * 4)
        return refuse(why, "local memory %llu < %d", (unsigned long long)dev->caps.local_mem, SEGMENT * 4);
    if (tiles * p->k > p->n + p->k)
        return refuse(why, "%lld tiles of a row read k = %lld ids each", (long long)tiles, (long long)p->k);
    return true;
}

static void tile_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    spec_define(add_kernel(dev, problem, TILE_GROUP, "scatter/tile.cl", "scatter_tile", recipe), "SEGMENT",
                "%d", SEGMENT);
}

static enum clmoe_status tile_run(const struct run *run) {
    const struct scatter_problem *const p = run->problem;
    const struct layout l = layout_of(p, run->call);
    const struct tiles t = tiles_of(run, &l, p->k);
    struct bind b = bind_call(run, 0, &l, t.flags);
    return launch_tiles(run, 0, &b, &l, &t);
}

/* ---- scatter_slots ---- */

/* A slot looks at all ids of its row: k * k reads, from a cache. */
#define SLOTS_MAX_K 256

static bool slots_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct scatter_problem *const p = problem;
    (void)dev;
    if (!folds(p)) return refuse(why, "sums and products only");
    if (p->k > SLOTS_MAX_K) return refuse(why, "k = %lld > %d", (long long)p->k, SLOTS_MAX_K);
    return true;
}

static void slots_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, 128, "scatter/slots.cl", "scatter_slots", recipe);
    add_copy(dev, problem, recipe);
}

static enum clmoe_status slots_run(const struct run *run) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const struct layout l = layout_of(p, c);
    const int64_t slots = c->outer * c->inner * p->k;
    TRY(copy_x(run, 1));
    struct bind b = bind_call(run, 0, &l, flags_of(p, &l));
    bind_u64(&b, (uint64_t)slots);
    return launch_items(run, 0, &b, slots);
}

/* ---- scatter_links ---- */

#define WORKSPACE_WORDS ((int64_t)1 << 22) /* of 4 bytes */

/* Rows and columns that share the workspace: a number for each cell, and one for each slot of a fold. */
struct slab {
    int64_t rows, window, words;
};

static struct slab slab_of(const struct scatter_problem *p) {
    const int64_t links = folds(p) ? p->k : 0;
    struct slab s = {.window = least(p->n, most(WORKSPACE_WORDS - links, WORKSPACE_WORDS / 4))};
    s.rows = most(1, least(p->max_rows, WORKSPACE_WORDS / (s.window + links)));
    if (p->k) s.rows = most(1, least(s.rows, ((int64_t)1 << 31) / p->k));
    s.words = s.rows * (s.window + links);
    return s;
}

static void links_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, 256, "scatter/links.cl", "links_clear", recipe);
    add_kernel(dev, problem, 256, "scatter/links.cl", "links_join", recipe);
    add_kernel(dev, problem, 256, "scatter/links.cl", "links_finish", recipe);
    add_copy(dev, problem, recipe);
    recipe->workspace = (uint64_t)slab_of(problem).words * 4;
}

static enum clmoe_status launch_slab(const struct run *run, int kernel, const struct layout *l, int64_t first,
                                     int64_t rows, int64_t begin, int64_t window, int64_t items) {
    struct bind b = bind_call(run, kernel, l, flags_of(run->problem, l));
    bind_view(&b, run->workspace, run->workspace_offset / 4);
    bind_i64(&b, first);
    bind_u32(&b, rows);
    bind_i64(&b, begin);
    bind_u32(&b, window);
    bind_u32(&b, items);
    return launch_items(run, kernel, &b, items);
}

static enum clmoe_status links_run(const struct run *run) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const struct layout l = layout_of(p, c);
    const struct slab s = slab_of(p);
    const int64_t all = c->outer * c->inner;
    TRY(copy_x(run, 3));
    for (int64_t first = 0; first < all; first += s.rows) {
        const int64_t rows = least(s.rows, all - first);
        for (int64_t begin = 0; begin < p->n; begin += s.window) {
            const int64_t window = least(s.window, p->n - begin), slots = rows * p->k;
            const int64_t cells = folds(p) ? slots : rows * window;
            TRY(launch_slab(run, 0, &l, first, rows, begin, window, cells));
            TRY(launch_slab(run, 1, &l, first, rows, begin, window, slots));
            TRY(launch_slab(run, 2, &l, first, rows, begin, window, cells));
        }
    }
    return CLMOE_OK;
}

/* ---- scatter_walk ---- */

#define WALK_CHUNK 4096       /* columns of a task, at least */
#define WALK_SUMS_CHUNK 65536 /* at most, where sums wait in fp32: 256 KiB */

struct walk {
    int64_t groups, words; /* at most so many work-groups, so many words of scratch for each */
};

static struct walk walk_of(const struct device *dev, const struct scatter_problem *p) {
    const int64_t units = most(dev->caps.compute_units, 1);
    struct walk w = {16 * units, 0};
    if (p->mode == CLMOE_SCATTER_MASK) w.words = ceil_div(p->k * cell_bytes(p), 4);
    if (folds(p) && p->dtype != CLMOE_F32) w.words = least(p->n, WALK_SUMS_CHUNK);
    w.words = ceil_div(w.words, 64) * 64;
    if (w.words) w.groups = most(1, least(4 * units, WORKSPACE_WORDS / w.words));
    return w;
}

static void walk_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct walk w = walk_of(dev, problem);
    add_kernel(dev, problem, 1, "scatter/walk.cl", "scatter_walk", recipe);
    recipe->workspace = (uint64_t)(w.groups * w.words) * 4;
}

static enum clmoe_status walk_run(const struct run *run) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const struct layout l = layout_of(p, c);
    const struct walk w = walk_of(run->dev, p);
    const int64_t rows = l.a_count * l.b_count, wanted = most(4 * (int64_t)run->dev->caps.compute_units, 4);
    if (rows == 0) return CLMOE_OK;
    int64_t block = most(1, least(WALK_CHUNK / p->n, rows / wanted)), chunk = p->n;
    if (rows < wanted) chunk = most(WALK_CHUNK, ceil_div(p->n, ceil_div(wanted, rows)));
    if (l.rows_first) {
        block = 64 / cell_bytes(p);
        chunk = WALK_CHUNK;
    }
    if (folds(p) && p->dtype != CLMOE_F32) chunk = least(chunk, WALK_SUMS_CHUNK);
    chunk = least(chunk, p->n);
    const int64_t blocks = ceil_div(l.a_count, block), chunks = ceil_div(p->n, chunk);
    const int64_t tasks = l.b_count * blocks * chunks;
    const bool in_place = folds(p) ? !p->from_x || same_cells(&c->x, &c->y)
                                   : p->mode == CLMOE_SCATTER_MASK && same_cells(&c->x, &c->y);
    struct bind b = bind_call(run, 0, &l, flags_of(p, &l) | (in_place ? FLAG_IN_PLACE : 0));
    bind_rows(&b, &c->x, &l);
    bind_i64(&b, block);
    bind_i64(&b, chunk);
    bind_i64(&b, blocks);
    bind_i64(&b, chunks);
    bind_i64(&b, tasks);
    bind_view(&b, run->workspace, run->workspace_offset / 4);
    bind_u64(&b, (uint64_t)w.words);
    return launch_items(run, 0, &b, least(tasks, w.groups));
}

/* ---- scatter_ref ---- */

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, 128, "scatter/ref.cl", "scatter_ref", recipe);
    add_copy(dev, problem, recipe);
}

static enum clmoe_status ref_run(const struct run *run) {
    const struct scatter_problem *const p = run->problem;
    const struct scatter_call *const c = run->call;
    const struct layout l = layout_of(p, c);
    const int64_t local = (int64_t)run->local[0], groups = c->outer * c->inner * ceil_div(p->n, local);
    TRY(copy_x(run, 1));
    const struct bind b = bind_call(run, 0, &l, flags_of(p, &l));
    return launch_items(run, 0, &b, groups * local);
}

static const struct kernel_row rows[] = {
    {"scatter_walk", any_fits, walk_prepare, walk_run, CLMOE_FEATURE_CPU},
    {"scatter_tile", tile_fits, tile_prepare, tile_run, 0},
    {"scatter_slots", slots_fits, slots_prepare, slots_run, 0},
    {"scatter_links", any_fits, links_prepare, links_run, 0},
    {"scatter_ref", any_fits, ref_prepare, ref_run, 0},
};

const struct kernel_table scatter_table = {"scatter", rows, sizeof rows / sizeof *rows};
