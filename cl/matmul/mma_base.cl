// SPDX-License-Identifier: MIT
// What kernels on mma.sync begin with: the product's arguments, its epilogue for 4 columns at a time, the instruction.
#include "matmul/pair.cl"

#ifndef EMULATED
#error "EMULATED: 1 to do without the instructions, else 0"
#endif

#define VALUE float4
#define BITS_f32 32
#define BITS_f16 16
#define BITS_bf16 16
#if CAT(BITS_, Y_T) == 16 && !EMULATED
#include "matmul/activation_nv.cl"
#endif
#include "matmul/epilogue.cl"

#include "matmul/matrix_layout.cl"
#if !defined(LAYOUT) || LAYOUT != MMA_16
#error "LAYOUT: MMA_16"
#endif
#include "matmul/matrix_mma.cl"
#include "matmul/matrix_emulated.cl"
