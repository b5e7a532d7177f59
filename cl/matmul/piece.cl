// SPDX-License-Identifier: MIT
// Four neighbours of a plain type on their way from global to local memory. They stay as they lie until they are
// stored, so that nothing has to wait for them while they are on their way.
//
//   PIECE(T)                        the type that holds four
//   FETCH4(T, p, step, left, wide)  elements p[0], p[step], ..., of which the first `left` exist and the others are 0;
//                                   wide: step is 1 and p is aligned to four elements
//   FLOATS4(T, piece) -> float4
//   STORE4(T, p, i, v)              a float4 to p[i] .. p[i + 3], aligned to four elements
//   ALIGNED4(T, p, strides)         whether rows that begin `strides` elements after p are so aligned; strides may be
//                                   or-ed
#include "common/dtype.cl"

#define PIECE(T) CAT(piece_, T)
#define FETCH4(T, p, step, left, wide) CAT(fetch4_, T)(p, step, left, wide)
#define FLOATS4(T, piece) CAT(floats4_, T)(piece)
#define STORE4(T, p, i, v) CAT(store4_, T)(p, i, v)
#define ALIGNED4(T, p, strides) (((ulong)(p) / sizeof(ELEM(T)) | (ulong)(strides)) % 4 == 0)

typedef float4 piece_f32;
typedef uint2 piece_f16; // the first of two in the lower half
typedef uint2 piece_bf16;

static inline float4 fetch4_f32(const global float *p, long step, int left, int wide) {
    if (wide && left >= 4) return *(const global float4 *)p;
    float v[4];
    for (int j = 0; j < 4; j++)
        v[j] = j < left ? p[j * step] : 0.0f;
    return vload4(0, v);
}
static inline float4 floats4_f32(float4 piece) { return piece; }
static inline void store4_f32(global float *p, ulong i, float4 v) { *(global float4 *)(p + i) = v; }

static inline uint2 fetch4_f16(const global ushort *p, long step, int left, int wide) {
    if (wide && left >= 4) return *(const global uint2 *)p;
    uint v[4];
    for (int j = 0; j < 4; j++)
        v[j] = j < left ? p[j * step] : 0;
    return (uint2)(v[0] | v[1] << 16, v[2] | v[3] << 16);
}
static inline float4 floats4_f16(uint2 piece) {
    uint pairs[2];
    vstore2(piece, 0, pairs);
    return vload_half4(0, (const half *)pairs);
}
static inline void store4_f16(global ushort *p, ulong i, float4 v) { vstore_half4_rte(v, 0, (global half *)(p + i)); }

static inline uint2 fetch4_bf16(const global ushort *p, long step, int left, int wide) {
    return fetch4_f16(p, step, left, wide);
}
static inline float4 floats4_bf16(uint2 piece) {
    return as_float4((uint4)(piece.x << 16, piece.x & 0xffff0000u, piece.y << 16, piece.y & 0xffff0000u));
}
static inline void store4_bf16(global ushort *p, ulong i, float4 v) {
    *(global ushort4 *)(p + i) = (ushort4)(round_bf16(v.x), round_bf16(v.y), round_bf16(v.z), round_bf16(v.w));
}
