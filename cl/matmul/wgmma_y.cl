// SPDX-License-Identifier: MIT
// From sums in registers to rows of y, for the kernels on sm_90a. Who includes this has included matmul/epilogue.cl; in
// a kernel the names are those of MATMUL_NUMBERS, `e` the expert and `scale` its PAIR_SCALE.
#ifndef PLAN_FLAGS
#error "PLAN_FLAGS: the `flags` of all calls"
#endif
#ifndef LIMITED
#error "LIMITED: 1 where the activation's gate_max, up_max or act_max are given, else 0"
#endif
#ifndef PACK_TWO
#error "PACK_TWO: \"cvt.rn.bf16x2.f32\" or \"cvt.rn.f16x2.f32\""
#endif

inline uint pack_two(float low, float high) {
    uint r;
    asm(PACK_TWO " %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// Four 8 x 8 elements, of which work-item i names the place of row i % 8 of i / 8, transposed. Who reads them waits at
// a barrier first: other accesses to local memory may pass this one.
inline void store_matrices(uint at, const uint *v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 :
                 : "r"(at), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]));
}

#if LIMITED
#define LIMITS_ARGS ACT_ARGS
#else
#define LIMITS_ARGS alpha, 0.0f, 0.0f, up_add, 0.0f, gate_tanh, up_tanh
#endif
#define flags PLAN_FLAGS // as what comes from epilogue.cl names them

// An element of y from its sums and biases, for a pair of this gamma.
#define FINISH(gate, up, bias, bias_up, weight)                                                                        \
    finish(gate, up, bias, bias_up, GAMMA_IN(weight), scale, GAMMA_OUT(weight), LIMITS_ARGS)
