/* SPDX-License-Identifier: MIT
 * Probes of matrix instructions: small integers, whose products and sums bf16 and float hold exactly, laid
 * out as cl/matmul/matrix_layout.cl says, so that a lane which holds another element than expected is seen.
 */
#ifndef CLMOE_DEVICE_PROBE_MATRIX_H
#define CLMOE_DEVICE_PROBE_MATRIX_H

/* After what an instruction defines: LANES, LANE; M, N, K; A, B: elements of a lane; A_ROW, A_K, B_K of
 * element j and D_ROW of register r of lane l; B_COLUMN and D_COLUMN where these are not l % N; MULTIPLY: the
 * instruction on the arrays a and b, which makes d. */
#define PROBE_PRODUCT                                                                                        \
    "#ifndef B_COLUMN\n"                                                                                     \
    "#define B_COLUMN (l % N)\n"                                                                             \
    "#define D_COLUMN (l % N)\n"                                                                             \
    "#endif\n"                                                                                               \
    "int value_a(int i, int k) { return (3 * i + 5 * k) % 7; }\n"                                            \
    "int value_b(int k, int n) { return (2 * k + 3 * n) % 5 - 2; }\n"                                        \
    "ushort bits(int v) { return (ushort)(as_uint((float)v) >> 16); }\n"                                     \
    "kernel WAVE_SIZE void probe(global uint *out) {\n"                                                      \
    "    const int l = LANE;\n"                                                                              \
    "    ushort a[A], b[B];\n"                                                                               \
    "    for (int j = 0; j < A; j++) a[j] = bits(value_a(A_ROW, A_K));\n"                                    \
    "    for (int j = 0; j < B; j++) b[j] = bits(value_b(B_K, B_COLUMN));\n"                                 \
    "    float d[M * N / LANES];\n"                                                                          \
    "    MULTIPLY;\n"                                                                                        \
    "    uint wrong = 0;\n"                                                                                  \
    "    for (int r = 0; r < M * N / LANES; r++) {\n"                                                        \
    "        int want = 0;\n"                                                                                \
    "        for (int k = 0; k < K; k++) want += value_a(D_ROW, k) * value_b(k, D_COLUMN);\n"                \
    "        wrong += d[r] != (float)want;\n"                                                                \
    "    }\n"                                                                                                \
    "    out[get_global_id(0)] = wrong ? 1000u : (uint)get_global_id(0);\n"                                  \
    "}\n"

/* A chip that lacks the instruction must not see it: the macros are the compiler's own names of chips. */
#define PROBE_MFMA                                                                                           \
    "#if !defined(__gfx90a__) && !defined(__gfx940__) && !defined(__gfx941__) && !defined(__gfx942__) && "   \
    "\\\n"                                                                                                   \
    "    !defined(__gfx950__)\n"                                                                             \
    "#error not CDNA 2 or later\n"                                                                           \
    "#else\n"                                                                                                \
    "#define WAVE_SIZE __attribute__((reqd_work_group_size(64, 1, 1)))\n"                                    \
    "#define LANES 64\n"                                                                                     \
    "#define LANE get_local_id(0)\n"                                                                         \
    "#define M 32\n"                                                                                         \
    "#define N 32\n"                                                                                         \
    "#define K 8\n"                                                                                          \
    "#define A 4\n"                                                                                          \
    "#define B 4\n"                                                                                          \
    "#define A_ROW (l % 32)\n"                                                                               \
    "#define A_K (l / 32 * 4 + j)\n"                                                                         \
    "#define B_K A_K\n"                                                                                      \
    "#define D_ROW (r / 4 * 8 + l / 32 * 4 + r % 4)\n"                                                       \
    "#define MULTIPLY vstore16(__builtin_amdgcn_mfma_f32_32x32x8bf16_1k(as_short4(vload4(0, a)), \\\n"       \
    "    as_short4(vload4(0, b)), (float16)(0.0f), 0, 0, 0), 0, d)\n" PROBE_PRODUCT "#endif\n"

#define PROBE_WMMA                                                                                           \
    "#define WAVE_SIZE __attribute__((reqd_work_group_size(32, 1, 1)))\n"                                    \
    "#define LANES 32\n"                                                                                     \
    "#define LANE get_local_id(0)\n"                                                                         \
    "#define M 16\n"                                                                                         \
    "#define N 16\n"                                                                                         \
    "#define K 16\n"                                                                                         \
    "#define A_ROW (l % 16)\n"                                                                               \
    "#define B_K A_K\n"

