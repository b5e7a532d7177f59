// SPDX-License-Identifier: MIT
// Before a call that counts: counts[i] = 0. Other kernels add to them.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void topk_zero(global uint *counts, ulong counts_skip,
                                                                              uint n) {
    const ulong i = get_global_id(0);
    if (i < n) counts[counts_skip + i] = 0;
}
