// SPDX-License-Identifier: MIT
// What the options of route do beside score, bias and groups. A plan that has one of them takes kernels with EXTRAS =
// 1, which get all of them as arguments: `options` says which count. Numbered as in include/clmoe/route.h:
//
//   1. value      value_of
//   8. renorm     divisor, renormed
//   9. scale      final_gamma
//   10., 11.      placed_id
//   12. shared    write_shared
//   8. to 12.     finish_token: of one token by one work-item
#pragma OPENCL FP_CONTRACT OFF

#ifndef EXTRAS
#error "EXTRAS: 1 where the kernel has the options' arguments, else 0"
#endif

#define RENORM_CLAMP 2

// A sum of nothing is no reason to divide: the weights stay as they are.
inline float renormed(float weight, float total) { return total == 0.0f ? weight : weight / total; }

#if EXTRAS

#define OPTION_EXPERT_SCALE 1
#define OPTION_EXPERT_MAP 2
#define OPTION_VALID_TOKENS 4
#define OPTION_TOKEN_MASK 8
#define OPTION_IDENTITY_GAMMA 16
#define OPTION_RENORM_KEPT 32
#define OPTION_PASS_DROPPED 64

#define EXTRAS_PARAMETERS                                                                                              \
    , int options, float temperature, float cap, float mixer_margin, int routed, int shared_slots, float shared_gamma, \
        const global int *given, ulong given_skip, long given_stride, const global float *expert_scale,                \
        ulong expert_scale_skip, const global int *expert_map, ulong expert_map_skip, const global int *valid_tokens,  \
        ulong valid_tokens_skip, const global uchar *token_mask, ulong token_mask_skip, global float *identity_gamma,  \
        ulong identity_gamma_skip

#define EXTRAS_ARGUMENTS                                                                                               \
    {options,                                                                                                          \
     routed,                                                                                                           \
     shared_slots,                                                                                                     \
     shared_gamma,                                                                                                     \
     expert_scale + expert_scale_skip,                                                                                 \
     expert_map + expert_map_skip,                                                                                     \
     valid_tokens + valid_tokens_skip,                                                                                 \
     token_mask + token_mask_skip,                                                                                     \
     identity_gamma + identity_gamma_skip}

#define ADJUST (float2)(temperature, cap)

struct extras {
    int options, routed, shared_slots; // E and S
    float shared_gamma;
    const global float *expert_scale;
    const global int *expert_map, *valid_tokens;
    const global uchar *token_mask;
    global float *identity_gamma;
};

inline float value_of(float logit, float2 adjust) {
    const float v = logit / adjust.x;
    return adjust.y > 0.0f ? adjust.y * tanh(v / adjust.y) : v;
}

inline float divisor(float sum, float eps, int renorm) {
    if (renorm == RENORM_CLAMP) return sum < eps ? eps : sum;
    return sum + eps;
}

inline int token_is_valid(const struct extras *x, long t) {
    if ((x->options & OPTION_VALID_TOKENS) && t >= x->valid_tokens[0]) return 0;
    return !(x->options & OPTION_TOKEN_MASK) || x->token_mask[t] != 0;
}

inline float final_gamma(const struct extras *x, int id, float weight, float total, int renorm, float scale) {
    const float g = scale * (renorm ? renormed(weight, total) : weight);
    return (x->options & OPTION_EXPERT_SCALE) && id >= 0 && id < x->routed ? g * x->expert_scale[id] : g;
}

inline int mapped_id(const struct extras *x, int id) {
    return x->options & OPTION_EXPERT_MAP ? max(x->expert_map[id], -1) : id;
}

inline int placed_id(const struct extras *x, int id) { return id < 0 || id >= x->routed ? -1 : mapped_id(x, id); }

// `id` and `gamma` begin with the token's first shared slot.
inline void write_shared(const struct extras *x, int slot, int valid, global int *id, global float *gamma) {
    const int to = valid ? mapped_id(x, x->routed + slot) : -1;
    id[slot] = to;
    gamma[slot] = to < 0 ? 0.0f : x->shared_gamma;
}

// The token's k slots hold ids of step 5 (negative: none) and scores of step 6; dropped: a flag for each, or NULL.
inline void finish_token(const struct extras *x, long t, int valid, int k, const global uchar *dropped, int renorm,
                         float eps, float scale, global int *id, global float *gamma) {
    float sum = 0.0f, identity = 0.0f;
    for (int j = 0; j < k; j++) {
        const bool drop = dropped && id[j] >= 0 && id[j] < x->routed && dropped[j];
        if (!drop || !(x->options & OPTION_RENORM_KEPT)) sum += gamma[j];
    }
    const float total = divisor(sum, eps, renorm);
    for (int j = 0; j < k; j++) {
        const int e = id[j];
        const bool drop = dropped && e >= 0 && e < x->routed && dropped[j];
        const float g = final_gamma(x, e, gamma[j], total, renorm, scale);
        const int to = valid && !drop ? placed_id(x, e) : -1;
        if (valid && (e >= x->routed || (drop && (x->options & OPTION_PASS_DROPPED)))) identity += g;
        id[j] = to;
        gamma[j] = to < 0 ? 0.0f : g;
    }
    for (int s = 0; s < x->shared_slots; s++)
        write_shared(x, s, valid, id + k, gamma + k);
    if (x->options & OPTION_IDENTITY_GAMMA) x->identity_gamma[t] = identity;
}

#else

#define EXTRAS_PARAMETERS
#define ADJUST (float2)(1.0f, 0.0f)

inline float value_of(float logit, float2 adjust) { return logit; }

inline float divisor(float sum, float eps, int renorm) { return sum + eps; }

// What is left of finish_token without options.
inline void finish_weights(int k, int renorm, float eps, float scale, global float *gamma) {
    float sum = 0.0f;
    for (int j = 0; j < k; j++)
        sum += gamma[j];
    for (int j = 0; j < k; j++)
        gamma[j] = scale * (renorm ? renormed(gamma[j], sum + eps) : gamma[j]);
}

#endif
