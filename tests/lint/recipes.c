/* SPDX-License-Identifier: MIT
 * Prints which programs the kernel tables ask for, one a line: row, entry, file, options, and the device that
 * would run them ("-" where it lacks a feature that the row needs), separated by tabs. No device is needed:
 * plan_make is replaced (--wrap), and the rows are asked about devices that are only described.
 *
 * Params are drawn at random from short lists, many more than there are programs; the plan functions throw
 * out what is not legal. A row or an operation that no draw reaches is reported on stderr, with exit
 * status 1. */
#include "clmoe/clmoe.h"
#include "kernel/row.h"
#include "kernel/offload.h"
#include "op/adapter.h"
#include "op/matmul.h"
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

enum { DRAWS = 4000, MAX_NAMES = 64 };

enum clmoe_status __wrap_plan_make(struct clmoe_context *ctx, const struct kernel_table *table,
                                   const void *problem, size_t problem_size,
                                   const struct clmoe_plan_options *options, bool stage, clmoe_plan **out);

/* What the drivers of AMD, Intel and NVIDIA all have. */
enum {
    ANY_GPU = CLMOE_FEATURE_GPU | CLMOE_FEATURE_FP16 | CLMOE_FEATURE_FP64 | CLMOE_FEATURE_INT64_ATOMICS |
              CLMOE_FEATURE_SUBGROUPS
};

/* A plain GPU, one with everything (matrix instructions only emulated), one whose inline PTX is older, a
 * small device, a CPU; then those that tests/offline compiles for, as their drivers describe them. */
static const struct device devices[] = {
    {.name = "gpu", .caps = {256, 32768, 1u << 30, 16, 0}},
    {.name = "large",
     .caps = {1024, 65536, 1u << 30, 128, 0},
     .features = (CLMOE_FEATURES_ALL & ~1u) | DEVICE_PTX_SM80,
     .emulated = CLMOE_FEATURES_MATRIX},
    {.name = "turing",
     .caps = {1024, 65536, 1u << 30, 40, 0},
     .features = CLMOE_FEATURES_ALL & ~1u & ~(uint32_t)CLMOE_FEATURE_NV_MMA},
    {.name = "small", .caps = {64, 16384, 1u << 28, 2, 0}},
    {.name = "cpu",
     .caps = {4096, 1 << 20, 1u << 30, 8, 0},
     .features = CLMOE_FEATURE_CPU | CLMOE_FEATURE_FP64},
    {.name = "gfx9", .caps = {256, 65536, 1u << 30, 104, 0}, .features = ANY_GPU | CLMOE_FEATURE_AMD_MFMA},
    {.name = "gfx11", .caps = {256, 65536, 1u << 30, 48, 0}, .features = ANY_GPU | CLMOE_FEATURE_AMD_WMMA_11},
    {.name = "gfx12", .caps = {256, 65536, 1u << 30, 32, 0}, .features = ANY_GPU | CLMOE_FEATURE_AMD_WMMA_12},
    {.name = "dg2",
     .caps = {1024, 65536, 1u << 30, 512, 0},
     .features = ANY_GPU | CLMOE_FEATURE_INTEL_DPAS_8},
    {.name = "pvc",
     .caps = {1024, 131072, 1u << 30, 512, 0},
     .features = ANY_GPU | CLMOE_FEATURE_INTEL_DPAS_16},
    {.name = "sm_80",
     .caps = {1024, 49152, 1u << 30, 108, 0},
     .features = ANY_GPU | CLMOE_FEATURE_NV_PTX | DEVICE_PTX_SM80 | CLMOE_FEATURE_NV_MMA},
};

static struct {
    const struct kernel_row *rows[MAX_NAMES];
    int n;
} reached;

static void mark(const struct kernel_row *row) {
    for (int i = 0; i < reached.n; i++)
        if (reached.rows[i] == row) return;
    if (reached.n < MAX_NAMES) reached.rows[reached.n++] = row;
}

