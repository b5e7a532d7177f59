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

/* Room for so many experts, in few different sizes. */
static int64_t expert_room(int32_t experts) {
    return experts > 1024 ? ceil_div(experts, 64) * 64 : ceil_pow2(experts < 16 ? 16 : experts);
}

void permute_define_sort(struct kernel_spec *spec, int32_t experts) {
    int log2 = 0;
    while ((int64_t)1 << log2 < expert_room(experts) + 2)
        log2++;
    spec_define(spec, "BUCKETS", "%d", (int)expert_room(experts) + 1);
    spec_define(spec, "BUCKETS_LOG2", "%d", log2);
}

/* Rows of buckets for each team and for starts, and what teams exchange. */
uint64_t permute_sort_bytes(int32_t experts, int64_t local) {
    return (uint64_t)((local / TEAM + 1) * (expert_room(experts) + 1) * 4 + local * 8 + local / TEAM * 4);
}

/* As many work-items as the device and its local memory let, up to `most`. */
static int64_t sort_local(const struct device *dev, const struct permute_problem *p, int64_t most) {
    int64_t local = floor_pow2((int64_t)dev->caps.max_work_group);
    if (local > most) local = most;
    while (local > TEAM && permute_sort_bytes(p->experts, local) > dev->caps.local_mem)
        local /= 2;
    return local;
}

static bool sort_fits(const struct device *dev, const struct permute_problem *p, int64_t most,
                      struct reason *why) {
    const int64_t local = sort_local(dev, p, most);
    if (local < TEAM) return refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, TEAM);
    if (permute_sort_bytes(p->experts, local) <= dev->caps.local_mem) return true;
    return refuse(why, "%d experts need %llu bytes of local memory of %llu", (int)p->experts,
                  (unsigned long long)permute_sort_bytes(p->experts, local),
                  (unsigned long long)dev->caps.local_mem);
}

static struct kernel_spec *add_sort(const struct device *dev, const struct permute_problem *p,
                                    struct recipe *recipe, const char *file, const char *entry,
                                    int64_t most) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)sort_local(dev, p, most));
    spec_define(spec, "PTX", "%d", (dev->features & CLMOE_FEATURE_NV_PTX) != 0);
    permute_define_sort(spec, p->experts);
    return spec;
}

/* permute_group and permute_ref take the same arguments and are one work-group. */
static enum clmoe_status one_group_run(const struct run *run) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    struct bind b = bind_begin(run->kernels[0], c->counts.mem);
    bind_ids(&b, c);
    permute_bind_outputs(&b, c);
    bind_i32(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], 1, run->local[0]);
}

/* ---- group ---- */

enum { GROUP_PAIRS = 4096, GROUP_LOCAL = 512 };

static bool group_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct permute_problem *const p = problem;
    if (max_pairs(p) > GROUP_PAIRS)
        return refuse(why, "%lld pairs > %d", (long long)max_pairs(p), GROUP_PAIRS);
    return sort_fits(dev, p, GROUP_LOCAL, why);
}

static void group_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_sort(dev, problem, recipe, "permute/group.cl", "permute_group", GROUP_LOCAL);
}

/* ---- chunks: of a work-group each ---- */

enum { CHUNK_PAIRS = 1024, MAX_CHUNKS = 256, CHUNK_LOCAL = 512 };

/* Pairs of a chunk, decided by the plan's maximum. Each chunk sums up the counts of all of them, which is why
 * there are not more; and the table has no more cells than there are pairs. */
static int64_t chunk_pairs(const struct permute_problem *p) {
    int64_t chunk = ceil_div(max_pairs(p), MAX_CHUNKS);
    if (chunk < CHUNK_PAIRS) chunk = CHUNK_PAIRS;
    if (chunk < p->experts) chunk = p->experts;
    return ceil_div(chunk, TEAM) * TEAM;
}

static int64_t count_chunks(int64_t pairs, int64_t chunk) {
    return pairs ? ceil_div(pairs, chunk) : 1; /* without pairs there are still offsets to write */
}

static void prepare_table(const struct permute_problem *p, struct recipe *recipe) {
    const int64_t chunks = count_chunks(max_pairs(p), chunk_pairs(p));
    recipe->workspace = (uint64_t)(chunks * p->experts * 4);
}

static bool chunks_fits(const struct device *dev, const void *problem, struct reason *why) {
    return sort_fits(dev, problem, CHUNK_LOCAL, why);
}

static void chunks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct permute_problem *const p = problem;
    static const char *const entries[] = {"permute_count", "permute_place"};
    for (int i = 0; i < 2; i++) {
        struct kernel_spec *const spec =
            add_sort(dev, p, recipe, "permute/chunks.cl", entries[i], CHUNK_LOCAL);
        const int64_t columns = floor_pow2(expert_room(p->experts)), local = (int64_t)spec->local;
        spec_define(spec, "COLUMNS", "%d", (int)(columns < local ? columns : local));
    }
    prepare_table(p, recipe);
}

/* Two kernels, count and place, that take the same arguments in all rows. */
static enum clmoe_status chunks_run(const struct run *run) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    const int64_t chunk = chunk_pairs(p), chunks = count_chunks(c->pairs, chunk);
    const uint64_t table = run->workspace_offset / 4;

    struct bind count = bind_begin(run->kernels[0], c->counts.mem);
    bind_ids(&count, c);
    bind_view(&count, run->workspace, table);
    bind_i32(&count, c->pairs);
    bind_i32(&count, p->topk);
    bind_i32(&count, p->experts);
    bind_i32(&count, chunk);
    TRY(bind_end(&count, run->launch->log));

    struct bind place = bind_begin(run->kernels[1], c->counts.mem);
    bind_ids(&place, c);
    bind_view(&place, run->workspace, table);
    permute_bind_outputs(&place, c);
    bind_i32(&place, c->pairs);
    bind_i32(&place, p->topk);
    bind_i32(&place, p->experts);
    bind_i32(&place, chunk);
    bind_i32(&place, chunks);
    TRY(bind_end(&place, run->launch->log));

    TRY(launch_kernel(run->launch, run->kernels[0], (uint64_t)chunks, run->local[0]));
    return launch_kernel(run->launch, run->kernels[1], (uint64_t)chunks, run->local[1]);
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
    prepare_table(p, recipe);
}

static enum clmoe_status cpu_run(const struct run *run) {
    return one_chunk(run->problem) ? one_group_run(run) : chunks_run(run);
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
