/* SPDX-License-Identifier: MIT
 * Experts' weights in the formats that quantised checkpoints have, made by clmoe_quant. */
#ifndef CLMOE_GENERATE_QUANTISE_H
#define CLMOE_GENERATE_QUANTISE_H

#include "device.h"
#include "io/array.h"

/* The choices of an option, and their places. */
#define QUANT_FORMATS "q8_0|q6_k|q5_k|q5_0|q4_k|q4_0|mxfp4|fp8|int8|int4"
enum quant_choice {
    QUANT_Q8_0,
    QUANT_Q6_K,
    QUANT_Q5_K,
    QUANT_Q5_0,
    QUANT_Q4_K,
    QUANT_Q4_0,
    QUANT_MXFP4,
    QUANT_FP8,  /* e4m3, an f32 scale for each block of 128 x 128 */
    QUANT_INT8, /* an f32 scale for each row */
    QUANT_INT4, /* in the order of AWQ: a zero and an f16 scale for each group of 32 */
};

struct quant_format;
const struct quant_format *quant_format(enum quant_choice choice);

/* False, with an error, for an expert's sizes that are no whole blocks or words. */
bool quant_fits(const struct quant_format *format, int64_t hidden, int64_t inter, struct io_error *err);

/* Fills in the product's w_dtype, w_scale and w_order, from `in`. Rows that blocks of a K format do not
 * divide have another format, with more bits: q4_k has q5_0, as in GGUF files of llama.cpp, the others q8_0.
 */
void quant_params(const struct quant_format *format, struct clmoe_matmul_params *params);

/* Of one weight of the product, with its share of scales and zeros. */
double quant_bits(const struct clmoe_matmul_params *params);

/* Weights on the device, as arguments of a product; scales and zeros where the format has them. */
struct quantised {
    struct clmoe_tensor w, scale, zero;
};

/* Arrays as in place_weights(), which are quantised first; `params` as quant_params() has left them. `*q` is
 * to be released after a failure, too. */
bool quantise_weights(const struct device *device, const struct clmoe_matmul_params *params, int64_t n,
                      const struct array *arrays, struct quantised *q, struct io_error *err);
void quantised_release(struct quantised *q);

#endif
