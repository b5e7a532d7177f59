// SPDX-License-Identifier: MIT
// From sums in registers to elements of y, for the kernels on sm_90a. Who includes this has included
// matmul/epilogue.cl; in a kernel the names are those of MATMUL_NUMBERS, `e` the expert and `scale` its PAIR_SCALE.
#ifndef PLAN_FLAGS
#error "PLAN_FLAGS: the `flags` of all calls"
#endif
#ifndef LIMITED
#error "LIMITED: 1 where the activation's gate_max, up_max or act_max are given, else 0"
#endif
#if LIMITED
#define LIMITS_ARGS ACT_ARGS
#else
#define LIMITS_ARGS alpha, 0.0f, 0.0f, up_add, 0.0f, gate_tanh, up_tanh
#endif
#define flags PLAN_FLAGS // as what comes from epilogue.cl names them

// An element of y from its sums and biases, for a pair of this gamma.
#define FINISH(gate, up, bias, bias_up, weight)                                                                        \
    finish(gate, up, bias, bias_up, GAMMA_IN(weight), scale, GAMMA_OUT(weight), LIMITS_ARGS)
