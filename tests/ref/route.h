/* SPDX-License-Identifier: MIT
 * route for one token, step by step as its manual page has them, in double, by sorting. */
#ifndef CLMOE_REF_ROUTE_H
#define CLMOE_REF_ROUTE_H

#include "clmoe/route.h"

#include <stdbool.h>

struct ref_expert {
    float logit, bias;  /* NaN logits are -inf already; bias 0 if there is none */
    double score;       /* unbiased */
    double key;         /* what selection compares: the logit or score + bias rounded to fp32 */
    bool kept;          /* its group stays */
    double group_score; /* of its group; 0 without groups */
};

/* Whether selection compares the logits themselves. */
bool ref_route_on_logits(const struct clmoe_route_params *p);

/* Fills x [E] from a token's logits; bias may be NULL. */
void ref_route_experts(const struct clmoe_route_params *p, const float *logits, const float *bias,
                       struct ref_expert *x);

/* ids [k] of the best. */
void ref_route_select(const struct clmoe_route_params *p, const struct ref_expert *x, int32_t *ids);

/* gamma [k] of the given ids. `condition` gets how much a relative error of the scores grows by the
 * division. */
void ref_route_weights(const struct clmoe_route_params *p, const struct ref_expert *x, const int32_t *ids,
                       double *gamma, double *condition);

#endif
