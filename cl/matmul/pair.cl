// SPDX-License-Identifier: MIT
// What all kernels of the product share: their arguments, and which rows belong to which pair.
//
// Position i runs over all pairs; with sorted routing it is the pair order[i], else pair i. Row of x and of y:
//   x: token p / k (X_TOKEN), i (X_SORTED) or p          y: i (Y_SORTED) or p
//
// Weights come as two sources of columns, gate (w) and up (v, only with GLU), whatever their layout was:
//   element (expert e, column n of y, k) = skip + e*expert + column_at(n) + k*depth
// where packed weights have panels of 2^panel columns side by side; panel is 0 for all others.
#include "common/panels.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#if !defined(X_T) || !defined(Y_T) || !defined(BIAS_T)
#error "X_T, Y_T, BIAS_T: f32, f16 or bf16"
#endif
#ifndef W_T
#error "W_T: f32, f16, bf16, a block format or its panels, codes with scales, awq or gptq"
#endif
#ifndef SCALED
#error "SCALED: 1 if w has scales in a tensor of their own, else 0"
#endif
#ifndef S_T
#error "S_T: type of these scales: f32, f16, bf16 or e8m0"
#endif
#ifndef GLU
#error "GLU: 1 if there are up rows, else 0"
#endif

// Bits of `flags`; the same list is in lib/kernel/matmul.c.
#define X_TOKEN 1
#define X_SORTED 2
#define Y_SORTED 4
#define SORTED 8
#define HAS_BIAS 16
#define HAS_EXPERT_SCALE 32
#define GAMMA_OUTPUT 64
#define GAMMA_INPUT 128
#define K_FASTEST 256 // neighbours in w are neighbours in k
#define DENSE 512     // no ids: every pair is expert 0's
#define HAS_ADD 1024
#define LIMIT_IN 2048  // limits[e] steps of K
#define LIMIT_OUT 4096 // limits[e] columns of y
#define HAS_ZERO 8192
#define ZERO_PLUS_ONE 16384
#define WORDS_OF_K 32768 // 8 codes in a word are neighbours in K

// What an activation takes, as struct clmoe_activation has it: parameters of a function, and arguments for them
#define ACT_PARAMS float alpha, float gate_max, float up_max, float up_add, float act_max, float gate_tanh, float up_tanh
#define ACT_ARGS alpha, gate_max, up_max, up_add, act_max, gate_tanh, up_tanh

// A kernel that is made for the flags of its plan gives the argument another name, and `flags` their value.
#ifndef MATMUL_FLAGS_ARG
#define MATMUL_FLAGS_ARG flags
#endif

// experts: E; first, count: the experts that w holds; offsets of w, v count its own experts
#define MATMUL_ARGS                                                                                                    \
    const global ELEM(X_T) *x, ulong x_skip, long x_stride, const global ELEM(W_T) *w, ulong w_skip, long w_expert,    \
        long w_column, long w_depth, const global ELEM(W_T) *v, ulong v_skip, long v_expert, long v_column,            \
        long v_depth, const global ELEM(S_T) *w_scale, ulong w_scale_skip, long w_scale_expert, long w_scale_row,      \
        long w_scale_group, long w_first, const global ELEM(S_T) *v_scale, ulong v_scale_skip, long v_scale_expert,    \
        long v_scale_row, long v_scale_group, long v_first, long scale_rows, int scale_step, int scale_shift,          \
        const global ELEM(W_T) *w_zero, ulong w_zero_skip, long w_zero_expert, long w_zero_group,                      \
        const global ELEM(W_T) *v_zero, ulong v_zero_skip, long v_zero_expert, long v_zero_group,                      \
        const global ELEM(BIAS_T) *bias, ulong bias_skip, long bias_expert, long bias_column,                          \
        const global ELEM(BIAS_T) *bias_up, ulong bias_up_skip, long bias_up_expert, long bias_up_column,              \
        const global float *add, ulong add_skip, long add_pair, long add_column, const global float *add_up,           \
        ulong add_up_skip, long add_up_pair, long add_up_column, const global float *expert_scale,                     \
        ulong expert_scale_skip, const global int *limits, ulong limits_skip, const global float *gamma,               \
        ulong gamma_skip, long gamma_stride, const global int *ids, ulong ids_skip, long ids_stride,                   \
        const global int *offsets, ulong offsets_skip, const global int *order, ulong order_skip,                      \
        global ELEM(Y_T) *y, ulong y_skip, long y_stride, long pairs, int k, int experts, int first, int count,        \
        long depth, long columns, int panel, ACT_PARAMS, int MATMUL_FLAGS_ARG

