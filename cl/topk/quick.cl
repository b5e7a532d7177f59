// SPDX-License-Identifier: MIT
// key_of in three instructions, for the most common kind of keys on devices with inline PTX.
#include "topk/output.cl"

#ifndef QUICK_KEY
#error "QUICK_KEY: 1 for f32 with the greatest NaN and inline PTX, else 0"
#endif
#ifndef SMALLEST_FIRST
#error "SMALLEST_FIRST: with QUICK_KEY which end comes first: 1 the smallest, 0 the largest"
#endif

// The same keys as key_of. Adding +0 turns -0 into +0 and every NaN into the one of positive sign with all bits set.
inline KEY_T quick_key(BITS(X_T) bits, struct key_rule rule) {
#if QUICK_KEY
    uint u;
    asm("add.f32 %0, %1, 0f00000000;" : "=r"(u) : "r"(bits));
    u ^= (uint)((int)u >> 31) | 0x80000000u;
    return SMALLEST_FIRST ? ~u : u;
#else
    return key_of(bits, rule);
#endif
}
