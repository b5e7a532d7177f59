// SPDX-License-Identifier: MIT
// Codes with scales in a tensor of their own: a work-group for each block of scales. With `groups` blocks in a row of
// them and b = group id:
//   band = b / groups, group = b % groups
//   the block: rows from band * block_rows, columns from group * block_columns on, as many or up to the ends
//   its scale: s_skip + band * s_stride + group
// Lane l of lanes = 1 << lane_bits, which divides LOCAL_SIZE, takes columns l * PER .. + PER - 1 and every lanes * PER-th
// from there on, in every LOCAL_SIZE / lanes-th row: PER codes share a byte. include/clmoe/quant.h has the formulas.
#include "quant/pack.cl"
#include "quant/share.cl"

#ifndef Q_T
#error "Q_T: i8, f8_e4m3 or f4_e2m1, the codes"
#endif

#define PER BLOCK(Q_T)

// The largest code is ODD << TWOS, the largest power of two among them 1 << POWER.
#define ODD_i8 127
#define TWOS_i8 0
#define POWER_i8 6
#define ODD_f8_e4m3 7
#define TWOS_f8_e4m3 6
#define POWER_f8_e4m3 8
#define ODD_f4_e2m1 3
#define TWOS_f4_e2m1 1
#define POWER_f4_e2m1 2

// ---- scales: what lies in memory; what elements are multiplied with ----

#if IS_E8M0(S_T)
static inline elem_e8m0 scale_of(uint amax) {
    const uint power = CAT(POWER_, Q_T);
    return (uchar)(amax >= INF_BITS ? 255 : max(amax >> 23, power) - power);
}

// 2^(127 - e)
static inline float factor_of(elem_e8m0 e) { return e == 255 ? 0.0f : as_float((254u - e) << 23); }

// A denormal is taken as its mantissa and 2^-149, in two steps that stay normal for all e that leave something of it.
static inline float scaled(float v, float factor) {
    const uint bits = magnitude_bits(v);
    return bits >> 23 ? v * factor : (float)bits * 0x1p-75f * (factor * 0x1p-74f);
}
#else
static inline ELEM(S_T) scale_of(uint amax) {
    return scale_of_share(amax, CAT(ODD_, Q_T), CAT(TWOS_, Q_T), CAT(POWER_, Q_T));
}

static inline float scaled(float v, float factor) { return v * factor; }
#endif

// ---- codes ----

static inline uint code_i8(float v) { return (uint)clamp(nearest(v), -127, 127) & 255; }

// From 2^-6 on the upper bits are rounded, below them steps of 2^-9 as the sum with 2^14 has them.
static inline uint code_f8_e4m3(float v) {
    const uint bits = magnitude_bits(v), normal = (bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20;
    const uint steps = as_uint(as_float(bits) + 0x1p14f) - 0x46800000u;
    return (bits < 0x3c800000u ? steps : min(normal - 0x3c0u, 0x7eu)) | as_uint(v) >> 31 << 7;
}

static inline uint code_f4_e2m1(float v) { return code_mxfp4(v, 127); }

// The sign is that of x: devices without denormals may lose it with the rest of a product.
static inline uint code_of(float x, float factor) {
    return factor == 0.0f ? 0 : CAT(code_, Q_T)(copysign(scaled(x, factor), x));
}

// ---- kernels ----

struct block_part {
    long row, row_end, column, end; // of the lane: where it begins, and the ends of the block
};

static inline struct block_part part_of(long band, long group, long rows, long n, long block_rows, long block_columns,
                                        int lane_bits) {
    const long row = band * block_rows, column = group * block_columns;
    struct block_part p;
    p.row_end = min(row + block_rows, rows);
    p.end = min(column + block_columns, n);
    p.row = row + (get_local_id(0) >> lane_bits);
    p.column = column + (get_local_id(0) & ((1 << lane_bits) - 1)) * PER;
    return p;
}

// The largest number of all work-items
static inline uint largest_of_group(local uint *tops, uint own) {
    const uint id = get_local_id(0);
    tops[id] = own;
    for (uint step = LOCAL_SIZE / 2; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (id < step) tops[id] = max(tops[id], tops[id + step]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return tops[0];
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_pack(const global ELEM(X_T) *x, ulong x_skip, long x_stride, global uchar *q, ulong q_skip, long q_stride,
           global ELEM(S_T) *s, ulong s_skip, long s_stride, long rows, long n, long block_rows, long block_columns,
           long groups, int lane_bits) {
    local uint tops[LOCAL_SIZE];
    const long b = get_group_id(0), band = b / groups, group = b - band * groups;
    const struct block_part p = part_of(band, group, rows, n, block_rows, block_columns, lane_bits);
    uint amax = 0;
    for (long r = p.row; r < p.row_end; r += LOCAL_SIZE >> lane_bits)
        for (long k = p.column; k < p.end; k += PER << lane_bits)
            for (int i = 0; i < PER; i++)
                amax = max(amax, magnitude_bits(LOAD(X_T, x, x_skip + r * x_stride + k + i)));
    const ELEM(S_T) scale = scale_of(largest_of_group(tops, amax));
    if (get_local_id(0) == 0) s[s_skip + band * s_stride + group] = scale;
    const float factor = factor_of(scale);
    for (long r = p.row; r < p.row_end; r += LOCAL_SIZE >> lane_bits)
        for (long k = p.column; k < p.end; k += PER << lane_bits) {
            uint byte = 0;
            for (int i = 0; i < PER; i++)
                byte |= code_of(LOAD(X_T, x, x_skip + r * x_stride + k + i), factor) << 4 * i;
            q[q_skip + r * q_stride + k / PER] = (uchar)byte;
        }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_unpack(global ELEM(X_T) *x, ulong x_skip, long x_stride, const global ELEM(Q_T) *q, ulong q_skip, long q_stride,
             const global ELEM(S_T) *s, ulong s_skip, long s_stride, long rows, long n, long block_rows,
             long block_columns, long groups, int lane_bits) {
    const long b = get_group_id(0), band = b / groups, group = b - band * groups;
    const struct block_part p = part_of(band, group, rows, n, block_rows, block_columns, lane_bits);
    const float scale = LOAD(S_T, s, s_skip + band * s_stride + group);
    for (long r = p.row; r < p.row_end; r += LOCAL_SIZE >> lane_bits)
        for (long k = p.column; k < p.end; k += PER << lane_bits)
            for (int i = 0; i < PER; i++)
                STORE(X_T, x, x_skip + r * x_stride + k + i, LOAD(Q_T, q + q_skip + r * q_stride, k + i) * scale);
}
