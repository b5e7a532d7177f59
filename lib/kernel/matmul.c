/* SPDX-License-Identifier: MIT */
#include "matmul.h"

#include "matmul_cpu.h"
#include "matmul_few.h"
#include "matmul_matrix.h"
#include "matmul_mma.h"
#include "matmul_parts.h"
#include "matmul_rows.h"
#include "matmul_tile.h"
#include "matmul_wgmma.h"
#include "matmul_wgmma_coded.h"

#include <stdio.h>
#include <string.h>

/* Bits of `flags`; the same list is in cl/matmul/pair.cl. */
enum {
    X_TOKEN = 1,
    X_SORTED = 2,
    Y_SORTED = 4,
    SORTED = 8,
    HAS_BIAS = 16,
    HAS_EXPERT_SCALE = 32,
    GAMMA_OUTPUT = 64,
    GAMMA_INPUT = 128,
    K_FASTEST = 256,
    DENSE = 512,
    HAS_ADD = 1024,
    LIMIT_IN = 2048,
    LIMIT_OUT = 4096,
    HAS_ZERO = 8192,
    ZERO_PLUS_ONE = 16384,
    WORDS_OF_K = 32768,
};

int32_t matmul_flags(const struct matmul_problem *p) {
    int flags = p->x_rows == CLMOE_ROWS_TOKEN ? X_TOKEN : p->x_rows == CLMOE_ROWS_SORTED ? X_SORTED : 0;
    if (p->y_rows == CLMOE_ROWS_SORTED) flags |= Y_SORTED;
    if (p->sorted) flags |= SORTED;
    if (p->bias) flags |= HAS_BIAS;
    if (p->expert_scale) flags |= HAS_EXPERT_SCALE;
    if (p->gamma == CLMOE_GAMMA_OUTPUT) flags |= GAMMA_OUTPUT;
    if (p->gamma == CLMOE_GAMMA_INPUT) flags |= GAMMA_INPUT;
    if (p->w_order == CLMOE_W_ENK) flags |= K_FASTEST;
    if (p->dense) flags |= DENSE;
    if (p->add) flags |= HAS_ADD;
    if (p->limit == CLMOE_LIMIT_IN) flags |= LIMIT_IN;
    if (p->limit == CLMOE_LIMIT_OUT) flags |= LIMIT_OUT;
    if (p->w_scale.zero != CLMOE_ZERO_EIGHT) flags |= HAS_ZERO;
    if (p->w_scale.zero == CLMOE_ZERO_PLUS_ONE) flags |= ZERO_PLUS_ONE;
    if (p->w_order == CLMOE_W_GPTQ) flags |= WORDS_OF_K;
    return flags;
}

/* What the weights are to the kernels, as in "q8_0_panel". */
struct w_type {
    char text[16];
};

static struct w_type w_type_of(const struct matmul_problem *p) {
    const bool panels = p->w_order == CLMOE_W_PACKED && dtype_is_block(p->w_dtype);
    struct w_type t;
    if (matmul_in_words(p->w_order))
        snprintf(t.text, sizeof t.text, "%s", p->w_order == CLMOE_W_AWQ ? "awq" : "gptq");
    else
        snprintf(t.text, sizeof t.text, "%s%s", dtype_info(p->w_dtype)->name, panels ? "_panel" : "");
    return t;
}

struct matmul_class matmul_class_of(const struct matmul_problem *p) {
    struct matmul_class c;
    snprintf(c.text, sizeof c.text, "%s.%s%s", dtype_info(p->x_dtype)->name, w_type_of(p).text,
             p->glu == CLMOE_GLU_NONE ? "" : ".glu");
    return c;
}

struct kernel_spec *matmul_add_kernel(const struct matmul_problem *p, struct recipe *recipe, const char *file,
                                      const char *entry, int64_t local) {
    struct kernel_spec *const spec = recipe_add(recipe, file, entry, (size_t)local);
    spec_define(spec, "X_T", "%s", dtype_info(p->x_dtype)->name);
    spec_define(spec, "W_T", "%s", w_type_of(p).text);
    spec_define(spec, "SCALED", "%d", dtype_is_scaled(p->w_dtype));
    spec_define(spec, "S_T", "%s",
                p->w_scale.dtype == CLMOE_U8 ? "e8m0" : dtype_info(p->w_scale.dtype)->name);
    spec_define(spec, "Y_T", "%s", dtype_info(p->y_dtype)->name);
    spec_define(spec, "BIAS_T", "%s", dtype_info(p->bias_dtype)->name);
    spec_define(spec, "GLU", "%d", p->glu != CLMOE_GLU_NONE);
    spec_define(spec, "ACT", "%d", (int)p->act.kind);
    return spec;
}

static void bind_columns(struct bind *b, const struct columns *c) {
    bind_view(b, c->mem, c->skip);
    bind_i64(b, c->expert);
    bind_i64(b, c->column);
}

