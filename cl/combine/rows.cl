// SPDX-License-Identifier: MIT
// y[t,h] = residual[t,h] + shared[t,h] + scale * sum_j gamma[t,j] * x[row(t,j),h],   row = t*k+j, or inverse[t*k+j]
//
// One work-item an element of y; a work-group takes LOCAL_SIZE columns of one token, tokens outermost:
//   group = t * column_groups + column group. Slots in order, fp32, one rounding.
#include "common/dtype.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#if !defined(X_T) || !defined(Y_T)
#error "X_T, Y_T: f32, f16 or bf16"
#endif
#if !defined(SORTED) || !defined(HAS_IDS) || !defined(HAS_GAMMA) || !defined(HAS_RESIDUAL) || !defined(HAS_SHARED)
#error "SORTED, HAS_IDS, HAS_GAMMA, HAS_RESIDUAL, HAS_SHARED: 0 or 1"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void combine_rows(
    const global ELEM(X_T) *x, ulong x_skip, long x_stride, const global int *ids, ulong ids_skip, long ids_stride,
    const global int *inverse, ulong inverse_skip, const global float *gamma, ulong gamma_skip, long gamma_stride,
    const global ELEM(Y_T) *residual, ulong residual_skip, long residual_stride, const global ELEM(Y_T) *shared,
    ulong shared_skip, long shared_stride, global ELEM(Y_T) *y, ulong y_skip, long y_stride, int k, int experts,
    long hidden, float scale) {
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
    float out = scale * sum;
    if (HAS_SHARED) out += LOAD(Y_T, shared, shared_skip + t * shared_stride + h);
    if (HAS_RESIDUAL) out += LOAD(Y_T, residual, residual_skip + t * residual_stride + h);
    STORE(Y_T, y, y_skip + t * y_stride + h, out);
}
