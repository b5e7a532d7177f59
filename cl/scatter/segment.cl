// SPDX-License-Identifier: MIT
// A work-group owns SEGMENT elements of one row of y:
//   group = row * segments + segment,   segment s holds elements s * SEGMENT .. s * SEGMENT + count - 1
//
//   1. last[] = -1
//   2. the work-items walk the k ids of the row; last[id - begin] becomes the largest slot that names the element. An
//      integer maximum has one result whatever the order, so the last slot wins on every device.
//   3. each element is written once: from its slot, or as fill. ADD also keeps the first slot, and adds those that name
//      the element between the two; elements that no slot names are not touched.
// Ids are read rows * segments * k times, y is written once.
#include "scatter/slots.cl"

#ifndef SEGMENT
#error "SEGMENT: elements of y that a work-group owns"
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void scatter_segment(ROW_PARAMS) {
    local int last[SEGMENT];
#if MODE == MODE_ADD
    local int first[SEGMENT];
#endif
    const long segments = (n + SEGMENT - 1) / SEGMENT;
    const long at = (long)get_group_id(0) / segments;
    const int begin = (int)((long)get_group_id(0) - at * segments) * SEGMENT;
    const int count = (int)min(n - begin, (long)SEGMENT);
    const int lane = get_local_id(0);
    const struct row r = ROW_AT(at);

    for (int e = lane; e < count; e += LOCAL_SIZE) {
        last[e] = -1;
#if MODE == MODE_ADD
        first[e] = k;
#endif
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint j = lane; j < (uint)k; j += LOCAL_SIZE) {
        const int id = r.indices[j];
        if (id < begin || id - begin >= count) continue;
        atomic_max(&last[id - begin], (int)j);
#if MODE == MODE_ADD
        atomic_min(&first[id - begin], (int)j);
#endif
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if MODE == MODE_ADD
    for (int e = lane; e < count; e += LOCAL_SIZE)
        if (last[e] >= 0) add(&r, (uint)first[e], (uint)last[e], (long)begin + e);
#else
    const ELEM(X_T) filler = ROUND(X_T, fill);
    for (int e = lane; e < count; e += LOCAL_SIZE) {
        if (last[e] >= 0)
            put(&r, (uint)last[e], (long)begin + e);
        else
            r.y[begin + e] = filler;
    }
#endif
}
