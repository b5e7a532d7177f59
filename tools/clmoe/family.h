/* SPDX-License-Identifier: MIT
 * What the command knows of model families: how the `model_type` of a Hugging Face config.json routes, and
 * what the tensors of its expert blocks are called. A family is one row of the table in family.c. */
#ifndef CLMOE_TOOLS_FAMILY_H
#define CLMOE_TOOLS_FAMILY_H

#include "clmoe/clmoe.h"
#include "io/config.h"

/* Names inside "model.layers.L.BLOCK.": "gate.weight" is the router; each expert's matrices are
 * "experts.E.GATE.weight" and so on [I, H] or [H, I], or all experts lie stacked in "experts.gate_up_proj"
 * [E, 2I, H] and "experts.down_proj" [E, H, I]. */
struct family_names {
    const char *block, *gate, *up, *down;
};

#define FAMILY_MAX_NAMES 2

/* Keys are those of config.h, with alternatives. */
struct family {
    const char *model_type;
    const char *experts_key, *inter_key;
    enum clmoe_score score;
    enum clmoe_group_score group_score;
    bool renorm;         /* the k weights are divided by their sum; `norm_topk_prob` overrides it if */
    bool renorm_key;     /* this is set                                                              */
    bool groups;         /* n_group and topk_group count                                             */
    bool bias;           /* selection needs e_score_correction_bias                                  */
    bool scaled;         /* routed_scaling_factor counts                                             */
    bool scale_or_norm;  /* but only where the weights are not divided (DeepSeek-V2's own code)      */
    float eps;           /* of the division                                                          */
    const char *missing; /* why `clmoe moe` does not run the block; NULL if it does                    */
    struct family_names names[FAMILY_MAX_NAMES]; /* as the hub has them, newer ones after            */
};

/* The family of a config. An unknown one is an error that lists the known ones. */
bool family_find(const struct config *config, const struct family **family, struct io_error *err);

/* The routing of a config: everything in `params` but max_tokens, the dtype and the plan's options. */
bool family_route(const struct family *family, const struct config *config, struct clmoe_route_params *params,
                  struct io_error *err);

/* The sizes and the activation of its experts; the sizes of routing are those of family_route(). */
struct family_experts {
    int64_t layers, hidden, inter;
    struct clmoe_activation act;
};
bool family_experts(const struct family *family, const struct config *config, struct family_experts *experts,
                    struct io_error *err);

#endif
