// SPDX-License-Identifier: MIT
#include "layer_seeds.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

struct tensor {
    const char *name, *type;
    int ndim, shape[4];
};

struct model {
    const char *config; // NULL: a GGUF file
    struct tensor tensors[16];
};

#define MLP "model.layers.0.mlp."
#define FP8_EXPERT(e)                                                                                        \
    {MLP "experts." e ".gate_proj.weight", "F8_E4M3", 2, {8, 16}},                                           \
        {MLP "experts." e ".gate_proj.weight_scale_inv", "F32", 2, {2, 2}},                                  \
        {MLP "experts." e ".up_proj.weight", "F8_E4M3", 2, {8, 16}},                                         \
        {MLP "experts." e ".up_proj.weight_scale_inv", "F32", 2, {2, 2}},                                    \
        {MLP "experts." e ".down_proj.weight", "F8_E4M3", 2, {16, 8}}, {                                     \
        MLP "experts." e ".down_proj.weight_scale_inv", "F32", 2, {                                          \
            4, 1                                                                                             \
        }                                                                                                    \
    }
#define INT4(e, name, k, r, per_word, row)                                                                   \
    {MLP "experts." e "." name ".qweight", "I32", 2, {(k) / (per_word), (r) / (row)}},                       \
        {MLP "experts." e "." name ".qzeros", "I32", 2, {(k) / 16, (r) / 8}}, {                              \
        MLP "experts." e "." name ".scales", "F16", 2, {                                                     \
            (k) / 16, r                                                                                      \
        }                                                                                                    \
    }

static const struct model models[] = {
    {"{\"model_type\": \"mixtral\", \"hidden_size\": 8, \"intermediate_size\": 4, \"num_hidden_layers\": 1, "
     "\"num_local_experts\": 2, \"num_experts_per_tok\": 1}",
     {{MLP "gate.weight", "BF16", 2, {2, 8}},
      {MLP "experts.0.w1.weight", "BF16", 2, {4, 8}},
      {MLP "experts.0.w2.weight", "BF16", 2, {8, 4}},
      {MLP "experts.0.w3.weight", "BF16", 2, {4, 8}},
      {MLP "experts.1.w1.weight", "BF16", 2, {4, 8}},
      {MLP "experts.1.w2.weight", "BF16", 2, {8, 4}},
      {MLP "experts.1.w3.weight", "BF16", 2, {4, 8}}}},
    {"{\"model_type\": \"gpt_oss\", \"hidden_size\": 32, \"intermediate_size\": 32, \"num_hidden_layers\": "
     "1, "
     "\"num_local_experts\": 2, \"num_experts_per_tok\": 1, \"quantization_config\": {\"quant_method\": "
     "\"mxfp4\"}}",
     {{MLP "router.weight", "F32", 2, {2, 32}},
      {MLP "router.bias", "F32", 1, {2}},
      {MLP "experts.gate_up_proj_blocks", "U8", 4, {2, 64, 1, 16}},
      {MLP "experts.gate_up_proj_scales", "U8", 3, {2, 64, 1}},
      {MLP "experts.gate_up_proj_bias", "BF16", 2, {2, 64}},
      {MLP "experts.down_proj_blocks", "U8", 4, {2, 32, 1, 16}},
      {MLP "experts.down_proj_scales", "U8", 3, {2, 32, 1}},
      {MLP "experts.down_proj_bias", "BF16", 2, {2, 32}}}},
    {"{\"model_type\": \"gpt_oss\", \"hidden_size\": 8, \"intermediate_size\": 4, \"num_hidden_layers\": 1, "
     "\"num_local_experts\": 2, \"num_experts_per_tok\": 1}",
     {{MLP "router.weight", "BF16", 2, {2, 8}},
      {MLP "router.bias", "BF16", 1, {2}},
      {MLP "experts.gate_up_proj", "BF16", 3, {2, 8, 8}},
      {MLP "experts.gate_up_proj_bias", "BF16", 2, {2, 8}},
      {MLP "experts.down_proj", "BF16", 3, {2, 4, 8}},
      {MLP "experts.down_proj_bias", "BF16", 2, {2, 8}}}},
    {"{\"model_type\": \"qwen3_moe\", \"hidden_size\": 16, \"moe_intermediate_size\": 8, "
     "\"num_hidden_layers\": 1, \"num_experts\": 2, \"num_experts_per_tok\": 1, \"quantization_config\": "
     "{\"quant_method\": \"fp8\", \"weight_block_size\": [4, 8]}}",
     {{MLP "gate.weight", "BF16", 2, {2, 16}}, FP8_EXPERT("0"), FP8_EXPERT("1")}},
    {"{\"model_type\": \"qwen3_moe\", \"hidden_size\": 32, \"moe_intermediate_size\": 16, "
     "\"num_hidden_layers\": 1, \"num_experts\": 1, \"num_experts_per_tok\": 1, \"quantization_config\": "
     "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 16, \"version\": \"gemm\"}}",
     {{MLP "gate.weight", "F16", 2, {1, 32}},
      INT4("0", "gate_proj", 32, 16, 1, 8),
      INT4("0", "up_proj", 32, 16, 1, 8),
      INT4("0", "down_proj", 16, 32, 1, 8)}},
    {"{\"model_type\": \"qwen3_moe\", \"hidden_size\": 32, \"moe_intermediate_size\": 16, "
     "\"num_hidden_layers\": 1, \"num_experts\": 1, \"num_experts_per_tok\": 1, \"quantization_config\": "
     "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 16, \"checkpoint_format\": \"gptq\"}}",
     {{MLP "gate.weight", "F16", 2, {1, 32}},
      INT4("0", "gate_proj", 32, 16, 8, 1),
      {MLP "experts.0.gate_proj.g_idx", "I32", 1, {32}},
      INT4("0", "up_proj", 32, 16, 8, 1),
      {MLP "experts.0.up_proj.g_idx", "I32", 1, {32}},
      INT4("0", "down_proj", 16, 32, 8, 1),
      {MLP "experts.0.down_proj.g_idx", "I32", 1, {16}}}},
    {NULL,
     {{"blk.0.ffn_gate_inp.weight", "F32", 2, {2, 32}},
      {"blk.0.ffn_gate_exps.weight", "Q4_0", 3, {2, 32, 32}},
      {"blk.0.ffn_up_exps.weight", "Q4_0", 3, {2, 32, 32}},
      {"blk.0.ffn_down_exps.weight", "Q8_0", 3, {2, 32, 32}}}},
    {NULL,
     {{"blk.0.ffn_gate_inp.weight", "F32", 2, {2, 32}},
      {"blk.0.ffn_gate_up_exps.weight", "MXFP4", 3, {2, 64, 32}},
      {"blk.0.ffn_down_exps.weight", "F16", 3, {2, 32, 32}}}},
};

