// SPDX-License-Identifier: MIT
// What kernels on mma.sync share: which tile a work-group computes, and runs of 4 columns of y.
#ifndef LIMITED
#error "LIMITED: 1 where the activation's gate_max, up_max or act_max are given, else 0"
#endif
#ifndef TN
#error "TN: columns of y of a tile"
#endif
#include "matmul/slot.cl"
#define BAND 16u

// Two floats, rounded, the first in the lower half
#if EMULATED
#define PAIR_OF_f16(low, high) ((uint)round_f16(low) | (uint)round_f16(high) << 16)
#define PAIR_OF_bf16(low, high) ((uint)round_bf16(low) | (uint)round_bf16(high) << 16)
#else
#define PAIR_OF(type)                                                                                                  \
    static inline uint CAT(pair_of_, type)(float low, float high) {                                                    \
        uint r;                                                                                                        \
        asm("cvt.rn." #type "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));                                     \
        return r;                                                                                                      \
    }
PAIR_OF(f16)
PAIR_OF(bf16)
#define PAIR_OF_f16 pair_of_f16
#define PAIR_OF_bf16 pair_of_bf16
#endif

// 4 neighbours in a row of y
#define STORE_WHOLE CAT(store_whole_, Y_T)
static inline void store_whole_f32(global float *to, float4 v) {
    *(global float4 *)to = v;
}
static inline void store_whole_f16(global ushort *to, float4 v) {
    *(global uint2 *)to = (uint2)(PAIR_OF_f16(v.s0, v.s1), PAIR_OF_f16(v.s2, v.s3));
}
static inline void store_whole_bf16(global ushort *to, float4 v) {
    *(global uint2 *)to = (uint2)(PAIR_OF_bf16(v.s0, v.s1), PAIR_OF_bf16(v.s2, v.s3));
}

// The first `inside` of them; `whole` if that is all and they are aligned
static inline void store_run(global ELEM(Y_T) *to, float4 v, bool whole, int inside) {
    if (whole) {
        STORE_WHOLE(to, v);
    } else if (inside > 0) {
        STORE(Y_T, to, 0, v.s0);
        if (inside > 1) STORE(Y_T, to, 1, v.s1);
        if (inside > 2) STORE(Y_T, to, 2, v.s2);
        if (inside > 3) STORE(Y_T, to, 3, v.s3);
    }
}

// What macros of epilogue.cl give for columns n .. n + 3; past the end that of the last one
#define OF_COLUMN(at, of, n) at(of, min(n, columns - 1))
#define OF_4(at, of)                                                                                                   \
    (float4)(OF_COLUMN(at, of, n), OF_COLUMN(at, of, n + 1), OF_COLUMN(at, of, n + 2), OF_COLUMN(at, of, n + 3))

#if LIMITED
#define KNOWN_ACT_ARGS ACT_ARGS
#else
#define KNOWN_ACT_ARGS alpha, 0.0f, 0.0f, up_add, 0.0f, gate_tanh, up_tanh
#endif
