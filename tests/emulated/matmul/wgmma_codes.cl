// SPDX-License-Identifier: MIT
// cl/matmul/wgmma_codes.cl for CPUs: tests/emulated/hopper.c has the functions.
#define CODE_UNIT (INTEGERS ? 64.0f : 1.0f)
uint multiply_two(uint a, uint b);
uint widen(ushort codes);
