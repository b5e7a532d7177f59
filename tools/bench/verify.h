/* SPDX-License-Identifier: MIT
 * Whether what was timed was right too: samples of the output against sums in double precision on the host,
 * from inputs that are read back. */
#ifndef CLMOE_TOOLS_VERIFY_H
#define CLMOE_TOOLS_VERIFY_H

#include "experts.h"
#include "pairs.h"

/* gpt-oss's activation, which the peers' script gives to every model. */
extern const struct clmoe_activation bench_act;

/* A product as it was run. Its activation, with a GLU layout, is bench_act. */
struct product_run {
    const struct clmoe_matmul_params *params;
    const struct clmoe_matmul_args *args;
    const struct experts *w;
    const struct pairs *pairs;
};

/* A layer as it was run: softmax over the chosen logits, bench_act, both products. */
struct layer_run {
    const struct clmoe_moe_params *params;
    const struct clmoe_moe_args *args;
    const struct experts *w1, *w2;
    const struct pairs *pairs;
};

/* Each returns -1 or an exit code; what is wrong with the output is in *errors. */
int verify_product(struct bench *b, const struct product_run *run, struct errors *errors);
int verify_layer(struct bench *b, const struct layer_run *run, int64_t tokens, struct errors *errors);

/* Routing by softmax over the chosen logits must have the ids of `pairs`, other routing any ids; and if
 * `args` has an order it must be the one of its ids. */
int verify_routing(struct bench *b, const struct settings *s, const struct clmoe_route_args *args,
                   const struct pairs *pairs, struct errors *errors);

#endif
