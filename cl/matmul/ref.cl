// SPDX-License-Identifier: MIT
// The reference: one work-item an element of y, no local memory. Fits every device and every problem.
//
//   group = position i * column groups + column group;   a work-group takes LOCAL_SIZE columns of one position
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_ref(MATMUL_ARGS) {
    MATMUL_NUMBERS
    const long column_groups = (columns + LOCAL_SIZE - 1) / LOCAL_SIZE;
    const long i = (long)get_group_id(0) / column_groups;
    const long n = ((long)get_group_id(0) - i * column_groups) * LOCAL_SIZE + get_local_id(0);
    const long p = pair_at(i, order + order_skip, flags), token = p / k;
    const int e = EXPERT_OF(p, token);
    const int task = pair_task(e, experts, first, count);
    if (n >= columns || task == PAIR_NOTHING) return;

    const ulong out = y_skip + y_row(i, p, flags) * y_stride + n;
    if (task == PAIR_ZERO) {
        STORE(Y_T, y, out, 0.0f);
        return;
    }
    const ulong row = x_skip + x_row(i, p, token, flags) * x_stride;
    const ulong gate_at = (e - first) * w_expert + column_at(n, w_column, panel);
    const ulong up_at = (e - first) * v_expert + column_at(n, v_column, panel);
    const global ELEM(S_T) *const gate_scale = SCALE_ROW(w, e - first, n), *const up_scale = SCALE_ROW(v, e - first, n);
    float gate = 0.0f, up = 0.0f;
    const long steps = steps_at(limits + limits_skip, e, n, depth, flags);
    for (long d = 0; d < steps; d++) {
        const float a = LOAD(X_T, x, row + d);
        gate += a * WEIGHT(w, e - first, n, gate_at, gate_scale, d);
        if (GLU) up += a * WEIGHT(v, e - first, n, up_at, up_scale, d);
    }
    const float weight = PAIR_GAMMA(p, token);
    STORE(Y_T, y, out,
          finish(gate, up, BIAS_AT(e, n) + ADD_AT(p, n), BIAS_UP_AT(e, n) + ADD_UP_AT(p, n), GAMMA_IN(weight),
                 PAIR_SCALE(e), GAMMA_OUT(weight), ACT_ARGS));
}
