/* SPDX-License-Identifier: MIT */
#include "permute.h"

static int64_t max_pairs(const struct permute_problem *p) {
    return p->max_tokens * p->topk;
}

/* ---- what all rows share ---- */

static void bind_ids(struct bind *b, const struct permute_call *c) {
    bind_view(b, c->ids.mem, c->ids.offset);
    bind_i64(b, c->ids.stride[0]);
}

void permute_bind_outputs(struct bind *b, const struct permute_call *c) {
    bind_view(b, c->counts.mem, c->counts.offset);
    bind_view(b, c->offsets.mem, c->offsets.offset);
    bind_view(b, c->order.mem, c->order.offset);
    bind_i32(b, c->inverse.mem != NULL);
    bind_view(b, c->inverse.mem, c->inverse.offset);
}

static void add_ref(struct recipe *recipe) {
    recipe_add(recipe, "permute/ref.cl", "permute_ref", 1);
}

/* ---- what the rows of teams share ---- */

#define TEAM 32

static bool has_ptx(const struct device *dev) {
    return dev->features & CLMOE_FEATURE_NV_PTX;
}

/* Room for so many experts, in few different sizes. */
static int64_t expert_room(int32_t experts) {
    return experts > 1024 ? ceil_div(experts, 64) * 64 : ceil_pow2(experts < 16 ? 16 : experts);
}

void permute_define_sort(struct kernel_spec *spec, int32_t experts, int64_t held) {
    spec_define(spec, "BUCKETS", "%d", (int)expert_room(experts) + 1);
    spec_define(spec, "BUCKETS_LOG2", "%d", ceil_log2(expert_room(experts) + 2));
    spec_define(spec, "HELD", "%d", (int)held);
}

/* Rows of buckets for each team, for starts and for what lies before a chunk, what teams exchange, and the
 * buckets that are held. */
uint64_t permute_sort_bytes(int32_t experts, int64_t held, int64_t local) {
    return (uint64_t)(held * 2 + (local / TEAM + 2) * (expert_room(experts) + 1) * 4 + local * 8 +
                      local / TEAM * 4);
}

/* Of a kernel that sorts: at most so many work-items, pairs whose buckets are held. */
struct sorter {
    int64_t most, held;
};

/* As many work-items as the device and its local memory let. */
static int64_t sort_local(const struct device *dev, const struct permute_problem *p, struct sorter s) {
    int64_t local = floor_pow2((int64_t)dev->caps.max_work_group);
    if (local > s.most) local = s.most;
    while (local > TEAM && permute_sort_bytes(p->experts, s.held, local) > dev->caps.local_mem)
        local /= 2;
    return local;
}

static bool sort_fits(const struct device *dev, const struct permute_problem *p, struct sorter s,
                      struct reason *why) {
    const int64_t local = sort_local(dev, p, s);
    const uint64_t bytes = permute_sort_bytes(p->experts, s.held, local);
    if (local < TEAM) return refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, TEAM);
    return bytes <= dev->caps.local_mem ||
           refuse(why, "%d experts need %llu bytes of local memory of %llu", (int)p->experts,
                  (unsigned long long)bytes, (unsigned long long)dev->caps.local_mem);
}

static struct kernel_spec *add_sort(const struct device *dev, const struct permute_problem *p,
                                    struct recipe *recipe, const char *file, const char *entry,
                                    struct sorter s) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)sort_local(dev, p, s));
    spec_define(spec, "PTX", "%d", has_ptx(dev));
    permute_define_sort(spec, p->experts, s.held);
    return spec;
}

/* permute_group and permute_ref take the same arguments and are one work-group. */
static enum clmoe_status one_group_run(const struct run *run) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    struct bind b = run_bind(run, 0, c->counts.mem);
    bind_ids(&b, c);
    permute_bind_outputs(&b, c);
    bind_i32(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], 1, run->local[0]);
}

/* ---- group ---- */

enum { GROUP_PAIRS = PERMUTE_GROUP_PAIRS };

static const struct sorter group_sorter = {512, GROUP_PAIRS};

