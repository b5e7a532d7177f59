// SPDX-License-Identifier: MIT
// Causal attention of one query head at one position over the cache; layouts as in rope.cl.
//     out [rows, heads, HEAD_DIM] = softmax over keys 0..position of (q . k / sqrt(HEAD_DIM)) times v
// A work-group per row and head: global size {LANES, rows, heads}, so that neighbours in a sequence read the same keys.
// Lanes take keys for the scores, which stay in `scores` (context floats), and elements of the head for the sum.
__kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void
attention(__global const float *qkv, __global const float *keys, __global const float *values,
          __global float *out, __local float *scores, const int heads, const int kv_heads, const int length,
          const int start, const int context) {
    DECLARE_SHARED(shared);
    const int begin = (int)get_local_id(0) * VEC, row = (int)get_global_id(1), head = (int)get_global_id(2);
    const int count = start + row % length + 1;
    const size_t cached = (size_t)(row / length) * kv_heads + head / (heads / kv_heads);
    __global const float *const q = qkv + ((size_t)row * (heads + 2 * kv_heads) + head) * HEAD_DIM;
    __global const float *const k = keys + cached * HEAD_DIM * context;
    __global const float *const v = values + cached * HEAD_DIM * context;

    floatv largest = -INFINITY;
    for (int j = begin; j < count; j += LANES * VEC) {
        floatv s = 0;
        for (int d = 0; d < HEAD_DIM; d++)
            s = mad((floatv)q[d], LOADV(k + (size_t)d * context + j), s);
        // What lies behind the last key was never written: it is chosen away, not multiplied away.
        s = select(s * rsqrt((float)HEAD_DIM), (floatv)(-INFINITY), j + COUNTV >= (intv)count);
        STOREV(s, scores + j);
        largest = fmax(largest, s);
    }
    const float top = LANES_MAX(max_of(largest), shared);
    floatv sum = 0;
    for (int j = begin; j < count; j += LANES * VEC) {
        const floatv power = exp(LOADV(scores + j) - top);
        STOREV(power, scores + j);
        sum += power;
    }
    const float factor = 1 / LANES_SUM(sum_of(sum), shared);
    for (int d = begin; d < HEAD_DIM; d += LANES * VEC) {
        floatv mixed = 0;
        for (int j = 0; j < count; j++)
            mixed = mad((floatv)scores[j], LOADV(v + (size_t)j * HEAD_DIM + d), mixed);
        STOREV(mixed * factor, out + ((size_t)row * heads + head) * HEAD_DIM + d);
    }
}
