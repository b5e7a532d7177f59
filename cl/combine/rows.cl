// SPDX-License-Identifier: MIT
// y[t,h] = residual[t,h] + shared_scale * shared[t,h] + scale * s,   row = t*k+j, or inverse[t*k+j]
//      s = sum_j gamma[t,j] * x[row(t,j),h] + identity[t] * identity_x[t,h]
//
// A work-group takes GROUP_COLUMNS columns of one token, tokens outermost: group = t * column_groups + column group. Of
// these a work-item has EACH: neighbours where all rows may be read by eights (wide), elsewhere LOCAL_SIZE apart. Slots
// in order, fp32, one rounding.
#include "common/dtype.cl"

#ifndef LOCAL_SIZE
#error "LOCAL_SIZE: work-items of a work-group"
#endif
#if !defined(X_T) || !defined(Y_T) || !defined(SHARED_T)
#error "X_T, Y_T, SHARED_T: f32, f16 or bf16"
#endif
#if !defined(SORTED) || !defined(HAS_IDS) || !defined(HAS_GAMMA) || !defined(HAS_RESIDUAL)
#error "SORTED, HAS_IDS, HAS_GAMMA, HAS_RESIDUAL: 0 or 1"
#endif
#if !defined(HAS_SHARED) || !defined(HAS_IDENTITY)
#error "HAS_SHARED, HAS_IDENTITY: 0 or 1"
#endif

#define EACH 8
#define GROUP_COLUMNS (LOCAL_SIZE * EACH)
#define SLOTS 4 // whose rows are on their way at a time

// What the columns of a token are made of. Rows begin at their first column; those of x are counted from the first.
struct token {
    const global ELEM(X_T) *x;
    const global int *ids, *inverse;
    const global float *gamma;
    const global ELEM(Y_T) *residual, *identity_x;
    const global ELEM(SHARED_T) *shared;
    global ELEM(Y_T) *y;
    long x_stride, first; // first: its row of x, or of inverse
    int k, experts;
    float identity, scale, shared_scale;
};

inline bool has_slot(const struct token *t, int j) {
    return !HAS_IDS || (t->ids[j] >= 0 && t->ids[j] < t->experts);
}

inline ulong x_row(const struct token *t, int j) {
    return (ulong)((SORTED ? t->inverse[j] : t->first + j) * t->x_stride);
}

inline void one_column(const struct token *t, long h) {
    float sum = 0.0f;
    for (int j = 0; j < t->k; j++) {
        if (!has_slot(t, j)) continue;
        const float v = LOAD(X_T, t->x, x_row(t, j) + h);
        sum += HAS_GAMMA ? t->gamma[j] * v : v;
    }
    if (HAS_IDENTITY && t->identity != 0.0f) sum += t->identity * LOAD(Y_T, t->identity_x, h);
    float out = t->scale * sum;
    if (HAS_SHARED) out += t->shared_scale * LOAD(SHARED_T, t->shared, h);
    if (HAS_RESIDUAL) out += LOAD(Y_T, t->residual, h);
    STORE(Y_T, t->y, h, out);
}

#define ADD_EIGHT(T, weight, raw) even += (weight) * EVEN4(T, raw), odd += (weight) * ODD4(T, raw)

inline void eight_columns(const struct token *t, long h) {
    float4 even = 0.0f, odd = 0.0f;
    for (int j = 0; j < t->k; j += SLOTS) {
        RAW8(X_T) raw[SLOTS];
        float weight[SLOTS];
        bool has[SLOTS];
#pragma unroll
        for (int i = 0; i < SLOTS; i++)
            has[i] = has_slot(t, min(j + i, t->k - 1)) && j + i < t->k;
#pragma unroll
        for (int i = 0; i < SLOTS; i++) {
            raw[i] = 0;
            if (has[i]) raw[i] = WIDE8(X_T, t->x, x_row(t, j + i) + h);
            weight[i] = HAS_GAMMA && has[i] ? t->gamma[j + i] : 1.0f;
        }
#pragma unroll
        for (int i = 0; i < SLOTS; i++)
            ADD_EIGHT(X_T, weight[i], raw[i]);
    }
    if (HAS_IDENTITY && t->identity != 0.0f) ADD_EIGHT(Y_T, t->identity, WIDE8(Y_T, t->identity_x, h));
    even *= t->scale, odd *= t->scale;
    if (HAS_SHARED) ADD_EIGHT(SHARED_T, t->shared_scale, WIDE8(SHARED_T, t->shared, h));
    if (HAS_RESIDUAL) ADD_EIGHT(Y_T, 1.0f, WIDE8(Y_T, t->residual, h));
    STORE8(Y_T, t->y, h, even, odd);
}

// Numbers come four in an argument, as in matmul/pair.cl; lib/kernel/combine.c has the same order.
kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void combine_rows(
    const global ELEM(X_T) *x, const global int *ids, const global int *inverse, const global float *gamma,
    const global ELEM(Y_T) *residual, const global ELEM(SHARED_T) *shared, const global float *identity,
    const global ELEM(Y_T) *identity_x, global ELEM(Y_T) *y, long4 at_xy, long4 at_slots, long4 at_rows,
    long4 at_identity, long4 sizes, float4 scales) {
    const ulong x_skip = (ulong)at_xy.x, y_skip = (ulong)at_xy.z;
    const long x_stride = at_xy.y, y_stride = at_xy.w;
    const ulong ids_skip = (ulong)at_slots.x, gamma_skip = (ulong)at_slots.z;
    const long ids_stride = at_slots.y, gamma_stride = at_slots.w;
    const ulong residual_skip = (ulong)at_rows.x, shared_skip = (ulong)at_rows.z;
    const long residual_stride = at_rows.y, shared_stride = at_rows.w;
    const ulong identity_skip = (ulong)at_identity.x, identity_x_skip = (ulong)at_identity.y;
    const long identity_x_stride = at_identity.z;
    const ulong inverse_skip = (ulong)at_identity.w;
    const int k = (int)sizes.x, experts = (int)sizes.y;
    const long hidden = sizes.z;
    const bool wide = sizes.w;
    const uint column_groups = (uint)((hidden + GROUP_COLUMNS - 1) / GROUP_COLUMNS);
    const uint group = (uint)get_group_id(0); // 2^32 of them would have 4 TiB of x
    const long t = group / column_groups;
    const long h = (long)(group - (uint)t * column_groups) * GROUP_COLUMNS;
    const uint lid = get_local_id(0);
    const struct token token = {
        x + x_skip,
        ids + (HAS_IDS ? ids_skip + t * ids_stride : 0),
        inverse + (SORTED ? inverse_skip + t * k : 0),
        gamma + (HAS_GAMMA ? gamma_skip + t * gamma_stride : 0),
        residual + (HAS_RESIDUAL ? residual_skip + t * residual_stride : 0),
        identity_x + (HAS_IDENTITY ? identity_x_skip + t * identity_x_stride : 0),
        shared + (HAS_SHARED ? shared_skip + t * shared_stride : 0),
        y + y_skip + t * y_stride,
        x_stride,
        t * k,
        k,
        experts,
        HAS_IDENTITY ? identity[identity_skip + t] : 0.0f,
        scales.x,
        scales.y,
    };
    if (wide) {
        if (h + lid * EACH < hidden) eight_columns(&token, h + lid * EACH);
    } else {
        for (long c = h + lid; c < min(h + GROUP_COLUMNS, hidden); c += LOCAL_SIZE)
            one_column(&token, c);
    }
}
