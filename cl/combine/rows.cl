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

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void combine_rows(
    const global ELEM(X_T) *x, ulong x_skip, long x_stride, const global int *ids, ulong ids_skip, long ids_stride,
    const global int *inverse, ulong inverse_skip, const global float *gamma, ulong gamma_skip, long gamma_stride,
    const global ELEM(Y_T) *residual, ulong residual_skip, long residual_stride, const global ELEM(SHARED_T) *shared,
    ulong shared_skip, long shared_stride, const global float *identity, ulong identity_skip,
    const global ELEM(Y_T) *identity_x, ulong identity_x_skip, long identity_x_stride, global ELEM(Y_T) *y,
    ulong y_skip, long y_stride, int k, int experts, long hidden, float scale, float shared_scale) {
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
