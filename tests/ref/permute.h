/* SPDX-License-Identifier: MIT */
#ifndef CLMOE_REF_PERMUTE_H
#define CLMOE_REF_PERMUTE_H

#include <stdint.h>

/* counts [E], offsets [E+1], order and inverse [pairs] from ids [pairs], by comparing
 * (bucket, pair). */
void ref_permute(int64_t pairs, int experts, const int32_t *ids, int32_t *counts, int32_t *offsets,
                 int32_t *order, int32_t *inverse);

#endif
