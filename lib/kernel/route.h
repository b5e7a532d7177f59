/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_ROUTE_H
#define CLMOE_KERNEL_ROUTE_H

#include "permute.h"

#include "clmoe/route.h"

enum route_group {
    ROUTE_GROUP_NONE = 0,
    ROUTE_GROUP_MAX,
    ROUTE_GROUP_TOP2_SUM,
    ROUTE_GROUP_EACH,
};

struct route_problem {
    int64_t max_tokens;
    int32_t experts; /* R: with the zero experts */
    int32_t routed;  /* E: without them */
    int32_t topk;
    enum clmoe_dtype logits_dtype;
    enum clmoe_score score;
    bool bias;
    enum route_group group;      /* NONE where the params' groups cannot change the result */
    int32_t n_group, topk_group; /* 1, 1 without groups */
    bool given;
    enum clmoe_renorm renorm;
    float eps, scale;                           /* from here on with the params' defaults filled in */
    float temperature, logit_cap, mixer_margin; /* mixer_margin: 2 * mixer_eps */
    int32_t shared_slots;
    float shared_gamma;
    bool expert_scale, expert_map, valid_tokens, token_mask;
    int32_t capacity; /* 0: none */
    enum clmoe_capacity_order capacity_order;
    int64_t capacity_tokens;
    bool renorm_kept, pass_dropped;
    int32_t permute_experts; /* 0: the pairs are not sorted */
};

struct route_call {
    int64_t tokens;
    int32_t capacity;
    struct operand logits, bias, ids, gamma;
    struct operand given, expert_scale, expert_map, valid_tokens, token_mask, identity_gamma;
    bool sort_here; /* the row shall do `sorted`: only where route_sorts says that it can */
    struct permute_call sorted;
};

/* What permute's kernels are told of the pairs. */
struct permute_problem route_sorted(const struct route_problem *p);

/* Whether the row sorts a call's pairs along with routing them. */
bool route_sorts(const struct device *dev, const struct kernel_row *row, const struct route_problem *p,
                 int64_t pairs);

/* Up to so many pairs are sorted by the kernel that routes them, more by one behind it. */
enum { ROUTE_SORT_PAIRS = PERMUTE_GROUP_PAIRS };

extern const struct kernel_table route_table;

#endif
