/* SPDX-License-Identifier: MIT */
#include "family.h"
#include "io/json.h"

#include <float.h>
#include <string.h>

#define MAX_LAYERS (1 << 20)
#define MAX_SIZE (1 << 24)

static const char *const scores[] = {"softmax", "sigmoid", "identity", "sqrt_softplus", "sparsemixer", NULL};
static const enum clmoe_score score_kinds[] = {CLMOE_SCORE_SOFTMAX, CLMOE_SCORE_SIGMOID, CLMOE_SCORE_IDENTITY,
                                               CLMOE_SCORE_SQRT_SOFTPLUS, CLMOE_SCORE_SPARSEMIXER};

static const char *const group_scores[] = {"max", "top2_sum", "each", NULL};
static const enum clmoe_group_score group_score_kinds[] = {CLMOE_GROUP_MAX, CLMOE_GROUP_TOP2_SUM,
                                                           CLMOE_GROUP_EACH};

static const char *const renorms[] = {"none", "sum", "clamp", NULL};
static const enum clmoe_renorm renorm_kinds[] = {CLMOE_RENORM_NONE, CLMOE_RENORM_SUM, CLMOE_RENORM_CLAMP};

static const char *const acts[] = {"silu",     "swish", "gelu",  "gelu_pytorch_tanh",
                                   "gelu_new", "relu",  "relu2", NULL};
static const enum clmoe_act act_kinds[] = {CLMOE_ACT_SILU,      CLMOE_ACT_SILU,      CLMOE_ACT_GELU_ERF,
                                           CLMOE_ACT_GELU_TANH, CLMOE_ACT_GELU_TANH, CLMOE_ACT_RELU,
                                           CLMOE_ACT_RELU2};

static const char *const glus[] = {"none", "gate_up", "up_gate", "interleaved", NULL};
static const enum clmoe_glu glu_kinds[] = {CLMOE_GLU_NONE, CLMOE_GLU_GATE_UP, CLMOE_GLU_UP_GATE,
                                           CLMOE_GLU_INTERLEAVED};

static const char *const orders[] = {"enk", "ekn", NULL};
static const enum clmoe_w_order order_kinds[] = {CLMOE_W_ENK, CLMOE_W_EKN};

static bool read_groups(const struct description *d, struct clmoe_route_params *p, struct io_error *err) {
    const struct config_value groups = description_value(d, D_N_GROUP),
                              kept = description_value(d, D_TOPK_GROUP);
    int64_t n_group = 1, topk_group;
    if (!description_int_or(d, D_N_GROUP, 1, 64, &n_group, err)) return false;
    topk_group = n_group;
    if (!description_int_or(d, D_TOPK_GROUP, 1, n_group, &topk_group, err)) return false;
    if (p->experts % n_group)
        return io_fail(err, groups.file, "%.*s: %d experts do not make %d equal groups", groups.key_length,
                       groups.key, (int)p->experts, (int)n_group);
    if (topk_group * (p->experts / n_group) < p->topk)
        return io_fail(err, kept.file, "%.*s: %d groups of %d experts hold no %d experts", kept.key_length,
                       kept.key, (int)topk_group, (int)(p->experts / n_group), (int)p->topk);
    if (n_group == 1) return true;
    p->n_group = (int32_t)n_group;
    p->topk_group = p->group_score == CLMOE_GROUP_EACH ? 0 : (int32_t)topk_group;
    return true;
}

/* A name, or whether there is one at all, as norm_topk_prob says it. */
static bool read_renorm(const struct description *d, struct clmoe_route_params *p, struct io_error *err) {
    const struct config_value v = description_value(d, D_RENORM);
    int renorm = 0;
    bool sum = false;
    if (cJSON_IsString(v.item) && v.file == d->file) {
        if (!description_choice_or(d, D_RENORM, renorms, &renorm, err)) return false;
        p->renorm = renorm_kinds[renorm];
    } else {
        if (!description_flag_or(d, D_RENORM, &sum, err)) return false;
        p->renorm = sum ? CLMOE_RENORM_SUM : CLMOE_RENORM_NONE;
    }
    return description_float_or(d, D_RENORM_EPS, 0, FLT_MAX, &p->renorm_eps, err);
}

static bool read_scale(const struct description *d, struct clmoe_route_params *p, struct io_error *err) {
    const struct config_value v = description_value(d, D_SCALE);
    p->scale = 1;
    if (!description_float_or(d, D_SCALE, -FLT_MAX, FLT_MAX, &p->scale, err)) return false;
    return p->scale != 0 ||
           io_fail(err, v.file, "%.*s: 0 leaves nothing of the experts", v.key_length, v.key);
}

bool family_route(const struct description *d, struct clmoe_route_params *params, struct io_error *err) {
    struct clmoe_route_params p = {.bias = description_text(d, D_SELECT_BIAS, 0) != NULL, .mixer_eps = 0.01f};
    int64_t experts, topk;
    int score = 0, group_score = 0;
    if (!description_int(d, D_EXPERTS, 1, 4096, &experts, err) ||
        !description_int(d, D_TOPK, 1, experts < 64 ? experts : 64, &topk, err) ||
        !description_choice_or(d, D_SCORE, scores, &score, err) ||
        !description_choice_or(d, D_GROUP_SCORE, group_scores, &group_score, err) ||
        !description_float_or(d, D_MIXER_EPS, 0, FLT_MAX, &p.mixer_eps, err))
        return false;
    if (p.mixer_eps == 0) p.mixer_eps = FLT_MIN; /* to the library 0 is the default, and not 0 */
    p.experts = (int32_t)experts;
    p.topk = (int32_t)topk;
    p.score = score_kinds[score];
    p.group_score = group_score_kinds[group_score];
    if (!read_groups(d, &p, err) || !read_renorm(d, &p, err) || !read_scale(d, &p, err)) return false;
    *params = p;
    return true;
}

