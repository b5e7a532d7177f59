// SPDX-License-Identifier: MIT
// Steps 7 to 12 of route after cl/route/capacity.cl: one work-item a token, in place. ids and gamma come in with the
// ids of step 5 and the scores of step 6.
#include "route/extras.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_finish(
    const global uchar *dropped, ulong dropped_skip, global int *ids, ulong ids_skip, long ids_stride,
    global float *gamma, ulong gamma_skip, long gamma_stride, long tokens, int k, int renorm, float eps,
    float scale EXTRAS_PARAMETERS) {
    const long t = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (t >= tokens) return;
    const struct extras extra = EXTRAS_ARGUMENTS;
    finish_token(&extra, t, token_is_valid(&extra, t), k, dropped + dropped_skip + t * k, renorm, eps, scale,
                 ids + ids_skip + t * ids_stride, gamma + gamma_skip + t * gamma_stride);
}
