/* SPDX-License-Identifier: MIT */
#include "matmul_hopper.h"

/* What the driver says such a chip has: less is a limit that the caller set. */
enum { OFFERED = 48 << 10 };

/* Work-items that gather rows of x. */
enum { GATHERING = 128 };

/* Bytes of the tensor maps of a work-group: two of weights and two of their scales or of x. */
enum { MAPS = 512 };

bool hopper_fits(const struct device *dev, const struct matmul_problem *p, int local, struct reason *why) {
    if (!p->sorted && !p->dense) return refuse(why, "needs sorted routing");
    if (p->w_order != CLMOE_W_ENK && !matmul_in_words(p->w_order))
        return refuse(why, "needs weights in the order ENK");
    if (p->add || p->limit != CLMOE_LIMIT_NONE) return refuse(why, "has no addends and no limits");
    if (dev->caps.local_mem < OFFERED)
        return refuse(why, "%llu bytes of local memory < %d", (unsigned long long)dev->caps.local_mem,
                      OFFERED);
    return dev->caps.max_work_group >= (size_t)local ||
           refuse(why, "work-groups of %zu < %d", dev->caps.max_work_group, local);
}

bool hopper_contiguous(const struct matmul_problem *p) {
    return p->x_rows == CLMOE_ROWS_SORTED || (p->dense && p->topk == 1);
}

int hopper_local(const struct matmul_problem *p) {
    return HOPPER_LOCAL + (hopper_contiguous(p) ? 0 : GATHERING);
}

int hopper_height(const struct matmul_problem *p, const struct hopper_height *heights, int64_t pairs) {
    int i = 0;
    while (heights[i + 1].pairs && 3 * pairs > 2 * (int64_t)heights[i].pairs * p->experts)
        i++;
    return i;
}

int hopper_highest(const struct matmul_problem *p, const struct hopper_height *heights) {
    return hopper_height(p, heights, p->max_tokens * p->topk);
}

struct kernel_spec *hopper_add_kernel(const struct matmul_problem *p, struct recipe *recipe, const char *file,
                                      const char *entry, const struct hopper_height *height, int local) {
    const bool limited = p->act.gate_max > 0 || p->act.up_max > 0 || p->act.act_max > 0;
    struct kernel_spec *const spec = matmul_add_kernel(p, recipe, file, entry, local);
    spec->retarget = spec->unlisted = true;
    spec->resident = height->groups > 1 ? height->groups : 0;
    spec_define(spec, "TOKENS", "%d", height->pairs);
    spec_define(spec, "STAGES", "%d", height->stages);
    spec_define(spec, "PLAN_FLAGS", "%d", matmul_flags(p));
    spec_define(spec, "LIMITED", "%d", limited);
    return spec;
}

void hopper_end(const struct device *dev, const struct matmul_problem *p, const struct hopper_height *heights,
                struct recipe *recipe) {
    matmul_prepare_tile(p, HOPPER_UNALIGNED_EDGE, recipe);
    hopper_space(dev, heights, recipe);
}

void hopper_space(const struct device *dev, const struct hopper_height *heights, struct recipe *recipe) {
    recipe->workspace = (uint64_t)dev->caps.compute_units * (uint64_t)heights[0].groups * MAPS;
    recipe->counters = 2 * sizeof(cl_uint);
}

bool hopper_alike(const struct matmul_part *part) {
    return part->gate.column == part->up.column && part->gate.expert == part->up.expert;
}

int64_t hopper_bytes_of(const struct matmul_problem *p, int64_t elements) {
    const struct dtype_info *const info = dtype_info(p->w_dtype);
    return elements / info->block * info->bytes;
}

bool hopper_within_reach(const struct matmul_problem *p, const struct columns *c) {
    return p->out <= UINT32_MAX / (hopper_bytes_of(p, c->column) + 1) - 1;
}

enum clmoe_status hopper_run(const struct run *run, const struct matmul_part *part,
                             const struct hopper_height *heights, int height) {
    const struct matmul_problem *const p = run->problem;
    const struct hopper_height *const h = &heights[height];
    const int64_t columns = h->rows / (p->glu == CLMOE_GLU_NONE ? 1 : 2);
    const uint64_t tiles = matmul_slots_times_columns(run, part, h->pairs, columns);
    const uint64_t resident = run->dev->caps.compute_units * (uint64_t)h->groups;
    struct bind b = matmul_bind_part(run, height, part);
    bind_view(&b, run->workspace, run->workspace_offset);
    bind_mem(&b, run->counters);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[height], tiles < resident ? tiles : resident,
                         run->local[height]);
}

enum clmoe_status hopper_run_other(const struct run *run, const struct matmul_part *part,
                                   const struct hopper_height *heights) {
    return matmul_run_tile(run, hopper_highest(run->problem, heights) + 1, part, HOPPER_UNALIGNED_EDGE);
}
