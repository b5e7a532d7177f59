// SPDX-License-Identifier: MIT
// Pairs of numbers of x's type in a register, and how whole numbers become such: in the last bits of the mantissa of
// 2^7 (bf16) or of 2^10 (f16) a small one is added to that.
#define ABOVE (IS_BF16 ? 0x43u : 0x64u) // the upper byte of 2^7 or 2^10
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))

#if PTX
#if IS_BF16
#define ON_TWO(instruction) instruction ".rn.bf16x2 %0, %1, %2;"
#else
#define ON_TWO(instruction) instruction ".rn.f16x2 %0, %1, %2;"
#endif
#define DEFINE_ON_TWO(name, instruction, operation)                                                                    \
    inline uint name(uint a, uint b) {                                                                                 \
        uint r;                                                                                                        \
        asm(ON_TWO(instruction) : "=r"(r) : "r"(a), "r"(b));                                                           \
        return r;                                                                                                      \
    }
#else
#define DEFINE_ON_TWO(name, instruction, operation)                                                                    \
    inline uint name(uint a, uint b) {                                                                                 \
        const float low = FLOAT_OF(X_T, (ushort)a) operation FLOAT_OF(X_T, (ushort)b);                                 \
        const float high = FLOAT_OF(X_T, (ushort)(a >> 16)) operation FLOAT_OF(X_T, (ushort)(b >> 16));                \
        return (uint)ROUND(X_T, low) | (uint)ROUND(X_T, high) << 16;                                                   \
    }
#endif
DEFINE_ON_TWO(subtract_two, "sub", -)
