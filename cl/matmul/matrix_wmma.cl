// SPDX-License-Identifier: MIT
// AMD RDNA 3 (gfx11) and RDNA 4 (gfx12): WMMA on waves of 32. On RDNA 3 a lane reads all 16 steps of its row, and so
// does the lane 16 further; on RDNA 4 it reads 2 times 4 of them.
#if LAYOUT == WMMA_11
typedef ushort16 a_fragment, b_fragment;

static inline a_fragment read_a(const local ushort *rows, uint lane) {
    const local ushort8 *const row = (const local ushort8 *)(rows + lane % 16 * STRIDE);
    return (ushort16)(row[0], row[1]);
}
#elif LAYOUT == WMMA_12
typedef ushort8 a_fragment, b_fragment;

static inline a_fragment read_a(const local ushort *rows, uint lane) {
    const local ushort4 *const row = (const local ushort4 *)(rows + lane % 16 * STRIDE + lane / 16 * 4);
    return (ushort8)(row[0], row[2]);
}
#endif

#if LAYOUT == WMMA_11 || LAYOUT == WMMA_12
#define read_b read_a
typedef float8 d_fragment;
#endif

#if !EMULATED && LAYOUT == WMMA_11
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define MULTIPLY_f16(d, a, b) __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(as_half16(a), as_half16(b), d)
#define MULTIPLY_bf16(d, a, b) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(as_short16(a), as_short16(b), d)
#elif !EMULATED && LAYOUT == WMMA_12
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define MULTIPLY_f16(d, a, b) __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(as_half8(a), as_half8(b), d)
#define MULTIPLY_bf16(d, a, b) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(as_short8(a), as_short8(b), d)
#endif
