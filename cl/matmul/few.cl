// SPDX-License-Identifier: MIT
// For few rows, where K is fastest in w: straight from the ids, so that weights are read once for each pair that wants
// them and nothing waits for a sort.
//
//   group = position i * column groups + column group
//   column of a team = column group * TEAMS * PER_ITEM + team * PER_ITEM + c,   c < PER_ITEM
//
// A team of WAYS neighbours splits K in runs of RUN steps: way 0 has the first, way 1 the next, and so on round and
// round, so that one load of a team reads what lies together. STEPS rounds of all its rows are loaded before the first
// of them is used: what bounds a product of few rows is how many bytes are on their way. The parts of a sum meet in
// local memory, in a tree of fixed shape.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"
#include "matmul/sum.cl"

#ifndef PER_ITEM
#error "PER_ITEM: columns of a team, 1 or more"
#endif
#ifndef WAYS
#error "WAYS: work-items of a team, a power of two, at most LOCAL_SIZE"
#endif
#ifndef STEPS
#error "STEPS: rounds whose loads are on their way together, 1 or more"
#endif
#define TEAMS (LOCAL_SIZE / WAYS)
#define ROWS (PER_ITEM * (GLU ? 2 : 1)) // rows of w of a team: those of gates, then those of ups
#define FINISHED (TEAMS * PER_ITEM)     // columns of a work-group

// What a run is while it is on its way, and the numbers it has. ANY loads any run, WIDE one that begins at a multiple of
// 16 bytes: the order of the sums must not hang on how rows lie.
#if IN_RUNS
#define RUN 16
typedef float16 run_of_w;
typedef float16 run_of_x;
#define ANY_W(p, d) LOAD16(W_T, p, d)
#define WIDE_W(p, d) LOAD16(W_T, p, d)
#define ANY_X(d) LOAD16(X_T, x, d)
#define WIDE_X(d) WIDE16(X_T, x, d)
#define ADD_RUN(sum, a, b, scale) sum = add_products16(sum, (a) * (b), scale)
#else
#define RUN 8
typedef RAW8(W_T) run_of_w;
typedef RAW8(X_T) run_of_x;
#define ANY_W(p, d) ANY8(W_T, p, d)
#define WIDE_W(p, d) WIDE8(W_T, p, d)
#define ANY_X(d) ANY8(X_T, x, d)
#define WIDE_X(d) WIDE8(X_T, x, d)
#define ADD_RUN(sum, a, b, scale) sum += EVEN4(X_T, a) * EVEN4(W_T, b), sum += ODD4(X_T, a) * ODD4(W_T, b)
#endif
#define STRIDE (WAYS * RUN) // steps of a round

#define SCALE_OF(r, d) ((r) < PER_ITEM ? SCALE(w, scales[r], d) : SCALE(v, scales[r], d))

// Round s of what is on its way: into the sums, and the next one from step d on in its place. Without a next one there
// are zeros, of x too, since a weight may be anything.
#define USE_ROUND(s) UNROLL for (int r = 0; r < ROWS; r++) ADD_RUN(sums[r], a[s], b[s][r], scale[s][r]);
#define LOAD_ROUND(s, LOAD_W, LOAD_X)                                                                                  \
    {                                                                                                                  \
        const bool more = d < whole;                                                                                   \
        a[s] = more ? LOAD_X(row + d) : (run_of_x)(0);                                                                 \
        UNROLL for (int r = 0; r < ROWS; r++) {                                                                        \
            b[s][r] = more ? LOAD_W(weights[r], d) : (run_of_w)(0);                                                    \
            scale[s][r] = more ? SCALE_OF(r, d) : 0.0f;                                                                \
        }                                                                                                              \
        d += STRIDE;                                                                                                    \
    }
#define ADD_ROUNDS(n, LOAD_W, LOAD_X)                                                                                  \
    {                                                                                                                  \
        run_of_x a[n];                                                                                                 \
        run_of_w b[n][ROWS];                                                                                           \
        float scale[n][ROWS];                                                                                          \
        UNROLL for (int s = 0; s < (n); s++) LOAD_ROUND(s, LOAD_W, LOAD_X)                                             \
        for (uint used = 0; used < whole; used += (n) * STRIDE)                                                         \
            UNROLL for (int s = 0; s < (n); s++) {                                                                     \
                USE_ROUND(s)                                                                                           \
                LOAD_ROUND(s, LOAD_W, LOAD_X)                                                                          \
            }                                                                                                          \
    }

