// SPDX-License-Identifier: MIT
// Element types as parameters. A kernel is compiled with, say, -DX_T=bf16 and writes
//   const global ELEM(X_T) *x;   LOAD(X_T, x, i) -> float;   STORE(X_T, y, i, value);   ROUND(X_T, value) -> ELEM(X_T)
//   FLOAT_OF(X_T, element) -> float
//   LOAD16(X_T, x, i) -> float16: elements i .. i + 15;   WIDE16(X_T, x, i): the same from a multiple of 16 bytes
//   ANY8(X_T, x, i), WIDE8(X_T, x, i) -> RAW8(X_T): 8 elements as they lie, for loads that nothing waits for yet;
//   EVEN4(X_T, raw), ODD4(X_T, raw) -> float4: the values of every other one
//   STORE8(X_T, x, i, even, odd): eight from a multiple of 16 bytes on, their values as EVEN4 and ODD4 have them
// Storage types need no extension: halves go through vload_half, bf16 through integer shifts.
// Types of which elements share a scale are in blocks.cl.
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define ELEM(T) CAT(elem_, T)
#define LOAD(T, p, i) CAT(load_, T)(p, i)
#define STORE(T, p, i, v) CAT(store_, T)(p, i, v)
#define ROUND(T, v) CAT(round_, T)(v)
#define FLOAT_OF(T, e) CAT(float_of_, T)(e)
#define LOAD16(T, p, i) CAT(load16_, T)(p, i)
#define WIDE16(T, p, i) CAT(wide16_, T)(p, i)
#define RAW8(T) CAT(raw8_, T)
#define ANY8(T, p, i) CAT(any8_, T)(p, i)
#define WIDE8(T, p, i) CAT(wide8_, T)(p, i)
#define EVEN4(T, raw) CAT(even4_, T)(raw)
#define ODD4(T, raw) CAT(odd4_, T)(raw)
#define STORE8(T, p, i, even, odd) CAT(store8_, T)(p, i, even, odd)

typedef float elem_f32;
typedef ushort elem_f16;
typedef ushort elem_bf16;

inline float load_f32(const global float *p, ulong i) { return p[i]; }
inline float round_f32(float v) { return v; }
inline float float_of_f32(float v) { return v; }
inline void store_f32(global float *p, ulong i, float v) { p[i] = v; }

inline float load_f16(const global ushort *p, ulong i) { return vload_half(i, (const global half *)p); }
inline float float_of_f16(ushort h) { return vload_half(0, (const half *)&h); }
inline ushort round_f16(float v) {
    ushort h;
    vstore_half_rte(v, 0, (half *)&h);
    return h;
}
inline void store_f16(global ushort *p, ulong i, float v) { vstore_half_rte(v, i, (global half *)p); }

inline float load_bf16(const global ushort *p, ulong i) { return as_float((uint)p[i] << 16); }
inline float float_of_bf16(ushort h) { return as_float((uint)h << 16); }
inline ushort round_bf16(float v) {
    const uint u = as_uint(v);
    const uint rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16; // to nearest, ties to even
    return (ushort)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
}
inline void store_bf16(global ushort *p, ulong i, float v) { p[i] = round_bf16(v); }

inline float16 load16_f32(const global float *p, ulong i) { return vload16(0, p + i); }
inline float16 load16_f16(const global ushort *p, ulong i) { return vload_half16(0, (const global half *)(p + i)); }
inline float16 load16_bf16(const global ushort *p, ulong i) {
    return as_float16(convert_uint16(vload16(0, p + i)) << 16);
}

// A compiler that knows no alignment loads 16-bit elements one by one.
inline float16 wide16_f32(const global float *p, ulong i) {
    const global float4 *const q = (const global float4 *)(p + i);
    return (float16)(q[0], q[1], q[2], q[3]);
}
inline float16 wide16_f16(const global ushort *p, ulong i) {
    const global uint4 *const q = (const global uint4 *)(p + i);
    uint pairs[8];
    vstore4(q[0], 0, pairs);
    vstore4(q[1], 1, pairs);
    return vload_half16(0, (const half *)pairs);
}
inline float16 wide16_bf16(const global ushort *p, ulong i) {
    const global uint4 *const q = (const global uint4 *)(p + i);
    const uint8 pairs = (uint8)(q[0], q[1]);
    float16 v;
    v.even = as_float8(pairs << 16);
    v.odd = as_float8(pairs & 0xffff0000u);
    return v;
}

typedef float8 raw8_f32;
typedef uint4 raw8_f16;
typedef uint4 raw8_bf16;

inline float8 any8_f32(const global float *p, ulong i) { return vload8(0, p + i); }
inline uint4 any8_f16(const global ushort *p, ulong i) { return as_uint4(vload8(0, p + i)); }
inline uint4 any8_bf16(const global ushort *p, ulong i) { return as_uint4(vload8(0, p + i)); }

inline float8 wide8_f32(const global float *p, ulong i) {
    const global float4 *const q = (const global float4 *)(p + i);
    return (float8)(q[0], q[1]);
}
inline uint4 wide8_f16(const global ushort *p, ulong i) { return *(const global uint4 *)(p + i); }
inline uint4 wide8_bf16(const global ushort *p, ulong i) { return *(const global uint4 *)(p + i); }

// Parts of vectors by way of arrays: oclgrind's check of uninitialised values cannot take shuffles.
inline float4 even4_f32(float8 raw) {
    float v[8];
    vstore8(raw, 0, v);
    return (float4)(v[0], v[2], v[4], v[6]);
}
inline float4 odd4_f32(float8 raw) {
    float v[8];
    vstore8(raw, 0, v);
    return (float4)(v[1], v[3], v[5], v[7]);
}
inline float4 halves_f16(uint4 lower) {
    uint pairs[4];
    vstore4(lower, 0, pairs);
    const half *const h = (const half *)pairs;
    return (float4)(vload_half(0, h), vload_half(2, h), vload_half(4, h), vload_half(6, h));
}
inline float4 even4_f16(uint4 raw) { return halves_f16(raw); }
inline float4 odd4_f16(uint4 raw) { return halves_f16(raw >> 16); }
inline float4 even4_bf16(uint4 raw) { return as_float4(raw << 16); }
inline float4 odd4_bf16(uint4 raw) { return as_float4(raw & 0xffff0000u); }

inline void store8_f32(global float *p, ulong i, float4 even, float4 odd) {
    global float4 *const to = (global float4 *)(p + i);
    to[0] = (float4)(even.x, odd.x, even.y, odd.y);
    to[1] = (float4)(even.z, odd.z, even.w, odd.w);
}
#define PAIR_OF(T, a, b) ((uint)ROUND(T, a) | (uint)ROUND(T, b) << 16)
#define EIGHT_OF(T)                                                                                                    \
    (uint4)(PAIR_OF(T, even.x, odd.x), PAIR_OF(T, even.y, odd.y), PAIR_OF(T, even.z, odd.z), PAIR_OF(T, even.w, odd.w))
inline void store8_f16(global ushort *p, ulong i, float4 even, float4 odd) { *(global uint4 *)(p + i) = EIGHT_OF(f16); }
inline void store8_bf16(global ushort *p, ulong i, float4 even, float4 odd) {
    *(global uint4 *)(p + i) = EIGHT_OF(bf16);
}
