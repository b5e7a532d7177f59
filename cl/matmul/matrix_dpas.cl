// SPDX-License-Identifier: MIT
// Intel Xe: DPAS, systolic depth 8, on sub-groups of 8 (Xe-HPG: DG2) or 16 (Xe-HPC: PVC, and Xe2). Of A a lane reads
// one or two steps of each of 8 rows; of B all 16 steps of its column, in pairs, as they lie in a row of w.
#if LAYOUT == DPAS_8
typedef ushort16 a_fragment;
#define A_ROW(rows, m) (((const local ushort2 *)((rows) + (m)*STRIDE))[lane])
#elif LAYOUT == DPAS_16
typedef ushort8 a_fragment;
#define A_ROW(rows, m) ((rows)[(m)*STRIDE + lane])
#endif

#if LAYOUT == DPAS_8 || LAYOUT == DPAS_16
typedef ushort16 b_fragment;
typedef float8 d_fragment;

static inline a_fragment read_a(const local ushort *rows, uint lane) {
    return (a_fragment)(A_ROW(rows, 0), A_ROW(rows, 1), A_ROW(rows, 2), A_ROW(rows, 3), A_ROW(rows, 4), A_ROW(rows, 5),
                        A_ROW(rows, 6), A_ROW(rows, 7));
}

static inline b_fragment read_b(const local ushort *rows, uint lane) {
    const local ushort8 *const row = (const local ushort8 *)(rows + lane * STRIDE);
    return (ushort16)(row[0], row[1]);
}

#if !EMULATED
#define WAVE get_sub_group_id()
#define LANE get_sub_group_local_id()
#define WAVE_SIZE __attribute__((intel_reqd_sub_group_size(LAYOUT_LANES(LAYOUT))))
#if LAYOUT == DPAS_8
#define A_REGISTERS as_int8
#else
#define A_REGISTERS as_short8
#endif
#define MULTIPLY_f16(d, a, b) intel_sub_group_f16_f16_matrix_mad_k16(A_REGISTERS(a), as_int8(b), d)
#define MULTIPLY_bf16(d, a, b) intel_sub_group_bf16_bf16_matrix_mad_k16(A_REGISTERS(a), as_int8(b), d)
#endif
#endif
