/* SPDX-License-Identifier: MIT
 *
 * permute: expert ids -> pairs grouped by expert, on the device.
 *
 *   ids [T, k]  ->  counts [E], offsets [E+1], order [T*k], inverse [T*k]
 *
 * A pair is one (token, slot); its number is p = token * k + slot. With P = T*k pairs:
 *   counts[e]    number of pairs whose id is e
 *   offsets[e]   sum of counts[0..e-1]; offsets[E] is the number of valid pairs
 *   order[i]     the pair at sorted position i: experts ascending, inside an expert pairs ascending (a stable
 *                counting sort). The pairs that are skipped (id < 0 or id >= E) follow after offsets[E],
 *                ascending, so that order is always a permutation of 0..P-1
 *   inverse[p]   the sorted position of pair p: inverse[order[i]] = i
 *
 * One token may name an expert more than once. The result has the same bits on every device.
 */
#ifndef CLMOE_PERMUTE_H
#define CLMOE_PERMUTE_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

struct clmoe_permute_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens; /* 0 <= T of a call <= max_tokens; max_tokens * topk < 2^31 */
    int32_t topk;       /* 1 <= k <= 4096 slots of a token */
    int32_t experts;    /* 1 <= E <= 4096 */
};

/* All CLMOE_I32, last stride 1, ids with a free row stride. inverse is optional (absent: not made); the
 * others are required. order and inverse need T*k elements of the call's T; longer ones are left alone past
 * that. */
struct clmoe_permute_args {
    struct clmoe_tensor ids;     /* [T, k] */
    struct clmoe_tensor counts;  /* [E] */
    struct clmoe_tensor offsets; /* [E + 1] */
    struct clmoe_tensor order;   /* [T * k] */
    struct clmoe_tensor inverse; /* [T * k] */
};

/* With T = 0 counts and offsets are set to zero. Errors: CLMOE_E_INVALID for a size outside the ranges above.
 */
CLMOE_API enum clmoe_status clmoe_permute_plan(clmoe_context *ctx, const struct clmoe_permute_params *params,
                                               clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_permute_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                  const struct clmoe_permute_args *args, cl_uint n_wait,
                                                  const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
