// SPDX-License-Identifier: MIT
// Which work-group of several comes last: where there is inline PTX, since OpenCL C 1.2 has no order of memory across
// work-groups.

// Whether this is the last of `groups` work-groups to come here: then what all of them wrote before can be read.
// *tickets is 0 at first; the last one may make it 0 again for the next launch. All work-items of a group call it.
inline bool last_of(global uint *tickets, uint groups, local uint *flag) {
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    if (get_local_id(0) == 0) {
        uint before;
        asm volatile("fence.acq_rel.gpu; atom.add.acq_rel.gpu.global.u32 %0, [%1], 1; fence.acq_rel.gpu;"
                     : "=r"(before)
                     : "l"(tickets)
                     : "memory");
        *flag = before == groups - 1;
    }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    return *flag;
}
