/* SPDX-License-Identifier: MIT
 * Judging and running route, for its checks.
 *
 * Where selection compares logits, ids must be those of the oracle. Elsewhere keys carry rounding errors:
 * expert a may stand before b if its exact key is not below b's by more than both errors (slack); experts of
 * the same logit and bias have the same key and stand in the order of their ids. Where all margins are wider,
 * that again leaves the oracle's ids only. */
#ifndef CLMOE_CHECK_ROUTE_CASE_H
#define CLMOE_CHECK_ROUTE_CASE_H

#include "harness.h"
#include "ref/route.h"

/* A zeroed array that is never NULL. */
void *route_room(int64_t count, size_t size);

/* Fails the case unless ids and gamma [tokens, k + S] and identity [tokens] (may be NULL) are right. Where
 * rounding may decide which experts are chosen and later steps hide which ones were, nothing is asked. */
void route_judge(const struct clmoe_route_params *p, const struct ref_route_call *call, const int32_t *ids,
                 const float *gamma, const float *identity);

/* Runs all rows that fit, judges each and requires the same ids of all; leaves the first one's results in
 * ids, gamma and, unless it is NULL, identity. `logits` must be values of the dtype. */
void route_run_call(struct rng *rng, struct clmoe_route_params p, enum forced_caps caps,
                    const struct ref_route_call *call, int32_t *ids, float *gamma, float *identity);

/* The same, of a call that brings logits and perhaps a bias. */
void route_run_rows(struct rng *rng, struct clmoe_route_params p, enum forced_caps caps, int64_t tokens,
                    const float *logits, const float *bias, int32_t *ids, float *gamma);

#endif
