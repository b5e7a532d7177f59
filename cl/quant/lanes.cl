// SPDX-License-Identifier: MIT
// Block formats with neighbouring work-items on neighbouring addresses. With l = global id:
//   pack    q8_0 only: 4 lanes a block, 8 elements each: block l / 4, elements 8 * (l % 4) .. + 7; their
//   largest |x|
//           meets in local memory
//   unpack  a lane takes elements 4 * l .. + 3
// Rows and blocks lie as in block.cl.
#include "quant/q8_0.cl"

#ifndef Q_T
#error "Q_T: the block format"
#endif

#define PACK_LANES 4
#define PACK_RUN (32 / PACK_LANES)
#define UNPACK_RUN 4

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void quant_pack(const global ELEM(X_T) *x, ulong x_skip,
                                                                               long x_stride, global ushort *q,
                                                                               ulong q_skip, long q_stride, long parts,
                                                                               long all) {
    local uint tops[LOCAL_SIZE];
    const uint id = get_local_id(0), lane = id % PACK_LANES;
    const long b = ((long)get_group_id(0) * LOCAL_SIZE + id) / PACK_LANES, row_blocks = parts / PACK_LANES;
    const bool valid = b < all / PACK_LANES;
    const long row = b / row_blocks, column = b - row * row_blocks;
    x += x_skip + row * x_stride + column * 32 + lane * PACK_RUN;
    q += q_skip + (row * q_stride + column) * UNITS(q8_0);

    float v[PACK_RUN];
    uint amax = 0;
    for (int i = 0; i < PACK_RUN; i++) {
        v[i] = valid ? LOAD(X_T, x, i) : 0.0f;
        amax = max(amax, magnitude_bits(v[i]));
    }
    tops[id] = amax;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!valid) return;
    for (int i = 0; i < PACK_LANES; i++)
        amax = max(amax, tops[id - lane + i]);
    const struct scale_q8_0 s = block_scale(amax);
    if (lane == 0) store_scale(q, amax, s);
    for (int i = 0; i < PACK_RUN / 2; i++)
        q[1 + lane * (PACK_RUN / 2) + i] = pack_pair(v[2 * i], v[2 * i + 1], amax, s);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_unpack(global ELEM(X_T) *x, ulong x_skip, long x_stride, const global ELEM(Q_T) *q, ulong q_skip, long q_stride,
             long parts, long all) {
    const long g = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (g >= all) return;
    const long row = g / parts, part = g - row * parts;
    q += q_skip + row * q_stride * UNITS(Q_T);
    for (int i = 0; i < UNPACK_RUN; i++)
        STORE(X_T, x, x_skip + row * x_stride + part * UNPACK_RUN + i, LOAD(Q_T, q, part * UNPACK_RUN + i));
}
