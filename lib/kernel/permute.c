/* SPDX-License-Identifier: MIT */
#include "permute.h"

static int64_t max_pairs(const struct permute_problem *p) {
    return p->max_tokens * p->topk;
}

/* ---- what the rows share ---- */

static void bind_ids(struct bind *b, const struct permute_call *c) {
    bind_view(b, c->ids.mem, c->ids.offset);
    bind_i64(b, c->ids.stride[0]);
}

static void bind_order(struct bind *b, const struct permute_call *c) {
    bind_view(b, c->offsets.mem, c->offsets.offset);
    bind_view(b, c->order.mem, c->order.offset);
    bind_i32(b, c->inverse.mem != NULL);
    bind_view(b, c->inverse.mem, c->inverse.offset);
}

/* Placing a pair looks at those before it in a tile of the work-group's size; on a CPU that is work, not
 * waiting, so tiles are small there. */
static int64_t local_size(const struct device *dev) {
    const int64_t wanted = dev->features & CLMOE_FEATURE_CPU ? 64 : 256;
    const int64_t most = floor_pow2((int64_t)dev->caps.max_work_group);
    return most < wanted ? most : wanted;
}

/* Room for experts + 1, in few different sizes. */
static int64_t bucket_room(const struct permute_problem *p) {
    return ceil_pow2(p->experts < 64 ? 64 : p->experts) + 1;
}

static bool sort_fits(const struct device *dev, const struct permute_problem *p, struct reason *why) {
    const uint64_t bytes = (uint64_t)(bucket_room(p) + local_size(dev)) * 4;
    if (bytes <= dev->caps.local_mem) return true;
    return refuse(why, "%d experts need %llu bytes of local memory of %llu", (int)p->experts,
                  (unsigned long long)bytes, (unsigned long long)dev->caps.local_mem);
}

static void add_kernel(const struct device *dev, const struct permute_problem *p, struct recipe *recipe,
                       const char *file, const char *entry) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)local_size(dev));
    spec_define(spec, "BUCKETS", "%d", (int)bucket_room(p));
}

/* permute_group and permute_ref take the same arguments and are one work-group. */
static enum clmoe_status one_group_run(const struct run *run) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    struct bind b = bind_begin(run->kernels[0], c->counts.mem);
    bind_ids(&b, c);
    bind_view(&b, c->counts.mem, c->counts.offset);
    bind_order(&b, c);
    bind_i32(&b, c->pairs);
    bind_i32(&b, p->topk);
    bind_i32(&b, p->experts);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], 1, run->local[0]);
}

/* ---- group ---- */

#define GROUP_PAIRS 4096

static bool group_fits(const struct device *dev, const void *problem, struct reason *why) {
    const struct permute_problem *const p = problem;
    if (max_pairs(p) > GROUP_PAIRS)
        return refuse(why, "%lld pairs > %d", (long long)max_pairs(p), GROUP_PAIRS);
    return sort_fits(dev, p, why);
}

static void group_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    add_kernel(dev, problem, recipe, "permute/group.cl", "permute_group");
}

/* ---- chunks ---- */

#define CHUNK_PAIRS 1024
#define MAX_CHUNKS 16384
#define MAX_TABLE (1 << 22)

/* Pairs of a chunk, decided by the plan's maximum: so many that the table [buckets, chunks] has no more cells
 * than pairs and stays within 16 MiB. */
static int64_t chunk_pairs(const struct device *dev, const struct permute_problem *p) {
    const int64_t buckets = p->experts + 1;
    const int64_t most = MAX_TABLE / buckets < MAX_CHUNKS ? MAX_TABLE / buckets : MAX_CHUNKS;
    int64_t chunk = ceil_div(max_pairs(p), most);
    if (chunk < CHUNK_PAIRS) chunk = CHUNK_PAIRS;
    if (chunk < buckets) chunk = buckets;
    return ceil_div(chunk, local_size(dev)) * local_size(dev);
}

static int64_t count_chunks(int64_t pairs, int64_t chunk) {
    return pairs ? ceil_div(pairs, chunk) : 1; /* without pairs there are still offsets to write */
}

static bool chunks_fits(const struct device *dev, const void *problem, struct reason *why) {
    return sort_fits(dev, problem, why);
}

static void chunks_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct permute_problem *const p = problem;
    add_kernel(dev, p, recipe, "permute/chunks.cl", "permute_count");
    add_kernel(dev, p, recipe, "permute/chunks.cl", "permute_scan");
    add_kernel(dev, p, recipe, "permute/chunks.cl", "permute_place");
    const int64_t chunks = count_chunks(max_pairs(p), chunk_pairs(dev, p));
    recipe->workspace = (uint64_t)(chunks * (p->experts + 1) * 4);
}

static enum clmoe_status chunks_run(const struct run *run) {
    const struct permute_problem *const p = run->problem;
    const struct permute_call *const c = run->call;
    const int64_t chunk = chunk_pairs(run->dev, p), chunks = count_chunks(c->pairs, chunk);
    const uint64_t table = run->workspace_offset / 4;

    struct bind count = bind_begin(run->kernels[0], c->counts.mem);
    bind_ids(&count, c);
    bind_view(&count, run->workspace, table);
    bind_i32(&count, c->pairs);
    bind_i32(&count, p->topk);
    bind_i32(&count, p->experts);
    bind_i32(&count, chunk);
    bind_i32(&count, chunks);
    TRY(bind_end(&count, run->launch->log));

    struct bind scan = bind_begin(run->kernels[1], c->counts.mem);
    bind_view(&scan, run->workspace, table);
    bind_view(&scan, c->counts.mem, c->counts.offset);
    bind_i32(&scan, p->experts);
    bind_i32(&scan, chunks);
    TRY(bind_end(&scan, run->launch->log));

    struct bind place = bind_begin(run->kernels[2], c->counts.mem);
    bind_ids(&place, c);
    bind_view(&place, run->workspace, table);
    bind_view(&place, c->counts.mem, c->counts.offset);
    bind_order(&place, c);
    bind_i32(&place, c->pairs);
    bind_i32(&place, p->topk);
    bind_i32(&place, p->experts);
    bind_i32(&place, chunk);
    bind_i32(&place, chunks);
    TRY(bind_end(&place, run->launch->log));

    TRY(launch_kernel(run->launch, run->kernels[0], (uint64_t)chunks, run->local[0]));
    TRY(launch_kernel(run->launch, run->kernels[1], (uint64_t)p->experts + 1, run->local[1]));
    return launch_kernel(run->launch, run->kernels[2], (uint64_t)chunks, run->local[2]);
}

/* ---- ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    (void)dev, (void)problem;
    recipe_add(recipe, "permute/ref.cl", "permute_ref", 1);
}

static const struct kernel_row rows[] = {
    {"permute_group", group_fits, group_prepare, one_group_run},
    {"permute_chunks", chunks_fits, chunks_prepare, chunks_run},
    {"permute_ref", ref_fits, ref_prepare, one_group_run},
};

const struct kernel_table permute_table = {"permute", rows, sizeof rows / sizeof *rows};