enum clmoe_status __wrap_plan_make(struct clmoe_context *ctx, const struct kernel_table *table,
                                   const void *problem, size_t problem_size,
                                   const struct clmoe_plan_options *options, bool stage, clmoe_plan **out) {
    (void)ctx, (void)problem_size, (void)options, (void)stage, (void)out;
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        for (int i = 0; i < table->n_rows; i++) {
            struct reason why = {""};
            struct recipe recipe = {0};
            if (!table->rows[i].fits(&devices[d], problem, &why)) continue;
            table->rows[i].prepare(&devices[d], problem, &recipe);
            mark(&table->rows[i]);
            const bool lacks = table->rows[i].needs & ~devices[d].features;
            for (int k = 0; k < recipe.n_kernels; k++)
                printf("%s\t%s\t%s\t%s\t%s\n", table->rows[i].name, recipe.kernels[k].entry,
                       recipe.kernels[k].file, recipe.kernels[k].options, lacks ? "-" : devices[d].name);
        }
    }
    return CLMOE_E_UNSUPPORTED;
}

/* ---- random params ---- */

static uint64_t state = 1;
static int draw(int n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)n);
}
static int64_t size(void) {
    static const int64_t sizes[] = {1, 2, 7, 32, 64, 100, 128, 256, 1000, 1024, 4096, 8192, 40000, 1 << 20};
    return sizes[draw(sizeof sizes / sizeof *sizes)];
}
static int32_t few(void) {
    static const int32_t sizes[] = {1, 2, 3, 4, 6, 8, 16, 32, 60, 64, 128, 256, 512, 1024, 4096};
    return sizes[draw(sizeof sizes / sizeof *sizes)];
}
static int32_t some(void) {
    static const int32_t sizes[] = {1, 1, 2, 4, 6, 8, 8, 16, 64};
    return sizes[draw(sizeof sizes / sizeof *sizes)];
}
static enum clmoe_dtype plain(void) {
    return (enum clmoe_dtype)draw(3);
}
static float number(void) {
    static const float numbers[] = {0, 0, 1, 0.5f, -2};
    return numbers[draw(5)];
}

static void draw_combine(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_combine_params p = {
        .max_tokens = size(),
        .topk = some(),
        .experts = few(),
        .hidden = size(),
        .x_dtype = plain(),
        .y_dtype = plain(),
        .x_rows = draw(2) ? CLMOE_ROWS_SORTED : CLMOE_ROWS_PAIR,
        .ids = draw(2),
        .gamma = draw(2),
        .residual = draw(2),
        .shared = draw(2),
        .identity = draw(2),
        .shared_f32 = draw(2),
        .scale = number(),
        .shared_scale = number(),
    };
    clmoe_combine_plan(ctx, &p, plan);
}

static void draw_scatter(clmoe_context *ctx, clmoe_plan **plan) {
    const enum clmoe_scatter_mode mode = (enum clmoe_scatter_mode)draw(4);
    const struct clmoe_scatter_params p = {
        .max_rows = size(),
        .n = size(),
        .k = size(),
        .dtype = draw(2) ? plain() : (enum clmoe_dtype)draw(CLMOE_DTYPE_COUNT),
        .index_dtype = draw(2) ? CLMOE_I64 : CLMOE_I32,
        .mode = mode,
        .scale = draw(2) ? number() : 0,
        .slot_scale = draw(2) * draw(2),
        .column_scale = draw(2) * draw(2),
        .from_x = mode >= CLMOE_SCATTER_ADD && draw(2),
        .no_values = mode >= CLMOE_SCATTER_ADD && draw(2),
    };
    clmoe_scatter_plan(ctx, &p, plan);
}

static void draw_permute(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_permute_params p = {.max_tokens = size(), .topk = some(), .experts = few()};
    clmoe_permute_plan(ctx, &p, plan);
}

static enum clmoe_dtype block_format(void) {
    static const enum clmoe_dtype all[] = {CLMOE_Q8_0, CLMOE_Q4_0, CLMOE_Q5_0, CLMOE_Q4_K,
                                           CLMOE_Q5_K, CLMOE_Q6_K, CLMOE_MXFP4};
    return all[draw(sizeof all / sizeof *all)];
}

