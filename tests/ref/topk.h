/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_TOPK_H
#define CLMOE_REF_TOPK_H

#include "clmoe/topk.h"

#include <stdbool.h>

struct ref_topk {
    int64_t rows, n, k;
    enum clmoe_dtype dtype;
    bool smallest, by_index;
    enum clmoe_nan nan;
    enum clmoe_ties ties;
    const int32_t *row_begin, *row_length, *row_k; /* NULL: the whole row, k of each */
};

/* indices [rows, k] of the first elements of each row of x [rows, n]: best first, or by index; -1 in slots
 * that stay free. cuts [rows]: index of the last one in the order, -1 without any. */
void ref_topk(const struct ref_topk *p, const void *x, int64_t *indices, int64_t *cuts);

#endif
