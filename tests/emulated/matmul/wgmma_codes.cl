// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_codes.cl for CPUs: tests/emulated/hopper.c has the functions.
uint widen(ushort codes);
