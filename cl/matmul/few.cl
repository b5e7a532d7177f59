// SPDX-License-Identifier: MIT
// For few rows: straight from the ids, one work-group a position and a block of columns, so that weights are read once
// for each pair that wants them and nothing waits for a sort.
//
//   group = position i * column groups + column group
//   block = side by side columns (SIDE) * PER_ITEM:   column of a work-item = block start + slot + c * SIDE
//
// WAYS work-items share a column and split K; SIDE = LOCAL_SIZE / WAYS. Neighbours in w are neighbours among the
// work-items: where K is fastest in w (K_FASTEST) many split K, else many stand side by side. The parts of a sum meet
// in local memory, in a tree of fixed shape. Where K is fastest a work-item takes runs of 16 steps, by wide loads where
// all rows allow that; runs of weights with scales have one scale each.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"
#include "matmul/sum.cl"

#ifndef PER_ITEM
#error "PER_ITEM: columns of a work-item, 1 or more"
#endif
#if !defined(WAYS_K) || !defined(WAYS_N)
#error "WAYS_K, WAYS_N: WAYS where K is fastest in w and elsewhere; powers of two, at most LOCAL_SIZE"
#endif

// Whether rows `strides` bytes apart begin at multiples of 16 bytes
static inline bool wide_rows(const global void *first, ulong strides) { return (((ulong)first | strides) & 15) == 0; }

// All runs of 16 steps, loaded by LOAD16 or WIDE16: the order of the sums must not hang on how rows lie. Both have a loop
// of their own, since LLVM has made aligned loads of a choice inside of it.
#if IN_RUNS
#define RUN_OF_W(LOAD_RUN, w, at, d) LOAD16(W_T, ROW_AT(W_T, w, at), d)
#else
#define RUN_OF_W(LOAD_RUN, w, at, d) LOAD_RUN(W_T, w, (at) + (d))
#endif
#define ADD_RUNS(LOAD_RUN)                                                                                             \
    for (long d = way * 16; d < whole; d += ways * 16) {                                                               \
        const float16 a = LOAD_RUN(X_T, x, row + d);                                                                   \
        for (int c = 0; c < PER_ITEM; c++) {                                                                           \
            gate[c] +=                                                                                                 \
                add_lanes(a * RUN_OF_W(LOAD_RUN, w + w_skip, gate_at[c], d)) * SCALE(w, gate_scale[c], d);             \
            if (GLU)                                                                                                   \
                up[c] += add_lanes(a * RUN_OF_W(LOAD_RUN, v + v_skip, up_at[c], d)) * SCALE(v, up_scale[c], d);        \
        }                                                                                                              \
    }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_few(MATMUL_ARGS) {
    local float gates[PER_ITEM * LOCAL_SIZE], ups[GLU ? PER_ITEM * LOCAL_SIZE : 1];
    const int lid = get_local_id(0);
    const int ways = flags & K_FASTEST ? WAYS_K : WAYS_N, side = LOCAL_SIZE / ways;
    const int slot = flags & K_FASTEST ? lid / WAYS_K : lid & (LOCAL_SIZE / WAYS_N - 1);
    const int way = flags & K_FASTEST ? lid & (WAYS_K - 1) : lid / (LOCAL_SIZE / WAYS_N);
    const long column_groups = (columns + side * PER_ITEM - 1) / (side * PER_ITEM);
    const long i = (long)get_group_id(0) / column_groups;
    const long start = ((long)get_group_id(0) - i * column_groups) * (side * PER_ITEM) + slot;

    const long p = pair_at(i, order + order_skip, flags), token = p / k;
    const int e = EXPERT_OF(p, token);
    const int task = pair_task(e, experts, first, count);

    // Columns past the last one compute the last one again and are not stored.
    ulong gate_at[PER_ITEM], up_at[PER_ITEM];
    const global ELEM(S_T) *gate_scale[PER_ITEM], *up_scale[PER_ITEM];
    float gate[PER_ITEM], up[PER_ITEM];
    for (int c = 0; c < PER_ITEM; c++) {
        const long n = min(start + c * side, columns - 1);
        gate_at[c] = (e - first) * w_expert + column_at(n, w_column, panel);
        up_at[c] = (e - first) * v_expert + column_at(n, v_column, panel);
        gate_scale[c] = SCALE_ROW(w, e - first, n);
        up_scale[c] = SCALE_ROW(v, e - first, n);
        gate[c] = up[c] = 0.0f;
    }
    const ulong row = x_skip + x_row(i, p, token, flags) * x_stride;
    const long steps =
        task == PAIR_COMPUTE ? steps_at(limits + limits_skip, e, start - slot, depth, flags) : 0;
    long whole = 0; // steps in runs
#if HAS_RUNS(W_T)
    const bool wide_x = wide_rows(x + row, 0);
#if IN_RUNS
    const bool wide = wide_x;
#else
    const int w_bytes = sizeof(ELEM(W_T));
    const bool wide_up = GLU ? wide_rows(v + v_skip, (ulong)(v_expert | v_column) * w_bytes) : true;
    const bool wide = wide_x && wide_up && wide_rows(w + w_skip, (ulong)(w_expert | w_column) * w_bytes);
#endif
    whole = flags & K_FASTEST ? steps & ~15L : 0;
    if (wide)
        ADD_RUNS(WIDE16)
    else
        ADD_RUNS(LOAD16)
#endif
    for (long d = whole + way; d < steps; d += ways) {
        const float a = LOAD(X_T, x, row + d);
        for (int c = 0; c < PER_ITEM; c++) {
            const long n = min(start + c * side, columns - 1);
            gate[c] += a * WEIGHT(w, e - first, n, gate_at[c], gate_scale[c], d);
            if (GLU) up[c] += a * WEIGHT(v, e - first, n, up_at[c], up_scale[c], d);
        }
    }

    for (int c = 0; c < PER_ITEM; c++) {
        gates[(way * PER_ITEM + c) * side + slot] = gate[c];
        if (GLU) ups[(way * PER_ITEM + c) * side + slot] = up[c];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_ways = ways / 2; half_ways > 0; half_ways /= 2) {
        for (int c = 0; way < half_ways && c < PER_ITEM; c++) {
            const int to = (way * PER_ITEM + c) * side + slot, from = to + half_ways * PER_ITEM * side;
            gates[to] += gates[from];
            if (GLU) ups[to] += ups[from];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    if (task == PAIR_NOTHING) return;
    const ulong out = y_skip + y_row(i, p, flags) * y_stride;
    const float weight = task == PAIR_COMPUTE ? PAIR_GAMMA(p, token) : 0.0f;
    const float scale = task == PAIR_COMPUTE ? PAIR_SCALE(e) : 0.0f;
    for (int at = lid; at < side * PER_ITEM; at += LOCAL_SIZE) {
        const long n = start - slot + at;
        if (n >= columns) continue;
        float v = 0.0f;
        if (task == PAIR_COMPUTE)
            v = finish(gates[at], ups[GLU ? at : 0], BIAS_AT(e, n) + ADD_AT(p, n), BIAS_UP_AT(e, n) + ADD_UP_AT(p, n),
                       GAMMA_IN(weight), scale, GAMMA_OUT(weight), ACT_ARGS);
        STORE(Y_T, y, out + n, v);
    }
}
