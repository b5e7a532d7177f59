// SPDX-License-Identifier: MIT
// RMSNorm, and before it the branch that joins the residual stream, which saves a pass over x:
//     x[row, i]  += branch[row, i]                       with has_branch
//     out[row, i] = x[row, i] * w[i] / sqrt(mean over i of x^2 + eps)
// A work-group per row: global size {LANES, rows}.
__kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void
norm(__global float *x, __global const float *branch, const int has_branch, __global const float *w,
     __global float *out, const int hidden, const float eps) {
    DECLARE_SHARED(shared);
    const size_t first = get_global_id(1) * (size_t)hidden;
    const int begin = (int)get_local_id(0) * VEC;
    floatv squares = 0;
    for (int i = begin; i < hidden; i += LANES * VEC) {
        floatv v = LOADV(x + first + i);
        if (has_branch) {
            v += LOADV(branch + first + i);
            STOREV(v, x + first + i);
        }
        squares = mad(v, v, squares);
    }
    const float mean = LANES_SUM(sum_of(squares), shared) / hidden, factor = 1 / sqrt(mean + eps);
    for (int i = begin; i < hidden; i += LANES * VEC)
        STOREV(LOADV(x + first + i) * factor * LOADV(w + i), out + first + i);
}
