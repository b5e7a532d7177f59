/* SPDX-License-Identifier: MIT
 * Packing of the weights of matmul. Its problem is that of the product, with the order the weights have now.
 */
#ifndef CLMOE_KERNEL_MATMUL_PACK_H
#define CLMOE_KERNEL_MATMUL_PACK_H

#include "matmul.h"

struct matmul_pack_call {
    const struct clmoe_tensor *w, *w_up, *packed;
    int32_t n_w;
};

extern const struct kernel_table matmul_pack_table;

#endif
