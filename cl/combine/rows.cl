// SPDX-License-Identifier: MIT
// y[t,h] = residual[t,h] + shared_scale * shared[t,h] + scale * s,   row = t*k+j, or inverse[t*k+j]
//      s = sum_j gamma[t,j] * x[row(t,j),h] + identity[t] * identity_x[t,h]
//
// One work-item an element of y; a work-group takes LOCAL_SIZE columns of one token, tokens outermost:
//   group = t * column_groups + column group. Slots in order, fp32, one rounding.
#include "common/dtype.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#if !defined(X_T) || !defined(Y_T) || !defined(SHARED_T)
#error "X_T, Y_T, SHARED_T: f32, f16 or bf16"
#endif
#if !defined(SORTED) || !defined(HAS_IDS) || !defined(HAS_GAMMA) || !defined(HAS_RESIDUAL)
#error "SORTED, HAS_IDS, HAS_GAMMA, HAS_RESIDUAL: 0 or 1"
#endif
#if !defined(HAS_SHARED) || !defined(HAS_IDENTITY)
#error "HAS_SHARED, HAS_IDENTITY: 0 or 1"
#endif

// Numbers come four in an argument, as in matmul/pair.cl; lib/kernel/combine.c has the same order.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void combine_rows(
    const global ELEM(X_T) *x, const global int *ids, const global int *inverse, const global float *gamma,
    const global ELEM(Y_T) *residual, const global ELEM(SHARED_T) *shared, const global float *identity,
    const global ELEM(Y_T) *identity_x, global ELEM(Y_T) *y, long4 at_xy, long4 at_slots, long4 at_rows,
    long4 at_identity, long4 sizes, float4 scales) {
    const ulong x_skip = (ulong)at_xy.x, y_skip = (ulong)at_xy.z;
    const long x_stride = at_xy.y, y_stride = at_xy.w;
    const ulong ids_skip = (ulong)at_slots.x, gamma_skip = (ulong)at_slots.z;
    const long ids_stride = at_slots.y, gamma_stride = at_slots.w;
    const ulong residual_skip = (ulong)at_rows.x, shared_skip = (ulong)at_rows.z;
    const long residual_stride = at_rows.y, shared_stride = at_rows.w;
    const ulong identity_skip = (ulong)at_identity.x, identity_x_skip = (ulong)at_identity.y;
    const long identity_x_stride = at_identity.z;
    const ulong inverse_skip = (ulong)at_identity.w;
    const int k = (int)sizes.x, experts = (int)sizes.y;
    const long hidden = sizes.z;
    const float scale = scales.x, shared_scale = scales.y;
    const long column_groups = (hidden + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const long t = (long)get_group_id(0) / column_groups;
    const long h = ((long)get_group_id(0) - t * column_groups) * LOCAL_SIZE + get_local_id(0);
    if (h >= hidden) return;

    float sum = 0.0f;
    for (int j = 0; j < k; j++) {
        const long pair = t * k + j;
        if (HAS_IDS) {
            const int e = ids[ids_skip + t * ids_stride + j];
            if (e < 0 || e >= experts) continue;
        }
        const long row = SORTED ? inverse[inverse_skip + pair] : pair;
        const float v = LOAD(X_T, x, x_skip + row * x_stride + h);
        sum += HAS_GAMMA ? gamma[gamma_skip + t * gamma_stride + j] * v : v;
    }
    if (HAS_IDENTITY) {
        const float weight = identity[identity_skip + t];
        if (weight != 0.0f) sum += weight * LOAD(Y_T, identity_x, identity_x_skip + t * identity_x_stride + h);
    }
    float out = scale * sum;
    if (HAS_SHARED) out += shared_scale * LOAD(SHARED_T, shared, shared_skip + t * shared_stride + h);
    if (HAS_RESIDUAL) out += LOAD(Y_T, residual, residual_skip + t * residual_stride + h);
    STORE(Y_T, y, y_skip + t * y_stride + h, out);
}
