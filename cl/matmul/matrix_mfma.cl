// SPDX-License-Identifier: MIT
// AMD CDNA 2 and later (gfx90a, gfx94x, gfx950): MFMA on waves of 64. A lane reads 4 steps of one row, 8 bytes.
#if LAYOUT == MFMA_32 || LAYOUT == MFMA_16
typedef ushort4 a_fragment, b_fragment;

static inline a_fragment read_a(const local ushort *rows, uint lane) {
    return *(const local ushort4 *)(rows + lane % LAYOUT_M(LAYOUT) * STRIDE + lane / LAYOUT_M(LAYOUT) * 4);
}
#define read_b read_a

#if LAYOUT == MFMA_32
typedef float16 d_fragment;
#define MFMA(types) __builtin_amdgcn_mfma_f32_32x32x8##types
#else
typedef float4 d_fragment;
#define MFMA(types) __builtin_amdgcn_mfma_f32_16x16x16##types
#endif

#if !EMULATED
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define MULTIPLY_f16(d, a, b) MFMA(f16)(as_half4(a), as_half4(b), d, 0, 0, 0)
#define MULTIPLY_bf16(d, a, b) MFMA(bf16_1k)(as_short4(a), as_short4(b), d, 0, 0, 0)
#endif
#endif
