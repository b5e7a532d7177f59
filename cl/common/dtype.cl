// SPDX-License-Identifier: MIT
// Element types as parameters. A kernel is compiled with, say, -DX_T=bf16 and writes
//   const global ELEM(X_T) *x;   LOAD(X_T, x, i) -> float;   STORE(X_T, y, i, value);   ROUND(X_T, value) -> ELEM(X_T)
//   LOAD16(X_T, x, i) -> float16: elements i .. i + 15;   WIDE16(X_T, x, i): the same from a multiple of 16 bytes
// Storage types need no extension: halves go through vload_half, bf16 through integer shifts.
// Types of which elements share a scale are in blocks.cl.
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define ELEM(T) CAT(elem_, T)
#define LOAD(T, p, i) CAT(load_, T)(p, i)
#define STORE(T, p, i, v) CAT(store_, T)(p, i, v)
#define ROUND(T, v) CAT(round_, T)(v)
#define LOAD16(T, p, i) CAT(load16_, T)(p, i)
#define WIDE16(T, p, i) CAT(wide16_, T)(p, i)

typedef float elem_f32;
typedef ushort elem_f16;
typedef ushort elem_bf16;

inline float load_f32(const global float *p, ulong i) { return p[i]; }
inline float round_f32(float v) { return v; }
inline void store_f32(global float *p, ulong i, float v) { p[i] = v; }

inline float load_f16(const global ushort *p, ulong i) { return vload_half(i, (const global half *)p); }
inline ushort round_f16(float v) {
    ushort h;
    vstore_half_rte(v, 0, (half *)&h);
    return h;
}
inline void store_f16(global ushort *p, ulong i, float v) { vstore_half_rte(v, i, (global half *)p); }

inline float load_bf16(const global ushort *p, ulong i) { return as_float((uint)p[i] << 16); }
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
