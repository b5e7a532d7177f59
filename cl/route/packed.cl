// SPDX-License-Identifier: MIT
// route where experts are chosen by their logits, without groups and bias: the k best of a token in registers
// (common/packed.cl), group = LOCAL_SIZE / LANES tokens. The softmax's sum over all experts is left out where it
// cancels (SUM = 0: weights are renormalised and eps is nothing beside them).
//
// The sum has another order than score.cl's: weights may differ from the other rows' in the last bits, ids do not.
#include "route/score.cl"

#define PACKED_BITS 32

#ifndef SUM
#error "SUM: 1 where weights need the softmax's sum over all experts, else 0"
#endif

struct packed_source {
    const global ELEM(LOGIT_T) *logits;
    ulong skip;
};

// key_nan_lowest(nan_as_lowest(logit)): adding +0 turns -0 into +0 and every NaN into one.
inline uint logit_key(float logit) {
#if PTX
    uint u;
    asm("add.f32 %0, %1, 0f00000000;" : "=r"(u) : "r"(as_uint(logit)));
    u = u == 0x7fffffffu ? 0xff800000u : u;
    return u ^ ((uint)((int)u >> 31) | 0x80000000u);
#else
    return key_nan_lowest(nan_as_lowest(logit));
#endif
}

inline uint packed_key(const struct packed_source *source, uint position) {
    return logit_key(LOAD(LOGIT_T, source->logits, source->skip + position));
}

#include "common/packed.cl"

#if EXTRAS
#define VALUE(logit) value_of(logit, ADJUST)
#define ADJUSTING , float temperature, float cap
#define ADJUSTED , temperature, cap
#else
#define VALUE(logit) logit
#define ADJUSTING
#define ADJUSTED
#endif

inline float softmax_sum(const uint *key, uint experts, float largest, local ulong *swap ADJUSTING) {
    float sum = 0.0f;
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        if (THERE(q, experts)) sum += softmax_term(VALUE(key_value(key[q])), largest);
    TEAM_UNROLL
    for (uint d = 1; d < LANES; d *= 2)
        sum += as_float(team_xor(swap, as_uint(sum), d));
    return sum;
}

#if EXTRAS
// Slot h * LANES + lane has id[h] and the score weight[h].
inline void write_slots(const struct extras *x, long t, bool active, uint k, local ulong *swap, const uint *id,
                        float *weight, float total, int renorm, float scale, global int *to_id, global float *to_gamma) {
    const uint lane = packed_lane();
    const int valid = token_is_valid(x, t);
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++)
        weight[h] = final_gamma(x, h * LANES + lane < k ? (int)id[h] : -1, weight[h], total, renorm, scale);
    float identity = 0.0f;
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++) {
        const float other = as_float(team_at(swap, as_uint(weight[i / LANES]), row_lane(i)));
        const int other_id = (int)team_at(swap, id[i / LANES], row_lane(i));
        if (i < k && valid && other_id >= x->routed) identity += other;
    }
    if (!active) return;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint slot = h * LANES + lane;
        if (slot >= k) continue;
        const int to = valid ? placed_id(x, (int)id[h]) : -1;
        to_id[slot] = to;
        to_gamma[slot] = to < 0 ? 0.0f : weight[h];
    }
    for (int s = lane; s < x->shared_slots; s += LANES)
        write_shared(x, s, valid, to_id + k, to_gamma + k);
    if (lane == 0 && (x->options & OPTION_IDENTITY_GAMMA)) x->identity_gamma[t] = identity;
}
#endif

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void route_packed(
    const global ELEM(LOGIT_T) *logits, ulong logits_skip, long logits_stride, const global float *bias, ulong bias_skip,
    global int *ids, ulong ids_skip, long ids_stride, global float *gamma, ulong gamma_skip, long gamma_stride,
    long tokens, int experts, int topk, int n_group, int topk_group, int renorm, float eps, float scale
    EXTRAS_PARAMETERS) {
    local ulong swap[PTX ? 1 : LOCAL_SIZE];
    const uint k = (uint)topk, n = (uint)experts, lane = packed_lane();
    const long wanted = (long)get_group_id(0) * (LOCAL_SIZE / LANES) + get_local_id(0) / LANES;
    const bool active = wanted < tokens; // the rest repeat the last token and write nothing
    const long t = active ? wanted : tokens - 1;
    const struct packed_source source = {logits, logits_skip + (ulong)(t * logits_stride)};

    uint key[PER], id[SLOTS], full[SLOTS];
    if (sizeof(ELEM(LOGIT_T)) == 4 && packed_can_load(logits + source.skip)) {
        packed_load((const global uint *)(logits + source.skip), key);
    } else {
        TEAM_UNROLL
        for (int q = 0; q < PER; q++)
            key[q] = THERE(q, n) ? as_uint(LOAD(LOGIT_T, logits, source.skip + POSITION(q))) : 0u;
    }
    TEAM_UNROLL
    for (int q = 0; q < PER; q++)
        key[q] = logit_key(as_float(key[q]));
    packed_select(&source, key, n, k, swap, id, full);

    const float largest = VALUE(key_value(team_at(swap, full[0], row_lane(0))));
    const float sum = SCORE == SCORE_SOFTMAX && SUM ? softmax_sum(key, n, largest, swap ADJUSTED) : 1.0f;
    float weight[SLOTS], total = 0.0f;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        float logit = key_value(full[h]); // but for the sign of a zero
        if (SCORE == SCORE_IDENTITY && h * LANES + lane < k)
            logit = nan_as_lowest(LOAD(LOGIT_T, logits, source.skip + id[h]));
        weight[h] = score_of(VALUE(logit), largest, sum);
    }
    TEAM_UNROLL
    for (int i = 0; i < KMAX; i++) {
        const float other = as_float(team_at(swap, as_uint(weight[i / LANES]), row_lane(i)));
        if (i < k) total += other;
    }
#if EXTRAS
    const struct extras extra = EXTRAS_ARGUMENTS;
    total = divisor(total, eps, renorm);
    write_slots(&extra, t, active, k, swap, id, weight, total, renorm, scale, ids + ids_skip + t * ids_stride,
                gamma + gamma_skip + t * gamma_stride);
#else
    total += eps;
    TEAM_UNROLL
    for (int h = 0; h < SLOTS; h++) {
        const uint slot = h * LANES + lane;
        if (!active || slot >= k) continue;
        ids[ids_skip + t * ids_stride + slot] = (int)id[h];
        gamma[gamma_skip + t * gamma_stride + slot] = scale * (renorm ? renormed(weight[h], total) : weight[h]);
    }
#endif
}
