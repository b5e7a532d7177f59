// SPDX-License-Identifier: MIT
// From the finished sums of one column (or, with a vector VALUE, of several) to y, for all kernels of the product:
//
//   g = gate sum * gamma_in + bias      u = up sum * gamma_in + bias_up      (the sums are linear in the row of x, so
//   g' = min(g, gate_max)               u' = clamp(u, -up_max, up_max)        that gamma on the input may follow them)
//   y = f(g') [* (u' + up_add)] * expert_scale * gamma_out
//
// Each limit only if it is > 0; a NaN fails every comparison and so passes. Without contraction, so that each kernel
// that compiles this gets the same bits.

#ifndef VALUE
#error "VALUE: float or a vector of float"
#endif
#ifndef ACT
#error "ACT: 0 none, 1 silu, 2 gelu (erf), 3 gelu (tanh), 4 relu, 5 relu^2, as enum clmoe_act"
#endif

static inline VALUE activation(VALUE g, float alpha) {
#pragma OPENCL FP_CONTRACT OFF
#if ACT == 1
    return g / (1.0f + exp(-alpha * g));
#elif ACT == 2
    return g * (1.0f + erf(g * 0.70710678118654752f)) * 0.5f;
#elif ACT == 3
    return g * (1.0f + tanh(0.79788456080286536f * (g + 0.044715f * g * g * g))) * 0.5f;
#elif ACT == 4 || ACT == 5
    const VALUE zero = (VALUE)(0.0f), r = g < zero ? zero : g;
    return ACT == 4 ? r : r * r;
#else
    return g;
#endif
}

static inline VALUE finish(VALUE gate, VALUE up, VALUE bias, VALUE bias_up, float gamma_in, float expert_scale,
                           float gamma_out, float alpha, float gate_max, float up_max, float up_add) {
#pragma OPENCL FP_CONTRACT OFF
    VALUE g = gate * gamma_in + bias;
    const VALUE most = (VALUE)(gate_max);
    if (gate_max > 0.0f) g = g > most ? most : g;
    VALUE h = activation(g, alpha);
    if (GLU) {
        VALUE u = up * gamma_in + bias_up;
        const VALUE high = (VALUE)(up_max), low = -high;
        if (up_max > 0.0f) u = u > high ? high : u < low ? low : u;
        h = h * (u + up_add);
    }
    return h * expert_scale * gamma_out;
}

// The factors of a pair, where they are given
#define PAIR_SCALE(e) (flags & HAS_EXPERT_SCALE ? expert_scale[expert_scale_skip + (e)] : 1.0f)
#define PAIR_GAMMA(p, token)                                                                                           \
    (flags & (GAMMA_INPUT | GAMMA_OUTPUT) ? gamma[gamma_skip + pair_element(p, token, k, gamma_stride)] : 1.0f)
#define GAMMA_IN(g) (flags & GAMMA_INPUT ? (g) : 1.0f)
#define GAMMA_OUT(g) (flags & GAMMA_OUTPUT ? (g) : 1.0f)

// The biases of column n for expert e
#define BIAS_AT(e, n)                                                                                                  \
    (flags & HAS_BIAS ? LOAD(BIAS_T, bias, bias_skip + (e) * bias_expert + (n) * bias_column) : 0.0f)
#define BIAS_UP_AT(e, n)                                                                                               \
    (GLU && flags & HAS_BIAS ? LOAD(BIAS_T, bias_up, bias_up_skip + (e) * bias_up_expert + (n) * bias_up_column) : 0.0f)
