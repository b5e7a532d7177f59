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
//
// Asked for sums, it makes of the rows of a token what combine makes of them, and y has a row for each token:
//   y[t, n] = residual[t, n] + shared_scale * shared[t, n] + sum_scale * sum over slots of Y_T(row of the slot)[n]
// Then i is the token, `slots` neighbouring teams have the same columns and a slot each, and a work-group has 1 / slots
// as many columns. Further slots follow in turns.
#include "matmul/pair.cl"

#define VALUE float
#include "matmul/epilogue.cl"
#include "matmul/sum.cl"
#include "matmul/few_blocks.cl"

#ifndef PER_ITEM
#error "PER_ITEM: columns of a team, 1 or more"
#endif
#ifndef WAYS
#error "WAYS: work-items of a team, a power of two, at most LOCAL_SIZE"
#endif
#ifndef STEPS
#error "STEPS: rounds whose loads are on their way together, 1 or more"
#endif
#ifndef SUMS
#error "SUMS: 1 if it may be asked for sums, else 0"
#endif
#ifndef SUM_T
#error "SUM_T: f32, f16 or bf16, what y has where it is asked for sums"
#endif
#define TEAMS (LOCAL_SIZE / WAYS)
#define ROWS (PER_ITEM * (GLU ? 2 : 1)) // rows of w of a team: those of gates, then those of ups
#define FINISHED (TEAMS * PER_ITEM)     // finished numbers of a work-group, at most LOCAL_SIZE

// What a run is while it is on its way, and the numbers it has. ANY loads any run, WIDE one that begins at a multiple of
// 16 bytes: the order of the sums must not hang on how rows lie.
#if BY_WORDS
#define RUN 32
typedef block_run run_of_w;
typedef struct {
    RAW8(X_T) of[4];
} run_of_x;
#define NOTHING(type) ((type){0})
#define ANY_W(run, p, d) load_block(&(run), p, d, (uint)depth)
#define WIDE_W(run, p, d) load_block(&(run), p, d, (uint)depth)
#define ANY_X(run, i) UNROLL for (int g = 0; g < 4; g++)(run).of[g] = ANY8(X_T, x, (i) + 8 * g)
#define WIDE_X(run, i) UNROLL for (int g = 0; g < 4; g++)(run).of[g] = WIDE8(X_T, x, (i) + 8 * g)
#define ADD_RUN(sum, a, b, scale) sum = add_block(sum, &(a), &(b))
static inline float4 add_block(float4 sum, const run_of_x *a, const run_of_w *b) {
    float4 codes = (float4)(0.0f);
    UNROLL for (int g = 0; g < 4; g++) {
        codes += EVEN4(X_T, a->of[g]) * block_even(b, g);
        codes += ODD4(X_T, a->of[g]) * block_odd(b, g);
    }
    return sum + codes * block_scale(b);
}
#elif IN_RUNS
#define RUN 16
typedef float16 run_of_w;
typedef float16 run_of_x;
#define NOTHING(type) ((type)(0))
#define ANY_W(run, p, d) run = LOAD16(W_T, p, d)
#define WIDE_W(run, p, d) run = LOAD16(W_T, p, d)
#define ANY_X(run, i) run = LOAD16(X_T, x, i)
#define WIDE_X(run, i) run = WIDE16(X_T, x, i)
#define ADD_RUN(sum, a, b, scale) sum = add_products16(sum, (a) * (b), scale)
#else
#define RUN 8
typedef RAW8(W_T) run_of_w;
typedef RAW8(X_T) run_of_x;
#define NOTHING(type) ((type)(0))
#define ANY_W(run, p, d) run = ANY8(W_T, p, d)
#define WIDE_W(run, p, d) run = WIDE8(W_T, p, d)
#define ANY_X(run, i) run = ANY8(X_T, x, i)
#define WIDE_X(run, i) run = WIDE8(X_T, x, i)
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
        if (more)                                                                                                      \
            LOAD_X(a[s], row + d);                                                                                     \
        else                                                                                                           \
            a[s] = NOTHING(run_of_x);                                                                                  \
        UNROLL for (int r = 0; r < ROWS; r++) {                                                                        \
            if (more)                                                                                                  \
                LOAD_W(b[s][r], weights[r], d);                                                                        \
            else                                                                                                       \
                b[s][r] = NOTHING(run_of_w);                                                                           \
            scale[s][r] = more ? SCALE_OF(r, d) : 0.0f;                                                                \
        }                                                                                                              \
        d += STRIDE;                                                                                                   \
    }
