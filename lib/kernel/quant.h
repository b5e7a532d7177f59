/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_KERNEL_QUANT_H
#define CLMOE_KERNEL_QUANT_H

#include "clmoe/quant.h"
#include "row.h"

#define QUANT_IN_WORD 8 /* codes in an element of CLMOE_I32 */

struct quant_problem {
    enum clmoe_quant_mode mode;
    int64_t max_rows, n;
    enum clmoe_dtype plain, block;
    enum clmoe_w_order order;
    struct clmoe_w_scale scale; /* rows and columns are at least 1 */
};

struct quant_call {
    int64_t rows;
    struct operand x, q, scale, zero;
};

extern const struct kernel_table quant_table;

#endif
