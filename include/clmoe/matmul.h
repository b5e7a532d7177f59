/* SPDX-License-Identifier: MIT
 *
 * matmul: grouped matrix product over experts, with gather, bias, activation, gamma and scatter in one
 * kernel.
 *
 *   x [T or T*k, K]  x  w [E, N, K]  ->  y [T*k, N]
 *
 * For each pair p = token * k + slot with expert e = ids[token, slot], in fp32:
 *
 *   a    = x row of the pair                      (times gamma[p] for CLMOE_GAMMA_INPUT)
 *   g[n] = sum over K of a[.] * w[e, gate row n, .] + bias[e, gate row n] + add[p, n]
 *   u[n] = the same with the up row n, bias_up and add_up          (only with a GLU layout)
 *   h[n] = act(g[n], u[n])                        (see struct clmoe_activation)
 *   y[n] = h[n] * expert_scale[e] * gamma[p]
 *
 * bias, add, gamma and expert_scale where they are given. `add` is what another product has for the same
 * pair: an adapter's part, which belongs before the activation.
 *
 * gamma is applied exactly once, in fp32, to the finished row, and y is rounded once. A pair whose id is < 0
 * or >= E is skipped: it reads nothing and its row of y is zero. The order of additions over K is fixed by
 * the plan and the number of rows: the same input gives the same bits on the same device every time. Sizes
 * need no alignment.
 */
#ifndef CLMOE_MATMUL_H
#define CLMOE_MATMUL_H

#include "plan.h"
#include "scale.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the rows of x and y are. */
enum clmoe_rows {
    CLMOE_ROWS_PAIR = 0, /* [T*k, .]: row p belongs to pair p */
    CLMOE_ROWS_TOKEN,    /* [T, .]: row p / k (x only: a gather) */
    CLMOE_ROWS_SORTED,   /* [T*k, .]: row i belongs to pair order[i]; needs CLMOE_ROUTING_SORTED */
};

/* How the pairs are described. Sorted routing is what kernels for many rows need; for few rows ids are
 * enough. */
enum clmoe_routing {
    CLMOE_ROUTING_IDS = 0, /* args.ids */
    CLMOE_ROUTING_SORTED,  /* args.ids, args.offsets and args.order, as clmoe_permute makes them from ids */
    CLMOE_ROUTING_DENSE,   /* none: one expert and one slot, every row is its; x_rows and y_rows PAIR */
};

/* Where the gate rows and the up rows of a gated layer are among the R rows of w (and of bias). */
enum clmoe_glu {
    CLMOE_GLU_NONE = 0,    /* no up rows: h = f(g) */
    CLMOE_GLU_GATE_UP,     /* gate row n is row n, up row n is row N + n */
    CLMOE_GLU_UP_GATE,     /* up row n is row n, gate row n is row N + n */
    CLMOE_GLU_INTERLEAVED, /* gate row n is row 2n, up row n is row 2n + 1 */
    CLMOE_GLU_APART,       /* two tensors: args.w and args.w_up, args.bias and args.bias_up */
};

enum clmoe_act {
    CLMOE_ACT_NONE = 0,  /* f(g) = g */
    CLMOE_ACT_SILU,      /* f(g) = g / (1 + exp(-alpha g)) */
    CLMOE_ACT_GELU_ERF,  /* f(g) = g (1 + erf(g / sqrt 2)) / 2 */
    CLMOE_ACT_GELU_TANH, /* f(g) = g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) / 2 */
    CLMOE_ACT_RELU,      /* f(g) = max(g, 0) */
    CLMOE_ACT_RELU2,     /* f(g) = max(g, 0)^2 */
    CLMOE_ACT_SIGMOID,   /* f(g) = 1 / (1 + exp(-alpha g)) */
    CLMOE_ACT_SITU,      /* f(g) = gate_tanh tanh(g / gate_tanh) / (1 + exp(-alpha g)) */
};

