/* SPDX-License-Identifier: MIT
 * The part of matmul_case that knows weights in blocks, and codes with scales and zeros in tensors of their
 * own. */
#ifndef CLMOE_CHECK_MATMUL_CODED_H
#define CLMOE_CHECK_MATMUL_CODED_H

#include "matmul_case.h"

/* Row of [R] that holds gate or up row n, and R. */
int64_t matmul_glu_row(const struct clmoe_matmul_params *p, bool up, int64_t n, int64_t *rows);

/* 8 codes of 4 bits in an i32. */
bool matmul_in_words(const struct clmoe_matmul_params *p);

/* Random codes, scales and zeros; `gate` and `up` become what they mean. */
void matmul_make_coded(struct rng *rng, struct matmul_sample *s);

/* Weights in blocks or codes: makes them finite and as large as weights are, and `gate` and `up` what they
 * mean. */
void matmul_tame_weights(struct rng *rng, struct matmul_sample *s);

/* The bytes of packed blocks of experts first .. first + count - 1, as the header has them: [count, panels,
 * K, 32]. */
unsigned char *matmul_panel_bytes(const struct matmul_sample *s, int first, int count);

/* What nobody reads becomes NaN: the block that begins with weight i; the scales of expert e. */
void matmul_spoil_block(struct matmul_sample *s, int64_t i);
void matmul_spoil_scales(struct matmul_sample *s, int e);

/* Elements behind each row of weights in blocks or codes. */
int64_t matmul_row_padding(const struct matmul_sample *s);

/* Experts first .. first + count - 1, `only` as in upload_part; of blocks without their shape. */
struct guarded matmul_upload_blocks(struct rng *rng, const struct matmul_sample *s, int first, int count,
                                    int only, int64_t rows);
struct guarded matmul_upload_words(struct rng *rng, const struct matmul_sample *s, int first, int count,
                                   int only, struct clmoe_tensor *view);
/* Their scales and zeros, as part `i` of the operands. */
void matmul_upload_scales(struct rng *rng, const struct matmul_sample *s, int first, int count, int i,
                          struct matmul_operands *d);

#endif
