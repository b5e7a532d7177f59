// SPDX-License-Identifier: MIT
// Block formats as element types, beside the plain ones of dtype.cl: blocks of elements along a row that
// share scales, as GGUF files store them (include/clmoe/quant.h has the layouts and the formulas).
//
//   LOAD(W_T, row, i) -> float          element i of a row of whole blocks
//   LOAD16(W_T, row, i) -> float16      elements i .. i + 15, i a multiple of 16: one scale, wide loads
//   ROW_AT(W_T, p, i)                   where a row begins that is element i of an array, whole blocks in
//
// Codes of which the scales lie elsewhere (include/clmoe/scale.h) are here too, and e8m0, a type of scales.
//
// A block is UNITS elem_T of memory; that many bytes are all that it is aligned to. All products with scales
// are exact in fp32, so it makes no difference how they are ordered or contracted.
#include "common/dtype.cl"

#define BLOCK(T) CAT(BLOCK_, T) // elements of a block
#define UNITS(T) CAT(UNITS_, T) // elem_T of a block
#define ROW_AT(T, p, i) ((p) + (i) / BLOCK(T) * UNITS(T))
#define IS_NIBBLES(T) (BLOCK(T) == 8) // 8 codes of 4 bits in a word, along either dimension: no LOAD16
#define IS_PANEL(T) (BLOCK(T) == 1024) // a tile of a panel (panels.cl): no LOAD16 either
#define HAS_RUNS(T) (!IS_NIBBLES(T) && !IS_PANEL(T))
#define IS_BLOCK(T) (BLOCK(T) > 1 && HAS_RUNS(T))

#define BLOCK_f32 1
#define BLOCK_f16 1
#define BLOCK_bf16 1
#define BLOCK_q8_0 32
#define BLOCK_q4_0 32
#define BLOCK_q5_0 32
#define BLOCK_mxfp4 32
#define BLOCK_q4_k 256
#define BLOCK_q5_k 256
#define BLOCK_q6_k 256
#define BLOCK_i8 1
#define BLOCK_f8_e4m3 1
#define BLOCK_f4_e2m1 2
#define BLOCK_awq 8
#define BLOCK_gptq 8
#define BLOCK_q8_0_panel 1024
#define BLOCK_q4_0_panel 1024
#define BLOCK_mxfp4_panel 1024

#define UNITS_f32 1
#define UNITS_f16 1
#define UNITS_bf16 1
#define UNITS_q8_0 17
#define UNITS_q4_0 9
#define UNITS_q5_0 11
#define UNITS_mxfp4 17
#define UNITS_q4_k 72
#define UNITS_q5_k 88
#define UNITS_q6_k 105
#define UNITS_i8 1
#define UNITS_f8_e4m3 1
#define UNITS_f4_e2m1 1
#define UNITS_awq 1
#define UNITS_gptq 1
#define UNITS_q8_0_panel (32 * UNITS_q8_0)
#define UNITS_q4_0_panel (32 * UNITS_q4_0)
#define UNITS_mxfp4_panel (32 * UNITS_mxfp4)

typedef ushort elem_q8_0;
typedef ushort elem_q4_0;
typedef ushort elem_q5_0;
typedef uchar elem_mxfp4;
typedef ushort elem_q4_k;
typedef ushort elem_q5_k;
typedef ushort elem_q6_k;
typedef char elem_i8;
typedef uchar elem_f8_e4m3;
typedef uchar elem_f4_e2m1;
typedef uchar elem_e8m0;
typedef uint elem_awq;
typedef uint elem_gptq;
typedef ushort elem_q8_0_panel;
typedef ushort elem_q4_0_panel;
typedef uchar elem_mxfp4_panel;

// PoCL 3.1 makes some twenty instructions of vload_half, and of this the one that processors have.
#if defined(__x86_64__)
static inline float half_at(const global ushort *p) {
    const ushort4 four = (ushort4)(*p, 0, 0, 0);
    return vload_half4(0, (const half *)&four).x;
}
#else
static inline float half_at(const global ushort *p) { return vload_half(0, (const global half *)p); }
#endif
static inline uchar16 bytes16(const global ushort *p) { return as_uchar16(vload8(0, p)); }

// The lower or (upper != 0) the upper halves of bytes
static inline uchar16 nibbles16(uchar16 bytes, uint upper) { return (bytes >> (uchar)(upper ? 4 : 0)) & (uchar)15; }
static inline uint nibble(const global uchar *bytes, uint at, uint upper) { return bytes[at] >> (upper ? 4 : 0) & 15; }

// In lane l bit l of `bits`, moved to place `at`
static inline uint16 spread_bits(uint bits, uint at) {
    const uint16 lane = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return ((uint16)(bits) >> lane & 1u) << at;
}

// ---- q8_0: half d; char q[32] ----

