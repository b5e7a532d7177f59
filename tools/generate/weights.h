/* SPDX-License-Identifier: MIT
 * A model's weights on the device, each in the form that its product wants. */
#ifndef CLMOE_GENERATE_WEIGHTS_H
#define CLMOE_GENERATE_WEIGHTS_H

#include "dense.h"
#include "model.h"
#include "quantise.h"

struct layer_weights {
    cl_mem input_norm, moe_norm; /* [hidden] f32 */
    struct clmoe_tensor qkv, o;  /* of dense_weights() */
    struct quantised w1, w2;     /* in w1 an expert's gate rows stand above its up rows */
    cl_mem router;               /* [experts, hidden] f32 */
};

struct weights {
    cl_mem embedding;         /* [vocab, hidden] f32 */
    cl_mem norm;              /* [hidden] f32 */
    struct clmoe_tensor head; /* of dense_weights() */
    cl_mem turns;             /* [context, head_dim/2] of (cos, sin) */
    int64_t n_layers;
    struct layer_weights *layers;
};

/* The dense products of a model. */
struct products {
    struct dense *qkv, *o, *head;
};

/* Both products of the experts: as place_weights() has their weights, or in `format` unless that is NULL. */
void weights_experts(const struct device *device, const struct model *m, const struct quant_format *format,
                     struct clmoe_matmul_params *up, struct clmoe_matmul_params *down);

/* `*w` is to be destroyed after a failure too. */
bool weights_create(const struct device *device, const struct model *m, const struct quant_format *format,
                    const struct products *products, struct weights *w, struct io_error *err);
void weights_destroy(struct weights *w);

#endif
