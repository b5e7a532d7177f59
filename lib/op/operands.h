/* SPDX-License-Identifier: MIT
 * Checks the tensors of one call against what the operation expects, and turns them into operands for
 * kernels. */
#ifndef CLMOE_OP_OPERANDS_H
#define CLMOE_OP_OPERANDS_H

#include "clmoe/scale.h"
#include "plan/plan.h"

enum operand_use {
    USE_READ = 0,
    USE_WRITE,
};

/* One tensor of a call. `out` is filled when everything is right; an absent operand becomes {0}. */
struct operand_rule {
    const char *name;
    const struct clmoe_tensor *tensor;
    struct operand *out;
    enum operand_use use;
    bool wanted; /* false: the tensor must be absent */
    enum clmoe_dtype dtype;
    int ndim;
    int64_t shape[CLMOE_MAX_DIMS];
    bool contiguous; /* all strides must be those of a contiguous tensor; else only the last must be 1 */
    const char *may_be[2]; /* USE_WRITE: names of inputs that may be exactly the same view */
    bool any_step;         /* not even the last stride need be 1 */
};

/* The bytes an operand touches, in its parent buffer. */
struct extent {
    cl_mem parent;
    uint64_t begin, end;  /* bytes; begin == end if it has no elements */
    int64_t pitch, width; /* bytes between and of rows, for two-dimensional views; pitch 0 for others */
    int64_t grain,
        cell; /* elements of `cell` bytes lie multiples of `grain` bytes apart; 0: only one element */
};

/* Where the outputs of a call lie: what is checked apart from them must not overlap them. `{0}`: none. */
#define MAX_WRITTEN 8
struct written {
    int n;
    const char *names[MAX_WRITTEN];
    struct extent extents[MAX_WRITTEN];
};

/* Checks each rule: presence, dtype, shape, strides, offset, context and size of the buffer; then that no
 * written operand overlaps another one. A tensor without elements may lack a buffer. */
enum clmoe_status operands_check(const clmoe_plan *plan, const struct operand_rule *rules, int n);

/* The same, and adds the outputs among the rules to `written`. */
enum clmoe_status operands_check_outputs(const clmoe_plan *plan, const struct operand_rule *rules, int n,
                                         struct written *written);

/* The same, and against outputs of other rules: for inputs that come in arrays. */
enum clmoe_status operands_check_inputs(const clmoe_plan *plan, const struct operand_rule *rules, int n,
                                        const struct written *written);

/* Scales that lie in a tensor of their own (clmoe/scale.h): dtype, rows and columns of a block. */
enum clmoe_status scale_check(const struct log *log, const char *name, const struct clmoe_w_scale *scale);

/* Rows of a tensor that decides the size of a call: its first dimension, between 0 and max. */
enum clmoe_status operand_rows(const clmoe_plan *plan, const char *name, const struct clmoe_tensor *tensor,
                               int64_t max, int64_t *rows);

/* The rows of a call whose rows lie along dimension 1 of tensors [rows, n] or [outer, n, inner], which
 * `tensor` decides: between 0 and max of them. 2-D has inner = 1. */
enum clmoe_status operand_axis(const clmoe_plan *plan, const char *name, const struct clmoe_tensor *tensor,
                               int64_t max, int64_t *outer, int64_t *inner);

/* The rule of a tensor with as many dimensions as `like`, and `columns` elements along dimension 1. */
struct operand_rule operand_rows_of(const struct clmoe_tensor *like, const char *name,
                                    const struct clmoe_tensor *tensor, struct operand *out, bool wanted,
                                    enum clmoe_dtype dtype, int64_t columns);

/* a * b <= limit, without overflow, for a, b >= 0. */
bool product_fits(int64_t a, int64_t b, int64_t limit);

/* First check of every plan function: sets *plan to NULL; needs ctx, params and plan. */
enum clmoe_status plan_check_create(const clmoe_context *ctx, const void *params, clmoe_plan **plan);

#endif
