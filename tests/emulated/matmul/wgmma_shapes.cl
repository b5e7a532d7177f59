// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_shapes.cl for CPUs: tests/emulated/chip.c has the functions.
#define WGMMA_FENCE()
#define WGMMA_COMMIT() wgmma_commit()
#define WGMMA_WAIT(n) wgmma_wait(n[0] - 48)
#define HOLD(n, d)

void wgmma(int n, float *d, ulong a, ulong b, uint keep);
void wgmma_commit(void);
void wgmma_wait(int left);
