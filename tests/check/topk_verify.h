/* SPDX-License-Identifier: MIT
 * Proves a row of topk right without sorting it, in one pass, for rows that are too long for the oracle. */
#ifndef CLMOE_CHECK_TOPK_VERIFY_H
#define CLMOE_CHECK_TOPK_VERIFY_H

#include "harness.h"

/* One row: contiguous x, values and indices (as int64_t) with params->k places, the window [begin, begin +
 * length). The order of elements is strict, so k distinct ones are the right ones if and only if exactly k
 * elements of the window come before the last of them or are that one. NULL if all is right, else what is
 * not. */
const char *topk_verify_row(const struct clmoe_topk_params *params, const char *x, int64_t begin,
                            int64_t length, const char *values, const int64_t *indices);

#endif
