// SPDX-License-Identifier: MIT
// What the kernels for coded weights on sm_90a begin with.
//
//   W_T   mxfp4: blocks of a scale and 16 bytes, elements j and j + 16 in byte j
//         f4_e2m1: 16 bytes, elements 2j and 2j + 1 in byte j, scales elsewhere
//         q4_0, q5_0, q8_0: blocks of a scale of 16 bits and codes (common/blocks.cl)
//         q4_k, q5_k, q6_k: blocks of 256 elements, whose parts of 32 or 16 have scales of few bits
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

// Bits of codes whose blocks have scales that go to sums; 0: scales go to codes.
#define APART CAT(APART_, W_T)
#define APART_mxfp4 0
#define APART_f4_e2m1 0
#define APART_q4_0 4
#define APART_q5_0 5
#define APART_q8_0 8
#define APART_q4_k 4
#define APART_q5_k 5
#define APART_q6_k 6

// Blocks with scales of two levels, 256 steps.
#define SUPER (BLOCK(W_T) == 256)

#define IS_BF16 CAT(IS_BF16_, X_T)
#define IS_BF16_bf16 1
#define IS_BF16_f16 0
#if IS_BF16
#define PACK_TWO "cvt.rn.bf16x2.f32"
#define WGMMA_T "bf16.bf16"
#else
#define PACK_TWO "cvt.rn.f16x2.f32"
#define WGMMA_T "f16.f16"
#endif
#include "matmul/wgmma_memory.cl"
#include "matmul/wgmma_coded_memory.cl"

// Of a row of w: bytes of a block of 32 elements, or of 256; those that are fetched at a time, of a stage or of a block
// of 256, also where they may begin anywhere.
#define BLOCK_STEPS (SUPER ? 256 : 32)
#define BLOCK_BYTES (SCALED ? 16 : UNITS(W_T) * (int)sizeof(ELEM(W_T)))
#define STEP_BYTES (SUPER ? BLOCK_BYTES : TK / 32 * BLOCK_BYTES)
#define WINDOW (SCALED ? STEP_BYTES : (STEP_BYTES + 15 + 15) / 16 * 16)

// Addresses in local memory: of the stages and of their barriers, of the barriers of slots.
struct ring {
    uint base, full, empty, told, heard;
};
