/* SPDX-License-Identifier: MIT
 * The expert block of one layer of a checkpoint, on the host: found by the family's tensor names and checked,
 * so that nothing about it is wrong when the device gets it. */
#ifndef CLMOE_TOOLS_BLOCK_H
#define CLMOE_TOOLS_BLOCK_H

#include "family.h"
#include "io/checkpoint.h"

/* Gate and up lie in one matrix of 2I rows, W1, when the checkpoint stacks them; then there is no W1_UP. */
enum { W1, W1_UP, W2, N_MATRICES };

/* One weight matrix of every expert. */
struct matrix {
    struct array *arrays; /* one array [E, rows, columns], or E arrays [rows, columns] */
    int32_t n_arrays;     /* 0: there is no such matrix                                */
    int64_t rows, columns;
    size_t bytes; /* of one expert */
};

struct block {
    int32_t experts;
    struct array router; /* [E, H] */
    enum array_dtype dtype;
    struct matrix matrices[N_MATRICES];
};

/* Weights are borrowed from the checkpoint. `{0}` and a failed block can be freed. */
bool block_find(const struct checkpoint *checkpoint, const struct family *family, int64_t layer,
                int32_t experts, const struct family_experts *sizes, struct block *block,
                struct io_error *err);
void block_free(struct block *block);

/* The weights of one expert. */
const void *matrix_expert(const struct matrix *matrix, int32_t expert);

#endif
