// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_held.cl for CPUs: tests/emulated/chip.c has the function.
#include "matmul/wgmma_shapes.cl"

#define HELD_WGMMA_16(d, a, b, keep) held_wgmma(16, d, a, b, keep)
#define HELD_WGMMA_32(d, a, b, keep) held_wgmma(32, d, a, b, keep)
#define HELD_WGMMA_64(d, a, b, keep) held_wgmma(64, d, a, b, keep)
#define HELD_WGMMA_96(d, a, b, keep) held_wgmma(96, d, a, b, keep)
#define HELD_WGMMA_128(d, a, b, keep) held_wgmma(128, d, a, b, keep)
#define HELD_WGMMA_144(d, a, b, keep) held_wgmma(144, d, a, b, keep)
#define HELD_WGMMA_160(d, a, b, keep) held_wgmma(160, d, a, b, keep)
#define HELD_WGMMA_192(d, a, b, keep) held_wgmma(192, d, a, b, keep)
#define HELD_WGMMA_256(d, a, b, keep) held_wgmma(256, d, a, b, keep)

void held_wgmma(int n, float *d, const uint *a, ulong b, uint keep);
