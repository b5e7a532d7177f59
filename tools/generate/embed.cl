// SPDX-License-Identifier: MIT
// x[row, i] = table[tokens[row], i]. Global size {hidden, rows}.
__kernel void embed(__global const uchar *tokens, __global const float *table, __global float *x) {
    const size_t i = get_global_id(0), row = get_global_id(1), hidden = get_global_size(0);
    x[row * hidden + i] = table[tokens[row] * hidden + i];
}
