// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_coded_memory.cl for CPUs: tests/emulated/chip.c has the functions.
#define COMPUTED_HERE(a, b)
#define ask_for(at)

void copy_16_if(bool there, uint to, const global uchar *from);
void copy_some_of_16_if(bool there, uint to, const global uchar *from, int bytes);
void copy_some_of_4(uint to, const global uint *from, int bytes);
void store_local(uint at, uint v);
void warp_multiply(float *sums, const uint *w, const uint *x);
#define WARPS_BARRIER(id, items) warps_barrier(id, items)
void warps_barrier(uint id, uint items);
