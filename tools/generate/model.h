/* SPDX-License-Identifier: MIT
 * A Mixtral checkpoint over bytes, as it lies on the disk: config.json and safetensors, checked whole when
 * opened, so that what can fail later is the device only.
 *
 * Read: MixtralForCausalLM with a vocabulary of the 256 bytes, SwiGLU experts, RMSNorm, RoPE without scaling,
 * full causal attention (heads may share keys), matrices all in F32, F16 or BF16. */
#ifndef CLMOE_GENERATE_MODEL_H
#define CLMOE_GENERATE_MODEL_H

#include "io/checkpoint.h"
#include "io/config.h"

#define MODEL_VOCAB 256
#define MODEL_MAX_CONTEXT 4096

/* Thread-safety: reading is safe from every thread; opening and closing belong to one. */
struct model {
    int64_t hidden, inter, layers, heads, kv_heads, head_dim, experts, topk, context;
    double eps, theta;
    bool tied;              /* the output head is the embedding */
    enum array_dtype dtype; /* of every matrix */
    struct checkpoint weights;
};

/* On failure `*m` is `{0}`. */
bool model_open(const char *folder, struct model *m, struct io_error *err);
void model_close(struct model *m);

/* The weights by their places. With `layer` < 0 the name stands alone: "model.norm.weight"; else it is a part
 * of "model.layers.LAYER."; with `expert` >= 0 it is a part of its expert: "w1". Arrays are borrowed where
 * the file allows it: array_free() them before model_close(). */
bool model_array(const struct model *m, int64_t layer, int64_t expert, const char *name, struct array *out,
                 struct io_error *err);

#endif
