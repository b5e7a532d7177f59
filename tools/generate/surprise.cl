// SPDX-License-Identifier: MIT
// What each next byte costs: bits[row] = -log2 softmax(logits[row])[tokens[row + 1]], 0 for the last row of a sequence,
// which has no next byte. A work-group per row: global size {LANES, rows}; vocab is a multiple of 16.
__kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void
surprise(__global const float *logits, __global const uchar *tokens, __global float *bits, const int vocab,
         const int length) {
    DECLARE_SHARED(shared);
    const int begin = (int)get_local_id(0) * VEC, row = (int)get_global_id(1);
    __global const float *const x = logits + (size_t)row * vocab;
    floatv largest = -INFINITY;
    for (int i = begin; i < vocab; i += LANES * VEC)
        largest = fmax(largest, LOADV(x + i));
    const float top = LANES_MAX(max_of(largest), shared);
    floatv sum = 0;
    for (int i = begin; i < vocab; i += LANES * VEC)
        sum += exp(LOADV(x + i) - top);
    const float total = LANES_SUM(sum_of(sum), shared);
    if (get_local_id(0) > 0) return;
    bits[row] = row % length == length - 1 ? 0 : (log(total) + top - x[tokens[row + 1]]) * M_LOG2E_F;
}
