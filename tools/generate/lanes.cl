// SPDX-License-Identifier: MIT
// How a work-group shares a row of numbers: LANES work-items take VEC elements at a time, so element i belongs to lane
// i / VEC % LANES. 1 x 16 suits a CPU, where barriers cost; 64 x 1 suits a GPU. Rows that are read by `floatv` have a
// length that is a multiple of 16.
//
// This text stands in front of every other file of the program.
#ifndef LANES
#error "LANES: work-items of a work-group, a power of two"
#endif
#ifndef VEC
#error "VEC: elements that a work-item takes at a time, 1 or 16"
#endif
#ifndef HEAD_DIM
#error "HEAD_DIM: width of an attention head, a multiple of 16"
#endif

#if VEC == 16
typedef float16 floatv;
typedef int16 intv;
#define LOADV(p) vload16(0, p)
#define STOREV(v, p) vstore16(v, 0, p)
#define COUNTV ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#else
typedef float floatv;
typedef int intv;
#define LOADV(p) (*(p))
#define STOREV(v, p) (*(p) = (v))
#define COUNTV 0
#endif

float sum_of(floatv v) {
#if VEC == 16
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    const float2 c = b.lo + b.hi;
    return c.x + c.y;
#else
    return v;
#endif
}

float max_of(floatv v) {
#if VEC == 16
    const float8 a = fmax(v.lo, v.hi);
    const float4 b = fmax(a.lo, a.hi);
    const float2 c = fmax(b.lo, b.hi);
    return fmax(c.x, c.y);
#else
    return v;
#endif
}

// The sum and the largest over the lanes, in every lane. They are barriers too: what a lane wrote before, all see.
#if LANES == 1
#define DECLARE_SHARED(name)
#define LANES_SUM(v, shared) (v)
#define LANES_MAX(v, shared) (v)
#else
#define DECLARE_SHARED(name) __local float name[LANES]
#define LANES_SUM(v, shared) lanes_sum(v, shared)
#define LANES_MAX(v, shared) lanes_max(v, shared)

float lanes_sum(float v, __local float *shared) {
    const int lane = (int)get_local_id(0);
    shared[lane] = v;
    for (int half_of = LANES / 2; half_of > 0; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_of) shared[lane] += shared[lane + half_of];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    v = shared[0];
    barrier(CLK_LOCAL_MEM_FENCE); // before the next use of `shared`
    return v;
}

float lanes_max(float v, __local float *shared) {
    const int lane = (int)get_local_id(0);
    shared[lane] = v;
    for (int half_of = LANES / 2; half_of > 0; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < half_of) shared[lane] = fmax(shared[lane], shared[lane + half_of]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    v = shared[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return v;
}
#endif
