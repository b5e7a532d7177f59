// SPDX-License-Identifier: MIT
// Brings weights into panels: packed [E, panels, K, 32], contiguous. Without GLU lane j of panel q is column 32q + j of
// y; with GLU lanes 0..15 are the gate columns 16q + j, lanes 16..31 the up columns 16q + j - 16. Lanes past the last
// column are zero.
//
// One work-item an element, in the order of the output:   element = ((e * panels + q) * K + k) * 32 + j.
// Sources as in pair.cl: skip + e*expert + n*column + k*depth.
#include "common/dtype.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, any number"
#endif
#ifndef W_T
#error "W_T: f32, f16 or bf16"
#endif
#ifndef GLU
#error "GLU: 1 if there are up rows, else 0"
#endif

#define LANES (GLU ? 16 : 32)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_pack(
    const global ELEM(W_T) *w, ulong w_skip, long w_expert, long w_column, long w_depth, const global ELEM(W_T) *v,
    ulong v_skip, long v_expert, long v_column, long v_depth, global ELEM(W_T) *packed, ulong packed_skip, long panels,
    long depth, long columns, ulong elements) {
    const ulong at = (ulong)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (at >= elements) return;
    const int lane = at & 31;
    const long line = at / 32, panel = line / depth, d = line - panel * depth;
    const long e = panel / panels, n = (panel - e * panels) * LANES + (lane & (LANES - 1));
    const bool up = lane >= LANES;
    ELEM(W_T) value = 0;
    if (n < columns)
        value = up ? v[v_skip + e * v_expert + n * v_column + d * v_depth]
                   : w[w_skip + e * w_expert + n * w_column + d * w_depth];
    packed[packed_skip + at] = value;
}
