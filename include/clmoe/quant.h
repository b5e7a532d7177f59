/* SPDX-License-Identifier: MIT
 *
 * quant: converts rows between plain and quantised formats on the device.
 *
 *   CLMOE_QUANT_PACK    x [rows, n] f32, f16 or bf16  ->  q [rows, n] block format, or codes and scales
 *   CLMOE_QUANT_UNPACK  q [rows, n] the same          ->  x [rows, n] f32, f16 or bf16
 *
 * Expert weights in such a format need no unpacking: clmoe_matmul decodes them where it reads them.
 *
 * ---- Block formats ----
 *
 * The formats are those of GGUF files, byte by byte: a row is blocks of elements that share scales, one after
 * the other. `h` is an f16, `b` a byte, numbers of more bytes have the lowest first.
 *
 *               elements  bytes  layout                               value of an element
 *   CLMOE_Q8_0     32       34   h d, int8 q[32]                      d * q
 *   CLMOE_Q4_0     32       18   h d, b qs[16]                        d * (q - 8)
 *   CLMOE_Q5_0     32       22   h d, b qh[4], b qs[16]               d * (q - 16)
 *   CLMOE_MXFP4    32       17   b e, b qs[16]                        2^(e - 127) * T[q]
 *   CLMOE_Q4_K    256      144   h d, h m, b s[12], b qs[128]         d * S * q - m * M
 *   CLMOE_Q5_K    256      176   h d, h m, b s[12], b qh[32], qs[128] d * S * q - m * M
 *   CLMOE_Q6_K    256      210   b ql[128], b qh[64], int8 s[16], h d d * s[i / 16] * (q - 32)
 *
 * where
 *   - Q4_0, Q5_0, MXFP4: byte j of qs has the low 4 bits of element j in its lower half, of element j + 16 in
 *     its upper half. Q5_0: the fifth bit of element i is bit i of qh.
 *   - MXFP4: T = 0, 1/2, 1, 3/2, 2, 3, 4, 6 and, from q = 8 on, their negatives (0 for q = 8). e = 255 is
 *     NaN, as the OCP specification has it (ggml makes 2^128 of it, and never writes it).
 *   - Q4_K, Q5_K: byte 32c + l of qs has the low 4 bits of elements 64c + l and 64c + 32 + l. Q5_K: the fifth
 *     bit of element 32b + l is bit b of qh[l]. S and M belong to 32 elements, b = i / 32. For b < 4 they are
 *     the low 6 bits of s[b] and s[b + 4]; else the lower and the upper half of s[b + 4], and above them the
 *     two high bits of s[b - 4] and of s[b].
 *   - Q6_K: element 128h + 32c + l has 4 bits from ql[64h + 32(c & 1) + l], its lower half for c < 2, and
 *     above them bits 2c and 2c + 1 of qh[32h + l].
 *
 * Unpacking computes just that in fp32, from left to right (every product with a scale is exact), then rounds
 * to the dtype of x. Scales that are infinite or NaN follow IEEE (inf * 0 is NaN). Values of MXFP4 below
 * 2^-126 are 0 on devices without denormals.
 *
 * Packing makes the same bytes on every device, with or without denormals: quotients, products and sums are
 * fp32, each rounded to nearest; round() takes halves away from zero; an f16 is rounded to nearest, ties to
 * even. Of a block (or part), `max` is its first element of the largest magnitude, amax that magnitude.
 *
 *   Q8_0    D = amax / 127, d = f16(D), q = round(x * (1/D)); q = 0 and d = 0 if D < 2^-125
 *   Q4_0    D = max / -8, d = f16(D), q = min(15, trunc(x * (1/D) + 8.5)); q = 8 if |D| < 2^-124
 *   Q5_0    D = max / -16, d = f16(D), q = min(31, trunc(x * (1/D) + 16.5)); q = 16 if |D| < 2^-124
 *   MXFP4   e = floor(log2(amax)) + 125, at least 0; q: the nearest of T to x * 2^(127 - e), of two the
 *           smaller one in magnitude; q = 8 is not used
 *   Q4_K, Q5_K   n = 15, 31. For each 32 elements b:
 *           low_b = -min(0, x_i),  D_b = (max(0, x_i) + low_b) * (1/n)
 *           d = f16(max D_b * (1/63)),  S_b = round(D_b * (1 / max D_b * 63));  m and M_b likewise from low_b
 *           q = round((x + m * M_b) * (1 / (d * S_b))), kept in 0 .. n
 *   Q6_K    For each 16 elements b:
 *           D_b = max / -32;  D: the first D_b of the largest magnitude, divided by -128
 *           d = f16(D),  s_b = min(127, round(D_b * (1/D)))
 *           q = round(x * (1 / (d * s_b))) + 32, kept in 0 .. 63
 *
 * Q8_0, Q4_0, Q5_0 and MXFP4 so are what ggml's reference makes of finite numbers (MXFP4 where ggml's log2
 * does not round up to a whole number just below a power of two). The K formats are simple and deterministic,
 * without the search for scales that llama.cpp's tools do. The corners:
 * - Zeros: d is +0 and q stands for 0; in Q4_0 and Q5_0, as in ggml, d is -0.
 * - K formats: a d (or m) that rounds to 0 is +0, and S, M, s and the terms they belong to are 0. 1 / (d * S)
 *   is taken for 0 where d * S is 0.
 * - D beyond f16 (|D| >= 65520): d is infinite, and q as above; K formats: as the next.
 * - A block with a NaN or an infinity packs to NaN (0x7e00; e = 255) for all scales in f16, with q that stand
 *   for 0 and other scales of 0, so that it unpacks to NaN and the damage stays visible.
 *
 * ---- Codes with scales apart ----
 *
 * CLMOE_F8_E4M3, CLMOE_I8 and CLMOE_F4_E2M1, with one scale for each block of scale.rows x scale.columns
 * elements, as scale.h describes them: for clmoe_matmul they are w and w_scale, in CLMOE_W_ENK. Blocks at the
 * ends of rows and columns may be smaller.
 *
 * Unpacking: code * scale in fp32, then rounded to the dtype of x. Products (and E8M0 scales) below 2^-126
 * are 0 on devices without denormals.
 *
 * Packing makes the same bytes on every device, with or without denormals. Of a block, amax is the largest
 * magnitude, TOP the largest code and POWER the largest power of two among the codes:
 *
 *                    TOP  POWER  code(v), for v that comes from the scale s
 *   CLMOE_F8_E4M3    448   2^8   the nearest number, of two the one with an even mantissa, at most +-448.
 *                                What rounds to zero keeps the sign of x
 *   CLMOE_I8         127   2^6   round(v), halves away from zero, kept in -127 .. 127
 *   CLMOE_F4_E2M1      6   2^2   the nearest number, of two the smaller one in magnitude, at most +-6; -0 is
 *                                not used
 *
 *   scales in f32, f16, bf16   D = amax / TOP in fp32, 0 if that is below 2^-100; s = D rounded to nearest,
 *                              ties to even; v = x * (1/s), where quotient and product are fp32, rounded to
 *                              nearest
 *   E8M0 (CLMOE_U8)            s = max(2^-127, 2^floor(log2(amax)) / POWER); v = x / s
 *
 * - Where s is 0 (that of zeros is), or infinite (in f16, D >= 65520), all codes of the block are 0, and +0:
 *   they unpack to 0, or to NaN where s is infinite. E8M0 of zeros is 2^-127.
 * - A block with a NaN or an infinity has a NaN for its scale (0x7fc00000, 0x7e00, 0x7fc0; 255) and codes of
 *   0: it unpacks to NaN.
 *
 * ---- 4 bits in groups: CLMOE_I32 with CLMOE_W_AWQ or CLMOE_W_GPTQ ----
 *
 * As scale.h describes them: rows is a multiple of 8 (R), n is K, of CLMOE_W_GPTQ a multiple of 8, scale.rows
 * is 1; scales are f32, f16 or bf16.
 *
 * Unpacking: (q - z) * scale in fp32, then rounded to the dtype of x. Packing, of each group of a row, with
 * sums, quotients and products in fp32, each rounded to nearest, and halves away from zero in round():
 *
 *   low = -min(0, x), high = max(0, x); with CLMOE_ZERO_EIGHT both are amax
 *   D = (high + low) / 15, 0 if that is below 2^-100; s = D rounded to nearest, ties to even
 *   z = round(low * (1/s)), kept in 0 .. 15; in 1 .. 16 with CLMOE_ZERO_PLUS_ONE; 8 with CLMOE_ZERO_EIGHT
 *   q = round(x * (1/s)) + z, kept in 0 .. 15
 *
 * - Where s is 0 or infinite, z is 0 (1, 8), the least there is, and all q are z.
 * - A group with a NaN or an infinity, or whose high + low is infinite, has a NaN for its scale and the same
 *   z and q.
 */
