/* SPDX-License-Identifier: MIT
 * Weights of an expert layer for measuring: random, on the device, split over buffers as large as it
 * takes. */
#ifndef CLMOE_TOOLS_EXPERTS_H
#define CLMOE_TOOLS_EXPERTS_H

#include "measure.h"

#define EXPERT_PARTS 64

struct experts {
    struct clmoe_tensor w[EXPERT_PARTS];     /* [E_i, rows, cols], or packed */
    struct clmoe_tensor scale[EXPERT_PARTS]; /* of codes */
    int parts;
    enum clmoe_w_order order;
    bool glu; /* gate and up rows, interleaved */
};

/* The scales that weights of a dtype have beside them: {0} for none. gpt-oss's for CLMOE_F4_E2M1,
 * DeepSeek-V3's for CLMOE_F8_E4M3. */
struct clmoe_w_scale experts_scale(enum clmoe_dtype dtype);
/* What `count` weights of whole blocks take, with their scales. */
double experts_bytes(enum clmoe_dtype dtype, double count);

/* Random weights [E, rows, cols], deviation 1/sqrt(cols), as `product` wants them: with CLMOE_GLU_NONE or
 * CLMOE_GLU_INTERLEAVED; packed where the device wants that. Returns -1 or an exit code. */
int experts_make(struct bench *b, const struct clmoe_matmul_params *product, uint32_t seed,
                 struct experts *e);
void experts_free(struct experts *e);

/* Brings weights of one expert back, as numbers: of `count` columns of y from `first` on, the row of each,
 * or gate row and up row in turn. */
int experts_read(struct bench *b, const struct experts *e, int32_t expert, int64_t first, int64_t count,
                 float *rows);

#endif