static bool read_act(const struct description *d, struct clmoe_activation *act, struct io_error *err) {
    int kind = 0;
    if (!description_choice_or(d, D_ACT, acts, &kind, err) ||
        !description_float_or(d, D_ALPHA, FLT_MIN, FLT_MAX, &act->alpha, err) ||
        !description_float_or(d, D_GATE_MAX, 0, FLT_MAX, &act->gate_max, err) ||
        !description_float_or(d, D_UP_MAX, 0, FLT_MAX, &act->up_max, err) ||
        !description_float_or(d, D_UP_ADD, -FLT_MAX, FLT_MAX, &act->up_add, err))
        return false;
    act->kind = act_kinds[kind];
    return true;
}

static bool no_experts(const struct description *d, enum description_key key, struct io_error *err) {
    const struct config_value v = description_list(d, key);
    return io_fail(err, v.file, "%.*s: layer %lld has no experts", v.key_length, v.key, (long long)d->layer);
}

/* Whether a list of layers names this one. */
static bool find_layer(const struct description *d, enum description_key key, bool *found,
                       struct io_error *err) {
    const struct config_value v = description_list(d, key);
    int64_t layer;
    *found = false;
    if (!cJSON_IsArray(v.item)) return config_refuse(&v, "a list of layers", err);
    for (const cJSON *item = v.item->child; item; item = item->next) {
        if (!json_integer(item, 0, MAX_LAYERS, &layer)) return config_refuse(&v, "a list of layers", err);
        *found = *found || layer == d->layer;
    }
    return true;
}

/* By a list that names a kind for each layer, or by text with a letter for each (Nemotron-H). */
static bool check_kind(const struct description *d, struct io_error *err) {
    const struct config_value v = description_list(d, D_KINDS);
    if (cJSON_IsString(v.item)) {
        const char *const text = v.item->valuestring;
        if ((size_t)d->layer < strlen(text) && text[d->layer] == 'E') return true;
    } else {
        if (!cJSON_IsArray(v.item)) return config_refuse(&v, "a list of kinds of layers", err);
        const char *const kind = cJSON_GetStringValue(cJSON_GetArrayItem(v.item, (int)d->layer));
        if (kind && (strcmp(kind, "moe") == 0 || strcmp(kind, "sparse") == 0)) return true;
    }
    return no_experts(d, D_KINDS, err);
}

static bool check_range(const struct description *d, struct io_error *err) {
    int64_t first = 0, last = -1, step = 1, offset;
    if (!description_int_or(d, D_FIRST, 0, MAX_LAYERS, &first, err) ||
        !description_int_or(d, D_LAST, -1, MAX_LAYERS, &last, err) ||
        !description_int_or(d, D_STEP, 1, MAX_LAYERS, &step, err))
        return false;
    offset = step - 1;
    if (!description_int_or(d, D_OFFSET, 0, step - 1, &offset, err)) return false;
    if (d->layer < first) return no_experts(d, D_FIRST, err);
    if (last >= 0 && d->layer > last) return no_experts(d, D_LAST, err);
    return d->layer % step == offset || no_experts(d, D_STEP, err);
}

static bool check_layer(const struct description *d, struct io_error *err) {
    const struct config_value v = description_list(d, D_LAYERS);
    int64_t layers = cJSON_GetArraySize(v.item);
    bool found;
    if (!cJSON_IsArray(v.item) && !description_int(d, D_LAYERS, 1, MAX_LAYERS, &layers, err)) return false;
    if (d->layer >= layers)
        return io_fail(err, "--layer", "%lld, but the model has layers 0..%lld", (long long)d->layer,
                       (long long)layers - 1);
    if (description_list(d, D_EXCEPT).item) {
        if (!find_layer(d, D_EXCEPT, &found, err)) return false;
        if (found) return no_experts(d, D_EXCEPT, err);
    }
    if (description_list(d, D_KINDS).item && !check_kind(d, err)) return false;
    if (!description_list(d, D_ONLY).item) return check_range(d, err);
    return find_layer(d, D_ONLY, &found, err) && (found || no_experts(d, D_ONLY, err));
}

bool family_read(const struct description *d, struct family *family, struct io_error *err) {
    struct family f = {0};
    int glu = 0, order1 = 0, order2 = 0;
    if (!check_layer(d, err) || !family_route(d, &f.route, err) || !read_act(d, &f.act, err) ||
        !description_int(d, D_HIDDEN, 1, MAX_SIZE, &f.hidden, err) ||
        !description_int(d, D_INTER, 1, MAX_SIZE, &f.inter, err) ||
        !description_int_or(d, D_LATENT, 1, MAX_SIZE, &f.latent, err) ||
        !description_choice_or(d, D_GLU, glus, &glu, err) ||
        !description_choice_or(d, D_W1_ORDER, orders, &order1, err) ||
        !description_choice_or(d, D_W2_ORDER, orders, &order2, err) ||
        !description_flag_or(d, D_GAMMA_ON_INPUT, &f.gamma_on_input, err) ||
        !description_flag_or(d, D_SHARED, &f.shared, err))
        return false;
    f.glu = glu_kinds[glu];
    f.w1_order = order_kinds[order1];
    f.w2_order = order_kinds[order2];
    *family = f;
    return true;
}
