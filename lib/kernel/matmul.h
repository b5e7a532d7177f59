/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_MATMUL_H
#define CLMOE_KERNEL_MATMUL_H

#include "combine.h"
#include "row.h"

#include "clmoe/matmul.h"

struct matmul_problem {
    int64_t max_tokens, in, out; /* in: K, out: N */
    int32_t topk, experts;
    enum clmoe_dtype x_dtype, w_dtype, y_dtype, bias_dtype; /* bias_dtype: f32 without bias */
    struct clmoe_w_scale w_scale;                           /* rows and columns are at least 1 */
    enum clmoe_w_order w_order;
    enum clmoe_glu glu;
    struct clmoe_activation act; /* alpha is 1 by default */
    enum clmoe_rows x_rows, y_rows;
    enum clmoe_gamma gamma;
    enum clmoe_limit limit;
    bool sorted, dense, bias, add, expert_scale;
    bool may_sum;               /* calls may ask for sums, of sum_dtype */
    enum clmoe_dtype sum_dtype; /* y_dtype by default */
};

/* The weights stay in the caller's array, which lives during the call: there may be one tensor for each
 * expert. n_w is at least 1. */
struct matmul_call {
    int64_t tokens;
    struct operand x, bias, bias_up, add, add_up, limits, gamma, expert_scale, ids, offsets, order, y;
    const struct clmoe_tensor *w, *w_up, *w_scale, *w_scale_up, *w_zero, *w_zero_up;
    int32_t n_w;
    /* Ids are below `numbers`, and w holds those from `first` on: all of them, but for offloaded experts, of
     * which a call computes some. Rows of pairs of the others are left alone. */
    int32_t first, numbers;
    /* NULL, or: y is not wanted, but what combine makes of it. Only where matmul_sums says that the row
     * can. */
    const struct combine_problem *sum;
    const struct combine_call *sum_call;
};

/* Weights of 4 bits, 8 in a word. */
static inline bool matmul_in_words(enum clmoe_w_order order) {
    return order == CLMOE_W_AWQ || order == CLMOE_W_GPTQ;
}

/* Whether a row can make the sums over a token's slots in place of their rows, for a call of a problem that
 * may_sum. */
bool matmul_sums(const struct kernel_row *row, const struct matmul_call *call,
                 const struct combine_problem *sum);

extern const struct kernel_table matmul_table;

#endif
