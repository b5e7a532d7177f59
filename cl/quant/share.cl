// SPDX-License-Identifier: MIT
// Scales of S_T that are a share of a magnitude. include/clmoe/quant.h has the formulas.
#include "quant/round.cl"

#ifndef S_T
#error "S_T: f32, f16, bf16 or e8m0, the scales"
#endif

#define IS_E8M0(T) CAT(IS_E8M0_, T)
#define IS_E8M0_f32 0
#define IS_E8M0_f16 0
#define IS_E8M0_bf16 0
#define IS_E8M0_e8m0 1
#define NAN_f32 as_float(0x7fc00000u)
#define NAN_f16 NAN_F16
#define NAN_bf16 0x7fc0

#if !IS_E8M0(S_T)
// amax / (odd << twos), as share_of has it; NaN of what is not finite. 0 below 2^-100: from there on no denormal is large
// enough to count, neither as a number nor in a sum.
static inline ELEM(S_T) scale_of_share(uint amax, uint odd, int twos, int power) {
    if (amax >= INF_BITS) return CAT(NAN_, S_T);
    const float share = share_of(amax, odd, twos, power);
    return ROUND(S_T, share < 0x1p-100f ? 0.0f : share);
}

// What elements are multiplied with; 0 where their codes stand for 0
static inline float factor_of(ELEM(S_T) stored) {
    const float s = FLOAT_OF(S_T, stored);
    return magnitude_bits(s) >= INF_BITS ? 0.0f : reciprocal(s);
}
#endif
