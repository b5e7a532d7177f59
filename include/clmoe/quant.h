/* SPDX-License-Identifier: MIT
 *
 * quant: converts rows between plain and block formats on the device.
 *
 *   CLMOE_QUANT_PACK    x [rows, n] f32, f16 or bf16  ->  q [rows, n] block format
 *   CLMOE_QUANT_UNPACK  q [rows, n] block format      ->  x [rows, n] f32, f16 or bf16
 *
 * Expert weights in a block format need no unpacking: clmoe_matmul decodes them where it reads them.
 *
 * CLMOE_Q8_0 (as in GGUF files): blocks of 32 elements of a row, 34 bytes each: d as f16, then 32 int8 q.
 *
 *   pack     amax = max |x_i| of the block;  D = amax / 127;  d = D rounded to f16
 *            q_i = round-half-away(x_i * (1/D))
 *   unpack   x_i = d * q_i in fp32, then rounded to the dtype of x
 *
 * D, 1/D and the product are fp32, each rounded to nearest, on every device: the packed bytes do not depend
 * on the device, nor on whether it keeps denormals. The corners:
 * - D < 2^-125, so also a block of zeros: all q are 0, and d is +0 (as it is for any D <= 2^-25).
 * - D beyond f16 (D >= 65520): d = inf, and q as above.
 * - A block with a NaN or an infinity packs to d = NaN (0x7e00) and q = 0, so that it unpacks to NaN and the
 *   damage stays visible.
 * Unpacking is exact but for the last rounding; d = inf or NaN follows IEEE (inf * 0 is NaN).
 */
#ifndef CLMOE_QUANT_H
#define CLMOE_QUANT_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum clmoe_quant_mode {
    CLMOE_QUANT_PACK = 0,
    CLMOE_QUANT_UNPACK,
};

struct clmoe_quant_params {
    struct clmoe_plan_options plan;
    enum clmoe_quant_mode mode;
    int64_t max_rows;       /* 0 <= rows of a call <= max_rows */
    int64_t n;              /* elements of a row: a positive multiple of the block */
    enum clmoe_dtype plain; /* CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype block; /* CLMOE_Q8_0 */
};

/* The last stride of both must be 1. They must not overlap. A stack [E, N, K] of weights is E*N rows. */
struct clmoe_quant_args {
    struct clmoe_tensor x; /* [rows, n] plain */
    struct clmoe_tensor q; /* [rows, n] block */
};

/* Errors: CLMOE_E_INVALID for a size outside the ranges above or another dtype. */
CLMOE_API enum clmoe_status clmoe_quant_plan(clmoe_context *ctx, const struct clmoe_quant_params *params,
                                             clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_quant_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                const struct clmoe_quant_args *args, cl_uint n_wait,
                                                const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
