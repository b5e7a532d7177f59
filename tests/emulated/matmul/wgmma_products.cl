// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_products.cl for CPUs.
#include "matmul/wgmma_shapes.cl"

#define BLOCK_SUMS 88
#define ALL_SUMS (TOKENS > 32 ? 2 * BLOCK_SUMS : 16)

inline void multiply_stage(float *sums, int rows, ulong weights, ulong pairs, uint keep) {
    const int widths[] = {32, 64, 96, 128, 144, 160, 176};
    int i = 0;
    while (widths[i] < rows)
        i++;
    for (uint k = 0; k < 8; k += 2)
        for (int block = 0; block < (TOKENS > 32 ? 2 : 1); block++)
            wgmma(widths[i], sums + block * BLOCK_SUMS, weights + block * 512 + k, pairs + k, keep | k);
    wgmma_commit();
}
#define MULTIPLY_STAGE(sums, rows, weights, pairs, keep) multiply_stage(sums, rows, weights, pairs, keep)