static bool group_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct permute_problem *const p = problem;
    if (max_pairs(p) > GROUP_PAIRS)
        return refuse(why, "%lld pairs > %d", (long long)max_pairs(p), GROUP_PAIRS);
    return sort_fits(dev, p, group_sorter, why);
}

static void group_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_sort(dev, problem, recipe, "permute/group.cl", "permute_group", group_sorter);
}

/* ---- chunks: of a work-group each ---- */

enum { CHUNK_PAIRS = 256, CPU_CHUNK_PAIRS = 1024, MAX_CHUNKS = 256, CHUNK_LOCAL = 512, CHUNK_HELD = 1024 };

/* Pairs of a chunk, `least` or more, decided by the plan's maximum. Each chunk sums up the counts of all of
 * them: so there are not many, and the table has no more cells than a part of the pairs. */
static int64_t chunk_pairs(const struct permute_problem *p, int64_t least) {
    int64_t chunk = ceil_div(max_pairs(p), MAX_CHUNKS);
    if (chunk < least) chunk = least;
    return ceil_div(chunk, TEAM) * TEAM;
}

static int64_t group_chunk(const struct permute_problem *p) {
    const int64_t least = 4 * (int64_t)p->experts;
    return chunk_pairs(p, least > CHUNK_PAIRS ? least : CHUNK_PAIRS);
}

static int64_t cpu_chunk(const struct permute_problem *p) {
    return chunk_pairs(p, p->experts > CPU_CHUNK_PAIRS ? p->experts : CPU_CHUNK_PAIRS);
}

static int64_t count_chunks(int64_t pairs, int64_t chunk) {
    return pairs ? ceil_div(pairs, chunk) : 1; /* without pairs there are still offsets to write */
}

static uint64_t table_bytes(const struct permute_problem *p, int64_t chunk) {
    return (uint64_t)(count_chunks(max_pairs(p), chunk) * expert_room(p->experts) * 4);
}

/* No more work-items than a chunk has pairs. */
static struct sorter chunk_sorter(const struct permute_problem *p) {
    const int64_t chunk = floor_pow2(group_chunk(p));
    return (struct sorter){chunk < CHUNK_LOCAL ? chunk : CHUNK_LOCAL, CHUNK_HELD};
}

static bool chunks_fits(const struct device *dev, const void *problem, struct reason *why) {
    return sort_fits(dev, problem, chunk_sorter(problem), why);
}

static void add_chunks(const struct device *dev, const struct permute_problem *p, struct recipe *recipe,
                       const char *entry) {
    struct kernel_spec *const spec = add_sort(dev, p, recipe, "permute/chunks.cl", entry, chunk_sorter(p));
    const int64_t columns = floor_pow2(expert_room(p->experts) / 4), local = (int64_t)spec->local;
    spec_define(spec, "COLUMNS", "%d", (int)(columns < local ? columns : local));
}

static void chunks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct permute_problem *const p = problem;
    static const char *const entries[] = {"permute_count", "permute_place"};
    for (int i = 0; i < 2; i++)
        add_chunks(dev, p, recipe, entries[i]);
    recipe->workspace = table_bytes(p, group_chunk(p));
}

/* Arguments of permute_place; `counters`: NULL, or what it makes 0 again. */
static struct bind bind_place(const struct run *run, int kernel, const struct permute_problem *p,
                              const struct permute_call *c, cl_mem table, uint64_t skip, int64_t chunk,
                              cl_mem counters) {
    struct bind b = run_bind(run, kernel, c->counts.mem);
    bind_ids(&b, c);
    bind_view(&b, table, skip);
    permute_bind_outputs(&b, c);
    bind_i32(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    bind_i32(&b, chunk);
    bind_i32(&b, count_chunks(c->pairs, chunk));
    if (!has_ptx(run->dev)) return b;
    bind_mem(&b, counters);
    bind_mem(&b, counters);
    bind_i32(&b, counters != NULL);
    return b;
}

/* Two kernels, count and place, that take the same arguments in all rows. */
static enum clmoe_status run_chunks(const struct run *run, int64_t chunk) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    const uint64_t chunks = (uint64_t)count_chunks(c->pairs, chunk), table = run->workspace_offset / 4;

    struct bind count = run_bind(run, 0, c->counts.mem);
    bind_ids(&count, c);
    bind_view(&count, run->workspace, table);
    bind_i32(&count, c->pairs);
    bind_i32(&count, p->topk);
    bind_i32(&count, p->experts);
    bind_i32(&count, chunk);
    TRY(bind_end(&count, run->launch->log));

    const struct bind place = bind_place(run, 1, p, c, run->workspace, table, chunk, NULL);
    TRY(bind_end(&place, run->launch->log));

    TRY(launch_kernel(run->launch, run->kernels[0], chunks, run->local[0]));
    return launch_kernel(run->launch, run->kernels[1], chunks, run->local[1]);
}

