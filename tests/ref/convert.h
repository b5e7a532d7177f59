/* SPDX-License-Identifier: MIT
 * Scalar conversions of the storage types, written from their definitions; the library's own are in
 * cl/common. */
#ifndef CLMOE_REF_CONVERT_H
#define CLMOE_REF_CONVERT_H

#include "clmoe/tensor.h"

uint16_t ref_f16_from_f32(float v); /* to nearest, ties to even; NaN stays NaN */
float ref_f16_to_f32(uint16_t h);
uint16_t ref_bf16_from_f32(float v);
float ref_bf16_to_f32(uint16_t b);

/* Element `i` of an array of f32, f16 or bf16. */
float ref_load(enum clmoe_dtype dtype, const void *data, int64_t i);

/* Writes f32, f16 or bf16. */
void ref_store(enum clmoe_dtype dtype, void *data, int64_t i, float v);

/* v rounded to the dtype and back. */
float ref_round(enum clmoe_dtype dtype, float v);

#endif
