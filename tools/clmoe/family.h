/* SPDX-License-Identifier: MIT
 * The expert block of a model's layer, without its weights: what a description (description.h) says about the
 * model's config.json. */
#ifndef CLMOE_TOOLS_FAMILY_H
#define CLMOE_TOOLS_FAMILY_H

#include "clmoe/clmoe.h"
#include "description.h"

struct family {
    struct clmoe_route_params route; /* all but max_tokens, the dtype and the plan's options */
    int64_t hidden, inter, latent;   /* latent: 0 for none */
    struct clmoe_activation act;
    enum clmoe_glu glu;                    /* of gate_up_proj; CLMOE_GLU_NONE: there is only up_proj     */
    enum clmoe_w_order w1_order, w2_order; /* of stacked gate and up, and down                           */
    bool gamma_on_input, shared;
};

/* The size that the experts work in. */
static inline int64_t family_width(const struct family *f) {
    return f->latent ? f->latent : f->hidden;
}

/* The routing alone: what `clmoe route` needs. */
bool family_route(const struct description *d, struct clmoe_route_params *params, struct io_error *err);

/* All of it. A layer without experts is an error that says which value of config.json makes it one. */
bool family_read(const struct description *d, struct family *family, struct io_error *err);

#endif