/* act(g, u):  g' = gate_max > 0 ? min(g, gate_max) : g
 *             u' = up_max > 0 ? clamp(u, -up_max, up_max) : u
 *             u' = up_tanh > 0 ? up_tanh tanh(u' / up_tanh) : u'
 *             a  = act_max > 0 ? min(f(g'), act_max) : f(g')
 *             h  = a                    without a GLU layout
 *             h  = a * (u' + up_add)    with one
 * NaN passes through the clamps. SwiGLU: {CLMOE_ACT_SILU}. gpt-oss: {CLMOE_ACT_SILU, 1.702f, 7, 7, 1}.
 * DeepSeek-V4: {CLMOE_ACT_SILU, .gate_max = 10, .up_max = 10}. Step-3.5: {CLMOE_ACT_SILU, .act_max = l,
 * .up_max = l}. Kimi-K3: {CLMOE_ACT_SITU, .gate_tanh = 4, .up_tanh = 25}. */
struct clmoe_activation {
    enum clmoe_act kind;
    float alpha;    /* 0 means 1 */
    float gate_max; /* 0: off; >= 0 */
    float up_max;   /* 0: off; >= 0 */
    float up_add;
    float act_max;   /* 0: off; >= 0 */
    float gate_tanh; /* CLMOE_ACT_SITU: > 0, finite; others: 0 */
    float up_tanh;   /* CLMOE_ACT_SITU: >= 0, finite, 0: off; others: 0 */
};

enum clmoe_gamma {
    CLMOE_GAMMA_NONE = 0,
    CLMOE_GAMMA_OUTPUT, /* on the finished row: nearly all models */
    CLMOE_GAMMA_INPUT,  /* on the row of x: Llama-4 */
};

/* Experts that are smaller than K or N, in weights that are padded to them. What lies beyond is not used, and
 * may hold anything. */
enum clmoe_limit {
    CLMOE_LIMIT_NONE = 0,
    CLMOE_LIMIT_IN,  /* the sums are over the first limits[e] of K */
    CLMOE_LIMIT_OUT, /* only the first limits[e] columns of y are made: the others hold anything */
};

struct clmoe_matmul_params {
    struct clmoe_plan_options plan;
    int64_t max_tokens;                /* 0 <= T of a call <= max_tokens; max_tokens * topk < 2^31 */
    int32_t topk;                      /* 1 <= k <= 4096 */
    int32_t experts;                   /* 1 <= E <= 4096; 1 is a dense product */
    int64_t in;                        /* K: 1 <= K < 2^31; with block formats a multiple of the block */
    int64_t out;                       /* N: 1 <= N < 2^30: columns of y */
    enum clmoe_dtype x_dtype, y_dtype; /* CLMOE_F32, CLMOE_F16, CLMOE_BF16 */
    enum clmoe_dtype w_dtype;     /* the same; with CLMOE_W_ENK also a block format (quant.h) or scaled codes;
                                     with CLMOE_W_PACKED also a block format that can be packed;
                                     with CLMOE_W_AWQ and CLMOE_W_GPTQ CLMOE_I32 */
    struct clmoe_w_scale w_scale; /* for CLMOE_F8_E4M3, CLMOE_F4_E2M1, CLMOE_I8, CLMOE_I32, else {0} */
    enum clmoe_dtype bias_dtype;  /* CLMOE_F32, CLMOE_F16, CLMOE_BF16; unused without bias */
    enum clmoe_w_order w_order;
    enum clmoe_glu glu;
    struct clmoe_activation act;
    enum clmoe_rows x_rows, y_rows; /* y_rows: PAIR or SORTED */
    enum clmoe_routing routing;
    enum clmoe_gamma gamma;
    enum clmoe_limit limit;
    int bias;         /* 1: args.bias is given */
    int add;          /* 1: args.add is given */
    int expert_scale; /* 1: args.expert_scale is given */
};

/* Weights may lie in one buffer or in several, since many devices cap a single allocation: w points to n_w
 * tensors that hold consecutive experts, [E_i, R, K] each with all E_i adding up to E (n_w = E: one buffer
 * per expert). Each part is one launch. */
