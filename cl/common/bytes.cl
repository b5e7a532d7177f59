// SPDX-License-Identifier: MIT
// Bytes of words in another order.
//
// PTX: 1 where inline PTX works. Without it the same is computed in plain OpenCL C, which is how tests see it.
#ifndef PTX
#error "PTX: 1 where inline PTX works, else 0"
#endif

// Four of the bytes of b (4 .. 7) and a (0 .. 3), the lowest first, as the halves of `select`'s bytes say.
static inline uint permute_bytes(uint a, uint b, uint select) {
#if PTX
    uint r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(select));
    return r;
#else
    const ulong bytes = (ulong)b << 32 | a;
    uint r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint)(bytes >> (select >> 4 * i & 7) * 8 & 255) << 8 * i;
    return r;
#endif
}
