// SPDX-License-Identifier: MIT
// To local memory, for wgmma_coded.cl where pairs are many: x as it is, by asynchronous copies of 16 bytes. Those who
// copy are two halves when it comes to weights.
#define HALF_ROWS (W_ROWS / 2)
#define HALF_FETCHERS (FETCHING_WARPS * 32 / 2)

inline int at_most(int bytes, int most) { return min(most, max(0, bytes)); }

#define X_EACH (FETCHING_WARPS * 4) // rows from copy to copy: an odd number of fours, by which a chunk's place changes
#define X_COPIES ((TOKENS + X_EACH - 1) / X_EACH)

// What a work-item copies of x: a chunk of every X_EACH-th row that the slot names. Behind the last pair what was there
// stays: sums of other pairs do not see it.
struct rows {
    const global uchar *x;
    uint from[X_COPIES]; // in chunks
    int n;               // rows less the first one's number
};

inline void place_rows(struct rows *own, const local struct slot *slot, int rows, const global uchar *x,
                       uint x_row_chunks, uint lid) {
    own->x = x;
    own->n = rows - (int)(lid / 8);
#pragma unroll
    for (int i = 0; i < X_COPIES; i++)
        own->from[i] = (uint)slot->x_row[min((int)(lid / 8) + i * X_EACH, rows - 1)] * x_row_chunks + (lid & 7u);
}

inline void fetch_rows(uint stage, const struct rows *own, uint lid, uint step, uint depth) {
    const uint chunk = lid & 7u, row = lid / 8, to = stage + row * 128 + (chunk ^ (row & 7u)) * 16;
#pragma unroll
    for (int part = 0; part < TK / 64; part++) {
        const uint at = step * TK + part * 64, bytes = at + chunk * 8 < depth ? 16 : 0;
        const global uchar *const x = own->x + (bytes ? at * 2 : 0);
#pragma unroll
        for (int i = 0; i < X_COPIES; i++)
            copy_some_of_16_if(i * X_EACH < own->n, (to ^ (i & 1) * 64) + part * TOKENS * 128 + i * X_EACH * 128,
                       x + (ulong)own->from[i] * 16, bytes);
    }
}
