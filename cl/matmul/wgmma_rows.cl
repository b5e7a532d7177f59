// SPDX-License-Identifier: MIT
// From sums to rows of y by way of a stage that is no longer needed, half of it a group of four warps: for kernels
// whose groups have GROUP_N columns of y, and whose VALUE and GAMMA_VALUE are float8. wgmma_finish.cl, which stands in
// the kernel, uses it.
#ifndef GROUP_N
#error "GROUP_N: columns of y of a multiplying group"
#endif
#ifndef STAGE_BYTES
#error "STAGE_BYTES: bytes of a stage"
#endif
#include "matmul/wgmma_y.cl"

// Of y a group stages so many pairs at a time, in the tile's last stage; rows are apart so that eight begin in
// different banks.
#define STAGED_ROW (GROUP_N * 2 + 16)
#define PART_OF(n) ((TOKENS / (n) + 15) / 16 * 16)
#define HAS_ROOM(pairs) (2 * (pairs) * STAGED_ROW <= STAGE_BYTES)
#define STAGED_PAIRS (HAS_ROOM(TOKENS) ? TOKENS : HAS_ROOM(PART_OF(2)) ? PART_OF(2) : PART_OF(3))
#define STAGED (STAGED_PAIRS * STAGED_ROW)

// Rows of staged pairs from `first` on to columns n0 .. of y, of which a row has y_row_chunks times 16 bytes. By a
// group.
inline void store_rows(const local uchar *from, const local struct slot *slot, int first, int rows, global ushort *y,
                       uint y_row_chunks, long n0, long columns) {
    enum { CHUNKS = GROUP_N / 8, APART = 128 / CHUNKS };
    const uint lid = get_local_id(0) & 127u, c = lid & (CHUNKS - 1);
    const int end = n0 + c * 8 < columns ? rows - first : 0;
    global ushort *const to = y + n0 + c * 8;
#pragma unroll
    for (uint i = 0; i < STAGED_PAIRS / APART; i += 2) { // two at a time, so that both loads are on their way
        uint4 v[2];
        global uint4 *row[2];
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int t = lid / CHUNKS + (i + k) * APART;
            v[k] = *(const local uint4 *)(from + t * STAGED_ROW + c * 16);
            const int pair = min(first + t, TOKENS - 1); // past the end: stored nowhere
            row[k] = (global uint4 *)(to + (uint)slot->y_row[pair] * y_row_chunks * 8ul);
        }
        store_two(row[0], v[0], (int)(lid / CHUNKS + i * APART) < end, row[1], v[1],
                  (int)(lid / CHUNKS + (i + 1) * APART) < end);
    }
}

#define BIAS_OF(n) BIAS_AT(e, min((long)(n), columns - 1))
#define BIAS_UP_OF(n) BIAS_UP_AT(e, min((long)(n), columns - 1))

// What value i of eight of y is made of. They go through epilogue.cl together: none waits for the one before it.
#if GLU
#define BLOCK_OF(i) ((i) / 2 & (BLOCKS - 1))
#define SUM_OF(i) (8 * BLOCK_OF(i) + 4 * ((i) / 4) + (i) % 2)
#define GATE_OF(i) one_of(up_first, sums[SUM_OF(i) + 2], sums[SUM_OF(i)])
#define UP_OF(i) one_of(up_first, sums[SUM_OF(i)], sums[SUM_OF(i) + 2])
#define GATE_BIAS_OF(i) bias_n[BLOCK_OF(i)]
#define UP_BIAS_OF(i) bias_n8[BLOCK_OF(i)]
#else
#define GATE_OF(i) sums[8 * m + (i)]
#define UP_OF(i) 0.0f
#define GATE_BIAS_OF(i) ((i) & 2 ? bias_n8[m] : bias_n[m])
#define UP_BIAS_OF(i) 0.0f
#endif
#define GAMMA_OF(i) weight[(i) / 4][(i) % 2]
#define EIGHT(of) (float8)(of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7))

// By value: a choice between elements of `sums` would put these into memory.
inline float one_of(bool first, float a, float b) { return first ? a : b; }
