// SPDX-License-Identifier: MIT
// From sums to rows of y by way of local memory, a group of four warps on its own: for kernels with room for that
// beside the ring, whose y may begin anywhere.
#ifndef STAGED_N
#error "STAGED_N: columns of y that a group stages, 32 or 64"
#endif
#ifndef PAIRS_STEP
#error "PAIRS_STEP: pairs that a group stages at a time"
#endif

// Where chunk c of the row of pair t is staged: rows have STAGED_N elements, 64 or 128 bytes.
inline uint staged_at(uint t, uint c) { return t * STAGED_N * 2 + (GLU ? c ^ (t >> 1 & 3u) : c ^ (t & 7u)) * 16; }

// Staged rows of the pairs from `first` on: columns n0 .. n0 + STAGED_N - 1 of y. By a group.
inline void store_rows(const local uchar *from, const local struct slot *slot, int first, global ushort *y,
                       long y_stride, bool aligned, long n0, long columns) {
    const uint chunks = STAGED_N / 8, lid = get_local_id(0) & 127u, c = lid & (chunks - 1);
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
