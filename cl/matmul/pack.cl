// SPDX-License-Identifier: MIT
// Brings weights into panels: packed [E, panels, K, 32], contiguous. Without GLU lane j of panel q is column 32q + j of
// y; with GLU lanes 0..15 are the gate columns 16q + j, lanes 16..31 the up columns 16q + j - 16. Lanes past the last
// column are zero.
//
// One work-item for each lane and run of STEPS steps of K: an element, or a block, which becomes a lane of a tile
// (common/panels.cl); in the order of the output:   item = ((e * panels + q) * K / STEPS + k / STEPS) * 32 + j.
// Sources as in pair.cl: skip + e*expert + n*column + k*depth.
#include "common/panels.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, any number"
#endif
#ifndef W_T
#error "W_T: f32, f16, bf16 or a block format that has panels"
#endif
#ifndef GLU
#error "GLU: 1 if there are up rows, else 0"
#endif

#define LANES (GLU ? 16 : 32)
#define STEPS BLOCK(W_T)

// Writes what the work-item owns, from `from` or zeros.
#if STEPS == 1
static inline void write_lane(global ELEM(W_T) *packed, ulong item, const global ELEM(W_T) *from, bool used) {
    packed[item] = used ? *from : 0;
}
#else
static inline void write_lane(global ELEM(W_T) *packed, ulong item, const global ELEM(W_T) *from, bool used) {
    global ELEM(W_T) *const tile = packed + item / 32 * (32 * UNITS(W_T)) + item / 16 % 2 * HALF_ROW(W_T);
    const int lane = item & 15, in_row = HALF_ROW(W_T), bytes = (UNITS(W_T) - 1) * (int)sizeof(ELEM(W_T));
    tile[lane / in_row * 2 * in_row + lane % in_row] = used ? *from : 0;
    global uchar *const codes = (global uchar *)(tile + 32);
    for (int j = 0; j < bytes; j++) {
        const int row = bytes == 32 ? j % 16 * 2 + j / 16 : j;
        codes[row * 32 + lane] = used ? ((const global uchar *)(from + 1))[j] : 0;
    }
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_pack(
    const global ELEM(W_T) *w, ulong w_skip, long w_expert, long w_column, long w_depth, const global ELEM(W_T) *v,
    ulong v_skip, long v_expert, long v_column, long v_depth, global ELEM(W_T) *packed, ulong packed_skip, long panels,
    long depth, long columns, ulong items) {
    const ulong item = (ulong)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (item >= items) return;
    const int lane = item & 31;
    const long runs = depth / STEPS, line = item / 32, panel = line / runs, d = (line - panel * runs) * STEPS;
    const long e = panel / panels, n = (panel - e * panels) * LANES + (lane & (LANES - 1));
    const global ELEM(W_T) *const from =
        lane >= LANES ? ROW_AT(W_T, v + v_skip, e * v_expert + n * v_column + d * v_depth)
                      : ROW_AT(W_T, w + w_skip, e * w_expert + n * w_column + d * w_depth);
    write_lane(packed + packed_skip, item, from, n < columns);
}
