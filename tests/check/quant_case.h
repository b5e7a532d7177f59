/* SPDX-License-Identifier: MIT
 * What the checks of quant share: one call of one row of its table, and comparison. */
#ifndef CLMOE_CHECK_QUANT_CASE_H
#define CLMOE_CHECK_QUANT_CASE_H

#include "harness.h"

/* Rows of n elements of `plain`, in blocks or to be. */
struct quant_shape {
    enum clmoe_dtype plain, block;
    int64_t rows, n;
};

/* A zeroed array that is never NULL. */
void *quant_room(int64_t count, size_t size);

/* One call of one row of the table. `to` gets the result. False: the row refuses. */
bool quant_run_row(struct rng *rng, int row, enum clmoe_quant_mode mode, const struct quant_shape *s,
                   enum forced_caps caps, const void *from, void *to);

void quant_describe(int row, const char *what, const struct quant_shape *s, enum forced_caps caps);

/* Blocks of n elements must be the same bytes. */
void quant_compare_blocks(enum clmoe_dtype block, const unsigned char *got, const unsigned char *want,
                          int64_t n);

void quant_compare_bytes(const char *what, const void *got, const void *want, int64_t n);

/* Numbers as they come out of the device: `want` rounded, bit by bit, NaN as any NaN. */
void quant_compare_plain(enum clmoe_dtype plain, const void *got, const float *want, int64_t n);

/* Packs `raw` on all rows of the table, and compares with what the reference makes of it. */
void quant_check_pack(struct rng *rng, const char *what, const struct quant_shape *s, enum forced_caps caps,
                      const void *raw);

/* Unpacks `q` on all rows of the table: `want` bit by bit, NaN as any NaN. */
void quant_check_unpack(struct rng *rng, const char *what, const struct quant_shape *s, enum forced_caps caps,
                        const void *q, const float *want);

/* One block of f32, on all rows and sets of caps. */
void quant_expect_block(const char *what, enum clmoe_dtype block, const float *x, const unsigned char *want);

clmoe_plan *quant_plan_for(const struct clmoe_quant_params *params, enum clmoe_quant_mode mode);

/* What must fail, and say why: a plan with these params, a call with these args. */
void quant_plan_refused(const char *what, const struct clmoe_quant_params *params);
void quant_args_refused(const char *what, clmoe_plan *plan, const struct clmoe_quant_args *args);

/* These rows of the table, separated by spaces, ran in some case. */
void quant_require_ran(const char *rows);

#endif
