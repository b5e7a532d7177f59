// SPDX-License-Identifier: MIT
// Packing of q8_0, by blocks and by parts of them.
//
//   block of 32 elements, 34 bytes: d as f16, then q[0..31] as int8; in memory 17 ushorts, two q in each
//   D = amax / 127,   q_i = round-half-away(x_i * (1/D)),   d = D rounded to f16
//
// A block with D < 2^-125 gets q = 0: from there on no denormal x_i is large enough to count. Its d is 0.
#include "quant/round.cl"

struct scale_q8_0 {
    float d, inverse;
};

// `amax`: bits of the largest |x_i|, finite
static inline struct scale_q8_0 block_scale(uint amax) {
    struct scale_q8_0 s;
    s.d = share_of(amax, 127, 0, 6);
    s.inverse = reciprocal(s.d);
    return s;
}

static inline void store_scale(global ushort *block, uint amax, struct scale_q8_0 s) {
    block[0] = amax >= INF_BITS ? (ushort)NAN_F16 : round_f16(s.d);
}

// Two neighbours as they lie in memory. |x * inverse| <= 127 after rounding.
static inline ushort pack_pair(float a, float b, uint amax, struct scale_q8_0 s) {
    if (amax >= INF_BITS) return 0;
    return as_ushort((char2)((char)nearest(a * s.inverse), (char)nearest(b * s.inverse)));
}

static inline void pack_q8_0(const global ELEM(X_T) *x, global ushort *block) {
    const uint amax = magnitude_bits(largest_of(x, 32));
    const struct scale_q8_0 s = block_scale(amax);
    store_scale(block, amax, s);
    for (int i = 0; i < 16; i++)
        block[1 + i] = pack_pair(LOAD(X_T, x, 2 * i), LOAD(X_T, x, 2 * i + 1), amax, s);
}
