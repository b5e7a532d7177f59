/* SPDX-License-Identifier: MIT
 * The row for CPU devices: cl/topk/cpu.cl. */
#include "topk_bind.h"
#include "topk_rows.h"

/* Work-groups, of one work-item each, for each compute unit: enough to even out rows that take longer. */
#define GROUPS_PER_UNIT 8
/* All work-groups' scratch together. A row with a larger k is for a kernel that spreads it over all of them.
 */
#define SCRATCH_BYTES (((int64_t)16 << 20) - 512) /* and 512 to align its two parts */
#define CHUNK_BYTES 131072 /* of keys: stays in a second-level cache for the second read */
/* Fewer rows than this for each unit are cut into parts, if they are longer than two of the shortest. */
#define SPLIT_ROWS_PER_UNIT 4
#define SPLIT_MIN 32768
#define LIST_HEAD 64 /* as in cl/topk/cpu.cl */

enum { WHOLE, PART, MERGE };

struct cpu_shape {
    int64_t room, spread, group, chunk; /* struct scratch of cl/topk/cpu.cl */
    int64_t most_k;                     /* rounded up, so that all parts of the scratch are aligned */
    int64_t item, list;                 /* bytes of a work-group's scratch, and of a part's list */
    int64_t groups;                     /* at most */
    uint64_t lists, bytes;              /* of the workspace */
    bool split;                         /* whether rows may be cut into parts */
};

/* Vectors of maxima: four times k lanes give a bound that few elements reach, twice as many still a good one.
 * 0 where a row is too short to give such a bound, and all of it are candidates. */
static int64_t spread_of(int64_t k, int64_t lanes, int64_t vectors) {
    int64_t spread = 2 * k <= lanes ? 1 : ceil_pow2(ceil_div(4 * k, lanes));
    if (2 * spread > vectors && spread * lanes >= 4 * k) spread = ceil_pow2(ceil_div(2 * k, lanes));
    return 2 * spread > vectors ? 0 : spread;
}

static int64_t round_up(int64_t n, int64_t unit) {
    return ceil_div(n, unit) * unit;
}

static struct cpu_shape cpu_shape(const struct device *dev, const struct topk_problem *p) {
    const int64_t key = topk_key_bytes(p), lanes = 64 / key, vectors = p->n / lanes;
    const int64_t k = p->k < p->n ? p->k : p->n, units = dev->caps.compute_units;
    struct cpu_shape s = {.spread = spread_of(k, lanes, vectors), .most_k = round_up(k, 16)};
    s.group = s.spread == 1 ? 8 : s.spread ? s.spread : 1;
    s.chunk = CHUNK_BYTES / 64 > 4 * s.spread ? CHUNK_BYTES / 64 : 4 * s.spread;
    if (s.chunk > vectors) s.chunk = vectors;
    s.chunk = round_up(s.chunk < 1 ? 1 : s.chunk, s.group);
    s.room = round_up(4 * k + 128 < p->n ? 4 * k + 128 : p->n, 16);
    const int64_t peaks = s.spread ? s.chunk / s.group : 0;
    s.item = (s.room + lanes + s.most_k) * (key + 4) + (s.spread + peaks) * lanes * key;
    s.item = round_up(s.item, 64);
    s.split = p->n >= 2 * SPLIT_MIN;
    s.list = s.split ? LIST_HEAD + s.most_k * (key + 4) : 0;
    s.groups = SCRATCH_BYTES / (s.item + s.list);
    if (s.groups > units * GROUPS_PER_UNIT) s.groups = units * GROUPS_PER_UNIT;
    if (!s.split && s.groups > p->max_rows) s.groups = p->max_rows;
    if (s.groups < 1) s.groups = 1;
    workspace_part(&s.bytes, (uint64_t)(s.groups * s.item));
    s.lists = workspace_part(&s.bytes, (uint64_t)(s.groups * s.list));
    return s;
}

bool topk_cpu_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct topk_problem *const p = problem;
    const struct cpu_shape s = cpu_shape(dev, p);
    if (s.item + s.list > SCRATCH_BYTES)
        return refuse(why, "k = %lld needs %lld bytes of %lld for a work-item", (long long)p->k,
                      (long long)(s.item + s.list), (long long)SCRATCH_BYTES);
    return true;
}

void topk_cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    static const char *const entries[] = {"topk_cpu", "topk_cpu_part", "topk_cpu_merge"};
    const struct topk_problem *const p = problem;
    const struct cpu_shape s = cpu_shape(dev, p);
    for (int i = 0; i <= (s.split ? MERGE : WHOLE); i++)
        topk_kernel(recipe, p, "topk/cpu.cl", entries[i], 1, false);
    topk_prepare_counts(dev, p, recipe);
    recipe->workspace = s.bytes;
}

/* Parts of each row: as many as keep all units busy, of at least SPLIT_MIN elements. */
static int64_t parts_of(const struct run *run, const struct cpu_shape *s) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    const int64_t wanted = (int64_t)run->dev->caps.compute_units * SPLIT_ROWS_PER_UNIT;
    if (!s->split || c->rows >= wanted) return 1;
    int64_t parts = ceil_div(wanted, c->rows);
    if (parts > p->n / SPLIT_MIN) parts = p->n / SPLIT_MIN;
    if (parts > s->groups / c->rows) parts = s->groups / c->rows;
    return parts < 1 ? 1 : parts;
}

/* TOPK_PARAMS and SCRATCH_PARAMS of cl/topk/cpu.cl. */
static struct bind cpu_bind(const struct run *run, const struct cpu_shape *s, int kernel) {
    const struct topk_call *const c = run->call;
    struct bind b = run_bind(run, kernel, c->x.mem);
    bind_topk(&b, run);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_i64(&b, s->item);
    bind_u32(&b, s->most_k);
    bind_u32(&b, s->room);
    bind_u32(&b, s->spread);
    bind_u32(&b, s->group);
    bind_u32(&b, s->chunk);
    return b;
}

static enum clmoe_status cpu_launch(const struct run *run, const struct bind *b, int kernel, int64_t groups) {
    TRY(bind_end(b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel], (uint64_t)groups, 1);
}

enum clmoe_status topk_cpu_run(const struct run *run) {
    const struct topk_call *const c = run->call;
    const struct cpu_shape s = cpu_shape(run->dev, run->problem);
    bool done;
    TRY(topk_begin(run, s.split ? MERGE + 1 : WHOLE + 1, &done));
    if (done) return CLMOE_OK;
    const int64_t parts = parts_of(run, &s);
    if (parts == 1) {
        const struct bind b = cpu_bind(run, &s, WHOLE);
        return cpu_launch(run, &b, WHOLE, c->rows < s.groups ? c->rows : s.groups);
    }
    for (int kernel = PART; kernel <= MERGE; kernel++) {
        struct bind b = cpu_bind(run, &s, kernel);
        bind_i64(&b, (int64_t)(run->workspace_offset + s.lists));
        bind_u32(&b, parts);
        TRY(cpu_launch(run, &b, kernel, kernel == PART ? c->rows * parts : c->rows));
    }
    return CLMOE_OK;
}
