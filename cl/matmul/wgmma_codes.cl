// SPDX-License-Identifier: MIT
// Codes of 8 bits to bf16 or f16 in the registers of a matrix instruction: exact. tests/emulated has this file for CPUs.
#ifndef IS_BF16
#error "IS_BF16: 1 where codes become bf16, 0 where they become f16"
#endif
#ifndef INTEGERS
#error "INTEGERS: 1 where codes are signed integers, 0 where they are e4m3"
#endif
#if IS_BF16
#define ON_TWO(instruction) instruction ".rn.bf16x2 %0, %1, %2;"
#else
#define ON_TWO(instruction) instruction ".rn.f16x2 %0, %1, %2;"
#endif

inline uint multiply_two(uint a, uint b) {
    uint r;
    asm(ON_TWO("mul") : "=r"(r) : "r"(a), "r"(b));
    return r;
}

// Of two codes, of which the first comes to the lower half, each CODE_UNIT-th.
#if INTEGERS
// By their bits with the sign turned, which are those of code + 128. In bf16 these alone are a number, of 2^-133; in f16
// they are whole ones behind 1024.
#define CODE_UNIT (IS_BF16 ? 64.0f : 1.0f)
inline uint widen(ushort codes) {
    uint r;
    asm("prmt.b32 %0, %1, 0, 0x4140;" : "=r"(r) : "r"((uint)codes));
    r ^= IS_BF16 ? 0x00800080u : 0x64806480u;
#if IS_BF16
    asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(r) : "r"(0x7f007f00u), "r"(0xc000c000u));
#else
    asm("sub.rn.f16x2 %0, %0, %1;" : "+r"(r) : "r"(0x64806480u));
#endif
    return r;
}
#else
// By way of f16, which knows NaN.
#define CODE_UNIT 1.0f
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
#endif
