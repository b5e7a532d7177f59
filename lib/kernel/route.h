/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_ROUTE_H
#define CLMOE_KERNEL_ROUTE_H

#include "row.h"

#include "clmoe/route.h"

enum route_group {
    ROUTE_GROUP_NONE = 0,
    ROUTE_GROUP_MAX,
    ROUTE_GROUP_TOP2_SUM,
};

struct route_problem {
    int64_t max_tokens;
    int32_t experts, topk;
    enum clmoe_dtype logits_dtype;
    enum clmoe_score score;
    bool bias;
    enum route_group group;      /* NONE where the params' groups cannot change the result */
    int32_t n_group, topk_group; /* 1, 1 without groups */
    bool renorm;
    float eps, scale; /* scale: 1 by default */
};

struct route_call {
    int64_t tokens;
    struct operand logits, bias, ids, gamma;
};

extern const struct kernel_table route_table;

#endif
