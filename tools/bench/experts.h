/* SPDX-License-Identifier: MIT
 * Weights and routing of an expert layer for measuring: random, on the device, split over buffers as large as
 * it takes. */
#ifndef CLMOE_TOOLS_EXPERTS_H
#define CLMOE_TOOLS_EXPERTS_H

#include "problems.h"

#define EXPERT_PARTS 64

struct experts {
    struct clmoe_tensor w[EXPERT_PARTS]; /* [E_i, rows, cols], or packed */
    int parts;
    enum clmoe_w_order order;
};

/* Random weights [E, rows, cols], deviation 1/sqrt(cols). With `packing` (the product they are for) they are
 * packed where the device wants that. Returns -1 or an exit code. */
int experts_make(struct bench *b, const struct clmoe_matmul_params *product, uint32_t seed,
                 struct experts *e);
void experts_free(struct experts *e);

/* Routing of `tokens`: distinct random experts for each token, the same for every run of the same size. */
struct routing {
    int32_t *ids;    /* host copy, [tokens, topk] */
    int32_t *counts; /* pairs of each expert */
    int active;      /* experts with a pair */
    struct clmoe_tensor d_ids, d_counts, d_offsets, d_order, d_gamma;
};
int routing_make(struct bench *b, const struct settings *s, struct routing *r);
void routing_free(struct routing *r);

/* Few enough pairs that kernels which go by ids alone are meant for them. */
bool routing_is_few(const struct settings *s);

#endif
