// SPDX-License-Identifier: MIT
// q8_0, one work-item a block, both ways. With row_blocks = n / 32 and b = global id:
//   row = b / row_blocks,   x from x_skip + row * x_stride + (b % row_blocks) * 32 on,
//   q from q_skip + (row * q_stride + b % row_blocks) * 17 on (q_stride counts blocks)
#include "quant/q8_0.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void q8_0_pack(const global ELEM(X_T) *x, ulong x_skip,
                                                                              long x_stride, global ushort *q,
                                                                              ulong q_skip, long q_stride,
                                                                              long row_blocks, long blocks) {
    const long b = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (b >= blocks) return;
    const long row = b / row_blocks, column = b - row * row_blocks;
    x += x_skip + row * x_stride + column * 32;
    q += q_skip + (row * q_stride + column) * 17;

    uint amax = 0;
    for (int i = 0; i < 32; i++)
        amax = max(amax, as_uint(LOAD(X_T, x, i)) & 0x7fffffffu);
    const struct scale s = block_scale(amax);
    store_scale(q, amax, s);
    for (int i = 0; i < 16; i++)
        q[1 + i] = pack_pair(LOAD(X_T, x, 2 * i), LOAD(X_T, x, 2 * i + 1), amax, s);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void q8_0_unpack(global ELEM(X_T) *x, ulong x_skip,
                                                                                long x_stride,
                                                                                const global ushort *q, ulong q_skip,
                                                                                long q_stride, long row_blocks,
                                                                                long blocks) {
    const long b = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (b >= blocks) return;
    const long row = b / row_blocks, column = b - row * row_blocks;
    x += x_skip + row * x_stride + column * 32;
    q += q_skip + (row * q_stride + column) * 17;

    const float d = vload_half(0, (const global half *)q);
    for (int i = 0; i < 16; i++)
        unpack_pair(x, 2 * i, d, q[1 + i]);
}
