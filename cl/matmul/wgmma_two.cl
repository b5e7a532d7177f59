// SPDX-License-Identifier: MIT
// Pairs of numbers of x's type in a register, and how whole numbers become such: in the last bits of the mantissa of
// 2^7 (bf16) or of 2^10 (f16) a small one is added to that.
#define ABOVE (IS_BF16 ? 0x43u : 0x64u) // the upper byte of 2^7 or 2^10
#define TWO_OF(bits) ((uint)(bits) << 16 | (uint)(bits))

#if PTX
#if IS_BF16
#define ON_TWO(instruction) instruction ".rn.bf16x2 %0, %1, %2;"
#define FMA_TWO "fma.rn.bf16x2 %0, %1, %2, %3;"
#else
#define ON_TWO(instruction) instruction ".rn.f16x2 %0, %1, %2;"
#define FMA_TWO "fma.rn.f16x2 %0, %1, %2, %3;"
#endif
#define DEFINE_ON_TWO(name, instruction, operation)                                                                    \
    inline uint name(uint a, uint b) {                                                                                 \
        uint r;                                                                                                        \
        asm(ON_TWO(instruction) : "=r"(r) : "r"(a), "r"(b));                                                           \
        return r;                                                                                                      \
    }
// a * b + c, rounded once
inline uint scale_and_add_two(uint a, uint b, uint c) {
    uint r;
    asm(FMA_TWO : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
// v in a register of each work-item: what is known to be the same for all is kept where PRMT does not take it from, and is
// moved each time.
inline uint kept_apart(uint v) {
    uint r;
    asm("{ .reg .u32 l; mov.u32 l, %%laneid; shr.u32 l, l, 5; add.u32 %0, l, %1; }" : "=r"(r) : "r"(v));
    return r;
}
#else
#define DEFINE_ON_TWO(name, instruction, operation)                                                                    \
    inline uint name(uint a, uint b) {                                                                                 \
        const float low = FLOAT_OF(X_T, (ushort)a) operation FLOAT_OF(X_T, (ushort)b);                                 \
        const float high = FLOAT_OF(X_T, (ushort)(a >> 16)) operation FLOAT_OF(X_T, (ushort)(b >> 16));                \
        return (uint)ROUND(X_T, low) | (uint)ROUND(X_T, high) << 16;                                                   \
    }
inline uint scale_and_add_two(uint a, uint b, uint c) {
    const float low = FLOAT_OF(X_T, (ushort)a) * FLOAT_OF(X_T, (ushort)b) + FLOAT_OF(X_T, (ushort)c);
    const float high =
        FLOAT_OF(X_T, (ushort)(a >> 16)) * FLOAT_OF(X_T, (ushort)(b >> 16)) + FLOAT_OF(X_T, (ushort)(c >> 16));
    return (uint)ROUND(X_T, low) | (uint)ROUND(X_T, high) << 16;
}
inline uint kept_apart(uint v) { return v; }
#endif
DEFINE_ON_TWO(subtract_two, "sub", -)
DEFINE_ON_TWO(scale_two, "mul", *)