static enum clmoe_status chunks_run(const struct run *run) {
    return run_chunks(run, group_chunk(run->problem));
}

/* ---- for kernels that count the pairs themselves ---- */

enum { TICKETS = 64 }; /* words before the table: of them one is in use */

static uint64_t counted_bytes(const struct permute_problem *p) {
    return TICKETS * 4 + table_bytes(p, group_chunk(p));
}

bool permute_counted_fits(const struct device *dev, const struct permute_problem *p) {
    struct reason why;
    return sort_fits(dev, p, chunk_sorter(p), &why);
}

void permute_counted_prepare(const struct device *dev, const struct permute_problem *p,
                             struct recipe *recipe) {
    if (max_pairs(p) > GROUP_PAIRS) add_chunks(dev, p, recipe, "permute_place");
    recipe->counters = counted_bytes(p);
}

enum clmoe_status permute_counted_forget(const struct run *run, const struct permute_problem *p) {
    return launch_zero(run->launch, run->counters, (size_t)counted_bytes(p));
}

void permute_counted_bind(struct bind *b, const struct permute_problem *p, cl_mem counters, bool counts) {
    bind_mem(b, counters);
    bind_view(b, counters, TICKETS);
    bind_i32(b, counts ? group_chunk(p) : 0);
}

enum clmoe_status permute_counted_run(const struct run *run, int kernel, const struct permute_problem *p,
                                      const struct permute_call *c) {
    const int64_t chunk = group_chunk(p);
    const struct bind b = bind_place(run, kernel, p, c, run->counters, TICKETS, chunk, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel], (uint64_t)count_chunks(c->pairs, chunk),
                         run->local[kernel]);
}

/* ---- cpu: chunks of a work-item each; few pairs are one's, in the outputs themselves ---- */

static bool one_chunk(const struct permute_problem *p) {
    return max_pairs(p) <= GROUP_PAIRS;
}

static bool cpu_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct permute_problem *const p = problem;
    const uint64_t bytes = (uint64_t)(expert_room(p->experts) + 1) * 4;
    if (bytes <= dev->caps.local_mem) return true;
    return refuse(why, "%d experts need %llu bytes of local memory of %llu", (int)p->experts,
                  (unsigned long long)bytes, (unsigned long long)dev->caps.local_mem);
}

static void cpu_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)dev;
    const struct permute_problem *const p = problem;
    static const char *const entries[] = {"permute_cpu_count", "permute_cpu_place"};
    if (one_chunk(p)) {
        add_ref(recipe);
        return;
    }
    for (int i = 0; i < 2; i++)
        spec_define(recipe_add(recipe, "permute/cpu.cl", entries[i], 1), "BUCKETS", "%d",
                    (int)expert_room(p->experts) + 1);
    recipe->workspace = table_bytes(p, cpu_chunk(p));
}

static enum clmoe_status cpu_run(const struct run *run) {
    return one_chunk(run->problem) ? one_group_run(run) : run_chunks(run, cpu_chunk(run->problem));
}

/* ---- ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)dev, (void)problem;
    add_ref(recipe);
}

static const struct kernel_row rows[] = {
    {"permute_cpu", cpu_fits, cpu_prepare, cpu_run, .needs = CLMOE_FEATURE_CPU},
    {"permute_group", group_fits, group_prepare, one_group_run},
    {"permute_chunks", chunks_fits, chunks_prepare, chunks_run},
    {"permute_ref", ref_fits, ref_prepare, one_group_run},
};

const struct kernel_table permute_table = {"permute", rows, sizeof rows / sizeof *rows};