#ifndef CLMOE_QUANT_H
#define CLMOE_QUANT_H

#include "plan.h"
#include "scale.h"

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
    int64_t max_rows;         /* 0 <= rows of a call <= max_rows */
    int64_t n;                /* elements of a row: a positive multiple of the block; of CLMOE_F4_E2M1 even */
    enum clmoe_dtype plain;   /* CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype block;   /* a block format, CLMOE_F8_E4M3, CLMOE_I8, CLMOE_F4_E2M1 or CLMOE_I32 */
    enum clmoe_w_order order; /* for CLMOE_I32: CLMOE_W_AWQ or CLMOE_W_GPTQ; else CLMOE_W_ENK */
    struct clmoe_w_scale scale; /* for codes: all rows of a call where scale.rows is 0; else {0} */
};

/* The last stride of all must be 1. They must not overlap. A stack [E, R, K] of weights is E*R rows, whose
 * scales are [E, R / scale.rows, ..]: where scale.rows is 0 or does not divide R, make a call for each
 * expert. */
struct clmoe_quant_args {
    struct clmoe_tensor x;     /* [rows, n] plain */
    struct clmoe_tensor q;     /* [rows, n] block; CLMOE_W_AWQ [n, rows / 8], CLMOE_W_GPTQ [n / 8, rows] */
    struct clmoe_tensor scale; /* of codes: [ceil(rows / scale.rows), ceil(n / scale.columns)] scale.dtype; of
                                  CLMOE_I32 [G, rows] */
    struct clmoe_tensor
        zero; /* CLMOE_I32, but for CLMOE_ZERO_EIGHT: [G, rows / 8], G = ceil(n / scale.columns) */
};

/* Errors, before anything is enqueued: CLMOE_E_INVALID for a size outside the ranges above, another dtype, order
 * or shape, and for a tensor of scales or zeros that is missing, or given where there is none;
 * CLMOE_E_UNSUPPORTED for a kernel asked for by name that is not for the format. Tensors stay the caller's. */
CLMOE_API enum clmoe_status clmoe_quant_plan(clmoe_context *ctx, const struct clmoe_quant_params *params,
                                             clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_quant_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                const struct clmoe_quant_args *args, cl_uint n_wait,
                                                const cl_event *wait, cl_event *event);

#ifdef __cplusplus
}
#endif
#endif
