// SPDX-License-Identifier: MIT
// q8_0 with neighbouring work-items on neighbouring addresses. With l = global id:
//   pack    4 lanes a block, 8 elements each: block l / 4, elements 8 * (l % 4) .. + 7; their largest |x| meets in
//           local memory
//   unpack  8 lanes a block, 4 elements each
// Rows and blocks lie as in q8_0_block.cl.
#include "quant/q8_0.cl"

#define PACK_LANES 4
#define PACK_RUN (32 / PACK_LANES)
#define UNPACK_LANES 8
#define UNPACK_RUN (32 / UNPACK_LANES)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void q8_0_pack(const global ELEM(X_T) *x, ulong x_skip,
                                                                              long x_stride, global ushort *q,
                                                                              ulong q_skip, long q_stride,
                                                                              long row_blocks, long blocks) {
    local uint tops[LOCAL_SIZE];
    const uint id = get_local_id(0), lane = id % PACK_LANES;
    const long b = (long)get_group_id(0) * (LOCAL_SIZE / PACK_LANES) + id / PACK_LANES;
    const bool valid = b < blocks;
    const long row = b / row_blocks, column = b - row * row_blocks;
    x += x_skip + row * x_stride + column * 32 + lane * PACK_RUN;
    q += q_skip + (row * q_stride + column) * 17;

    float v[PACK_RUN];
    uint amax = 0;
    for (int i = 0; i < PACK_RUN; i++) {
        v[i] = valid ? LOAD(X_T, x, i) : 0.0f;
        amax = max(amax, as_uint(v[i]) & 0x7fffffffu);
    }
    tops[id] = amax;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!valid) return;
    for (int i = 0; i < PACK_LANES; i++)
        amax = max(amax, tops[id - lane + i]);
    const struct scale s = block_scale(amax);
    if (lane == 0) store_scale(q, amax, s);
    for (int i = 0; i < PACK_RUN / 2; i++)
        q[1 + lane * (PACK_RUN / 2) + i] = pack_pair(v[2 * i], v[2 * i + 1], amax, s);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void q8_0_unpack(global ELEM(X_T) *x, ulong x_skip,
                                                                                long x_stride,
                                                                                const global ushort *q, ulong q_skip,
                                                                                long q_stride, long row_blocks,
                                                                                long blocks) {
    const uint id = get_local_id(0), lane = id % UNPACK_LANES;
    const long b = (long)get_group_id(0) * (LOCAL_SIZE / UNPACK_LANES) + id / UNPACK_LANES;
    if (b >= blocks) return;
    const long row = b / row_blocks, column = b - row * row_blocks;
    x += x_skip + row * x_stride + column * 32 + lane * UNPACK_RUN;
    q += q_skip + (row * q_stride + column) * 17;

    const float d = vload_half(0, (const global half *)q);
    for (int i = 0; i < UNPACK_RUN / 2; i++)
        unpack_pair(x, 2 * i, d, q[1 + lane * (UNPACK_RUN / 2) + i]);
}
