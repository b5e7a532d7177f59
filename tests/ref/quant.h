/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_QUANT_H
#define CLMOE_REF_QUANT_H

#include <stdint.h>

/* D of a block of 32 (finite) numbers: the largest magnitude / 127, rounded to fp32. */
float ref_q8_0_scale(const float *x);

/* n numbers (a multiple of 32) to n / 32 * 34 bytes, as include/clmoe/quant.h says. Unpacking is ref_load. */
void ref_q8_0_pack(const float *x, int64_t n, unsigned char *q);

#endif
