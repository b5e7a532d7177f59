/* SPDX-License-Identifier: MIT
 * Quantised formats, as include/clmoe/quant.h says. */
#ifndef CLMOE_REF_QUANT_H
#define CLMOE_REF_QUANT_H

#include "clmoe/scale.h"

#include <stdbool.h>

/* Weights that are bytes to be decoded: of a block format, or codes with scales in a tensor of their own. */
bool ref_is_coded(enum clmoe_dtype dtype);
bool ref_is_scaled(enum clmoe_dtype dtype);

#define REF_BLOCK_MAX 256 /* elements of the largest block */

/* Elements of a block, 1 for plain dtypes; its bytes. */
int ref_block_length(enum clmoe_dtype dtype);
int ref_block_bytes(enum clmoe_dtype dtype);

/* n numbers (whole blocks) from a block format or codes, and to a block format. */
void ref_unpack(enum clmoe_dtype dtype, const void *data, int64_t n, float *x);
void ref_pack(enum clmoe_dtype dtype, const float *x, int64_t n, unsigned char *q);

/* The same of rows of n codes (i8, f8_e4m3, f4_e2m1) with scales apart, all of them contiguous. */
void ref_scaled_pack(enum clmoe_dtype dtype, const struct clmoe_w_scale *scale, const float *x, int64_t rows,
                     int64_t n, unsigned char *codes, void *scales);
void ref_scaled_unpack(enum clmoe_dtype dtype, const struct clmoe_w_scale *scale, const unsigned char *codes,
                       const void *scales, int64_t rows, int64_t n, float *x);

/* The same of 4 bits in words. `zeros` is written in any case, and not read with CLMOE_ZERO_EIGHT. */
void ref_words_pack(enum clmoe_w_order order, const struct clmoe_w_scale *scale, const float *x, int64_t rows,
                    int64_t n, uint32_t *words, void *scales, uint32_t *zeros);
void ref_words_unpack(enum clmoe_w_order order, const struct clmoe_w_scale *scale, const uint32_t *words,
                      const void *scales, const uint32_t *zeros, int64_t rows, int64_t n, float *x);

/* D of a q8_0 block of 32 (finite) numbers: the largest magnitude / 127, rounded to fp32. */
float ref_q8_0_scale(const float *x);

/* Makes every scale of the block NaN, so that each of its elements is; codes that can be NaN themselves. */
void ref_spoil_block(enum clmoe_dtype dtype, unsigned char *block);

/* Makes the scales of a block of any bytes finite, and its values about `size` large or less; codes finite.
 */
void ref_tame_block(enum clmoe_dtype dtype, unsigned char *block, float size);

#endif