static void bind_scales(struct bind *b, const struct scales *s) {
    bind_view(b, s->mem, s->skip);
    bind_i64(b, s->expert);
    bind_i64(b, s->row);
    bind_i64(b, s->group);
    bind_i64(b, s->first);
}

static void bind_zeros(struct bind *b, const struct zeros *z) {
    bind_view(b, z->mem, z->skip);
    bind_i64(b, z->expert);
    bind_i64(b, z->group);
}

/* k >> shift is the index of the scale of step k. */
static int scale_shift(const struct matmul_problem *p) {
    int shift = 0;
    while (INT64_C(1) << shift < p->w_scale.columns)
        shift++;
    return shift;
}

static void bind_rows(struct bind *b, const struct operand *o) {
    bind_view(b, o->mem, o->offset);
    bind_i64(b, o->stride[0]);
    bind_i64(b, o->stride[1]);
}

/* MATMUL_ARGS of cl/matmul/pair.cl, in its order. */
struct bind matmul_bind_part(const struct run *run, int kernel, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    struct columns bias, bias_up;
    matmul_bias_columns(p, c, &bias, &bias_up);
    struct bind b = run_bind(run, kernel, c->y.mem);
    bind_view(&b, c->x.mem, c->x.offset);
    bind_i64(&b, c->x.stride[0]);
    bind_columns(&b, &part->gate);
    bind_i64(&b, part->gate.depth);
    bind_columns(&b, &part->up);
    bind_i64(&b, part->up.depth);
    bind_scales(&b, &part->gate_scales);
    bind_scales(&b, &part->up_scales);
    bind_i64(&b, p->w_scale.rows);
    bind_i32(&b, matmul_row_step(p));
    bind_i32(&b, scale_shift(p));
    bind_zeros(&b, &part->gate_zeros);
    bind_zeros(&b, &part->up_zeros);
    bind_columns(&b, &bias);
    bind_columns(&b, &bias_up);
    bind_rows(&b, &c->add);
    bind_rows(&b, &c->add_up);
    bind_view(&b, c->expert_scale.mem, c->expert_scale.offset);
    bind_view(&b, c->limits.mem, c->limits.offset);
    bind_view(&b, c->gamma.mem, c->gamma.offset);
    bind_i64(&b, c->gamma.stride[0]);
    bind_view(&b, c->ids.mem, c->ids.offset);
    bind_i64(&b, c->ids.stride[0]);
    bind_view(&b, c->offsets.mem, c->offsets.offset);
    bind_view(&b, c->order.mem, c->order.offset);
    bind_view(&b, c->y.mem, c->y.offset);
    bind_i64(&b, c->y.stride[0]);
    bind_i64(&b, c->tokens * p->topk);
    bind_i32(&b, p->topk);
    bind_i32(&b, c->numbers);
    bind_i32(&b, part->first);
    bind_i32(&b, part->count);
    bind_i64(&b, p->in);
    bind_i64(&b, p->out);
    bind_i32(&b, p->w_order != CLMOE_W_PACKED ? 0 : p->glu == CLMOE_GLU_NONE ? 5 : 4);
    bind_f32(&b, p->act.alpha);
    bind_f32(&b, p->act.gate_max);
    bind_f32(&b, p->act.up_max);
    bind_f32(&b, p->act.up_add);
    bind_f32(&b, p->act.act_max);
    bind_f32(&b, p->act.gate_tanh);
    bind_f32(&b, p->act.up_tanh);
    bind_i32(&b, matmul_flags(p));
    return b;
}

enum clmoe_status matmul_launch_part(const struct run *run, int kernel, const struct matmul_part *part,
                                     uint64_t groups) {
    struct bind b = matmul_bind_part(run, kernel, part);
    TRY(bind_end(&b, run->launch->log));
    return launch_kernel(run->launch, run->kernels[kernel], groups, run->local[kernel]);
}

typedef enum clmoe_status (*part_runner)(const struct run *run, const struct matmul_part *part);
typedef uint64_t (*part_groups)(const struct run *run, const struct matmul_part *part);

/* By `part_run`, or else by the recipe's only kernel. */
static enum clmoe_status each_part(const struct run *run, part_runner part_run, part_groups groups_of) {
    const struct matmul_call *const c = run->call;
    if (c->tokens == 0) return CLMOE_OK;
    int32_t first = c->first;
    for (int32_t i = 0; i < c->n_w; i++) {
        struct matmul_part part = matmul_part_at(run->problem, c->w, c->w_up, i, first);
        matmul_part_scales(run->problem, c, i, &part);
        TRY(part_run ? part_run(run, &part) : matmul_launch_part(run, 0, &part, groups_of(run, &part)));
        first += part.count;
    }
    return CLMOE_OK;
}

enum clmoe_status matmul_each_part(const struct run *run,
                                   enum clmoe_status (*part_run)(const struct run *,
                                                                 const struct matmul_part *)) {
    return each_part(run, part_run, NULL);
}

