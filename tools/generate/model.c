/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <stdio.h>
#include <string.h>

static void weight_name(int64_t layer, int64_t expert, const char *name, char *out, size_t size) {
    if (layer < 0)
        snprintf(out, size, "%s", name);
    else if (expert < 0)
        snprintf(out, size, "model.layers.%lld.%s", (long long)layer, name);
    else
        snprintf(out, size, "model.layers.%lld.block_sparse_moe.experts.%lld.%s.weight", (long long)layer,
                 (long long)expert, name);
}

bool model_array(const struct model *m, int64_t layer, int64_t expert, const char *name, struct array *out,
                 struct io_error *err) {
    char full[128];
    weight_name(layer, expert, name, full, sizeof full);
    return checkpoint_array(&m->weights, full, out, err);
}

/* What this forward pass cannot do must not be read past in silence. */
static bool read_kind(const struct config *c, struct io_error *err) {
    static const char *const types[] = {"mixtral", NULL}, *const acts[] = {"silu", NULL};
    int choice;
    return config_choice(c, "model_type", types, &choice, err) &&
           config_choice_or(c, "hidden_act", acts, 0, &choice, err) &&
           (!config_find(c, "rope_scaling") || io_fail(err, c->name, "rope_scaling: not supported"));
}

static bool read_sizes(const struct config *c, struct model *m, struct io_error *err) {
    int64_t vocab, window;
    if (!config_int(c, "vocab_size", MODEL_VOCAB, MODEL_VOCAB, &vocab, err) ||
        !config_int(c, "hidden_size", 16, 65536, &m->hidden, err) ||
        !config_int(c, "intermediate_size", 1, 1 << 20, &m->inter, err) ||
        !config_int(c, "num_hidden_layers", 1, 1024, &m->layers, err) ||
        !config_int(c, "num_attention_heads", 1, 1024, &m->heads, err) ||
        !config_int_or(c, "num_key_value_heads", 1, m->heads, m->heads, &m->kv_heads, err) ||
        !config_int_or(c, "head_dim", 1, 1024, m->hidden / m->heads, &m->head_dim, err) ||
        !config_int(c, "num_local_experts", 1, 4096, &m->experts, err) ||
        !config_int(c, "num_experts_per_tok", 1, m->experts < 64 ? m->experts : 64, &m->topk, err) ||
        !config_int(c, "max_position_embeddings", 16, MODEL_MAX_CONTEXT, &m->context, err) ||
        !config_int_or(c, "sliding_window", m->context, INT32_MAX, m->context, &window, err))
        return false;
    if (m->heads % m->kv_heads)
        return io_fail(err, c->name, "num_attention_heads: %lld is no multiple of num_key_value_heads, %lld",
                       (long long)m->heads, (long long)m->kv_heads);
    if (m->hidden % 16 || m->context % 16 || m->head_dim % 16 || m->head_dim == 0)
        return io_fail(
            err, c->name,
            "hidden_size %lld, max_position_embeddings %lld and the width of a head, %lld, must be "
            "multiples of 16",
            (long long)m->hidden, (long long)m->context, (long long)m->head_dim);
    return true;
}

static bool read_config(const char *folder, struct model *m, struct io_error *err) {
    char path[4096];
    struct config c;
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", folder) >= sizeof path)
        return io_fail(err, folder, "the path is too long");
    if (!config_open(path, &c, err)) return false;
    const bool ok = read_kind(&c, err) && read_sizes(&c, m, err) &&
                    config_number_or(&c, "rms_norm_eps", 0, 1, 1e-5, &m->eps, err) &&
                    config_number_or(&c, "rope_theta", 1, 1e9, 1e6, &m->theta, err) &&
                    config_bool_or(&c, "tie_word_embeddings", false, &m->tied, err);
    config_close(&c);
    return ok;
}

/* The weight is there, has the shape [rows, n], or [n] with rows 0, and a type that we read. */
static bool check(const struct model *m, int64_t layer, int64_t expert, const char *name, int64_t rows,
                  int64_t n, struct io_error *err) {
    char full[128];
    weight_name(layer, expert, name, full, sizeof full);
    const struct checkpoint_weight *const w = checkpoint_find(&m->weights, full);
    if (!w) return io_fail(err, m->weights.name, "no tensor \"%s\"", full);
    const struct file_tensor *const t = w->tensor;
    const int64_t wanted[2] = {rows ? rows : n, n};
    const int ndim = rows ? 2 : 1;
    if (t->ndim != ndim || memcmp(t->shape, wanted, (size_t)ndim * sizeof *wanted) != 0)
        return io_fail(err, w->file, "%.100s: expected the shape %s, got %s", full,
                       array_shape_text(ndim, wanted).text, array_shape_text(t->ndim, t->shape).text);
    if (!t->loadable || (t->dtype != ARRAY_F32 && t->dtype != ARRAY_F16 && t->dtype != ARRAY_BF16))
        return io_fail(err, w->file, "%.100s: expected F32, F16 or BF16, got %.20s", full, t->type);
    if (rows && t->dtype != m->dtype)
        return io_fail(err, w->file, "%.100s: %s, but the embedding is %s", full, array_dtype_name(t->dtype),
                       array_dtype_name(m->dtype));
    return true;
}

static bool check_layer(const struct model *m, int64_t l, struct io_error *err) {
    const int64_t h = m->hidden, q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    bool ok = check(m, l, -1, "input_layernorm.weight", 0, h, err) &&
              check(m, l, -1, "post_attention_layernorm.weight", 0, h, err) &&
              check(m, l, -1, "self_attn.q_proj.weight", q, h, err) &&
              check(m, l, -1, "self_attn.k_proj.weight", kv, h, err) &&
              check(m, l, -1, "self_attn.v_proj.weight", kv, h, err) &&
              check(m, l, -1, "self_attn.o_proj.weight", h, q, err) &&
              check(m, l, -1, "block_sparse_moe.gate.weight", m->experts, h, err);
    for (int64_t e = 0; e < m->experts && ok; e++)
        ok = check(m, l, e, "w1", m->inter, h, err) && check(m, l, e, "w3", m->inter, h, err) &&
             check(m, l, e, "w2", h, m->inter, err);
    return ok;
}

static bool check_weights(struct model *m, struct io_error *err) {
    static const char embedding[] = "model.embed_tokens.weight";
    const struct checkpoint_weight *const first = checkpoint_find(&m->weights, embedding);
    if (first) m->dtype = first->tensor->dtype;
    bool ok = check(m, -1, -1, embedding, MODEL_VOCAB, m->hidden, err) &&
              check(m, -1, -1, "model.norm.weight", 0, m->hidden, err) &&
              (m->tied || check(m, -1, -1, "lm_head.weight", MODEL_VOCAB, m->hidden, err));
    for (int64_t l = 0; l < m->layers && ok; l++)
        ok = check_layer(m, l, err);
    return ok;
}

bool model_open(const char *folder, struct model *m, struct io_error *err) {
    *m = (struct model){0};
    if (read_config(folder, m, err) && checkpoint_open(folder, &m->weights, err) && check_weights(m, err))
        return true;
    model_close(m);
    return false;
}

void model_close(struct model *m) {
    checkpoint_close(&m->weights);
    *m = (struct model){0};
}