#define ADD_ROUNDS(n, LOAD_W, LOAD_X)                                                                                  \
    {                                                                                                                  \
        run_of_x a[n];                                                                                                 \
        run_of_w b[n][ROWS];                                                                                           \
        float scale[n][ROWS];                                                                                          \
        UNROLL for (int s = 0; s < (n); s++) LOAD_ROUND(s, LOAD_W, LOAD_X)                                             \
        for (uint used = 0; used < whole; used += (n) * STRIDE)                                                        \
            UNROLL for (int s = 0; s < (n); s++) {                                                                     \
                USE_ROUND(s)                                                                                           \
                LOAD_ROUND(s, LOAD_W, LOAD_X)                                                                          \
            }                                                                                                          \
    }

// Whether rows `strides` bytes apart begin at multiples of 16 bytes
static inline bool wide_rows(const global void *first, ulong strides) { return (((ulong)first | strides) & 15) == 0; }

// Bits of `sum_flags`; the same list is in lib/kernel/matmul_few.c.
#define SUM 1
#define SUM_RESIDUAL 2
#define SUM_SHARED 4
#define SUM_SHARED_F32 8 // else it has the type of y

#if SUMS
#define SUM_ARGS                                                                                                       \
    , const global ELEM(SUM_T) *residual, const global ELEM(SUM_T) *shared, long4 at_sum, float4 sum_scales,           \
        int slot_bits, int sum_flags
#define SUM_NUMBERS                                                                                                    \
    const ulong residual_skip = (ulong)at_sum.x, shared_skip = (ulong)at_sum.z;                                        \
    const long residual_stride = at_sum.y, shared_stride = at_sum.w;                                                   \
    const float sum_scale = sum_scales.x, shared_scale = sum_scales.y;
#define LOAD_RESIDUAL(t, n)                                                                                            \
    (sum_flags & SUM_RESIDUAL ? LOAD(SUM_T, residual, residual_skip + (t) * residual_stride + (n)) : 0.0f)
#define SHARED_AT(t, n) (shared_skip + (t) * shared_stride + (n))
#define LOAD_SHARED(t, n)                                                                                              \
    (!(sum_flags & SUM_SHARED)     ? 0.0f                                                                              \
     : sum_flags & SUM_SHARED_F32 ? ((const global float *)shared)[SHARED_AT(t, n)]                                    \
                                   : LOAD(SUM_T, shared, SHARED_AT(t, n)))
#else
#define SUM_ARGS
#define SUM_NUMBERS
#define slot_bits 0
#define sum_flags 0
#endif

// The pair of slot `slot`, of those whose turn it is: its number, token, expert, and what is to be done; nothing behind
// the last slot of a token.
#define FIND_PAIR(p, token, e, task, slot)                                                                             \
    const bool p##_is = turn + (slot) < turns_end;                                                                     \
    const long p = p##_is ? pair_at(sum_flags & SUM ? i * k + turn + (slot) : i, order + order_skip, flags) : 0;       \
    const long token = (uint)p / (uint)k;                                                                              \
    const int e = p##_is ? EXPERT_OF(p, token) : -1;                                                                   \
    const int task = pair_task(e, experts, first, count);