enum clmoe_status matmul_run_parts(const struct run *run,
                                   uint64_t (*groups_of)(const struct run *, const struct matmul_part *)) {
    return each_part(run, NULL, groups_of);
}

uint64_t matmul_pairs_times_columns(const struct run *run, int64_t width) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    return (uint64_t)(c->tokens * p->topk) * (uint64_t)ceil_div(p->out, width);
}

uint64_t matmul_slots_times_columns(const struct run *run, const struct matmul_part *part, int64_t height,
                                    int64_t width) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const int64_t slots = c->tokens * p->topk / height + part->count + (part->first == 0);
    return (uint64_t)slots * (uint64_t)ceil_div(p->out, width);
}

/* ---- matmul_ref ---- */

static bool ref_fits(const struct device *dev, const void *problem, struct reason *why) {
    (void)dev, (void)problem, (void)why;
    return true;
}

static void ref_prepare(const struct device *dev, const void *problem, struct recipe *recipe) {
    const struct matmul_problem *const p = problem;
    const int64_t local = dev->caps.max_work_group < 64 ? floor_pow2((int64_t)dev->caps.max_work_group) : 64;
    matmul_add_kernel(p, recipe, "matmul/ref.cl", "matmul_ref", local);
}

static uint64_t ref_groups(const struct run *run, const struct matmul_part *part) {
    (void)part;
    return matmul_pairs_times_columns(run, (int64_t)run->local[0]);
}

static enum clmoe_status ref_run(const struct run *run) {
    return matmul_run_parts(run, ref_groups);
}

static const struct kernel_row rows[] = {
    {"matmul_cpu_8x32", matmul_cpu_fits, matmul_cpu_prepare, matmul_cpu_run, .needs = CLMOE_FEATURE_CPU,
     .tunables = matmul_cpu_tunables},
    {"matmul_cpu_dot_4x4", matmul_cpu_dot_fits, matmul_cpu_dot_prepare, matmul_cpu_dot_run,
     .needs = CLMOE_FEATURE_CPU, .tunables = matmul_cpu_dot_tunables},
    {"matmul_few", matmul_few_fits, matmul_few_prepare, matmul_few_run, .tunables = matmul_few_tunables},
    {"matmul_few_columns", matmul_few_columns_fits, matmul_few_columns_prepare, matmul_few_columns_run,
     .tunables = matmul_few_columns_tunables},
    {"matmul_wgmma", matmul_wgmma_fits, matmul_wgmma_prepare, matmul_wgmma_run,
     .needs = CLMOE_FEATURE_NV_WGMMA},
    {"matmul_wgmma_coded", matmul_wgmma_coded_fits, matmul_wgmma_coded_prepare, matmul_wgmma_coded_run,
     .needs = CLMOE_FEATURE_NV_WGMMA},
    {"matmul_mfma", matmul_mfma_fits, matmul_mfma_prepare, matmul_mfma_run, .needs = CLMOE_FEATURE_AMD_MFMA},
    {"matmul_wmma_11", matmul_wmma_11_fits, matmul_wmma_11_prepare, matmul_wmma_11_run,
     .needs = CLMOE_FEATURE_AMD_WMMA_11},
    {"matmul_wmma_12", matmul_wmma_12_fits, matmul_wmma_12_prepare, matmul_wmma_12_run,
     .needs = CLMOE_FEATURE_AMD_WMMA_12},
    {"matmul_dpas_8", matmul_dpas_8_fits, matmul_dpas_8_prepare, matmul_dpas_8_run,
     .needs = CLMOE_FEATURE_INTEL_DPAS_8},
    {"matmul_dpas_16", matmul_dpas_16_fits, matmul_dpas_16_prepare, matmul_dpas_16_run,
     .needs = CLMOE_FEATURE_INTEL_DPAS_16},
    {"matmul_mma_async", matmul_mma_async_fits, matmul_mma_async_prepare, matmul_mma_async_run,
     .needs = CLMOE_FEATURE_NV_MMA, .tunables = matmul_mma_async_tunables},
    {"matmul_mma", matmul_mma_fits, matmul_mma_prepare, matmul_mma_run, .needs = CLMOE_FEATURE_NV_MMA},
    {"matmul_tile_128x128", matmul_tile_128_fits, matmul_tile_128_prepare, matmul_tile_128_run,
     .tunables = matmul_tile_tunables},
    {"matmul_tile_64x64", matmul_tile_64_fits, matmul_tile_64_prepare, matmul_tile_64_run,
     .tunables = matmul_tile_tunables},
    {"matmul_tile_32x32", matmul_tile_32_fits, matmul_tile_32_prepare, matmul_tile_32_run,
     .tunables = matmul_tile_tunables},
    {"matmul_ref", ref_fits, ref_prepare, ref_run},
};

const struct kernel_table matmul_table = {"matmul", rows, sizeof rows / sizeof *rows};