#define PROBE_WMMA_11                                                                                        \
    "#ifndef __GFX11__\n"                                                                                    \
    "#error not RDNA 3\n"                                                                                    \
    "#else\n" PROBE_WMMA "#define A 16\n"                                                                    \
    "#define B 16\n"                                                                                         \
    "#define A_K j\n"                                                                                        \
    "#define D_ROW (2 * r + l / 16)\n"                                                                       \
    "#define MULTIPLY vstore8(__builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(as_short16(vload16(0, a)), \\\n"   \
    "    as_short16(vload16(0, b)), (float8)(0.0f)), 0, d)\n" PROBE_PRODUCT "#endif\n"

#define PROBE_WMMA_12                                                                                        \
    "#if !defined(__gfx1200__) && !defined(__gfx1201__)\n"                                                   \
    "#error not RDNA 4\n"                                                                                    \
    "#else\n" PROBE_WMMA "#define A 8\n"                                                                     \
    "#define B 8\n"                                                                                          \
    "#define A_K (j / 4 * 8 + l / 16 * 4 + j % 4)\n"                                                         \
    "#define D_ROW (l / 16 * 8 + r)\n"                                                                       \
    "#define MULTIPLY vstore8(__builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12( \\\n"                       \
    "    as_short8(vload8(0, a)), as_short8(vload8(0, b)), (float8)(0.0f)), 0, d)\n" PROBE_PRODUCT           \
    "#endif\n"

#define PROBE_DPAS                                                                                           \
    "#define WAVE_SIZE __attribute__((intel_reqd_sub_group_size(LANES)))\n"                                  \
    "#define LANE get_sub_group_local_id()\n"                                                                \
    "#define M 8\n"                                                                                          \
    "#define N LANES\n"                                                                                      \
    "#define K 16\n"                                                                                         \
    "#define A (128 / LANES)\n"                                                                              \
    "#define B 16\n"                                                                                         \
    "#define A_ROW (j / (16 / LANES))\n"                                                                     \
    "#define A_K (l * (16 / LANES) + j % (16 / LANES))\n"                                                    \
    "#define B_K j\n"                                                                                        \
    "#define D_ROW r\n"

#define PROBE_DPAS_8                                                                                         \
    "#define LANES 8\n" PROBE_DPAS                                                                           \
    "#define MULTIPLY vstore8(intel_sub_group_bf16_bf16_matrix_mad_k16(as_int8(vload16(0, a)), \\\n"         \
    "    as_int8(vload16(0, b)), (float8)(0.0f)), 0, d)\n" PROBE_PRODUCT

#define PROBE_DPAS_16                                                                                        \
    "#define LANES 16\n" PROBE_DPAS                                                                          \
    "#define MULTIPLY vstore8(intel_sub_group_bf16_bf16_matrix_mad_k16(as_short8(vload8(0, a)), \\\n"        \
    "    as_int8(vload16(0, b)), (float8)(0.0f)), 0, d)\n" PROBE_PRODUCT

#define PROBE_MMA                                                                                            \
    "#define WAVE_SIZE __attribute__((reqd_work_group_size(32, 1, 1)))\n"                                    \
    "#define LANES 32\n"                                                                                     \
    "#define LANE get_local_id(0)\n"                                                                         \
    "#define M 16\n"                                                                                         \
    "#define N 8\n"                                                                                          \
    "#define K 16\n"                                                                                         \
    "#define A 8\n"                                                                                          \
    "#define B 4\n"                                                                                          \
    "#define A_ROW (j / 2 % 2 * 8 + l / 4)\n"                                                                \
    "#define A_K (j / 4 * 8 + l % 4 * 2 + j % 2)\n"                                                          \
    "#define B_K (j / 2 * 8 + l % 4 * 2 + j % 2)\n"                                                          \
    "#define B_COLUMN (l / 4)\n"                                                                             \
    "#define D_ROW (r / 2 * 8 + l / 4)\n"                                                                    \
    "#define D_COLUMN (l % 4 * 2 + r % 2)\n"                                                                 \
    "#define MULTIPLY multiply(d, as_uint4(vload8(0, a)), as_uint2(vload4(0, b)))\n"                         \
    "void multiply(float *d, uint4 a, uint2 b) {\n"                                                          \
    "    asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, \"\n"          \
    "                 \"{%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};\"\n"                               \
    "                 : \"=f\"(d[0]), \"=f\"(d[1]), \"=f\"(d[2]), \"=f\"(d[3])\n"                            \
    "                 : \"r\"(a.x), \"r\"(a.y), \"r\"(a.z), \"r\"(a.w), \"r\"(b.x), \"r\"(b.y),\n"           \
    "                   \"f\"(0.0f));\n"                                                                     \
    "}\n" PROBE_PRODUCT

#endif
