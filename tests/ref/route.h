/* SPDX-License-Identifier: MIT
 * route, step by step as its manual page numbers them, in double, by sorting. */
#ifndef CLMOE_REF_ROUTE_H
#define CLMOE_REF_ROUTE_H

#include "clmoe/route.h"

#include <stdbool.h>

/* What a call brings; NULL where the plan is made without it. */
struct ref_route_call {
    int64_t tokens;
    const float *logits, *bias, *expert_scale;
    const int32_t *given, *expert_map;
    const uint8_t *token_mask;
    int32_t valid_tokens, capacity;
};

struct ref_expert {
    float logit, bias;  /* NaN logits are -inf already; bias 0 if there is none */
    double value;       /* step 1 */
    double score;       /* step 2; of sparsemixer: none */
    double key;         /* what selection compares: the logit or score + bias rounded to fp32 */
    bool kept;          /* its group stays */
    double group_score; /* of its group; 0 without groups */
};

/* E + Z. */
int ref_route_width(const struct clmoe_route_params *p);

/* Whether selection compares the logits themselves. */
bool ref_route_on_logits(const struct clmoe_route_params *p);

/* Whether groups are chosen. */
bool ref_route_grouped(const struct clmoe_route_params *p);

/* How many groups choose by themselves: n_group with CLMOE_GROUP_EACH, else 1. */
int ref_route_parts(const struct clmoe_route_params *p);

/* Steps 1 to 4: fills x [E + Z] from a token's logits; bias may be NULL. */
void ref_route_experts(const struct clmoe_route_params *p, const float *logits, const float *bias,
                       struct ref_expert *x);

/* Step 5: ids [k] of the best. */
void ref_route_select(const struct clmoe_route_params *p, const struct ref_expert *x, int32_t *ids);

/* Step 5: ids [k] from a token's given ones. */
void ref_route_take(const struct clmoe_route_params *p, const int32_t *given, int32_t *ids);

/* Step 6: scores [k] of the ids; 0 of -1. `doubt` is set where rounding decides what sparsemixer sums up. */
void ref_route_scores(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                      double *scores, bool *doubt);

/* Steps 6, 8 and 9 of the given ids where nothing is dropped and experts have no scale: gamma [k].
 * `condition` gets how much a relative error of the scores grows by the division. */
void ref_route_weights(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                       double *gamma, double *condition);

bool ref_route_valid(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t);

/* Step 7: dropped [T, k] from ids and scores [T, k] of all tokens; ids of invalid tokens are -1. */
void ref_route_drop(const struct clmoe_route_params *p, const struct ref_route_call *call, const int32_t *ids,
                    const double *scores, bool *dropped);

/* One token after step 12. */
struct ref_routed {
    int32_t ids[128];
    double gamma[128], identity;
    double condition; /* as above */
};

/* Steps 8 to 12 of token t. */
void ref_route_finish(const struct clmoe_route_params *p, const struct ref_route_call *call, int64_t t,
                      const int32_t *ids, const double *scores, const bool *dropped, struct ref_routed *out);

#endif
