// SPDX-License-Identifier: MIT
// Block formats, one work-item a block to pack and one for 16 elements to unpack. With `parts` of them in a
// row and g = global id:
//   row = g / parts, part = g % parts
//   x from x_skip + row * x_stride + part * elements of a part on
//   q from q_skip + row * q_stride * UNITS on (q_stride counts blocks)
#include "quant/pack.cl"
#include "quant/pack_k.cl"
#include "quant/q8_0.cl"

#ifndef Q_T
#error "Q_T: the block format"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void quant_pack(const global ELEM(X_T) *x, ulong x_skip,
                                                                               long x_stride, global ELEM(Q_T) *q,
                                                                               ulong q_skip, long q_stride, long parts,
                                                                               long all) {
    const long g = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (g >= all) return;
    const long row = g / parts, part = g - row * parts;
    CAT(pack_, Q_T)
    (x + x_skip + row * x_stride + part * BLOCK(Q_T), q + q_skip + (row * q_stride + part) * UNITS(Q_T));
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_unpack(global ELEM(X_T) *x, ulong x_skip, long x_stride, const global ELEM(Q_T) *q, ulong q_skip, long q_stride,
             long parts, long all) {
    const long g = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (g >= all) return;
    const long row = g / parts, part = g - row * parts;
    float values[16];
    vstore16(LOAD16(Q_T, q + q_skip + row * q_stride * UNITS(Q_T), part * 16), 0, values);
    for (int i = 0; i < 16; i++)
        STORE(X_T, x, x_skip + row * x_stride + part * 16 + i, values[i]);
}
