// SPDX-License-Identifier: MIT
// The virtual experts of pairs: adapter a on expert e is expert a*E + e of a product with L*E of them.
//
//   virtuals[t,j] = adapter[t]*E + ids[t,j], or -1 where the token has no adapter (< 0 or >= L) or the pair no expert
//   weight[t,j]  = scale[adapter[t]], or 1 without scales and where there is none
//
// One work-item a pair: p = t*k + j.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group, any number"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void adapter_pairs(
    const global int *ids, ulong ids_skip, long ids_stride, const global int *adapters, ulong adapters_skip,
    const global float *scales, ulong scales_skip, int has_scales, global int *virtuals, ulong virtuals_skip,
    long virtuals_stride, global float *weights, ulong weights_skip, long weights_stride, long pairs, int k,
    int experts, int count) {
    const long p = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (p >= pairs) return;
    const long t = p / k, j = p - t * k;
    const int e = ids[ids_skip + t * ids_stride + j], a = adapters[adapters_skip + t];
    const bool found = e >= 0 && e < experts && a >= 0 && a < count;
    virtuals[virtuals_skip + t * virtuals_stride + j] = found ? a * experts + e : -1;
    weights[weights_skip + t * weights_stride + j] = found && has_scales ? scales[scales_skip + a] : 1.0f;
}
