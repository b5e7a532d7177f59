// SPDX-License-Identifier: MIT
// What sm_90 has for codes of fp8: exact conversions, by way of f16, that know NaN (sm_89 has them, too).
// tests/emulated has this file for CPUs.
#ifndef IS_BF16
#error "IS_BF16: 1 where codes become bf16, 0 where they become f16"
#endif

// Two codes, the first one in the lower half.
inline uint widen(ushort codes) {
    uint r;
#if IS_BF16
    asm("{ .reg .b16 l, h; .reg .b32 v; .reg .f32 a, b; cvt.rn.f16x2.e4m3x2 v, %1; mov.b32 {l, h}, v; "
        "cvt.f32.f16 a, l; cvt.f32.f16 b, h; cvt.rn.bf16x2.f32 %0, b, a; }"
        : "=r"(r)
        : "h"(codes));
#else
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(codes));
#endif
    return r;
}
