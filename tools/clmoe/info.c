/* SPDX-License-Identifier: MIT
 * clmoe info: the devices, their limits and capability bits, and for one typical problem of each operation
 * the kernel that would run and why better ones would not. */
#include "session.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One typical problem: what its sizes are, and how to plan it. */
struct example {
    const char *op, *problem;
    enum clmoe_status (*plan)(clmoe_context *ctx, clmoe_plan **plan);
};

static enum clmoe_status plan_router_topk(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_topk_params p = {.max_rows = 4096, .n = 128, .k = 8};
    return clmoe_topk_plan(ctx, &p, plan);
}

static enum clmoe_status plan_vocabulary_topk(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_topk_params p = {.max_rows = 8, .n = 131072, .k = 64};
    return clmoe_topk_plan(ctx, &p, plan);
}

static enum clmoe_status plan_scatter(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_scatter_params p = {.max_rows = 4096, .n = 128, .k = 8, .mode = CLMOE_SCATTER_MASK};
    return clmoe_scatter_plan(ctx, &p, plan);
}

static enum clmoe_status plan_route(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_route_params p = {
        .max_tokens = 4096, .experts = 128, .topk = 8, .renorm = CLMOE_RENORM_SUM};
    return clmoe_route_plan(ctx, &p, plan);
}

static enum clmoe_status plan_permute(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_permute_params p = {.max_tokens = 4096, .topk = 8, .experts = 128};
    return clmoe_permute_plan(ctx, &p, plan);
}

static enum clmoe_status plan_product(clmoe_context *ctx, int64_t tokens, bool sorted, bool packed,
                                      clmoe_plan **plan) {
    const struct clmoe_matmul_params p = {
        .max_tokens = tokens,
        .topk = 8,
        .experts = 128,
        .in = 2048,
        .out = 768,
        .x_dtype = CLMOE_BF16,
        .w_dtype = CLMOE_BF16,
        .y_dtype = CLMOE_BF16,
        .w_order = packed ? CLMOE_W_PACKED : CLMOE_W_ENK,
        .glu = CLMOE_GLU_GATE_UP,
        .act = {CLMOE_ACT_SILU},
        .x_rows = CLMOE_ROWS_TOKEN,
        .routing = sorted ? CLMOE_ROUTING_SORTED : CLMOE_ROUTING_IDS,
    };
    return clmoe_matmul_plan(ctx, &p, plan);
}

static enum clmoe_status plan_decode(clmoe_context *ctx, clmoe_plan **plan) {
    return plan_product(ctx, 1, false, false, plan);
}

static enum clmoe_status plan_prefill(clmoe_context *ctx, clmoe_plan **plan) {
    return plan_product(ctx, 4096, true, clmoe_matmul_wants_packing(ctx), plan);
}

static enum clmoe_status plan_combine(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_combine_params p = {
        .max_tokens = 4096, .topk = 8, .experts = 128, .hidden = 2048, .ids = 1};
    return clmoe_combine_plan(ctx, &p, plan);
}

static enum clmoe_status plan_quant(clmoe_context *ctx, clmoe_plan **plan) {
    const struct clmoe_quant_params p = {.max_rows = 4096, .n = 2048, .block = CLMOE_Q8_0};
    return clmoe_quant_plan(ctx, &p, plan);
}

static const struct example examples[] = {
    {"topk", "4096 rows of 128, k 8, f32", plan_router_topk},
    {"topk", "8 rows of 131072, k 64, f32", plan_vocabulary_topk},
    {"scatter", "mask of 4096 rows of 128, k 8, f32", plan_scatter},
    {"route", "4096 tokens, 128 experts, k 8, softmax", plan_route},
    {"permute", "4096 tokens, 128 experts, k 8", plan_permute},
    {"matmul", "1 token, Qwen3-30B gate and up, bf16", plan_decode},
    {"matmul", "4096 tokens, Qwen3-30B gate and up, bf16", plan_prefill},
    {"combine", "4096 tokens, k 8, hidden 2048", plan_combine},
    {"quant", "pack 4096 rows of 2048 to q8_0", plan_quant},
};

static void print_text(int index, const struct device_entry *e, const struct clmoe_device_info *info) {
    printf("%d: %s / %s\n   driver %s, %u compute units, work-groups to %zu, local memory %llu KiB, buffers "
           "to %llu MiB\n",
           index, e->platform_name, e->name, info->driver, (unsigned)info->caps.compute_units,
           info->caps.max_work_group, (unsigned long long)(info->caps.local_mem >> 10),
           (unsigned long long)(info->caps.max_alloc >> 20));
    printf("   features:");
    for (unsigned bit = 1; bit & CLMOE_FEATURES_ALL; bit <<= 1)
        if (info->features & bit) printf(" %s", clmoe_feature_name((enum clmoe_feature)bit));
    printf("\n");
}

