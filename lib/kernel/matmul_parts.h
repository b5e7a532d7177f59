/* SPDX-License-Identifier: MIT
 * Every order of weights (and of biases) as two sources of columns, gate and up, that differ only in strides,
 * so that kernels know nothing of layouts. */
#ifndef CLMOE_KERNEL_MATMUL_PARTS_H
#define CLMOE_KERNEL_MATMUL_PARTS_H

#include "matmul.h"

/* What column n of y is made from, for expert e of the part: element skip + e*expert + n*column + k*depth. In
 * packed weights n*column becomes (n / lanes)*column + n % lanes. */
struct columns {
    cl_mem mem;    /* NULL: absent */
    uint64_t skip; /* in the units of dtype_info */
    int64_t expert, column, depth;
};

/* The scales of a source of columns: for column n of y, expert e of the part and block b of K,
 * skip + e*expert + (first + n*step) / rows * row + b*group. */
struct scales {
    cl_mem mem; /* NULL: absent */
    uint64_t skip;
    int64_t expert, row, group, first;
};

/* Their zeros, counted in numbers of 4 bits, but for skip: skip + e*expert + b*group + first + n*step. */
struct zeros {
    cl_mem mem;
    uint64_t skip;
    int64_t expert, group;
};

/* Numbers of 4 bits in an i32. */
#define MATMUL_IN_WORD 8

/* One buffer of weights: experts first .. first + count - 1. */
struct matmul_part {
    struct columns gate, up; /* up is absent without GLU */
    struct scales gate_scales, up_scales;
    struct zeros gate_zeros, up_zeros;
    int32_t first, count;
};

/* Neighbouring columns of y are that many rows of w apart. */
static inline int matmul_row_step(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_INTERLEAVED ? 2 : 1;
}

/* Fills in scales and zeros of the part at `index`, if the call has them. */
void matmul_part_scales(const struct matmul_problem *p, const struct matmul_call *c, int32_t index,
                        struct matmul_part *part);

/* The part at `index` of an array of tensors that operands_check has seen; `first` is the sum of the counts
 * before it. */
struct matmul_part matmul_part_at(const struct matmul_problem *p, const struct clmoe_tensor *w,
                                  const struct clmoe_tensor *w_up, int32_t index, int32_t first);

/* The biases; depth is unused. */
void matmul_bias_columns(const struct matmul_problem *p, const struct matmul_call *c, struct columns *gate,
                         struct columns *up);

/* Rows of the weights of one expert: N, or 2N where gate and up share a tensor. */
static inline int64_t matmul_w_rows(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE || p->glu == CLMOE_GLU_APART ? p->out : 2 * p->out;
}

/* Weights that can be packed: any floats, and formats with blocks of 32. */
static inline bool matmul_has_panels(enum clmoe_dtype dtype) {
    return dtype_is_float(dtype) || dtype == CLMOE_Q8_0 || dtype == CLMOE_Q4_0 || dtype == CLMOE_MXFP4;
}

/* Columns of y in one panel of packed weights, and panels of one expert. */
#define MATMUL_PANEL 32
static inline int64_t matmul_panel_lanes(const struct matmul_problem *p) {
    return p->glu == CLMOE_GLU_NONE ? MATMUL_PANEL : MATMUL_PANEL / 2;
}
static inline int64_t matmul_panels(const struct matmul_problem *p) {
    return ceil_div(p->out, matmul_panel_lanes(p));
}

#endif