static void draw_quant(clmoe_context *ctx, clmoe_plan **plan) {
    static const enum clmoe_dtype codes[] = {CLMOE_I8, CLMOE_F8_E4M3, CLMOE_F4_E2M1};
    static const enum clmoe_dtype scales[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16, CLMOE_U8};
    struct clmoe_quant_params p = {
        .mode = (enum clmoe_quant_mode)draw(2),
        .max_rows = size(),
        .n = 256 * size(),
        .plain = plain(),
        .block = draw(2) ? block_format() : codes[draw(3)],
    };
    if (p.block == CLMOE_I8 || p.block == CLMOE_F8_E4M3 || p.block == CLMOE_F4_E2M1) {
        p.scale.dtype = scales[draw(4)];
        p.scale.rows = draw(3) * 64, p.scale.columns = draw(3) * 64;
    }
    if (draw(4) == 0) {
        p.block = CLMOE_I32, p.order = draw(2) ? CLMOE_W_AWQ : CLMOE_W_GPTQ;
        p.scale = (struct clmoe_w_scale){plain(), 1, 128, (enum clmoe_zero)draw(3)};
    }
    clmoe_quant_plan(ctx, &p, plan);
}

static void draw_route(clmoe_context *ctx, clmoe_plan **plan) {
    const int grouped = draw(2), capacity = 8 * draw(2), chosen = draw(3);
    const struct clmoe_route_params p = {
        .max_tokens = size(),
        .experts = few(),
        .topk = some(),
        .logits_dtype = plain(),
        .score = (enum clmoe_score)draw(chosen ? 4 : 5),
        .bias = chosen && draw(2),
        .n_group = chosen && grouped ? 1 << draw(6) : 0,
        .topk_group = chosen && grouped ? 1 << draw(5) : 0,
        .group_score = (enum clmoe_group_score)draw(3),
        .renorm = (enum clmoe_renorm)draw(3),
        .scale = number(),
        .select = chosen ? CLMOE_SELECT_TOPK : (enum clmoe_select)draw(2),
        .expert_map = draw(2),
        .capacity = capacity,
        .capacity_order = (enum clmoe_capacity_order)(capacity ? draw(4) : 0),
    };
    clmoe_route_plan(ctx, &p, plan);
}

static struct clmoe_matmul_params matmul_params(void) {
    static const enum clmoe_dtype codes[] = {CLMOE_I8, CLMOE_F8_E4M3, CLMOE_F4_E2M1, CLMOE_I32};
    static const enum clmoe_dtype scales[] = {CLMOE_F32, CLMOE_F16, CLMOE_BF16, CLMOE_U8};
    const bool coded = draw(3) == 0, blocks = coded && draw(2);
    const enum clmoe_dtype code = codes[draw(4)], scale = scales[draw(4)];
    const enum clmoe_act act = (enum clmoe_act)draw(CLMOE_ACT_SITU + 1);
    const bool words = coded && !blocks && code == CLMOE_I32;
    return (struct clmoe_matmul_params){
        .max_tokens = size(),
        .topk = some(),
        .experts = few(),
        .in = coded ? 256 * some() : size(),
        .out = size(),
        .x_dtype = plain(),
        .y_dtype = plain(),
        .w_dtype = blocks  ? block_format()
                   : coded ? code
                           : plain(),
        .w_scale = {coded && !blocks ? scale : CLMOE_F32, words},
        .bias_dtype = plain(),
        .w_order = (enum clmoe_w_order)(words ? CLMOE_W_AWQ + draw(2) : draw(coded ? 1 : 3)),
        .glu = (enum clmoe_glu)draw(5),
        .act = {.kind = act, .alpha = number(), .gate_tanh = act == CLMOE_ACT_SITU ? 4.0f : 0.0f},
        .x_rows = (enum clmoe_rows)draw(3),
        .y_rows = (enum clmoe_rows)(2 * draw(2)),
        .routing = (enum clmoe_routing)draw(3),
        .gamma = (enum clmoe_gamma)draw(3),
        .bias = draw(2),
        .add = draw(2),
        .limit = (enum clmoe_limit)draw(3),
        .expert_scale = draw(2),
    };
}

