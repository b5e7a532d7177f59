// SPDX-License-Identifier: MIT
// From the finished sums of one column (or, with a vector VALUE, of several) to y, for all kernels of the product:
//
//   g = gate sum * gamma_in + bias      u = up sum * gamma_in + bias_up      (the sums are linear in the row of x, so
//   g' = min(g, gate_max)               u' = clamp(u, -up_max, up_max)        that gamma on the input may follow them)
//   y = min(f(g'), act_max) [* (u' + up_add)] * expert_scale * gamma_out
//
// where `bias` is the expert's plus what the caller adds to the pair. SiTU also bends u': up_tanh * tanh(u' / up_tanh).
// Each limit only if it is > 0; a NaN fails every comparison and so passes. Without contraction, so that each kernel
// that compiles this with the same exp and division gets the same bits.

#ifndef VALUE
#error "VALUE: float or a vector of float"
#endif
#ifndef ACT
#error "ACT: 0 none, 1 silu, 2 gelu (erf), 3 gelu (tanh), 4 relu, 5 relu^2, 6 sigmoid, 7 situ, as enum clmoe_act"
#endif

// exp(rate * v), division and limits of the activation; where y has 16 bits a kernel may take less exact ones
#ifndef ACT_EXP
#define ACT_EXP(rate, v) exp((rate) * (v))
#define ACT_DIVIDE(a, b) ((a) / (b))
#endif
#ifndef AT_MOST
#define AT_MOST(v, limit) ((v) > (limit) ? (limit) : (v))
#define AT_LEAST(v, limit) ((v) < (limit) ? (limit) : (v))
#endif

#ifndef GAMMA_VALUE
#define GAMMA_VALUE float // gamma: one for a whole VALUE, or as many
#endif

static inline VALUE activation(VALUE g, float alpha, float gate_tanh) {
#pragma OPENCL FP_CONTRACT OFF
#if ACT == 1
    return ACT_DIVIDE(g, 1.0f + ACT_EXP(-alpha, g));
#elif ACT == 2
    return g * (1.0f + erf(g * 0.70710678118654752f)) * 0.5f;
#elif ACT == 3
    return g * (1.0f + tanh(0.79788456080286536f * (g + 0.044715f * g * g * g))) * 0.5f;
#elif ACT == 4 || ACT == 5
    const VALUE zero = (VALUE)(0.0f), r = g < zero ? zero : g;
    return ACT == 4 ? r : r * r;
#elif ACT == 6
    return 1.0f / (1.0f + exp(-alpha * g));
#elif ACT == 7
    return gate_tanh * tanh(g / gate_tanh) / (1.0f + exp(-alpha * g));
#else
    return g;
#endif
}

static inline VALUE finish(VALUE gate, VALUE up, VALUE bias, VALUE bias_up, GAMMA_VALUE gamma_in, float expert_scale,
                           GAMMA_VALUE gamma_out, ACT_PARAMS) {
#pragma OPENCL FP_CONTRACT OFF
    VALUE g = gate * gamma_in + bias;
    const VALUE most = (VALUE)(gate_max);
    if (gate_max > 0.0f) g = AT_MOST(g, most);
    VALUE h = activation(g, alpha, gate_tanh);
    const VALUE top = (VALUE)(act_max);
    if (act_max > 0.0f) h = AT_MOST(h, top);
    if (GLU) {
        VALUE u = up * gamma_in + bias_up;
        const VALUE high = (VALUE)(up_max), low = -high;
        if (up_max > 0.0f) u = AT_LEAST(AT_MOST(u, high), low);
#if ACT == 7
        if (up_tanh > 0.0f) u = up_tanh * tanh(u / up_tanh);
#endif
        h = h * (u + up_add);
    }
    return h * expert_scale * gamma_out;
}

// The factors of a pair, where they are given
#define PAIR_SCALE(e) (flags & HAS_EXPERT_SCALE ? expert_scale[expert_scale_skip + (e)] : 1.0f)
#define PAIR_GAMMA(p, token)                                                                                           \
    (flags & (GAMMA_INPUT | GAMMA_OUTPUT) ? gamma[gamma_skip + pair_element(p, token, k, gamma_stride)] : 1.0f)
#define GAMMA_IN(g) (flags & GAMMA_INPUT ? (g) : (GAMMA_VALUE)(1.0f))
#define GAMMA_OUT(g) (flags & GAMMA_OUTPUT ? (g) : (GAMMA_VALUE)(1.0f))

// The biases of column n for expert e. Where there are none these are -0, which compilers know to change no sum.
#define BIAS_AT(e, n)                                                                                                  \
    (flags & HAS_BIAS ? LOAD(BIAS_T, bias, bias_skip + (e) * bias_expert + (n) * bias_column) : -0.0f)
#define BIAS_UP_AT(e, n)                                                                                               \
    (GLU && flags & HAS_BIAS ? LOAD(BIAS_T, bias_up, bias_up_skip + (e) * bias_up_expert + (n) * bias_up_column) : -0.0f)

// What the caller adds to column n of pair p, which belongs to the sums as a bias does
#define ADD_AT(p, n) (flags & HAS_ADD ? add[add_skip + (p) * add_pair + (n) * add_column] : -0.0f)
#define ADD_UP_AT(p, n)                                                                                                \
    (GLU && flags & HAS_ADD ? add_up[add_up_skip + (p) * add_up_pair + (n) * add_up_column] : -0.0f)
