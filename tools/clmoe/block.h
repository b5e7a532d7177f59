/* SPDX-License-Identifier: MIT
 * The expert block of one layer of a checkpoint, on the host: found by the names of its description and
 * checked, so that nothing about it is wrong when the device gets it. */
#ifndef CLMOE_TOOLS_BLOCK_H
#define CLMOE_TOOLS_BLOCK_H

#include "family.h"
#include "matrix.h"

/* Gate and up lie in one matrix of 2I rows, W1, when the checkpoint fuses them, and without a gate up is W1;
 * then there is no W1_UP. */
enum { W1, W1_UP, W2, N_MATRICES };

/* What every token uses: matrices of one expert. */
struct dense {
    enum clmoe_dtype dtype;              /* of all of it, or f32 where it has several, or other forms */
    struct matrix latent_in, latent_out; /* [Z, H], [H, Z], or none */
    struct matrix gate, up, down;        /* of shared experts: [S, H] or none, [S, H], [H, S]; or none */
    struct matrix shared_gate;           /* [1, H], or none */
};

struct block {
    int32_t experts;
    struct array router;                   /* [E, H]                                */
    struct array router_bias, select_bias; /* [E] f32, or none                      */
    struct array bias1, bias2;             /* [E, R] f32, [E, H] f32, or none       */
    enum clmoe_glu glu;                    /* of W1, and W1_UP if there is one      */
    struct matrix matrices[N_MATRICES];    /* of W1 and W1_UP one dtype and scale        */
    struct dense dense;
};

/* Weights are borrowed from the checkpoint. `{0}` and a failed block can be freed. */
bool block_find(const struct checkpoint *checkpoint, const struct description *description,
                const struct family *family, struct block *block, struct io_error *err);
void block_free(struct block *block);

/* The [E] f32 that the layer's choice of experts has beside its logits; to be freed. */
bool block_find_select_bias(const struct checkpoint *checkpoint, const struct description *description,
                            int32_t experts, struct array *bias, struct io_error *err);

#endif