static void draw_matmul(clmoe_context *ctx, clmoe_plan **plan) {
    struct clmoe_matmul_params p = matmul_params();
    if (draw(4) == 0) p.experts = p.topk = 1, p.x_rows = p.y_rows = CLMOE_ROWS_PAIR;
    if (draw(4) == 0) {
        /* What rows for one format want, which hardly ever meets otherwise. */
        p.x_dtype = p.y_dtype = CLMOE_BF16;
        p.add = 0, p.limit = CLMOE_LIMIT_NONE;
        if (p.w_dtype == CLMOE_F4_E2M1) p.w_scale = (struct clmoe_w_scale){CLMOE_U8, 1, 32, CLMOE_ZERO_EIGHT};
        if (p.w_dtype == CLMOE_F8_E4M3)
            p.w_scale = (struct clmoe_w_scale){CLMOE_F32, 128, 128, CLMOE_ZERO_EIGHT};
    }
    if (draw(4) == 0)
        matmul_sum_stage(ctx, &p, plain(), plan);
    else
        clmoe_matmul_plan(ctx, &p, plan);
}

static void draw_matmul_pack(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_matmul_params p = matmul_params();
    clmoe_matmul_pack_plan(ctx, &p, plan);
}

static void draw_adapter(clmoe_context *ctx, clmoe_plan **plan) {
    const struct adapter_problem problem = {some(), few(), some()};
    adapter_stage(ctx, &problem, &(struct clmoe_plan_options){0}, plan);
}

static void draw_offload(clmoe_context *ctx, clmoe_plan **plan) {
    const struct offload_problem problem = {some(), some()};
    plan_make(ctx, &offload_table, &problem, sizeof problem, &(struct clmoe_plan_options){0}, true, plan);
}

static void draw_topk(clmoe_context *ctx, clmoe_plan **plan) {
    static const enum clmoe_dtype dtypes[] = {CLMOE_F64, CLMOE_I8,  CLMOE_U8,  CLMOE_I16, CLMOE_U16,
                                              CLMOE_I32, CLMOE_U32, CLMOE_I64, CLMOE_U64};
    const int64_t n = size(), k = size();
    struct clmoe_topk_params p = {
        .max_rows = size(),
        .n = n,
        .k = draw(10) ? k % n : n,
        .dtype = draw(2) ? plain() : dtypes[draw(sizeof dtypes / sizeof *dtypes)],
        .smallest = draw(2),
        .order = (enum clmoe_topk_order)draw(3),
        .nan = (enum clmoe_nan)draw(3),
        .ties = (enum clmoe_ties)draw(2),
        .row_begin = draw(2),
        .row_length = draw(2),
        .row_k = draw(2),
        .outputs = (uint32_t)draw(128),
    };
    if (dtype_is_float(p.dtype)) p.dense_scale = number();
    clmoe_topk_plan(ctx, &p, plan);
}

static void (*const draws[])(clmoe_context *ctx, clmoe_plan **plan) = {
    draw_combine, draw_scatter,     draw_permute, draw_quant,   draw_route,
    draw_matmul,  draw_matmul_pack, draw_topk,    draw_adapter, draw_offload,
};

int main(void) {
    static struct clmoe_context ctx; /* only its log is looked at, and nobody listens */
    int missing = 0;
    for (size_t i = 0; i < sizeof draws / sizeof *draws; i++) {
        state = i + 1; /* what one operation draws shall not change the others' params */
        for (int n = 0; n < DRAWS; n++) {
            clmoe_plan *plan = NULL;
            draws[i](&ctx, &plan);
        }
    }
    for (int t = 0; kernel_tables[t]; t++) {
        for (int i = 0; i < kernel_tables[t]->n_rows; i++) {
            bool found = false;
            for (int k = 0; k < reached.n; k++)
                found |= reached.rows[k] == &kernel_tables[t]->rows[i];
            if (found) continue;
            fprintf(stderr, "no params drawn here reach %s\n", kernel_tables[t]->rows[i].name);
            missing++;
        }
    }
    return missing != 0;
}