// Whether rows `strides` bytes apart begin at multiples of 16 bytes
static inline bool wide_rows(const global void *first, ulong strides) { return (((ulong)first | strides) & 15) == 0; }

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_few(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local float parts[ROWS * LOCAL_SIZE];
    const int lid = get_local_id(0), team = lid / WAYS, way = lid - team * WAYS;
    const ulong column_groups = (columns + FINISHED - 1) / FINISHED;
    const long i = get_group_id(0) / column_groups;
    const long start = (get_group_id(0) - i * column_groups) * FINISHED;

    const long p = pair_at(i, order + order_skip, flags), token = (uint)p / (uint)k;
    const int e = EXPERT_OF(p, token);
    const int task = pair_task(e, experts, first, count);

    // Columns past the last one compute the last one again and are not stored.
    const global ELEM(W_T) *weights[ROWS];
    const global ELEM(S_T) *scales[ROWS];
    float4 sums[ROWS];
    UNROLL for (int c = 0; c < PER_ITEM; c++) {
        const long n = min(start + team * PER_ITEM + c, columns - 1);
        weights[c] = ROW_AT(W_T, w + w_skip, (e - first) * w_expert + n * w_column);
        scales[c] = SCALE_ROW(w, e - first, n);
        sums[c] = (float4)(0.0f);
#if GLU
        weights[PER_ITEM + c] = ROW_AT(W_T, v + v_skip, (e - first) * v_expert + n * v_column);
        scales[PER_ITEM + c] = SCALE_ROW(v, e - first, n);
        sums[PER_ITEM + c] = (float4)(0.0f);
#endif
    }
    const ulong row = x_skip + x_row(i, p, token, flags) * x_stride;
    const uint steps = task == PAIR_COMPUTE ? steps_at(limits + limits_skip, e, start, depth, flags) : 0;

    // The factors and addends of a finished column are on their way with the weights.
    const long n = start + lid;
    const bool finishes = lid < FINISHED && n < columns && task == PAIR_COMPUTE;
    const float bias_n = finishes ? BIAS_AT(e, n) + ADD_AT(p, n) : 0.0f;
    const float bias_up_n = finishes ? BIAS_UP_AT(e, n) + ADD_UP_AT(p, n) : 0.0f;
    const float weight = finishes ? PAIR_GAMMA(p, token) : 0.0f, scale_e = finishes ? PAIR_SCALE(e) : 0.0f;

    const uint whole = steps & ~(RUN - 1u); // steps in runs
#if IN_RUNS
    const bool wide = wide_rows(x + row, 0);
#else
    const int w_bytes = sizeof(ELEM(W_T));
    const bool wide_up = GLU ? wide_rows(v + v_skip, (ulong)(v_expert | v_column) * w_bytes) : true;
    const bool wide =
        wide_up && wide_rows(x + row, 0) && wide_rows(w + w_skip, (ulong)(w_expert | w_column) * w_bytes);
#endif
    uint d = way * RUN;
    if (wide)
        ADD_ROUNDS(STEPS, WIDE_W, WIDE_X)
    else
        ADD_ROUNDS(1, ANY_W, ANY_X)

    float rest[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) rest[r] = add_lanes4(sums[r]);
    for (uint d = whole + way; d < steps; d += WAYS) {
        const float a = LOAD(X_T, x, row + d);
        UNROLL for (int r = 0; r < ROWS; r++) rest[r] += a * (LOAD(W_T, weights[r], d) * SCALE_OF(r, d));
    }
    UNROLL for (int r = 0; r < ROWS; r++) parts[(team * ROWS + r) * WAYS + way] = rest[r];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_ways = WAYS / 2; half_ways > 0; half_ways /= 2) {
        if (way < half_ways)
            UNROLL for (int r = 0; r < ROWS; r++) {
                const int to = (team * ROWS + r) * WAYS + way;
                parts[to] += parts[to + half_ways];
            }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    if (lid >= FINISHED || n >= columns || task == PAIR_NOTHING) return;
    const int of_team = lid / PER_ITEM; // team t has rows t * ROWS .. of parts
    const local float *const sum = parts + (of_team * (ROWS - PER_ITEM) + lid) * WAYS;
    float out = 0.0f;
    if (task == PAIR_COMPUTE)
        out = finish(sum[0], sum[GLU ? PER_ITEM * WAYS : 0], bias_n, bias_up_n, GAMMA_IN(weight), scale_e,
                     GAMMA_OUT(weight), ACT_ARGS);
    STORE(Y_T, y, y_skip + y_row(i, p, flags) * y_stride + n, out);
}
