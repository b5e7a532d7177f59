// SPDX-License-Identifier: MIT
// Sums of x over 32 steps of K, each as three numbers of x's type that together are as much, for wgmma_coded_k.cl: of a
// row 64 bytes for 256 steps, first numbers of the eight sums, second ones, third ones, zeros.
//
// bf16: first + second + third. f16, which has not the range: 32 * (first + second / 2^11 + third / 2^22).
//
// One work-item for each sum: item = row * K / 32 + block. Rows of x begin at multiples of 16 bytes.
#include "common/dtype.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, any number"
#endif
#ifndef X_T
#error "X_T: bf16 or f16"
#endif

#define FIRST_UNIT CAT(FIRST_UNIT_, X_T)
#define FIRST_UNIT_bf16 1.0f
#define FIRST_UNIT_f16 32.0f
#define NEXT_UNIT CAT(NEXT_UNIT_, X_T)
#define NEXT_UNIT_bf16 1.0f
#define NEXT_UNIT_f16 0x1p11f

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_x_sums(const global ELEM(X_T) *x,
                                                                                  ulong x_skip, long x_stride,
                                                                                  global ushort *sums, ulong sums_skip,
                                                                                  long blocks, long items) {
    const ulong item = (ulong)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (item >= (ulong)items) return;
    const ulong row = item / (ulong)blocks, block = item - row * (ulong)blocks;
    const global uint4 *const from = (const global uint4 *)(x + x_skip + row * (ulong)x_stride + block * 32);
    float4 sum = 0.0f;
    for (int i = 0; i < 4; i++)
        sum += EVEN4(X_T, from[i]) + ODD4(X_T, from[i]);
    float rest = ((sum.s0 + sum.s1) + (sum.s2 + sum.s3)) / FIRST_UNIT;
    global ushort *const to = sums + sums_skip + item / 8 * 32 + item % 8;
    for (int i = 0; i < 3; i++) {
        const ushort part = ROUND(X_T, rest);
        const float taken = FLOAT_OF(X_T, part);
        to[8 * i] = part;
        rest = isfinite(taken) ? (rest - taken) * NEXT_UNIT : 0.0f; // behind infinity comes nothing
    }
    to[24] = 0;
}