// The sums of a team: the parts of row r, which its ways have put into parts[r * WAYS] and on, come together in the first
// of them. Every work-item makes the call: there are barriers in it.
static inline void add_ways(local float *parts, int way) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_ways = WAYS / 2; half_ways > 0; half_ways /= 2) {
        if (way < half_ways)
            UNROLL for (int r = 0; r < ROWS; r++) parts[r * WAYS + way] += parts[r * WAYS + way + half_ways];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_few(MATMUL_ARGS SUM_ARGS) {
    MATMUL_NUMBERS
    SUM_NUMBERS
    local float parts[ROWS * LOCAL_SIZE], finished[FINISHED];
    const int lid = get_local_id(0), team = lid / WAYS, way = lid - team * WAYS;
    const int slots = 1 << slot_bits, width = FINISHED >> slot_bits;
    const ulong column_groups = (columns + width - 1) / width;
    const long i = get_group_id(0) / column_groups;
    const long start = (get_group_id(0) - i * column_groups) * width;

    // A work-item below FINISHED finishes column c of team `of`, and one below `width` sums column `lid`.
    const int of = lid / PER_ITEM, c = lid - of * PER_ITEM;
    const long n = start + (of >> slot_bits) * PER_ITEM + c;
    const bool sums_here = sum_flags & SUM && lid < width && start + lid < columns;
#if SUMS
    const float residual_n = sums_here ? LOAD_RESIDUAL(i, start + lid) : 0.0f;
    const float shared_n = sums_here ? LOAD_SHARED(i, start + lid) : 0.0f;
    float total = 0.0f;
#endif
    const int turns_end = sum_flags & SUM ? k : 1;
    for (int turn = 0; turn < turns_end; turn += slots) {
        FIND_PAIR(p, token, e, task, team & (slots - 1))

        // Columns past the last one compute the last one again and are not stored.
        const global ELEM(W_T) *weights[ROWS];
        const global ELEM(S_T) *scales[ROWS];
        float4 sums[ROWS];
        UNROLL for (int r = 0; r < PER_ITEM; r++) {
            const long at = min(start + (team >> slot_bits) * PER_ITEM + r, columns - 1);
            weights[r] = ROW_AT(W_T, w + w_skip, (e - first) * w_expert + at * w_column);
            scales[r] = SCALE_ROW(w, e - first, at);
            sums[r] = (float4)(0.0f);
#if GLU
            weights[PER_ITEM + r] = ROW_AT(W_T, v + v_skip, (e - first) * v_expert + at * v_column);
            scales[PER_ITEM + r] = SCALE_ROW(v, e - first, at);
            sums[PER_ITEM + r] = (float4)(0.0f);
#endif
        }
        const ulong row = x_skip + x_row(i, p, token, flags) * x_stride;
        const uint steps = task == PAIR_COMPUTE ? steps_at(limits + limits_skip, e, start, depth, flags) : 0;

        // The factors and addends of a finished column are on their way with the weights.
        FIND_PAIR(fp, ftoken, fe, ftask, of & (slots - 1))
        const bool finishes = lid < FINISHED && n < columns && ftask == PAIR_COMPUTE;
        const float bias_n = finishes ? BIAS_AT(fe, n) + ADD_AT(fp, n) : 0.0f;
        const float bias_up_n = finishes ? BIAS_UP_AT(fe, n) + ADD_UP_AT(fp, n) : 0.0f;
        const float weight = finishes ? PAIR_GAMMA(fp, ftoken) : 0.0f, scale_e = finishes ? PAIR_SCALE(fe) : 0.0f;

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
        add_ways(parts + team * ROWS * WAYS, way);

        float out = 0.0f;
        if (finishes)
            out = finish(parts[(of * ROWS + c) * WAYS], parts[(of * ROWS + (GLU ? PER_ITEM : 0) + c) * WAYS], bias_n,
                         bias_up_n, GAMMA_IN(weight), scale_e, GAMMA_OUT(weight), ACT_ARGS);
        if (!(sum_flags & SUM)) {
            if (lid < FINISHED && n < columns && ftask != PAIR_NOTHING)
                STORE(Y_T, y, y_skip + y_row(i, fp, flags) * y_stride + n, out);
        } else if (lid < FINISHED)
            finished[lid] = FLOAT_OF(Y_T, ROUND(Y_T, out)); // as a row is that passes through memory
        barrier(CLK_LOCAL_MEM_FENCE);
#if SUMS
        for (int s = 0; sums_here && s < slots; s++) total += finished[((of << slot_bits) + s) * PER_ITEM + c];
#endif
    }
#if SUMS
    if (!sums_here) return;
    float out = sum_scale * total;
    if (sum_flags & SUM_SHARED) out += shared_scale * shared_n;
    if (sum_flags & SUM_RESIDUAL) out += residual_n;
    STORE(SUM_T, (global ELEM(SUM_T) *)y, y_skip + i * y_stride + start + lid, out);
#endif
}
