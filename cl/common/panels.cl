// SPDX-License-Identifier: MIT
// Block formats in panels, as clmoe_matmul_pack lays them out (include/clmoe/matmul.h): element i of [.., K, 32] is
// step i / 32 % 32 and lane i % 32 of tile i / 1024. A tile has rows of 32 bytes, of which the first 16 belong to lanes
// 0 .. 15 and the last to lanes 16 .. 31, so that a pointer 16 bytes ahead sees these as 0 .. 15:
//
//   q8_0          2 rows of scales, of lanes 0 .. 7 and 8 .. 15; 32 rows of codes: row 2j is step j, 2j + 1 is j + 16
//   q4_0, mxfp4   2 rows of scales, or 1; 16 rows of codes: row j is step j in lower halves of bytes, j + 16 in upper
//
//   LOAD(W_T, w, i) -> float         element i
//   SCALES16(W_T, tile)              what the codes of lanes 0 .. 15 are to be multiplied by
//   LOW16, HIGH16(W_T, tile, j)      their codes of steps j and j + 16, j < 16
#include "common/blocks.cl"

#define TILE_STEPS 32
#define TILE_BYTES(T) (UNITS(T) * (int)sizeof(ELEM(T)))
#define HALF_ROW(T) (16 / (int)sizeof(ELEM(T))) // what is between lanes 0 and 16
#define SCALES16(T, tile) CAT(scales16_, T)(tile)
#define LOW16(T, tile, j) CAT(low16_, T)(tile, j)
#define HIGH16(T, tile, j) CAT(high16_, T)(tile, j)

// Parts of element i's place: its tile, with its half as the first; its lane of that; its step, below 16 or above
#define TILE_AT(T, p, i) ((p) + (i) / 1024 * UNITS(T) + (i) / 16 % 2 * HALF_ROW(T))
#define LANE_OF(i) ((i) % 16)
#define STEP_OF(i) ((i) / 32 % 16)
#define IS_HIGH(i) ((i) / 512 % 2)

static inline const global uchar *codes_behind(const global ushort *tile) { return (const global uchar *)(tile + 32); }
static inline float scale_in_panel(const global ushort *tile, ulong lane) {
    return half_at(tile + lane / 8 * 16 + lane % 8);
}
// By way of an array, since oclgrind's check of uninitialised values cannot take the shuffles of joined vectors.
static inline float16 scales_in_panel(const global ushort *tile) {
    float scales[16];
    vstore8(vload_half8(0, (const global half *)tile), 0, scales);
    vstore8(vload_half8(2, (const global half *)tile), 1, scales);
    return vload16(0, scales);
}

// ---- q8_0 ----

static inline float load_q8_0_panel(const global ushort *p, ulong i) {
    const global ushort *const tile = TILE_AT(q8_0_panel, p, i);
    const uchar code = codes_behind(tile)[(2 * STEP_OF(i) + IS_HIGH(i)) * 32 + LANE_OF(i)];
    return scale_in_panel(tile, LANE_OF(i)) * (float)as_char(code);
}
static inline float16 scales16_q8_0_panel(const global ushort *tile) { return scales_in_panel(tile); }
static inline float16 low16_q8_0_panel(const global ushort *tile, int j) {
    return convert_float16(as_char16(vload16(4 * j, codes_behind(tile))));
}
static inline float16 high16_q8_0_panel(const global ushort *tile, int j) {
    return convert_float16(as_char16(vload16(4 * j + 2, codes_behind(tile))));
}

// ---- q4_0 ----

static inline float load_q4_0_panel(const global ushort *p, ulong i) {
    const global ushort *const tile = TILE_AT(q4_0_panel, p, i);
    const uint code = nibble(codes_behind(tile), STEP_OF(i) * 32 + LANE_OF(i), IS_HIGH(i));
    return scale_in_panel(tile, LANE_OF(i)) * ((float)code - 8.0f);
}
static inline float16 scales16_q4_0_panel(const global ushort *tile) { return scales_in_panel(tile); }
static inline float16 low16_q4_0_panel(const global ushort *tile, int j) {
    return convert_float16(convert_int16(vload16(2 * j, codes_behind(tile))) & 15) - 8.0f;
}
static inline float16 high16_q4_0_panel(const global ushort *tile, int j) {
    return convert_float16(convert_int16(vload16(2 * j, codes_behind(tile))) >> 4) - 8.0f;
}

// ---- mxfp4 ----

static inline float load_mxfp4_panel(const global uchar *p, ulong i) {
    const global uchar *const tile = TILE_AT(mxfp4_panel, p, i);
    return half_scale_e8m0(tile[LANE_OF(i)]) *
           doubled_e2m1(nibble(tile + 32, STEP_OF(i) * 32 + LANE_OF(i), IS_HIGH(i)));
}
static inline float16 scales16_mxfp4_panel(const global uchar *tile) {
    const uint16 e = convert_uint16(vload16(0, tile));
    const uint16 scale = select((e - 1u) << 23u, (uint16)(0x200000u) << e, e < 2u);
    return as_float16(select(scale, (uint16)(0x7fc00000u), e == 255u));
}
// Magnitudes by four times their codes, signs in the highest bits
static inline float16 signed_e2m1_16(uint16 place, uint16 sign) {
    const int16 magnitude = as_int16(((uint16)(DOUBLED_E2M1) >> (place & 28u)) & 15u);
    return as_float16(as_uint16(convert_float16(magnitude)) | (sign & 0x80000000u));
}
static inline float16 low16_mxfp4_panel(const global uchar *tile, int j) {
    const uint16 codes = convert_uint16(vload16(2 * j, tile + 32));
    return signed_e2m1_16(codes << 2u, codes << 28u);
}
static inline float16 high16_mxfp4_panel(const global uchar *tile, int j) {
    const uint16 codes = convert_uint16(vload16(2 * j, tile + 32));
    return signed_e2m1_16(codes >> 2u, codes << 24u);
}
