// SPDX-License-Identifier: MIT
// counts[layer, ids[layer, row, slot]] += 1. Global size {rows * topk, layers}; ids of a layer begin every `stride`.
__kernel void count(__global const int *ids, __global uint *counts, const int experts, const int stride) {
    const int layer = (int)get_global_id(1);
    const int id = ids[(size_t)layer * stride + get_global_id(0)];
    if (id >= 0 && id < experts) atomic_inc(&counts[layer * experts + id]);
}
