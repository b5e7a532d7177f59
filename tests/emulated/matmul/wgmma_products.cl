// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_products.cl for CPUs.
#include "matmul/wgmma_shapes.cl"

#define PARTS (TOKENS / 16)
#define SUMS float all_sums[2][PARTS * 8];
#define SUMS_PARAMETER , float(*all_sums)[PARTS * 8]
#define SUMS_ARGUMENT , all_sums

inline void multiply_stage(float (*sums)[PARTS * 8], int rows, ulong weights, ulong pairs, uint keep) {
    const int widths[] = {32, 64, 96, 128, 144, 160, 176};
    int i = 0;
    while (widths[i] < rows)
        i++;
    for (uint k = 0; k < 8; k += 2) {
        for (int block = 0; block < (TOKENS > 32 ? 2 : 1); block++)
            wgmma(widths[i], sums[block], weights + block * 512 + k, pairs + k, keep | k);
        wgmma_commit();
    }
}
#define MULTIPLY_STAGE(rows, weights, pairs, keep) multiply_stage(all_sums, rows, weights, pairs, keep)
#define WAIT_FOR_STAGES_BEFORE() wgmma_wait(4)

inline void take_sums(float *out, float (*sums)[PARTS * 8], int part) {
    for (int i = 0; i < 8 * (TOKENS > 32 ? 2 : 1); i++)
        out[i] = sums[i / 8][8 * part + i % 8];
}
#define TAKE_SUMS(out, part) take_sums(out, all_sums, part)