static inline ulong column_at(long n, long stride, int panel) {
    return (n >> panel) * stride + (n & ((1 << panel) - 1));
}

// The weight of column n, step k and expert e of the part, from w or v: `at` is where its column begins, `scales` is
// SCALE_ROW(w, e, n). Row first + n * step of w belongs to column n, and scale_rows of them share scales. Without scales
// and zeros these cost nothing.
#define WEIGHT(w, e, n, at, scales, k)                                                                                 \
    ((LOAD(W_T, w + w##_skip, (at) + W_STEP(k, w##_depth)) - ZERO(w, e, n, k)) * SCALE(w, scales, k))

#if SCALED
#define W_ROW(w, n) (w##_first + (n) * scale_step)
#define SCALE_ROW(w, e, n)                                                                                             \
    (w##_scale + w##_scale_skip + (e) * w##_scale_expert + W_ROW(w, n) / scale_rows * w##_scale_row)
#define SCALE(w, scales, k) LOAD(S_T, scales, ((k) >> scale_shift) * w##_scale_group)
#else
#define SCALE_ROW(w, e, n) w##_scale
#define SCALE(w, scales, k) 1.0f
#endif

#if IS_NIBBLES(W_T) // strides count codes; a word is 8 steps of K or 8 columns
#define W_STEP(k, depth) (flags & WORDS_OF_K ? ((k) >> 3) * (depth) + ((k) & 7) : (k) * (depth))
#define ZERO(w, e, n, k)                                                                                               \
    (flags & HAS_ZERO ? LOAD(W_T, w##_zero + w##_zero_skip,                                                            \
                             (e) * w##_zero_expert + ((k) >> scale_shift) * w##_zero_group + W_ROW(w, n)) +            \
                            (flags & ZERO_PLUS_ONE ? 1.0f : 0.0f)                                                      \
                      : 8.0f)
#else
#define W_STEP(k, depth) ((k) * (depth))
#define ZERO(w, e, n, k) 0.0f
#endif

// Neighbours in k are decoded 16 at a time: what LOAD16 takes has one scale.
#define IN_RUNS (IS_BLOCK(W_T) || (SCALED && HAS_RUNS(W_T)))

// Element of pair p in an array [T, k]
static inline ulong pair_element(long p, long token, int k, long stride) {
    return token * stride + (p - token * k);
}

// The expert of pair p, out of range if it is skipped
#define EXPERT_OF(p, token) (flags & DENSE ? 0 : ids[ids_skip + pair_element(p, token, k, ids_stride)])

static inline long pair_at(long i, const global int *order, int flags) {
    return flags & SORTED ? order[i] : i;
}

// Steps of K for columns from n on: an expert may have fewer than `depth`, or no such columns.
static inline long steps_at(const global int *limits, int e, long n, long depth, int flags) {
    const long limit = flags & (LIMIT_IN | LIMIT_OUT) ? limits[e] : 0;
    if (flags & LIMIT_OUT) return n < limit ? depth : 0;
    return flags & LIMIT_IN ? min(max(limit, 0L), depth) : depth;
}

static inline ulong x_row(long i, long p, long token, int flags) {
    return flags & X_SORTED ? i : flags & X_TOKEN ? token : p;
}

static inline ulong y_row(long i, long p, int flags) {
    return flags & Y_SORTED ? i : p;
}

// What one launch has to do for a pair of expert e. Rows of skipped pairs become zero in the launch of the first part.
#define PAIR_NOTHING 0
#define PAIR_ZERO 1
#define PAIR_COMPUTE 2

static inline int pair_task(int e, int experts, int first, int count) {
    if (e < 0 || e >= experts) return first == 0 ? PAIR_ZERO : PAIR_NOTHING;
    return e >= first && e - first < count ? PAIR_COMPUTE : PAIR_NOTHING;
}