static cJSON *json_device(int index, const struct device_entry *e, const struct clmoe_device_info *info) {
    cJSON *const d = cJSON_CreateObject(), *const features = cJSON_CreateArray();
    cJSON_AddNumberToObject(d, "index", index);
    cJSON_AddStringToObject(d, "platform", e->platform_name);
    cJSON_AddStringToObject(d, "name", e->name);
    cJSON_AddStringToObject(d, "driver", info->driver);
    cJSON_AddNumberToObject(d, "compute_units", info->caps.compute_units);
    cJSON_AddNumberToObject(d, "max_work_group", (double)info->caps.max_work_group);
    cJSON_AddNumberToObject(d, "local_mem", (double)info->caps.local_mem);
    cJSON_AddNumberToObject(d, "max_alloc", (double)info->caps.max_alloc);
    for (unsigned bit = 1; bit & CLMOE_FEATURES_ALL; bit <<= 1)
        if (info->features & bit)
            cJSON_AddItemToArray(features, cJSON_CreateString(clmoe_feature_name((enum clmoe_feature)bit)));
    cJSON_AddItemToObject(d, "features", features);
    return d;
}

/* Prints, or adds to `list` if that is given, what each example would run. */
static void report_examples(struct session *s, cJSON *list) {
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        clmoe_plan *plan;
        const enum clmoe_status status = examples[i].plan(s->ctx, &plan);
        const char *const text = status == CLMOE_OK ? clmoe_plan_describe(plan) : clmoe_status_name(status);
        if (list) {
            cJSON *const row = cJSON_CreateObject();
            cJSON_AddStringToObject(row, "op", examples[i].op);
            cJSON_AddStringToObject(row, "problem", examples[i].problem);
            cJSON_AddStringToObject(row, "kernel", text);
            cJSON_AddItemToArray(list, row);
        } else {
            printf("   %-44s %s\n", examples[i].problem, text);
        }
        clmoe_plan_destroy(&plan);
    }
}

static int report(const struct usage *usage, int index, const struct device_entry *e, cJSON *devices) {
    struct session s;
    char wanted[16];
    snprintf(wanted, sizeof wanted, "%d", index);
    const int code = session_open(&s, usage, wanted);
    if (code >= 0) return code;
    struct clmoe_device_info info;
    clmoe_context_device_info(s.ctx, &info);
    if (devices) {
        cJSON *const d = json_device(index, e, &info);
        report_examples(&s, cJSON_AddArrayToObject(d, "kernels"));
        cJSON_AddItemToArray(devices, d);
    } else {
        print_text(index, e, &info);
        report_examples(&s, NULL);
    }
    session_close(&s);
    return -1;
}

int command_info(int argc, char **argv) {
    bool json = false;
    const char *device = NULL;
    const struct option_row options[] = {
        {"json", OPTION_FLAG, &json, 0, 0, NULL, "print a JSON list of devices"},
        DEVICE_OPTION(device),
    };
    const struct usage usage = {
        .name = "info",
        .summary = "Lists the OpenCL devices, what they can do, and which kernel would run a typical problem "
                   "of each\n"
                   "operation, with the reasons why better kernels would not.",
        .operands = "",
        .example = "clmoe info --json",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int code = parse_options(&usage, argc, argv, NULL);
    if (code >= 0) return code;
    struct device_entry entries[MAX_DEVICES];
    const int n = list_devices(entries, MAX_DEVICES), only = device ? choose_device(entries, n, device) : -1;
    if (n == 0)
        return command_fail(&usage, EXIT_FAILED, "no OpenCL device: install a driver, or PoCL for the CPU");
    if (device && only < 0) return command_fail(&usage, EXIT_USAGE, "no device matches \"%s\"", device);
    cJSON *const list = json ? cJSON_CreateArray() : NULL;
    for (int i = 0; i < n; i++) {
        if (device && i != only) continue;
        const int failed = report(&usage, i, &entries[i], list);
        if (failed >= 0) code = failed; /* one broken device must not hide the others */
    }
    char *const text = list ? cJSON_Print(list) : NULL;
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(list);
    return code >= 0 ? code : EXIT_OK;
}
