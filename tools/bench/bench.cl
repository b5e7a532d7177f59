// SPDX-License-Identifier: MIT
// What `clmoe bench` needs on the device beside the library: random data, a cache flush, and the two ceilings.
#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#ifndef READ_LOCAL
#error "READ_LOCAL: the same for read_all, 1 on CPU devices: there each work-item would go through its stretch alone"
#endif

inline uint hash_of(ulong i, uint seed) {
    uint h = (uint)i * 0x9e3779b9u ^ (uint)(i >> 32) * 0x85ebca6bu ^ seed;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}

// Four uniform 8-bit parts of a hash, summed: about normal, deviation `scale`. A fraction keeps sums from being equal.
inline float about_normal(ulong i, uint seed, float scale) {
    const uint h = hash_of(i, seed);
    const float sum = (float)(h & 255u) + (float)(h >> 8 & 255u) + (float)(h >> 16 & 255u) + (float)(h >> 24);
    return (sum - 510.5f + (float)(h * 0x2c1b3c6du >> 18) * 0x1p-14f) * (scale / 147.8f);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_f32(global float *y, ulong n, uint seed,
                                                                             float scale) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0)) y[i] = about_normal(i, seed, scale);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_f16(global half *y, ulong n, uint seed,
                                                                             float scale) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0))
        vstore_half_rte(about_normal(i, seed, scale), i, y);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_bf16(global ushort *y, ulong n, uint seed,
                                                                              float scale) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0))
        y[i] = (ushort)(as_uint(about_normal(i, seed, scale)) >> 16);
}

// e4m3 is f32 with fewer bits and another bias.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_f8_e4m3(global uchar *y, ulong n, uint seed,
                                                                                 float scale) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0)) {
        const float v = about_normal(i, seed, scale);
        y[i] = (uchar)(as_uint(fmin(fabs(v), 448.0f) * 0x1p-120f) >> 20 | (v < 0.0f ? 128u : 0u));
    }
}

// Element i of rows of `row` elements, by enum bench_pattern; `bits` are those of the dtype's significand.
inline float pattern_of(ulong i, ulong row, int pattern, uint seed, int bits) {
    const float at = (float)(i % row) * (2.0f / (float)row) - 1.0f;
    switch (pattern) {
    case 1: return 1.0f;
    case 2: return at;
    case 3: return -at;
    case 4: return 1.0f + (float)(hash_of(i, seed) & (bits > 8 ? 255u : 15u)) / (float)(1u << bits);
    default: return about_normal(i, seed, 1.0f);
    }
}

#define PATTERN_PARAMS ulong n, ulong row, int pattern, uint seed

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void pattern_f32(global float *y, PATTERN_PARAMS) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0)) y[i] = pattern_of(i, row, pattern, seed, 23);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void pattern_f16(global half *y, PATTERN_PARAMS) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0))
        vstore_half_rte(pattern_of(i, row, pattern, seed, 10), i, y);
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void pattern_bf16(global ushort *y, PATTERN_PARAMS) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0))
        y[i] = (ushort)(as_uint(pattern_of(i, row, pattern, seed, 7)) >> 16);
}

// Numbers below `limit`, in any order, with repeats.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_ids(global int *y, ulong n, uint limit,
                                                                             uint seed) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0)) y[i] = (int)(hash_of(i, seed) % limit);
}

// Words of x that lie `stride` apart
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void gather(global uint *y, ulong n,
                                                                           const global uint *x, ulong first,
                                                                           ulong stride) {
    for (ulong i = get_global_id(0); i < n; i += get_global_size(0)) y[i] = x[first + i * stride];
}

// Blocks of `size` random bytes for `elements` numbers, but for their scales: f16 at byte d and, if it is not beyond
// the block, at byte m; or, with e8m0, one byte at d.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fill_blocks(global uchar *y, ulong n, uint seed,
                                                                                float scale, uint elements, uint size,
                                                                                uint d, uint m, int e8m0) {
    ushort bits;
    vstore_half_rte(scale, 0, (half *)&bits);
    for (ulong i = get_global_id(0); i < n / elements * size; i += get_global_size(0)) {
        const uint at = i % size;
        uchar byte = (uchar)hash_of(i, seed);
        if (at == d || at == m) byte = (uchar)(e8m0 ? as_uint(scale) >> 23 : bits);
        if (!e8m0 && (at == d + 1 || at == m + 1)) byte = (uchar)(bits >> 8);
        y[i] = byte;
    }
}

// Both ceilings keep what they compute if it adds up to `keep`, which is NaN: never. With a condition known before
// the loop a compiler would leave the loop out where it is false (PoCL's did).
inline float total4(float4 v) { return (v.x + v.y) + (v.z + v.w); }
inline float total16(float16 v) { return total4((v.lo.lo + v.lo.hi) + (v.hi.lo + v.hi.hi)); }

#if READ_LOCAL == 1
typedef float16 part; // of a stretch: what a work-item loads at once
#define TOTAL total16
#else
typedef float4 part;
#define TOTAL total4
#endif

// Reads n parts, a multiple of 4 * READ_LOCAL, each work-group a stretch of its own.
kernel __attribute__((reqd_work_group_size(READ_LOCAL, 1, 1))) void read_all(const global part *x, ulong n,
                                                                             global part *out, float keep) {
    const ulong step = 4 * READ_LOCAL, each = (n / step + get_num_groups(0) - 1) / get_num_groups(0) * step;
    const ulong first = get_group_id(0) * each, end = min(first + each, n);
    part a = (part)(0.0f), b = a, c = a, d = a;
    for (ulong i = first + get_local_id(0); i < end; i += step)
        a += x[i], b += x[i + READ_LOCAL], c += x[i + 2 * READ_LOCAL], d += x[i + 3 * READ_LOCAL];
    const part sum = (a + b) + (c + d);
    if (TOTAL(sum) == keep) out[get_global_id(0)] = sum;
}

// 8 chains of float16: 256 flops a step and work-item.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void fma_chains(global float *out, int steps, float a,
                                                                               float b, float keep) {
    float16 c0 = (float16)(a), c1 = c0 + 1.0f, c2 = c0 + 2.0f, c3 = c0 + 3.0f;
    float16 c4 = c0 + 4.0f, c5 = c0 + 5.0f, c6 = c0 + 6.0f, c7 = c0 + 7.0f;
    const float16 va = (float16)(a), vb = (float16)(b);
    for (int i = 0; i < steps; i++) {
        c0 = fma(c0, va, vb), c1 = fma(c1, va, vb), c2 = fma(c2, va, vb), c3 = fma(c3, va, vb);
        c4 = fma(c4, va, vb), c5 = fma(c5, va, vb), c6 = fma(c6, va, vb), c7 = fma(c7, va, vb);
    }
    const float16 sum = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7));
    if (total16(sum) == keep) vstore16(sum, get_global_id(0), out);
}
