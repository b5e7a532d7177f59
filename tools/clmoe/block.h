/* SPDX-License-Identifier: MIT
 * The expert block of one layer of a checkpoint, on the host: found by the names of its description and
 * checked, so that nothing about it is wrong when the device gets it. */
#ifndef CLMOE_TOOLS_BLOCK_H
#define CLMOE_TOOLS_BLOCK_H

#include "family.h"
#include "io/checkpoint.h"

/* Gate and up lie in one matrix of 2I rows, W1, when the checkpoint fuses them, and without a gate up is W1;
 * then there is no W1_UP. */
enum { W1, W1_UP, W2, N_MATRICES };

/* One weight matrix of every expert: [rows, columns] or, by order, [columns, rows]. */
struct matrix {
    const void **data;     /* where all experts lie, or each of them                   */
    const uint8_t *scales; /* of MXFP4, where `data` is where all of its blocks lie     */
    int32_t n_data;        /* 0: there is no such matrix                                */
    int64_t rows, columns;
    enum clmoe_dtype dtype; /* that of W1_UP is W1's */
    enum clmoe_w_order order;
    size_t bytes; /* of one expert, decoded */
};

/* A matrix as the checkpoint has it; {0} for none. */
struct stored {
    const struct file_tensor *tensor;
    enum clmoe_dtype dtype;
    int64_t rows, columns;
};

/* What every token uses. */
struct dense {
    enum clmoe_dtype dtype;              /* of all of it, or f32 where it has several, or blocks */
    struct stored latent_in, latent_out; /* [Z, H], [H, Z], or none */
    struct stored gate, up, down;        /* of shared experts: [S, H] or none, [S, H], [H, S]; or none */
    struct stored shared_gate;           /* [1, H], or none */
};

struct block {
    int32_t experts;
    struct array router;                   /* [E, H]                                */
    struct array router_bias, select_bias; /* [E] f32, or none                      */
    struct array bias1, bias2;             /* [E, R] f32, [E, H] f32, or none       */
    enum clmoe_glu glu;                    /* of W1, and W1_UP if there is one      */
    struct matrix matrices[N_MATRICES];
    struct dense dense;
};

/* Weights are borrowed from the checkpoint. `{0}` and a failed block can be freed. */
bool block_find(const struct checkpoint *checkpoint, const struct description *description,
                const struct family *family, struct block *block, struct io_error *err);
void block_free(struct block *block);

/* The weights of one expert in an order, of the matrix's dtype: in place, or made in `scratch` of m->bytes.
 */
const void *matrix_expert(const struct matrix *m, int32_t expert, enum clmoe_w_order order, void *scratch);

#endif