static inline float load_q8_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q8_0, p, i);
    return half_at(block) * (float)((const global char *)(block + 1))[i % 32];
}
static inline float16 load16_q8_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q8_0, p, i);
    return convert_float16(as_char16(bytes16(block + 1 + i % 32 / 2))) * half_at(block);
}

// ---- q4_0: half d; uchar qs[16], elements j and j + 16 in byte j ----

static inline float load_q4_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q4_0, p, i);
    return half_at(block) * ((float)nibble((const global uchar *)(block + 1), i % 16, i & 16) - 8.0f);
}
static inline float16 load16_q4_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q4_0, p, i);
    return (convert_float16(nibbles16(bytes16(block + 1), i & 16)) - 8.0f) * half_at(block);
}

// ---- q5_0: half d; uint qh, bit j the highest of element j; uchar qs[16] as q4_0 ----

static inline uint high_q5_0(const global ushort *block) { return (uint)block[1] | (uint)block[2] << 16; }
static inline float load_q5_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q5_0, p, i);
    const uint low = nibble((const global uchar *)(block + 3), i % 16, i & 16);
    return half_at(block) * ((float)(low | (high_q5_0(block) >> i % 32 & 1) << 4) - 16.0f);
}
static inline float16 load16_q5_0(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q5_0, p, i);
    const uint16 low = convert_uint16(nibbles16(bytes16(block + 3), i & 16));
    return (convert_float16(low | spread_bits(high_q5_0(block) >> (i & 16), 4)) - 16.0f) * half_at(block);
}

// ---- mxfp4: uchar e, the scale 2^(e - 127); uchar qs[16] as q4_0: a sign and 0, 1/2, 1, 3/2, 2, 3, 4, 6 ----

// Half of the scale, for doubled elements
static inline float half_scale_e8m0(uint e) {
    return as_float(e == 255 ? 0x7fc00000u : e < 2 ? 0x200000u << e : (e - 1) << 23);
}
#define DOUBLED_E2M1 0xc8643210u // doubled magnitudes by code, 4 bits each
static inline float doubled_e2m1(uint code) {
    const int magnitude = (int)(DOUBLED_E2M1 >> (code & 7) * 4 & 15);
    return (float)(code & 8 ? -magnitude : magnitude);
}
static inline float16 doubled_e2m1_16(uint16 code) {
    const int16 magnitude = as_int16(((uint16)(DOUBLED_E2M1) >> ((code & 7u) * 4u)) & 15u);
    const int16 sign = -as_int16(code >> 3u); // 0 or all bits
    return convert_float16((magnitude ^ sign) - sign);
}
static inline float load_mxfp4(const global uchar *p, ulong i) {
    const global uchar *const block = ROW_AT(mxfp4, p, i);
    return half_scale_e8m0(block[0]) * doubled_e2m1(nibble(block + 1, i % 16, i & 16));
}
static inline float16 load16_mxfp4(const global uchar *p, ulong i) {
    const global uchar *const block = ROW_AT(mxfp4, p, i);
    return doubled_e2m1_16(convert_uint16(nibbles16(vload16(0, block + 1), i & 16))) * half_scale_e8m0(block[0]);
}

// ---- q4_k: half d, dmin; uchar scales[12], qs[128]: elements 64c + l and 64c + 32 + l in byte 32c + l ----

// d * S and dmin * M of 32 elements. S and M have 6 bits; of the last four of each, the upper two lie with
// the first.
static inline float2 scale_min_k(const global ushort *block, uint sub) {
    const global uchar *const s = (const global uchar *)(block + 2);
    uint scale = s[sub] & 63, low = s[sub + 4];
    if (sub < 4)
        low &= 63;
    else {
        scale = (low & 15) | (s[sub - 4] >> 6) << 4;
        low = low >> 4 | (s[sub] >> 6) << 4;
    }
    return (float2)(half_at(block) * (float)scale, half_at(block + 1) * (float)low);
}

static inline float load_q4_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q4_k, p, i);
    const uint at = i % 256, sub = at / 32;
    const float2 s = scale_min_k(block, sub);
    return s.x * (float)nibble((const global uchar *)(block + 8), sub / 2 * 32 + at % 32, sub & 1) - s.y;
}
static inline float16 load16_q4_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q4_k, p, i);
    const uint at = i % 256, sub = at / 32;
    const float2 s = scale_min_k(block, sub);
    return convert_float16(nibbles16(bytes16(block + 8 + (sub / 2 * 32 + at % 32) / 2), sub & 1)) * s.x - s.y;
}

// ---- q5_k: as q4_k, with uchar qh[32] before qs: bit c of byte l is the highest of element 32c + l ----

