/* SPDX-License-Identifier: MIT */
#include "family.h"

#include <stdio.h>
#include <string.h>

/* Transformers from version 5 on saves Mixtral's block as "mlp". */
#define MIXTRAL_NAMES                                                                                        \
    { {"block_sparse_moe", "w1", "w3", "w2"}, {"mlp", "gate_proj", "up_proj", "down_proj"}, }
#define COMMON_NAMES                                                                                         \
    { {"mlp", "gate_proj", "up_proj", "down_proj"}, }

#define SHARED_EXPERTS "it has shared experts beside the routed ones"

static const struct family families[] = {
    {.model_type = "mixtral",
     .experts_key = "num_local_experts",
     .inter_key = "intermediate_size",
     .renorm = true,
     .names = MIXTRAL_NAMES},
    {.model_type = "qwen2_moe",
     .experts_key = "num_experts|num_local_experts",
     .inter_key = "moe_intermediate_size",
     .renorm_key = true,
     .missing = SHARED_EXPERTS,
     .names = COMMON_NAMES},
    {.model_type = "qwen3_moe",
     .experts_key = "num_experts|num_local_experts",
     .inter_key = "moe_intermediate_size",
     .renorm_key = true,
     .names = COMMON_NAMES},
    {.model_type = "olmoe",
     .experts_key = "num_experts|num_local_experts",
     .inter_key = "intermediate_size",
     .renorm_key = true,
     .names = COMMON_NAMES},
    {.model_type = "deepseek_v2",
     .experts_key = "n_routed_experts|num_local_experts",
     .inter_key = "moe_intermediate_size",
     .group_score = CLMOE_GROUP_MAX,
     .renorm_key = true,
     .groups = true,
     .scaled = true,
     .scale_or_norm = true,
     .eps = 1e-20f,
     .missing = SHARED_EXPERTS,
     .names = COMMON_NAMES},
    {.model_type = "deepseek_v3",
     .experts_key = "n_routed_experts|num_local_experts",
     .inter_key = "moe_intermediate_size",
     .score = CLMOE_SCORE_SIGMOID,
     .group_score = CLMOE_GROUP_TOP2_SUM,
     .renorm = true,
     .renorm_key = true,
     .groups = true,
     .bias = true,
     .scaled = true,
     .eps = 1e-20f,
     .missing = SHARED_EXPERTS,
     .names = COMMON_NAMES},
};

#define N_FAMILIES (sizeof families / sizeof *families)

bool family_find(const struct config *config, const struct family **family, struct io_error *err) {
    const char *type;
    char known[512] = "";
    size_t used = 0;
    if (!config_string(config, "model_type", &type, err)) return false;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        *family = &families[i];
        if (strcmp(families[i].model_type, type) == 0) return true;
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                                 families[i].model_type);
    }
    *family = NULL;
    return io_fail(err, config->name, "model_type: \"%.60s\" is not known; known are %s", type, known);
}

/* The group keys of both DeepSeeks. V2 has them in its configs even where topk_method says that groups do not
 * count. */
static bool read_groups(const struct family *f, const struct config *config, struct clmoe_route_params *p,
                        struct io_error *err) {
    static const char *const methods[] = {"greedy", "group_limited_greedy", NULL};
    int64_t n_group, topk_group;
    int method = 1;
    if (!f->bias && !config_choice_or(config, "topk_method", methods, 0, &method, err)) return false;
    if (method == 0) return true;
    if (!config_int_or(config, "n_group", 1, 64, 1, &n_group, err) ||
        !config_int_or(config, "topk_group", 1, n_group, n_group, &topk_group, err))
        return false;
    if (p->experts % n_group)
        return io_fail(err, config->name, "n_group: %d experts do not make %d equal groups", (int)p->experts,
                       (int)n_group);
    if (topk_group * (p->experts / n_group) < p->topk)
        return io_fail(err, config->name, "topk_group: %d groups of %d experts hold no %d experts",
                       (int)topk_group, (int)(p->experts / n_group), (int)p->topk);
    p->n_group = (int32_t)n_group;
    p->topk_group = (int32_t)topk_group;
    return true;
}

static bool read_scale(const struct config *config, float *scale, struct io_error *err) {
    double value;
    if (!config_number_or(config, "routed_scaling_factor", -1e30, 1e30, 1, &value, err)) return false;
    *scale = (float)value;
    return *scale != 0 ||
           io_fail(err, config->name, "routed_scaling_factor: 0 leaves nothing of the experts");
}

bool family_route(const struct family *f, const struct config *config, struct clmoe_route_params *params,
                  struct io_error *err) {
    struct clmoe_route_params p = {
        .score = f->score, .bias = f->bias, .group_score = f->group_score, .renorm_eps = f->eps};
    const char *const score = f->score == CLMOE_SCORE_SIGMOID ? "sigmoid" : "softmax";
    const char *const scores[] = {score, NULL};
    int64_t experts, topk;
    int only;
    bool renorm = f->renorm;
    if (!config_int(config, f->experts_key, 1, 4096, &experts, err) ||
        !config_int(config, "num_experts_per_tok", 1, experts < 64 ? experts : 64, &topk, err) ||
        !config_choice_or(config, "scoring_func", scores, 0, &only, err))
        return false;
    p.experts = (int32_t)experts;
    p.topk = (int32_t)topk;
    if (f->renorm_key && !config_bool_or(config, "norm_topk_prob", f->renorm, &renorm, err)) return false;
    p.renorm = renorm ? CLMOE_RENORM_SUM : CLMOE_RENORM_NONE;
    if (f->groups && !read_groups(f, config, &p, err)) return false;
    if (f->scaled && !read_scale(config, &p.scale, err)) return false;
    if (f->scale_or_norm && renorm) p.scale = 1;
    *params = p;
    return true;
}

static const struct {
    const char *name;
    enum clmoe_act kind;
} activations[] = {
    {"silu", CLMOE_ACT_SILU},          {"swish", CLMOE_ACT_SILU},
    {"gelu", CLMOE_ACT_GELU_ERF},      {"gelu_pytorch_tanh", CLMOE_ACT_GELU_TANH},
    {"gelu_new", CLMOE_ACT_GELU_TANH}, {"relu", CLMOE_ACT_RELU},
    {"relu2", CLMOE_ACT_RELU2},
};

#define N_ACTIVATIONS (sizeof activations / sizeof *activations)

bool family_experts(const struct family *f, const struct config *config, struct family_experts *experts,
                    struct io_error *err) {
    const char *names[N_ACTIVATIONS + 1] = {NULL};
    struct family_experts e = {0};
    int act;
    for (size_t i = 0; i < N_ACTIVATIONS; i++)
        names[i] = activations[i].name;
    if (!config_int(config, "num_hidden_layers", 1, 1 << 20, &e.layers, err) ||
        !config_int(config, "hidden_size", 1, 1 << 24, &e.hidden, err) ||
        !config_int(config, f->inter_key, 1, 1 << 24, &e.inter, err) ||
        !config_choice_or(config, "hidden_act", names, 0, &act, err))
        return false;
    e.act.kind = activations[act].kind;
    *experts = e;
    return true;
}
