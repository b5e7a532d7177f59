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
#define ACT_NUMBERS                                                                                                    \
    const float gate_max = act_limits.x, up_max = act_limits.y, act_max = act_limits.z, gate_tanh = act_limits.w,      \
                up_tanh = act_shape.x, alpha = act_shape.y, up_add = act_shape.z;
#define ACT_ARGS alpha, gate_max, up_max, up_add, act_max, gate_tanh, up_tanh

// A kernel that is made for the flags of its plan gives the argument another name, and `flags` their value.
#ifndef MATMUL_FLAGS_ARG
#define MATMUL_FLAGS_ARG flags
#endif

// Arguments of all kernels: buffers, then where their elements are and the rest, four numbers in each, since an enqueue
// takes drivers the longer the more arguments a kernel has (NVIDIA's 0.06 us for each, on the host of an H200).
// MATMUL_NUMBERS gives the numbers their names; lib/kernel/matmul.c has both in the same order.
#define MATMUL_ARGS                                                                                                    \
    const global ELEM(X_T) *x, const global ELEM(W_T) *w, const global ELEM(W_T) *v, const global ELEM(S_T) *w_scale,  \
        const global ELEM(S_T) *v_scale, const global ELEM(W_T) *w_zero, const global ELEM(W_T) *v_zero,               \
        const global ELEM(BIAS_T) *bias, const global ELEM(BIAS_T) *bias_up, const global float *add,                  \
        const global float *add_up, const global float *expert_scale, const global int *limits,                        \
        const global float *gamma, const global int *ids, const global int *offsets, const global int *order,          \
        global ELEM(Y_T) *y, long4 at_xy, long4 at_w, long4 at_v, long4 at_w_scale, long4 at_v_scale, long4 at_w_zero, \
        long4 at_v_zero, long4 at_bias, long4 at_bias_up, long4 at_add, long4 at_add_up, long4 at_pairs, long4 sizes,  \
        long4 experts_of, long4 modes, float4 act_limits, float4 act_shape

// experts: E; first, count: the experts that w holds; offsets of w, v count its own experts
#define MATMUL_NUMBERS                                                                                                 \
    const ulong x_skip = (ulong)at_xy.x, y_skip = (ulong)at_xy.z;                                                      \
    const long x_stride = at_xy.y, y_stride = at_xy.w;                                                                 \
    const ulong w_skip = (ulong)at_w.x;                                                                                \
    const long w_expert = at_w.y, w_column = at_w.z, w_depth = at_w.w;                                                 \
    const ulong v_skip = (ulong)at_v.x;                                                                                \
    const long v_expert = at_v.y, v_column = at_v.z, v_depth = at_v.w;                                                 \
    const ulong w_scale_skip = (ulong)at_w_scale.x;                                                                    \
    const long w_scale_expert = at_w_scale.y, w_scale_row = at_w_scale.z, w_scale_group = at_w_scale.w;                \
    const ulong v_scale_skip = (ulong)at_v_scale.x;                                                                    \
    const long v_scale_expert = at_v_scale.y, v_scale_row = at_v_scale.z, v_scale_group = at_v_scale.w;                \
    const ulong w_zero_skip = (ulong)at_w_zero.x;                                                                      \
    const long w_zero_expert = at_w_zero.y, w_zero_group = at_w_zero.z, w_first = at_w_zero.w;                         \
    const ulong v_zero_skip = (ulong)at_v_zero.x;                                                                      \
    const long v_zero_expert = at_v_zero.y, v_zero_group = at_v_zero.z, v_first = at_v_zero.w;                         \
    const ulong bias_skip = (ulong)at_bias.x, expert_scale_skip = (ulong)at_bias.w;                                    \
    const long bias_expert = at_bias.y, bias_column = at_bias.z;                                                       \
    const ulong bias_up_skip = (ulong)at_bias_up.x, limits_skip = (ulong)at_bias_up.w;                                 \
    const long bias_up_expert = at_bias_up.y, bias_up_column = at_bias_up.z;                                           \
    const ulong add_skip = (ulong)at_add.x, offsets_skip = (ulong)at_add.w;                                            \
    const long add_pair = at_add.y, add_column = at_add.z;                                                             \
    const ulong add_up_skip = (ulong)at_add_up.x, order_skip = (ulong)at_add_up.w;                                     \
    const long add_up_pair = at_add_up.y, add_up_column = at_add_up.z;                                                 \
    const ulong ids_skip = (ulong)at_pairs.x, gamma_skip = (ulong)at_pairs.z;                                          \
    const long ids_stride = at_pairs.y, gamma_stride = at_pairs.w;                                                     \
    const long pairs = sizes.x, depth = sizes.y, columns = sizes.z, scale_rows = sizes.w;                              \
    const int k = (int)experts_of.x, experts = (int)experts_of.y, first = (int)experts_of.z,                           \
        count = (int)experts_of.w;                                                                                     \
    const int panel = (int)modes.x, scale_step = (int)modes.y, scale_shift = (int)modes.z,                             \
        MATMUL_FLAGS_ARG = (int)modes.w;                                                                               \
    ACT_NUMBERS

static inline ulong column_at(long n, long stride, int panel) {
    return (n >> panel) * stride + (n & ((1 << panel) - 1));
}

// The weight of column n, step k and expert e of the part, from w or v: `at` is where its column begins, `scales` is
// SCALE_ROW(w, e, n). Row first + n * step of w belongs to column n, and scale_rows of them share scales. Without
// scales and zeros these cost nothing.
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
