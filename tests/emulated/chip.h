/* SPDX-License-Identifier: MIT
 * What a Hopper chip does beside a kernel's program: barriers that copies arrive on, copies by tensor maps, products. The
 * files of tests/emulated/matmul declare its functions to kernels. */
#ifndef CLMOE_TESTS_EMULATED_CHIP_H
#define CLMOE_TESTS_EMULATED_CHIP_H

#include "items.h"

#include <stdint.h>

typedef unsigned int uint;
typedef uint16_t half; /* of the type of x and y */

/* What that type is, the kernel's program knows. */
float value_of(half h);

/* What may be copied: w, x, scales, sums of x. */
extern struct range { const void *begin, *end; } readable[4];

/* Runs `item` as each work-item of so many work-groups, one after another. */
void chip_run(uint of_kernel, uint items, void (*item)(void));

#endif
