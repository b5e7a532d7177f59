/* SPDX-License-Identifier: MIT
 *
 * How weights lie in memory, and scales of those that have them in a tensor of their own, beside codes:
 * clmoe_matmul and layers compute with such weights, clmoe_quant makes them.
 */
#ifndef CLMOE_SCALE_H
#define CLMOE_SCALE_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory order of the weights. Of R rows: N, or 2N with a GLU layout other than APART. */
enum clmoe_w_order {
    CLMOE_W_ENK = 0, /* [E, R, K]: torch.nn.Linear, GGUF, most checkpoints */
    CLMOE_W_EKN,     /* [E, K, R]: gpt-oss and Llama-4 checkpoints */
    CLMOE_W_PACKED,  /* what clmoe_matmul_pack makes: the order that CPU devices want */
    CLMOE_W_AWQ,     /* 4 bits in groups, as AWQ and GPTQ store them: see struct clmoe_w_scale */
    CLMOE_W_GPTQ,
};

enum clmoe_zero {
    CLMOE_ZERO_EIGHT = 0, /* z = 8 */
    CLMOE_ZERO_GIVEN,     /* args.w_zero */
    CLMOE_ZERO_PLUS_ONE,  /* args.w_zero + 1: GPTQ's files of version 1 */
};

/* Scales of weights that lie in a tensor of their own, one for each block of rows x columns of w:
 * w_scale [E, ceil(R / rows), ceil(K / columns)]. The weight (e, r, k) is, in fp32,
 *
 *   w[e, r, k] * w_scale[e, r / rows, k / columns]
 *
 * where w is, by w_dtype,
 *   CLMOE_F8_E4M3   a byte: sign, 4 bits of exponent (bias 7), 3 of mantissa; 0x7f and 0xff are NaN, and
 *                   there is no infinity (torch.float8_e4m3fn)
 *   CLMOE_F4_E2M1   two elements a byte, the first in the lower half: sign, 2 bits of exponent (bias 1), 1 of
 *                   mantissa: 0, 1/2, 1, 3/2, 2, 3, 4, 6 and their negatives; K even
 *   CLMOE_I8        an integer
 *
 * {0} is one f32 scale for an expert, {.rows = 1} one for a row. DeepSeek's weight_scale_inv is
 * {CLMOE_F32, 128, 128}; gpt-oss's _scales are {CLMOE_U8, 1, 32}, beside _blocks [E, R, K / 32, 16], which
 * are [E, R, K] here.
 *
 * CLMOE_W_AWQ and CLMOE_W_GPTQ have numbers q of 4 bits, 8 in an element of CLMOE_I32 (so w_dtype), and zeros
 * z of the same kind. The weight (e, r, k) is, in fp32 and with G = ceil(K / columns) groups g = k / columns,
 *
 *   (q - z) * w_scale[e, g, r]           w_scale [E, G, R]
 *
 *   AWQ    q: bits 4p .. 4p + 3 of w[e, k, r / 8]          w [E, K, R / 8]
 *          z: the same bits of w_zero[e, g, r / 8]         w_zero [E, G, R / 8]
 *   GPTQ   q: bits 4p .. 4p + 3 of w[e, k / 8, r], p = k % 8          w [E, K / 8, R]
 *          z: bits 4p .. 4p + 3 of w_zero[e, g, r / 8], p = r % 8     w_zero [E, G, R / 8]
 *
 * where AWQ's p is 0, 4, 1, 5, 2, 6, 3, 7 for r % 8 = 0 .. 7. N must be a multiple of 8, in GPTQ K too; rows
 * is 1; gate and up rows cannot be interleaved. Files whose groups are not of neighbours in K (GPTQ's g_idx,
 * "act-order") need their rows brought into order first. */
struct clmoe_w_scale {
    enum clmoe_dtype dtype; /* CLMOE_F32, CLMOE_F16, CLMOE_BF16; CLMOE_U8: 2^(u - 127), 255 is NaN (E8M0) */
    int64_t rows;           /* of a block: 1 or more; 0: all R */
    int64_t columns;        /* of a block: a power of two, 16 or more; 0: all K */
    enum clmoe_zero zero;   /* CLMOE_W_AWQ, CLMOE_W_GPTQ; else 0 */
};

#ifdef __cplusplus
}
#endif
#endif