enum { COUNT = sizeof models / sizeof *models, MOST = 16384, ALIGNMENT = 32 };

static const struct type {
    const char *name;
    int elements, bytes, gguf; // of a block; the number in GGUF files
} types[] = {{"F32", 1, 4, 0},    {"F16", 1, 2, 1},    {"BF16", 1, 2, 30},
             {"U8", 1, 1, -1},    {"I32", 1, 4, -1},   {"F8_E4M3", 1, 1, -1},
             {"Q4_0", 32, 18, 2}, {"Q8_0", 32, 34, 8}, {"MXFP4", 32, 17, 39}};

static const struct type *type_of(const struct tensor *t) {
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
        if (strcmp(types[i].name, t->type) == 0) return &types[i];
    abort();
}

static size_t bytes_of(const struct tensor *t) {
    size_t count = 1;
    for (int d = 0; d < t->ndim; ++d)
        count *= (size_t)t->shape[d];
    return count / (size_t)type_of(t)->elements * (size_t)type_of(t)->bytes;
}

static bool has_tensor(const struct model *m, size_t i) {
    return i < sizeof m->tensors / sizeof *m->tensors && m->tensors[i].name;
}

// ---- a file that grows ----

struct out {
    char bytes[MOST];
    size_t size;
};

static void put(struct out *o, const void *bytes, size_t size) {
    if (size > MOST - o->size) abort();
    memcpy(o->bytes + o->size, bytes, size);
    o->size += size;
}

static void put_text(struct out *o, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof text) abort();
    put(o, text, (size_t)length);
}

