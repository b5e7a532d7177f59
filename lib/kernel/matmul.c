/* SPDX-License-Identifier: MIT */
#include "matmul.h"

#include "matmul_cpu.h"
#include "matmul_few.h"
#include "matmul_few_mma.h"
#include "matmul_matrix.h"
#include "matmul_mma.h"
#include "matmul_mma_blocks.h"
#include "matmul_parts.h"
#include "matmul_rows.h"
#include "matmul_tile.h"
#include "matmul_wgmma.h"
#include "matmul_wgmma_blocks.h"
#include "matmul_wgmma_bytes.h"
#include "matmul_wgmma_coded.h"
#include "matmul_wgmma_words.h"
#include "matmul_words.h"

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

/* k >> shift is the index of the scale of step k. */
static int scale_shift(const struct matmul_problem *p) {
    int shift = 0;
    while (INT64_C(1) << shift < p->w_scale.columns)
        shift++;
    return shift;
}

static void bind_buffers(struct bind *b, const struct matmul_call *c, const struct matmul_part *part,
                         const struct columns *bias, const struct columns *bias_up) {
    const cl_mem buffers[] = {
        c->x.mem,
        part->gate.mem,
        part->up.mem,
        part->gate_scales.mem,
        part->up_scales.mem,
        part->gate_zeros.mem,
        part->up_zeros.mem,
        bias->mem,
        bias_up->mem,
        c->add.mem,
        c->add_up.mem,
        c->expert_scale.mem,
        c->limits.mem,
        c->gamma.mem,
        c->ids.mem,
        c->offsets.mem,
        c->order.mem,
        c->y.mem,
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        bind_mem(b, buffers[i]);
}

static void bind_four(struct bind *b, uint64_t skip, int64_t y, int64_t z, int64_t w) {
    bind_long4(b, (int64_t[]){(int64_t)skip, y, z, w});
}

static void bind_columns(struct bind *b, const struct columns *c) {
    bind_four(b, c->skip, c->expert, c->column, c->depth);
}

static void bind_scales(struct bind *b, const struct scales *s) {
    bind_four(b, s->skip, s->expert, s->row, s->group);
}

static void bind_zeros(struct bind *b, const struct zeros *z, const struct scales *s) {
    bind_four(b, z->skip, z->expert, z->group, s->first);
}

/* Biases and addends, each with the offset of another buffer. */
static void bind_more(struct bind *b, const struct columns *bias, const struct columns *bias_up,
                      const struct matmul_call *c) {
    const struct operand *const add = &c->add, *const add_up = &c->add_up;
    bind_four(b, bias->skip, bias->expert, bias->column, (int64_t)c->expert_scale.offset);
    bind_four(b, bias_up->skip, bias_up->expert, bias_up->column, (int64_t)c->limits.offset);
    bind_four(b, add->offset, add->stride[0], add->stride[1], (int64_t)c->offsets.offset);
    bind_four(b, add_up->offset, add_up->stride[0], add_up->stride[1], (int64_t)c->order.offset);
}

/* MATMUL_ARGS of cl/matmul/pair.cl, in its order. */
struct bind matmul_bind_part(const struct run *run, int kernel, const struct matmul_part *part) {
    const struct matmul_problem *const p = run->problem;
    const struct matmul_call *const c = run->call;
    const struct clmoe_activation *const act = &p->act;
    const int64_t panel = p->w_order != CLMOE_W_PACKED ? 0 : p->glu == CLMOE_GLU_NONE ? 5 : 4;
    struct columns bias, bias_up;
    matmul_bias_columns(p, c, &bias, &bias_up);
    struct bind b = run_bind(run, kernel, c->y.mem);
    bind_buffers(&b, c, part, &bias, &bias_up);
    bind_four(&b, c->x.offset, c->x.stride[0], (int64_t)c->y.offset, c->y.stride[0]);
    bind_columns(&b, &part->gate);
    bind_columns(&b, &part->up);
    bind_scales(&b, &part->gate_scales);
    bind_scales(&b, &part->up_scales);
    bind_zeros(&b, &part->gate_zeros, &part->gate_scales);
    bind_zeros(&b, &part->up_zeros, &part->up_scales);
    bind_more(&b, &bias, &bias_up, c);
    bind_four(&b, c->ids.offset, c->ids.stride[0], (int64_t)c->gamma.offset, c->gamma.stride[0]);
    bind_long4(&b, (int64_t[]){c->tokens * p->topk, p->in, p->out, p->w_scale.rows});
    bind_long4(&b, (int64_t[]){p->topk, c->numbers, part->first, part->count});
    bind_long4(&b, (int64_t[]){panel, matmul_row_step(p), scale_shift(p), matmul_flags(p)});
    bind_float4(&b, (float[]){act->gate_max, act->up_max, act->act_max, act->gate_tanh});
    bind_float4(&b, (float[]){act->up_tanh, act->alpha, act->up_add, 0.0f});
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
    {"matmul_cpu_words", matmul_cpu_words_fits, matmul_cpu_words_prepare, matmul_cpu_words_run,
     .needs = CLMOE_FEATURE_CPU, .tunables = matmul_cpu_tunables},
    {"matmul_few_mma", matmul_few_mma_fits, matmul_few_mma_prepare, matmul_few_mma_run,
     .needs = CLMOE_FEATURE_NV_MMA, .tunables = matmul_few_mma_tunables},
    {"matmul_few", matmul_few_fits, matmul_few_prepare, matmul_few_run, .tunables = matmul_few_tunables},
    {"matmul_words_mma", matmul_words_mma_fits, matmul_words_mma_prepare, matmul_words_mma_run,
     .needs = CLMOE_FEATURE_NV_MMA, .tunables = matmul_words_mma_tunables},
    {"matmul_few_columns", matmul_few_columns_fits, matmul_few_columns_prepare, matmul_few_columns_run,
     .tunables = matmul_few_columns_tunables},
    {"matmul_wgmma", matmul_wgmma_fits, matmul_wgmma_prepare, matmul_wgmma_run,
     .needs = CLMOE_FEATURE_NV_WGMMA},
    {"matmul_wgmma_coded", matmul_wgmma_coded_fits, matmul_wgmma_coded_prepare, matmul_wgmma_coded_run,
     .needs = CLMOE_FEATURE_NV_WGMMA},
    {"matmul_wgmma_blocks", matmul_wgmma_blocks_fits, matmul_wgmma_blocks_prepare, matmul_wgmma_blocks_run,
     .needs = CLMOE_FEATURE_NV_WGMMA | CLMOE_FEATURE_NV_MMA},
    {"matmul_wgmma_bytes", matmul_wgmma_bytes_fits, matmul_wgmma_bytes_prepare, matmul_wgmma_bytes_run,
     .needs = CLMOE_FEATURE_NV_WGMMA},
    {"matmul_wgmma_words", matmul_wgmma_words_fits, matmul_wgmma_words_prepare, matmul_wgmma_words_run,
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
    {"matmul_mma_blocks", matmul_mma_blocks_fits, matmul_mma_blocks_prepare, matmul_mma_blocks_run,
     .needs = CLMOE_FEATURE_NV_MMA},
    {"matmul_tile_128x128", matmul_tile_128_fits, matmul_tile_128_prepare, matmul_tile_128_run,
     .tunables = matmul_tile_tunables},
    {"matmul_tile_64x64", matmul_tile_64_fits, matmul_tile_64_prepare, matmul_tile_64_run,
     .tunables = matmul_tile_tunables},
    {"matmul_tile_32x32", matmul_tile_32_fits, matmul_tile_32_prepare, matmul_tile_32_run,
     .tunables = matmul_tile_tunables},
    {"matmul_ref", ref_fits, ref_prepare, ref_run},
};

bool matmul_sums(const struct kernel_row *row, const struct matmul_call *call,
                 const struct combine_problem *sum) {
    /* A part of the weights has some of a token's rows; experts from host memory come in several calls. */
    const bool few = row->run == matmul_few_run || row->run == matmul_few_mma_run;
    return few && call->n_w == 1 && call->numbers == call->w[0].shape[0] && !sum->identity;
}

const struct kernel_table matmul_table = {"matmul", rows, sizeof rows / sizeof *rows};
