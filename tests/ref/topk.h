/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_TOPK_H
#define CLMOE_REF_TOPK_H

#include <stdbool.h>
#include <stdint.h>

/* indices [rows, k] of the k first elements of each row of x [rows, n]: best first, or by index. */
void ref_topk(int64_t rows, int64_t n, int64_t k, const float *x, bool smallest, bool nan_lowest,
              bool by_index, int32_t *indices);

#endif
