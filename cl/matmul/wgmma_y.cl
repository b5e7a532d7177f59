// SPDX-License-Identifier: MIT
// From sums in registers to rows of y, for the kernels on sm_90a. Who includes this has included matmul/epilogue.cl; in
// a kernel the names are those of MATMUL_NUMBERS, `e` the expert and `scale` its PAIR_SCALE.
#ifndef PLAN_FLAGS
#error "PLAN_FLAGS: the `flags` of all calls"
#endif
#ifndef LIMITED
#error "LIMITED: 1 where the activation's gate_max, up_max or act_max are given, else 0"
#endif
#ifndef GROUP_N
#error "GROUP_N: columns of y that a group stages, 32 or 64"
#endif
#ifndef PAIRS_STEP
#error "PAIRS_STEP: pairs that a group stages at a time"
#endif

#if LIMITED
#define LIMITS_ARGS ACT_ARGS
#else
#define LIMITS_ARGS alpha, 0.0f, 0.0f, up_add, 0.0f, gate_tanh, up_tanh
#endif
#define flags PLAN_FLAGS // as what comes from epilogue.cl names them

// An element of y from its sums and biases, for a pair of this gamma.
#define FINISH(gate, up, bias, bias_up, weight)                                                                        \
    finish(gate, up, bias, bias_up, GAMMA_IN(weight), scale, GAMMA_OUT(weight), LIMITS_ARGS)

// Where chunk c of the row of pair t is staged: rows have GROUP_N elements, 64 or 128 bytes.
inline uint staged_at(uint t, uint c) { return t * GROUP_N * 2 + (GLU ? c ^ (t >> 1 & 3u) : c ^ (t & 7u)) * 16; }

// Staged rows of the pairs from `first` on: columns n0 .. n0 + GROUP_N - 1 of y. By a group.
inline void store_rows(const local uchar *from, const local struct slot *slot, int first, global ushort *y,
                       long y_stride, bool aligned, long n0, long columns) {
    const uint chunks = GROUP_N / 8, lid = get_local_id(0) & 127u, c = lid & (chunks - 1);
    const long column = n0 + c * 8;
    const int end = min(slot->rows - first, PAIRS_STEP);
    if (column >= columns) return;
#pragma unroll
    for (uint t = lid / chunks; t < PAIRS_STEP; t += 128 / chunks) {
        if ((int)t >= end) break;
        const local ushort *const value = (const local ushort *)(from + staged_at(t, c));
        global ushort *const to = y + slot->y_row[first + t] * y_stride + column;
        if (aligned && column + 8 <= columns)
            *(global uint4 *)to = *(const local uint4 *)value;
        else
            for (int s = 0; s < 8 && column + s < columns; s++)
                to[s] = value[s];
    }
}
