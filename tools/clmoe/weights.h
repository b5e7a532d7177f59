/* SPDX-License-Identifier: MIT
 * A block's weights on the device, in as few buffers as its limit on one allocation allows. */
#ifndef CLMOE_TOOLS_WEIGHTS_H
#define CLMOE_TOOLS_WEIGHTS_H

#include "block.h"
#include "session.h"

struct weights {
    struct clmoe_tensor router; /* [E, H]                                              */
    struct clmoe_tensor router_bias, select_bias, bias1, bias2; /* f32, as in struct block          */
    struct clmoe_tensor latent_in, latent_out;                  /* as in struct dense              */
    struct clmoe_tensor shared_w1, shared_w1_up, shared_w2, shared_gate;
    enum clmoe_dtype dense_dtype;
    struct clmoe_tensor *parts[N_MATRICES];  /* n_parts of [E_i, R, K] or packed; NULL where no such */
    struct clmoe_tensor *scales[N_MATRICES]; /* n_parts; NULL where there are none */
    struct clmoe_tensor *zeros[N_MATRICES];  /* the same */
    int32_t n_parts;
    enum clmoe_w_order order;
    enum clmoe_glu glu;
};

/* `per_buffer`: experts in one buffer at most, 0: as many as fit. `pack`: into the layout that the device
 * prefers for many rows. Returns -1, or the exit code after printing an error; `weights` can be released in
 * any case. */
int weights_upload(struct session *s, const struct block *block, int64_t per_buffer, bool pack,
                   struct weights *weights);

/* The same without the experts, whose weights and biases stay where they are. */
int weights_upload_others(struct session *s, const struct block *block, struct weights *weights);
void weights_release(struct weights *weights);

#endif
