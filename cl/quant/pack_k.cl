// SPDX-License-Identifier: MIT
// Packing of q4_k, q5_k and q6_k: blocks of 256 elements, in parts of 32 or 16 with scales of few bits.
// include/clmoe/quant.h has the formulas, common/blocks.cl the layouts.
#include "quant/round.cl"

// v as f16, 0 for one that becomes 0; `damaged` if it becomes infinite or NaN
static inline ushort scale_f16(float v, bool *damaged) {
    const ushort bits = round_f16(v);
    *damaged |= (bits & 0x7fff) >= INF_F16;
    return bits & 0x7fff ? bits : 0;
}

// ---- q4_k, q5_k ----

// What 32 elements are coded with: (x + low) * inverse
struct part_k {
    float low, inverse;
};

static inline uint code_k(float v, struct part_k part, int levels) {
    return (uint)clamp(nearest((v + part.low) * part.inverse), 0, levels);
}

// d, dmin and the 12 bytes of scales; `parts` as they follow from those. False: a number is not finite.
static inline bool scales_k(const global ELEM(X_T) *x, float step, global ushort *block, struct part_k parts[8]) {
    float spread[8], low[8], most_spread = 0.0f, most_low = 0.0f;
    bool damaged = false;
    for (int sub = 0; sub < 8; sub++) {
        float highest = 0.0f, lowest = 0.0f;
        for (int l = 0; l < 32; l++) {
            const float v = LOAD(X_T, x, 32 * sub + l);
            damaged |= magnitude_bits(v) >= INF_BITS;
            highest = max(highest, v);
            lowest = min(lowest, v);
        }
        low[sub] = -lowest;
        spread[sub] = (highest + low[sub]) * step;
        most_spread = max(most_spread, spread[sub]);
        most_low = max(most_low, low[sub]);
    }
    const ushort d = scale_f16(most_spread * 0x1.041042p-6f, &damaged); // 1 / 63
    const ushort dmin = scale_f16(most_low * 0x1.041042p-6f, &damaged);
    block[0] = damaged ? NAN_F16 : d;
    block[1] = damaged ? NAN_F16 : dmin;
    const float by_spread = d ? reciprocal(most_spread) * 63.0f : 0.0f;
    const float by_low = dmin ? reciprocal(most_low) * 63.0f : 0.0f;
    uint scales[8], mins[8];
    for (int sub = 0; sub < 8; sub++) {
        scales[sub] = damaged ? 0 : (uint)nearest(spread[sub] * by_spread);
        mins[sub] = damaged ? 0 : (uint)nearest(low[sub] * by_low);
        parts[sub].low = float_of_f16(dmin) * (float)mins[sub];
        parts[sub].inverse = reciprocal(float_of_f16(d) * (float)scales[sub]);
    }
    global uchar *const s = (global uchar *)(block + 2);
    for (int i = 0; i < 4; i++) {
        s[i] = (uchar)(scales[i] | (scales[i + 4] >> 4) << 6);
        s[i + 4] = (uchar)(mins[i] | (mins[i + 4] >> 4) << 6);
        s[i + 8] = (uchar)((scales[i + 4] & 15) | (mins[i + 4] & 15) << 4);
    }
    return !damaged;
}

// Elements 64c + l and 64c + 32 + l share a byte; their fifth bits, if any, are bits 2c and 2c + 1 of
// highs[l].
static inline void pack_codes_k(const global ELEM(X_T) *x, const struct part_k parts[8], bool valid, int levels,
                                global uchar *qs, global uchar *highs) {
    for (int l = 0; l < 32; l++) {
        uint high = 0;
        for (int c = 0; c < 4; c++) {
            const float v = LOAD(X_T, x, 64 * c + l), w = LOAD(X_T, x, 64 * c + 32 + l);
            const uint a = valid ? code_k(v, parts[2 * c], levels) : 0;
            const uint b = valid ? code_k(w, parts[2 * c + 1], levels) : 0;
            qs[32 * c + l] = (uchar)((a & 15) | (b & 15) << 4);
            high |= (a >> 4) << 2 * c | (b >> 4) << (2 * c + 1);
        }
        if (levels > 15) highs[l] = (uchar)high;
    }
}

static inline void pack_q4_k(const global ELEM(X_T) *x, global ushort *block) {
    struct part_k parts[8];
    const bool valid = scales_k(x, 0x1.111112p-4f, block, parts); // 1 / 15
    global uchar *const qs = (global uchar *)(block + 8);
    pack_codes_k(x, parts, valid, 15, qs, qs);
}

static inline void pack_q5_k(const global ELEM(X_T) *x, global ushort *block) {
    struct part_k parts[8];
    const bool valid = scales_k(x, 0x1.084210p-5f, block, parts); // 1 / 31
    pack_codes_k(x, parts, valid, 31, (global uchar *)(block + 24), (global uchar *)(block + 8));
}

// ---- q6_k ----

static inline uint code_q6_k(float v, float inverse) { return (uint)(clamp(nearest(v * inverse), -32, 31) + 32); }

static inline void pack_q6_k(const global ELEM(X_T) *x, global ushort *block) {
    float inverse[16], largest = 0.0f;
    bool damaged = false;
    for (int part = 0; part < 16; part++) {
        inverse[part] = largest_of(x + 16 * part, 16) * -0x1p-5f; // the scale, to begin with
        damaged |= magnitude_bits(inverse[part]) >= INF_BITS;
        if (magnitude_bits(inverse[part]) > magnitude_bits(largest)) largest = inverse[part];
    }
    const float scale = largest * -0x1p-7f;
    const ushort d = scale_f16(scale, &damaged);
    block[104] = damaged ? NAN_F16 : d;
    const float by = d && !damaged ? reciprocal(scale) : 0.0f;
    global char *const scales = (global char *)(block + 96);
    for (int part = 0; part < 16; part++) {
        const int s = damaged ? 0 : min(nearest(inverse[part] * by), 127);
        scales[part] = (char)s;
        inverse[part] = reciprocal(float_of_f16(d) * (float)s);
    }
    global uchar *const bytes = (global uchar *)block;
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            uint codes[4];
            for (int q = 0; q < 4; q++) {
                const int at = 128 * h + 32 * q + l;
                codes[q] = damaged ? 32 : code_q6_k(LOAD(X_T, x, at), inverse[at / 16]);
            }
            bytes[64 * h + l] = (uchar)((codes[0] & 15) | (codes[2] & 15) << 4);
            bytes[64 * h + 32 + l] = (uchar)((codes[1] & 15) | (codes[3] & 15) << 4);
            bytes[128 + 32 * h + l] =
                (uchar)(codes[0] >> 4 | (codes[1] >> 4) << 2 | (codes[2] >> 4) << 4 | (codes[3] >> 4) << 6);
        }
}
