// SPDX-License-Identifier: MIT
// Codes of 4 bits in groups of a row, 8 in a word, as AWQ and GPTQ store them: a work-item for each group of 8 rows. With
// `eights` of these and g = global id:
//   group = g / eights, eight = g % eights
//   columns from group * columns on, up to the next group or n; rows 8 * eight .. + 7
//   their scales: s_skip + group * s_stride + row; zeros: a word at z_skip + group * z_stride + eight
// include/clmoe/scale.h has the places of codes, include/clmoe/quant.h the formulas.
#include "quant/share.cl"

#ifndef Q_T
#error "Q_T: awq or gptq"
#endif
#ifndef ZERO_GIVEN
#error "ZERO_GIVEN: 1 if there are words of zeros, to which ZERO_BASE is added; 0 if ZERO_BASE is the zero"
#endif
#ifndef ZERO_BASE
#error "ZERO_BASE: 0 or 1; without words of zeros 8"
#endif

// Where code (row, k) is: the word, and the place of its 4 bits; place 0 is the first to be written.
#define WORD_awq(row, k) ((k)*q_stride + (row) / 8)
#define PLACE_awq(row, k) EIGHTH_awq(row)
#define EIGHTH_awq(row) ((uint)(row) % 8 / 2 + ((uint)(row)&1) * 4)
#define WORD_gptq(row, k) ((k) / 8 * q_stride + (row))
#define PLACE_gptq(row, k) ((uint)(k) % 8)
#define EIGHTH_gptq(row) ((uint)(row) % 8)
#define WORD(T, row, k) CAT(WORD_, T)(row, k)
#define PLACE(T, row, k) CAT(PLACE_, T)(row, k)
#define EIGHTH(T, row) CAT(EIGHTH_, T)(row)

struct group {
    float factor;
    int zero;
};

// The scale goes to *s.
static inline struct group group_of(const global ELEM(X_T) *x, long begin, long end, global ELEM(S_T) *s) {
    float high = 0.0f, low = 0.0f;
    bool damaged = false;
    for (long k = begin; k < end; k++) {
        const float v = LOAD(X_T, x, k);
        damaged |= magnitude_bits(v) >= INF_BITS;
        high = max(high, ZERO_GIVEN ? v : fabs(v));
        low = max(low, ZERO_GIVEN ? -v : fabs(v));
    }
    const ELEM(S_T) scale = scale_of_share(damaged ? INF_BITS : magnitude_bits(high + low), 15, 0, 3);
    struct group g;
    g.factor = factor_of(scale);
    g.zero = ZERO_BASE;
    if (ZERO_GIVEN && g.factor != 0.0f) g.zero = clamp(nearest(low * g.factor), ZERO_BASE, ZERO_BASE + 15);
    *s = scale;
    return g;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_pack(const global ELEM(X_T) *x, ulong x_skip, long x_stride, global uint *q, ulong q_skip, long q_stride,
           global ELEM(S_T) *s, ulong s_skip, long s_stride, global uint *z, ulong z_skip, long z_stride, long n,
           long columns, long eights, long all) {
    const long g = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (g >= all) return;
    const long group = g / eights, eight = g - group * eights;
    const long begin = group * columns, end = min(begin + columns, n);
    uint zeros = 0;
    q += q_skip;
    for (long row = 8 * eight; row < 8 * eight + 8; row++) {
        const global ELEM(X_T) *const from = x + x_skip + row * x_stride;
        const struct group own = group_of(from, begin, end, s + s_skip + group * s_stride + row);
        zeros |= (uint)(own.zero - ZERO_BASE) << 4 * EIGHTH(Q_T, row);
        for (long k = begin; k < end; k++) {
            const float v = own.factor == 0.0f ? 0.0f : LOAD(X_T, from, k) * own.factor;
            const uint code = (uint)clamp(nearest(v) + own.zero, 0, 15), place = PLACE(Q_T, row, k);
            global uint *const word = q + WORD(Q_T, row, k);
            *word = (place ? *word : 0) | code << 4 * place;
        }
    }
    if (ZERO_GIVEN) z[z_skip + group * z_stride + eight] = zeros;
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void
quant_unpack(global ELEM(X_T) *x, ulong x_skip, long x_stride, const global uint *q, ulong q_skip, long q_stride,
             const global ELEM(S_T) *s, ulong s_skip, long s_stride, const global uint *z, ulong z_skip, long z_stride,
             long n, long columns, long eights, long all) {
    const long g = (long)get_group_id(0) * LOCAL_SIZE + get_local_id(0);
    if (g >= all) return;
    const long group = g / eights, eight = g - group * eights;
    const long begin = group * columns, end = min(begin + columns, n);
    const uint zeros = ZERO_GIVEN ? z[z_skip + group * z_stride + eight] : 0;
    q += q_skip;
    for (long row = 8 * eight; row < 8 * eight + 8; row++) {
        const float scale = LOAD(S_T, s, s_skip + group * s_stride + row);
        const int zero = ZERO_BASE + (int)(zeros >> 4 * EIGHTH(Q_T, row) & 15u);
        for (long k = begin; k < end; k++) {
            const int code = (int)(q[WORD(Q_T, row, k)] >> 4 * PLACE(Q_T, row, k) & 15u);
            STORE(X_T, x, x_skip + row * x_stride + k, (float)(code - zero) * scale);
        }
    }
}