static inline float load_q5_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q5_k, p, i);
    const uint at = i % 256, sub = at / 32;
    const float2 s = scale_min_k(block, sub);
    const uint high = ((const global uchar *)(block + 8))[at % 32] >> sub & 1;
    const uint low = nibble((const global uchar *)(block + 24), sub / 2 * 32 + at % 32, sub & 1);
    return s.x * (float)(low | high << 4) - s.y;
}
static inline float16 load16_q5_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q5_k, p, i);
    const uint at = i % 256, sub = at / 32;
    const float2 s = scale_min_k(block, sub);
    const uchar16 high = ((bytes16(block + 8 + at % 32 / 2) >> (uchar)sub) & (uchar)1) << (uchar)4;
    const uchar16 low = nibbles16(bytes16(block + 24 + (sub / 2 * 32 + at % 32) / 2), sub & 1);
    return convert_float16(low | high) * s.x - s.y;
}

// ---- q6_k: uchar ql[128], qh[64]; char scales[16], one for 16 elements; half d ----
// Element 128h + 32q + l has 4 bits in ql[64h + 32(q & 1) + l], the upper ones for q > 1, and above them bits 2q and
// 2q + 1 of qh[32h + l].

static inline float scale_q6_k(const global ushort *block, uint at) {
    return half_at(block + 104) * (float)((const global char *)(block + 96))[at / 16];
}
static inline float load_q6_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q6_k, p, i);
    const uint at = i % 256, half_block = at / 128, quarter = at / 32 % 4, l = at % 32;
    const uint low = nibble((const global uchar *)block, half_block * 64 + (quarter & 1) * 32 + l, quarter & 2);
    const uint high = ((const global uchar *)(block + 64))[half_block * 32 + l] >> 2 * quarter & 3;
    return scale_q6_k(block, at) * ((float)(low | high << 4) - 32.0f);
}
static inline float16 load16_q6_k(const global ushort *p, ulong i) {
    const global ushort *const block = ROW_AT(q6_k, p, i);
    const uint at = i % 256, half_block = at / 128, quarter = at / 32 % 4, l = at % 32;
    const uchar16 low = nibbles16(bytes16(block + half_block * 32 + (quarter & 1) * 16 + l / 2), quarter & 2);
    const uchar16 high = (bytes16(block + 64 + half_block * 16 + l / 2) >> (uchar)(2 * quarter)) & (uchar)3;
    return (convert_float16(low | high << (uchar)4) - 32.0f) * scale_q6_k(block, at);
}

// ---- codes: i8; f8_e4m3; f4_e2m1, the first of two in the lower half of a byte. Scales: e8m0, 2^(e - 127) ----
// f8_e4m3: a sign, 4 bits of exponent and 3 of mantissa, 0x7f and 0xff NaN.

static inline float load_i8(const global char *p, ulong i) { return (float)p[i]; }
static inline float16 load16_i8(const global char *p, ulong i) { return convert_float16(vload16(0, p + i)); }

// Without an exponent the mantissa counts 2^-9; with one, the bits are those of an f32 with another bias.
static inline float load_f8_e4m3(const global uchar *p, ulong i) {
    const uint code = p[i], bits = code & 127;
    const float normal = as_float(bits == 127 ? 0x7fc00000u : (bits << 20) + 0x3c000000u);
    const float magnitude = bits < 8 ? (float)bits * 0x1p-9f : normal;
    return code & 128 ? -magnitude : magnitude;
}
static inline float16 load16_f8_e4m3(const global uchar *p, ulong i) {
    const uint16 code = convert_uint16(vload16(0, p + i)), bits = code & 127u;
    const uint16 normal = select((bits << 20u) + 0x3c000000u, (uint16)(0x7fc00000u), bits == 127u);
    const uint16 magnitude = select(normal, as_uint16(convert_float16(bits) * 0x1p-9f), bits < 8u);
    return as_float16(magnitude | (code & 128u) << 24u);
}

static inline float load_f4_e2m1(const global uchar *p, ulong i) { return doubled_e2m1(nibble(p, i / 2, i & 1)) * 0.5f; }
static inline float16 load16_f4_e2m1(const global uchar *p, ulong i) {
    const uint2 words = as_uint2(vload8(0, p + i / 2));
    const uint16 place = (uint16)(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    return doubled_e2m1_16((uint16)((uint8)(words.x), (uint8)(words.y)) >> place & 15u) * 0.5f;
}

static inline float float_of_e8m0(uint e) {
    return as_float(e << 23 | (uint)((e + 1 & 254u) == 0) << 22); // 0 and NaN have a bit of the mantissa
}
static inline float load_e8m0(const global uchar *p, ulong i) { return float_of_e8m0(p[i]); }

// ---- 8 codes of 4 bits in a word: in order (gptq), or first those with an even place, then those with an odd one ----

static inline float load_gptq(const global uint *p, ulong i) { return (float)(p[i / 8] >> i % 8 * 4 & 15); }
static inline float load_awq(const global uint *p, ulong i) {
    return (float)(p[i / 8] >> (i % 8 / 2 + (i & 1) * 4) * 4 & 15);
}
