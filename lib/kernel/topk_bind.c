/* SPDX-License-Identifier: MIT */
#include "topk_bind.h"

/* Bits of `flags` in cl/topk/output.cl, beside those of enum clmoe_topk_output. */
enum {
    FLAG_SMALLEST = 128,
    FLAG_NAN_LOWEST = 256,
    FLAG_NAN_TOTAL_ORDER = 512,
    FLAG_BY_INDEX = 1024,
    FLAG_BACKWARD = 2048,
    FLAG_SCALED = 4096,
    FLAG_INDEX64 = 8192,
    FLAG_HAS_BEGIN = 16384,
    FLAG_HAS_LENGTH = 32768,
    FLAG_HAS_K = 65536,
};

#define COUNTS_GROUP 256

int64_t topk_group(const struct device *dev, int64_t wanted) {
    const int64_t most = floor_pow2((int64_t)dev->caps.max_work_group);
    return most < wanted ? most : wanted;
}

int topk_key_bytes(const struct topk_problem *p) {
    return dtype_info(p->dtype)->bytes == 8 ? 8 : 4;
}

int topk_key_bits(const struct topk_problem *p) {
    return 8 * dtype_info(p->dtype)->bytes;
}

bool topk_pads(const struct topk_problem *p) {
    return p->k > p->n || p->row_begin || p->row_length || p->row_k;
}

static int32_t flags_of(const struct topk_problem *p) {
    return (int32_t)p->outputs | (p->smallest ? FLAG_SMALLEST : 0) |
           (p->nan == CLMOE_NAN_LOWEST ? FLAG_NAN_LOWEST : 0) |
           (p->nan == CLMOE_NAN_TOTAL_ORDER ? FLAG_NAN_TOTAL_ORDER : 0) |
           (p->order == CLMOE_ORDER_INDEX ? FLAG_BY_INDEX : 0) |
           (p->ties == CLMOE_TIES_HIGHEST ? FLAG_BACKWARD : 0) | (p->scale != 1.0f ? FLAG_SCALED : 0) |
           (p->index_dtype == CLMOE_I64 ? FLAG_INDEX64 : 0) | (p->row_begin ? FLAG_HAS_BEGIN : 0) |
           (p->row_length ? FLAG_HAS_LENGTH : 0) | (p->row_k ? FLAG_HAS_K : 0);
}

bool topk_is_plain(const struct topk_problem *p) {
    return flags_of(p) == TOPK_LISTS;
}

struct kernel_spec *topk_kernel(struct recipe *recipe, const struct topk_problem *p, const char *file,
                                const char *entry, int64_t local, bool of_plan) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)local);
    spec_define(spec, "X_T", "%s", dtype_info(p->dtype)->name);
    if (of_plan)
        spec_define(spec, "TOPK_FLAGS", "%d", (int)flags_of(p));
    else
        spec_define(spec, "TOPK_FLAGS", "flags");
    return spec;
}

void topk_prepare_counts(const struct device *dev, const struct topk_problem *p, struct recipe *recipe) {
    if (p->outputs & CLMOE_TOPK_COUNTS)
        recipe_add(recipe, "topk/counts.cl", "topk_zero", (size_t)topk_group(dev, COUNTS_GROUP));
}

enum clmoe_status topk_launch_zero(const struct run *run, int kernel, cl_mem mem, uint64_t offset,
                                   int64_t count) {
    struct bind b = run_bind(run, kernel, mem);
    bind_view(&b, mem, offset);
    bind_u32(&b, count);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel],
                         (uint64_t)ceil_div(count, (int64_t)run->local[kernel]), run->local[kernel]);
}

enum clmoe_status topk_begin(const struct run *run, int kernel, bool *done) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    *done = c->rows == 0 || (p->k == 0 && !(p->outputs & (TOPK_CELLS | CLMOE_TOPK_THRESHOLD)));
    if (!(p->outputs & CLMOE_TOPK_COUNTS)) return CLMOE_OK;
    return topk_launch_zero(run, kernel, c->counts.mem, c->counts.offset, p->n);
}

static void bind_strides(struct bind *b, const struct operand *o) {
    const int64_t view[4] = {(int64_t)o->offset, o->stride[0], o->stride[2], o->stride[1]};
    bind_long4(b, view);
}

static void bind_tensor(struct bind *b, const struct operand *o) {
    bind_mem(b, o->mem);
    bind_strides(b, o);
}

static void bind_array(struct bind *b, const struct operand *o) {
    bind_view(b, o->mem, o->offset);
}

void bind_topk(struct bind *b, const struct run *run) {
    const struct topk_problem *const p = run->problem;
    const struct topk_call *const c = run->call;
    bind_mem(b, c->x.mem);
    bind_mem(b, c->values.mem);
    bind_mem(b, c->indices.mem);
    bind_i64(b, c->inner);
    bind_strides(b, &c->x);
    bind_strides(b, &c->values);
    bind_strides(b, &c->indices);
    bind_i64(b, c->rows);
    bind_u32(b, p->n);
    bind_u32(b, p->k);
    bind_i32(b, flags_of(p));
    bind_array(b, &c->row_begin);
    bind_array(b, &c->row_length);
    bind_array(b, &c->row_k);
    bind_tensor(b, &c->mask);
    bind_tensor(b, &c->bitmask);
    bind_tensor(b, &c->dense);
    bind_array(b, &c->threshold);
    bind_array(b, &c->cut);
    bind_array(b, &c->counts);
    bind_u64(b, p->fill);
    bind_u64(b, p->pad_bits);
    bind_f32(b, p->scale);
}

enum clmoe_status topk_run_rows(const struct run *run, int64_t rows_of_group) {
    const struct topk_call *const c = run->call;
    bool done;
    TRY(topk_begin(run, 1, &done));
    if (done) return CLMOE_OK;
    struct bind b = run_bind(run, 0, c->x.mem);
    bind_topk(&b, run);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[0], (uint64_t)ceil_div(c->rows, rows_of_group),
                         run->local[0]);
}

enum clmoe_status topk_run_row_each(const struct run *run) {
    return topk_run_rows(run, 1);
}
