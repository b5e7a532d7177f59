/* SPDX-License-Identifier: MIT
 * Weights of an expert layer for measuring: random, on the device, split over buffers as large as it
 * takes. */
#ifndef CLMOE_TOOLS_EXPERTS_H
#define CLMOE_TOOLS_EXPERTS_H

#include "problems.h"

#define EXPERT_PARTS 64

struct experts {
    struct clmoe_tensor w[EXPERT_PARTS];     /* [E_i, rows, cols], or packed */
    struct clmoe_tensor scale[EXPERT_PARTS]; /* of codes */
    struct clmoe_tensor zero[EXPERT_PARTS];  /* of words of 4-bit codes */
    int parts;
    enum clmoe_w_order order;
    struct clmoe_w_scale scaling;
    enum clmoe_glu glu;
};

/* The scales that weights have beside them: {0} for none. gpt-oss's for CLMOE_F4_E2M1, DeepSeek-V3's for
 * CLMOE_F8_E4M3, one for a row of CLMOE_I8; those of groups, with zeros, for words. */
struct clmoe_w_scale experts_scale(const struct settings *s);
/* What so many rows of weights take, whole blocks of them, with their scales and zeros. */
double experts_bytes(const struct settings *s, double rows, double in);

/* Random weights [E, rows, cols], deviation 1/sqrt(cols), as `product` wants them: with CLMOE_GLU_NONE, or
 * CLMOE_GLU_INTERLEAVED, for words CLMOE_GLU_GATE_UP; packed where the device wants that. Returns -1 or an
 * exit code. */
int experts_make(struct bench *b, const struct clmoe_matmul_params *product, uint32_t seed,
                 struct experts *e);
void experts_free(struct experts *e);

/* Brings weights of one expert back, as numbers: of `count` columns of y from `first` on, the row of each,
 * or gate row and up row in turn. */
int experts_read(struct bench *b, const struct experts *e, int32_t expert, int64_t first, int64_t count,
                 float *rows);

#endif
