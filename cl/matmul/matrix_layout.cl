// SPDX-License-Identifier: MIT
// Which elements of the matrices in D[M][N] += A[M][K] B[K][N] the lanes of a wave hold, for each matrix instruction.
// Plain C as well, so that tests/unit/matrix.c holds it against the vendors' tables:
//
//   MFMA_32, MFMA_16   AMD CDNA, v_mfma_f32_32x32x8_{f16,bf16_1k} and 16x16x16          AMD Matrix Instruction
//   WMMA_11, WMMA_12   AMD RDNA 3 and RDNA 4, v_wmma_f32_16x16x16_{f16,bf16}, wave32    Calculator
//   DPAS_8, DPAS_16    Intel Xe, intel_sub_group_{f16_f16,bf16_bf16}_matrix_mad_k16     cl_intel_subgroup_matrix_
//                      with sub-groups of 8 and of 16                                   multiply_accumulate
//   MMA_16             NVIDIA sm_80 on, mma.sync.m16n8k16 of f16 and bf16               PTX ISA
//
// Element j of a lane is the j-th 16-bit half of its registers of A or B, from the low half of the first one on;
// register r is the r-th float of D. WMMA_11 wants A and B twice, in the lower and in the upper 16 lanes.
#define MFMA_32 0
#define MFMA_16 1
#define WMMA_11 2
#define WMMA_12 3
#define DPAS_8 4
#define DPAS_16 5
#define MMA_16 6
#define LAYOUTS 7

#define LAYOUT_LANES(layout)                                                                                           \
    ((layout) <= MFMA_16 ? 64                                                                                          \
     : (layout) <= WMMA_12 || (layout) == MMA_16 ? 32                                                                  \
     : (layout) == DPAS_8                        ? 8                                                                   \
                                                 : 16)
#define LAYOUT_M(layout) ((layout) == MFMA_32 ? 32 : (layout) <= WMMA_12 || (layout) == MMA_16 ? 16 : 8)
#define LAYOUT_N(layout) ((layout) == MFMA_32 ? 32 : (layout) == DPAS_8 || (layout) == MMA_16 ? 8 : 16)
#define LAYOUT_K(layout) ((layout) == MFMA_32 ? 8 : 16)
#define LAYOUT_COPIES(layout) ((layout) == WMMA_11 ? 2 : 1)

// Elements of A and of B that a lane holds, and its registers of D
#define LAYOUT_A(layout) (LAYOUT_M(layout) * LAYOUT_K(layout) * LAYOUT_COPIES(layout) / LAYOUT_LANES(layout))
#define LAYOUT_B(layout) (LAYOUT_K(layout) * LAYOUT_N(layout) * LAYOUT_COPIES(layout) / LAYOUT_LANES(layout))
#define LAYOUT_D(layout) (LAYOUT_M(layout) * LAYOUT_N(layout) / LAYOUT_LANES(layout))

// DPAS: a register of A has a row, and its lanes have the steps of K, one or (with 8 lanes) two each. MMA: 4 lanes have
// the 8 neighbours that a register has of each row. Elsewhere a lane has steps of one row.
static inline unsigned layout_a_row(int layout, unsigned lane, unsigned j) {
    if (layout == MMA_16) return j / 2 % 2 * 8 + lane / 4;
    return layout >= DPAS_8 ? j / (LAYOUT_K(layout) / LAYOUT_LANES(layout)) : lane % LAYOUT_M(layout);
}

static inline unsigned layout_b_k(int layout, unsigned lane, unsigned j) {
    if (layout <= MFMA_16) return lane / LAYOUT_M(layout) * 4 + j;
    if (layout == MMA_16) return j / 2 * 8 + lane % 4 * 2 + j % 2;
    return layout == WMMA_12 ? j / 4 * 8 + lane / 16 * 4 + j % 4 : j;
}

static inline unsigned layout_a_k(int layout, unsigned lane, unsigned j) {
    const unsigned steps = LAYOUT_K(layout) / LAYOUT_LANES(layout);
    if (layout == MMA_16) return j / 4 * 8 + lane % 4 * 2 + j % 2;
    return layout >= DPAS_8 ? lane * steps + j % steps : layout_b_k(layout, lane, j);
}

static inline unsigned layout_d_row(int layout, unsigned lane, unsigned r) {
    if (layout <= MFMA_16) return r / 4 * 8 + lane / LAYOUT_M(layout) * 4 + r % 4;
    if (layout == WMMA_11) return 2 * r + lane / 16;
    if (layout == MMA_16) return r / 2 * 8 + lane / 4;
    return layout == WMMA_12 ? lane / 16 * 8 + r : r;
}

static inline unsigned layout_b_column(int layout, unsigned lane) {
    return layout == MMA_16 ? lane / 4 : lane % LAYOUT_N(layout);
}

static inline unsigned layout_d_column(int layout, unsigned lane, unsigned r) {
    return layout == MMA_16 ? lane % 4 * 2 + r % 2 : lane % LAYOUT_N(layout);
}