static void put_number(struct out *o, uint64_t n, int bytes) {
    for (int i = 0; i < bytes; ++i) {
        const char byte = (char)(n >> 8 * i);
        put(o, &byte, 1);
    }
}

// Columns' groups in order where integers are all that a group may be.
static void put_data(struct out *o, const struct tensor *t) {
    const bool groups = strstr(t->name, "g_idx") != NULL;
    for (size_t i = 0; i < bytes_of(t); ++i) {
        const char byte = (char)(groups ? (i % 4 ? 0 : i / 64) : i * 37 % 61);
        put(o, &byte, 1);
    }
}

// ---- formats ----

static void write_safetensors(struct out *o, const struct model *m) {
    static struct out head;
    size_t begin = 0;
    head.size = 0;
    for (size_t i = 0; has_tensor(m, i); ++i) {
        const struct tensor *const t = &m->tensors[i];
        put_text(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name, t->type);
        for (int d = 0; d < t->ndim; ++d)
            put_text(&head, "%s%d", d ? "," : "", t->shape[d]);
        put_text(&head, "],\"data_offsets\":[%zu,%zu]}", begin, begin + bytes_of(t));
        begin += bytes_of(t);
    }
    put_text(&head, "}");
    put(o, m->config, strlen(m->config) + 1);
    put_number(o, head.size, 8);
    put(o, head.bytes, head.size);
    for (size_t i = 0; has_tensor(m, i); ++i)
        put_data(o, &m->tensors[i]);
}

static void put_string(struct out *o, const char *text) {
    put_number(o, strlen(text), 8);
    put(o, text, strlen(text));
}

static void put_key(struct out *o, const char *key, uint32_t value) {
    enum { U32 = 4 };
    put_string(o, key);
    put_number(o, U32, 4);
    put_number(o, value, 4);
}

static void align(struct out *o) {
    while (o->size % ALIGNMENT)
        put_number(o, 0, 1);
}

static void write_gguf(struct out *o, const struct model *m) {
    enum { STRING = 8, KEYS = 6 };
    size_t count = 0, begin = 0;
    while (has_tensor(m, count))
        ++count;
    put(o, "GGUF\3\0\0\0", 8);
    put_number(o, count, 8);
    put_number(o, KEYS, 8);
    put_string(o, "general.architecture");
    put_number(o, STRING, 4);
    put_string(o, "llama");
    put_key(o, "llama.block_count", 1);
    put_key(o, "llama.embedding_length", 32);
    put_key(o, "llama.feed_forward_length", 32);
    put_key(o, "llama.expert_count", 2);
    put_key(o, "llama.expert_used_count", 1);
    for (size_t i = 0; i < count; ++i) {
        const struct tensor *const t = &m->tensors[i];
        put_string(o, t->name);
        put_number(o, (uint64_t)t->ndim, 4);
        for (int d = t->ndim - 1; d >= 0; --d)
            put_number(o, (uint64_t)t->shape[d], 8);
        put_number(o, (uint64_t)type_of(t)->gguf, 4);
        put_number(o, begin, 8);
        begin += (bytes_of(t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (size_t i = 0; i < count; ++i) {
        align(o);
        put_data(o, &m->tensors[i]);
    }
}

// ---- models, and such in which one size of one tensor is wrong, in a file that holds as many bytes ----

enum { TENSORS = sizeof models->tensors / sizeof *models->tensors, DIMS = 4, WRONG = TENSORS * DIMS * 2 };

static void write_model(struct out *o, const struct model *m) {
    o->size = 0;
    (m->config ? write_safetensors : write_gguf)(o, m);
}

static void spoil(struct model *m, int how) {
    struct tensor *const t = &m->tensors[how / 2 / DIMS];
    const int dim = how / 2 % DIMS;
    if (!t->name || dim >= t->ndim) return;
    if (how % 2)
        t->shape[dim]++;
    else
        t->shape[dim] /= 2;
}

size_t layer_good_count(void) {
    return COUNT;
}

size_t layer_seed_count(void) {
    return COUNT * (1 + WRONG);
}

struct fuzz_seed layer_seed_at(size_t i) {
    static struct out file;
    struct model m = models[i % COUNT];
    if (i >= COUNT) spoil(&m, (int)(i / COUNT) - 1);
    write_model(&file, &m);
    return (struct fuzz_seed){file.bytes, file.size};
}