struct clmoe_matmul_args {
    struct clmoe_tensor x;           /* [T or T*k, K] x_dtype; last stride 1 */
    const struct clmoe_tensor *w;    /* n_w of [E_i, R, K], [E_i, K, R] or packed; w_dtype; last stride 1 */
    const struct clmoe_tensor *w_up; /* GLU_APART: n_w tensors split like w, else NULL */
    int32_t n_w;                     /* 1..E; 0 means 1 */
    const struct clmoe_tensor *w_scale;    /* scaled codes: n_w tensors of the shape above; last stride 1 */
    const struct clmoe_tensor *w_scale_up; /* the same for w_up: scaled codes with GLU_APART */
    const struct clmoe_tensor *w_zero, *w_zero_up; /* CLMOE_I32, in the same way; with zeros that are given */
    struct clmoe_tensor bias;                      /* [E, R] bias_dtype; last stride 1 */
    struct clmoe_tensor bias_up;        /* [E, N] bias_dtype with GLU_APART and bias, else absent */
    struct clmoe_tensor add;            /* [T*k, N] CLMOE_F32, row p belongs to pair p; any strides */
    struct clmoe_tensor add_up;         /* the same for the up rows: with a GLU layout and add, else absent */
    struct clmoe_tensor gamma;          /* [T, k] CLMOE_F32, last stride 1; absent with GAMMA_NONE */
    struct clmoe_tensor expert_scale;   /* [E] CLMOE_F32 */
    struct clmoe_tensor limits;         /* [E] CLMOE_I32, with a limit; beyond 0..K or 0..N: the nearest */
    struct clmoe_tensor ids;            /* [T, k] CLMOE_I32, last stride 1 */
    struct clmoe_tensor offsets, order; /* [E + 1], [T*k] CLMOE_I32, contiguous: with ROUTING_SORTED */
    struct clmoe_tensor y;              /* [T*k, N] y_dtype; last stride 1; must not overlap an input */
};

/* T is taken from args.ids, with ROUTING_DENSE from args.y. Errors: CLMOE_E_INVALID for a size outside the
 * ranges above, another dtype, a combination that the comments exclude, limits that are negative or NaN,
 * gate_tanh or up_tanh without CLMOE_ACT_SITU. */
CLMOE_API enum clmoe_status clmoe_matmul_plan(clmoe_context *ctx, const struct clmoe_matmul_params *params,
                                              clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_matmul_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                 const struct clmoe_matmul_args *args, cl_uint n_wait,
                                                 const cl_event *wait, cl_event *event);

/* Packing: one pass at load time that brings weights into CLMOE_W_PACKED. `params` is that of the product,
 * with the order of the weights as they are now (w_order ENK or EKN); the product is then planned with
 * w_order = PACKED.
 *
 * Packed layout, of w_dtype: [E, P, K, 32], contiguous. Without GLU, P = ceil(N/32) and element (e, p, k, j)
 * is weight row 32p + j, column k. With GLU, P = ceil(N/16); j < 16 is gate row 16p + j, j >= 16 is up row
 * 16p + j - 16. Rows past N are zero.
 *
 * Of the block formats CLMOE_Q8_0, CLMOE_Q4_0 and CLMOE_MXFP4 can be packed. 32 steps of a panel are then a
 * tile of 32 blocks, the size of which is that of the blocks: the bytes of lane j's block (e, row of w,
 * k / 32), of which s are the scale (2; MXFP4: 1), lie apart in the tile, so that a row of 32 bytes holds a
 * byte of each lane, or the scales of 32 / s lanes. With l = j % 16, byte c of the block is byte
 *
 *   c < s    (l s + c) / 16 * 32 + j / 16 * 16 + (l s + c) % 16
 *   c >= s   32 (s + r) + j,   r = c' % 16 * 2 + c' / 16 for CLMOE_Q8_0, c' for the others; c' = c - s
 *
 * Blocks of rows past N are zero. Other block formats, and scaled codes, cannot be packed. */
CLMOE_API enum clmoe_status clmoe_matmul_packed_shape(const struct clmoe_matmul_params *params,
                                                      int64_t shape[4]);

struct clmoe_matmul_pack_args {
    const struct clmoe_tensor *w, *w_up; /* as in clmoe_matmul_args */
    int32_t n_w;
    const struct clmoe_tensor *packed; /* n_w of [E_i, P, K, 32], contiguous */
};
CLMOE_API enum clmoe_status
clmoe_matmul_pack_plan(clmoe_context *ctx, const struct clmoe_matmul_params *params, clmoe_plan **plan);
CLMOE_API enum clmoe_status clmoe_matmul_pack_enqueue(clmoe_plan *plan, cl_command_queue queue,
                                                      const struct clmoe_matmul_pack_args *args,
                                                      cl_uint n_wait, const cl_event *wait, cl_event *event);

/* 1 if this device runs the product faster from packed weights (CPUs do), 0 if not. */
CLMOE_API int clmoe_matmul_wants_packing(const clmoe_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
