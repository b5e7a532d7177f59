// SPDX-License-Identifier: MIT
// What the kernels for MXFP4 weights on sm_90a begin with.
//
//   W_T   mxfp4: blocks of a scale and 16 bytes, elements j and j + 16 in byte j
//         f4_e2m1: 16 bytes, elements 2j and 2j + 1 in byte j, scales elsewhere
#define MATMUL_FLAGS_ARG any_flags
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/activation_nv.cl"
#include "matmul/epilogue.cl"

#ifndef STAGES
#error "STAGES: of the ring, 3 or more"
#endif
#ifndef TK
#error "TK: steps of K of a stage, a multiple of 128, or 64 where pairs are many"
#endif
#ifndef PERIOD
#error "PERIOD: rows of w after which one begins at the same byte of 16 again, 1 to 16 or with GLU 8; many pairs: 1"
#endif
#ifndef PTX
#define PTX 1
#endif
#include "matmul/coded.cl"
#define PACK_TWO "cvt.rn.bf16x2.f32"
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_coded_memory.cl"

// Of a row of w: bytes of a block of 32 elements; those of a stage, also where they may begin anywhere.
#define BLOCK_BYTES (SCALED ? 16 : 17)
#define STEP_BYTES (TK / 32 * BLOCK_BYTES)
#define WINDOW (SCALED ? STEP_BYTES : (STEP_BYTES + 15 + 15) / 16 * 16)

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};
