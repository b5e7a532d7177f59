/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_TOPK_H
#define CLMOE_KERNEL_TOPK_H

#include "row.h"
#include "clmoe/topk.h"

struct topk_problem {
    int64_t max_rows;
    int64_t n, k; /* at most 2^31 */
    enum clmoe_dtype dtype, index_dtype;
    bool smallest, pad, row_begin, row_length, row_k;
    enum clmoe_topk_order order;
    enum clmoe_nan nan;
    enum clmoe_ties ties;
    uint32_t outputs;        /* at least one */
    uint64_t fill, pad_bits; /* dense_fill and pad_value as elements lie in memory */
    float scale;             /* 1 by default */
};

/* Operands of two dimensions look like [rows, n, 1], so that all have the same three. */
struct topk_call {
    int64_t rows, inner; /* row r is (r / inner, r % inner) */
    struct operand x, row_begin, row_length, row_k;
    struct operand values, indices, mask, bitmask, dense, threshold, cut, counts;
};

extern const struct kernel_table topk_table;

#endif
