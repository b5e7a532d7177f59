/* SPDX-License-Identifier: MIT */
#include "problems.h"

#include <stdio.h>
#include <string.h>

#define RENORM                                                                                               \
    { .renorm = CLMOE_RENORM_SUM }
#define DEEPSEEK_V3                                                                                          \
    {                                                                                                        \
        .score = CLMOE_SCORE_SIGMOID, .bias = 1, .n_group = 8, .topk_group = 4,                              \
        .group_score = CLMOE_GROUP_TOP2_SUM, .renorm = CLMOE_RENORM_SUM, .renorm_eps = 1e-20f, .scale = 2.5f \
    }

static const struct shape shapes[] = {
    {"mixtral-8x7b", 8, 2, 4096, 14336, RENORM},     {"qwen3-30b-a3b", 128, 8, 2048, 768, RENORM},
    {"dsv3", 256, 8, 7168, 2048, DEEPSEEK_V3},       {"gptoss-120b", 128, 4, 2880, 2880, RENORM},
    {"olmoe", 64, 8, 2048, 1024, {.max_tokens = 0}}, {"cpu-8x", 8, 2, 1024, 3584, RENORM},
};

const struct shape *shape_at(int index) {
    return index >= 0 && index < (int)(sizeof shapes / sizeof *shapes) ? &shapes[index] : NULL;
}

const struct shape *shape_find(const char *model) {
    for (int i = 0; shape_at(i); i++)
        if (strcmp(shapes[i].model, model) == 0) return &shapes[i];
    return NULL;
}

double bytes_of(enum clmoe_dtype dtype, double count) {
    return count * (double)clmoe_dtype_bytes(dtype, 256) / 256.0;
}

bool settings_words(const struct settings *s) {
    return s->w_order == CLMOE_W_AWQ || s->w_order == CLMOE_W_GPTQ;
}

const char *settings_dtype(const struct settings *s) {
    return s->w_order == CLMOE_W_AWQ    ? "awq"
           : s->w_order == CLMOE_W_GPTQ ? "gptq"
                                        : clmoe_dtype_name(s->dtype);
}

/* "op: row (refusals)": the row alone; of a layer, all of its rows */
static void result_add_kernels(struct result *r, const clmoe_plan *plan) {
    size_t used = strlen(r->kernel);
    for (const char *line = clmoe_plan_describe(plan); line && *line;) {
        const char *const row = strstr(line, ": ") + 2;
        const size_t size = strcspn(row, " \n");
        if (used + size + 2 < sizeof r->kernel)
            used += (size_t)snprintf(r->kernel + used, sizeof r->kernel - used, "%s%.*s", used ? "+" : "",
                                     (int)size, row);
        line = strchr(line, '\n');
        if (line) line++;
    }
}

struct result result_new(const char *op, const struct settings *s, const clmoe_plan *plan) {
    struct result r = {.op = op, .settings = *s};
    result_add_kernels(&r, plan);
    return r;
}

/* In a context of its own: there every program has to come from `cache`, or be built. */
static enum clmoe_status time_in_new(struct bench *b, const struct clmoe_cache *cache, plan_maker make,
                                     const void *params, double *ms) {
    const struct clmoe_context_params context = {.cache = cache};
    clmoe_context *ctx;
    clmoe_plan *plan = NULL;
    enum clmoe_status status = clmoe_context_create(b->s->context, b->s->device, &context, &ctx);
    if (status != CLMOE_OK) return status;
    const double begin = bench_now_us();
    status = make(ctx, params, &plan);
    *ms = (bench_now_us() - begin) * 1e-3;
    clmoe_plan_destroy(&plan);
    clmoe_context_destroy(&ctx);
    return status;
}

int time_plan(struct bench *b, plan_maker make, const void *params, struct plan_times *times) {
    clmoe_plan *plan = NULL;
    enum clmoe_status status = time_in_new(b, NULL, make, params, &times->cold);
    if (status == CLMOE_OK) status = make(b->s->ctx, params, &plan); /* which fills the cache */
    clmoe_plan_destroy(&plan);
    if (status == CLMOE_OK && b->s->cache) status = time_in_new(b, b->s->cache, make, params, &times->disk);
    return status == CLMOE_OK ? -1 : session_fail(b->s, status, "making a plan");
}
