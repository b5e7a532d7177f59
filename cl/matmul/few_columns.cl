// SPDX-License-Identifier: MIT
// For few rows, where neighbours in w are columns, or packed: straight from the ids, one work-group a position and a
// block of columns, so that weights are read once for each pair that wants them and nothing waits for a sort.
//
//   group = position i * column groups + column group
//   block = side by side columns (SIDE) * PER_ITEM:   column of a work-item = block start + slot + c * SIDE
//
// WAYS work-items share a column and split K, SIDE = LOCAL_SIZE / WAYS stand side by side. The parts of a sum meet in
// local memory, in a tree of fixed shape.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"

#ifndef PER_ITEM
#error "PER_ITEM: columns of a work-item, 1 or more"
#endif
#ifndef WAYS
#error "WAYS: work-items that share a column, a power of two, at most LOCAL_SIZE"
#endif
#define SIDE (LOCAL_SIZE / WAYS)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_few_columns(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local float gates[PER_ITEM * LOCAL_SIZE], ups[GLU ? PER_ITEM * LOCAL_SIZE : 1];
    const int lid = get_local_id(0), way = lid / SIDE, slot = lid - way * SIDE;
    const long column_groups = (columns + SIDE * PER_ITEM - 1) / (SIDE * PER_ITEM);
    const long i = (long)get_group_id(0) / column_groups;
    const long start = ((long)get_group_id(0) - i * column_groups) * (SIDE * PER_ITEM) + slot;

    const long p = pair_at(i, order + order_skip, flags), token = p / k;
    const int e = EXPERT_OF(p, token);
    const int task = pair_task(e, experts, first, count);

    // Columns past the last one compute the last one again and are not stored.
    ulong gate_at[PER_ITEM], up_at[PER_ITEM];
    const global ELEM(S_T) *gate_scale[PER_ITEM], *up_scale[PER_ITEM];
    float gate[PER_ITEM], up[PER_ITEM];
    for (int c = 0; c < PER_ITEM; c++) {
        const long n = min(start + c * SIDE, columns - 1);
        gate_at[c] = (e - first) * w_expert + column_at(n, w_column, panel);
        up_at[c] = (e - first) * v_expert + column_at(n, v_column, panel);
        gate_scale[c] = SCALE_ROW(w, e - first, n);
        up_scale[c] = SCALE_ROW(v, e - first, n);
        gate[c] = up[c] = 0.0f;
    }
    const ulong row = x_skip + x_row(i, p, token, flags) * x_stride;
    const long steps =
        task == PAIR_COMPUTE ? steps_at(limits + limits_skip, e, start - slot, depth, flags) : 0;
    for (long d = way; d < steps; d += WAYS) {
        const float a = LOAD(X_T, x, row + d);
        for (int c = 0; c < PER_ITEM; c++) {
            const long n = min(start + c * SIDE, columns - 1);
            gate[c] += a * WEIGHT(w, e - first, n, gate_at[c], gate_scale[c], d);
            if (GLU) up[c] += a * WEIGHT(v, e - first, n, up_at[c], up_scale[c], d);
        }
    }

    for (int c = 0; c < PER_ITEM; c++) {
        gates[(way * PER_ITEM + c) * SIDE + slot] = gate[c];
        if (GLU) ups[(way * PER_ITEM + c) * SIDE + slot] = up[c];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_ways = WAYS / 2; half_ways > 0; half_ways /= 2) {
        for (int c = 0; way < half_ways && c < PER_ITEM; c++) {
            const int to = (way * PER_ITEM + c) * SIDE + slot, from = to + half_ways * PER_ITEM * SIDE;
            gates[to] += gates[from];
            if (GLU) ups[to] += ups[from];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    if (task == PAIR_NOTHING) return;
    const ulong out = y_skip + y_row(i, p, flags) * y_stride;
    const float weight = task == PAIR_COMPUTE ? PAIR_GAMMA(p, token) : 0.0f;
    const float scale = task == PAIR_COMPUTE ? PAIR_SCALE(e) : 0.0f;
    for (int at = lid; at < SIDE * PER_ITEM; at += LOCAL_SIZE) {
        const long n = start - slot + at;
        if (n >= columns) continue;
        float v = 0.0f;
        if (task == PAIR_COMPUTE)
            v = finish(gates[at], ups[GLU ? at : 0], BIAS_AT(e, n) + ADD_AT(p, n), BIAS_UP_AT(e, n) + ADD_UP_AT(p, n),
                       GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS);
        STORE(Y_T, y, out + n, v);
    }
}
