// SPDX-License-Identifier: MIT
// Rotates queries and keys by their position, and files keys and values in the cache of their layer.
//     qkv     [rows, heads + 2 kv_heads, HEAD_DIM]: queries, keys, values; queries are rotated in place
//     turns   [context, HEAD_DIM/2] of (cos, sin)
//     keys    [sequences, kv_heads, HEAD_DIM, context]: transposed, so that attention takes many keys at a time
//     values  [sequences, kv_heads, context, HEAD_DIM]
// Element i of a head pairs with element i + HEAD_DIM/2. Row r is position start + r % length of sequence r / length.
// Global size {HEAD_DIM/2, heads + 2 kv_heads, rows}.
__kernel void rope(__global float *qkv, __global const float2 *turns, __global float *keys, __global float *values,
                   const int heads, const int kv_heads, const int length, const int start, const int context) {
    const int i = (int)get_global_id(0), part = (int)get_global_id(1), row = (int)get_global_id(2);
    const int position = start + row % length;
    __global float *const v = qkv + ((size_t)row * (heads + 2 * kv_heads) + part) * HEAD_DIM;
    const float low = v[i], high = v[i + HEAD_DIM / 2];
    const float2 turn = turns[(size_t)position * (HEAD_DIM / 2) + i];
    const float2 turned = {low * turn.x - high * turn.y, high * turn.x + low * turn.y};
    if (part < heads) {
        v[i] = turned.x;
        v[i + HEAD_DIM / 2] = turned.y;
        return;
    }
    const size_t head = (size_t)(row / length) * kv_heads + (part - heads) % kv_heads;
    const size_t first = head * HEAD_DIM * context;
    if (part < heads + kv_heads) {
        keys[first + (size_t)i * context + position] = turned.x;
        keys[first + (size_t)(i + HEAD_DIM / 2) * context + position] = turned.y;
    } else {
        values[first + (size_t)position * HEAD_DIM + i] = low;
        values[first + (size_t)position * HEAD_DIM + i + HEAD_DIM / 2] = high;
    }
}
