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
#include "matmul/piece.cl"
#define FROM global
#include "matmul/few_blocks.cl"
#if BY_WORDS
#include "matmul/few_products.cl"
#endif

#ifndef PER_ITEM
#error "PER_ITEM: columns of a team, 1 or more"
#endif
#ifndef WAYS
#error "WAYS: work-items of a team, a power of two, at most LOCAL_SIZE"
#endif
#ifndef STEPS
#error "STEPS: rounds whose loads are on their way together, 1 or more"
#endif
#include "matmul/few_sums.cl"

#define TEAMS (LOCAL_SIZE / WAYS)
#define ROWS (PER_ITEM * (GLU ? 2 : 1)) // rows of w of a team: those of gates, then those of ups
#define FINISHED (TEAMS * PER_ITEM)     // finished numbers of a work-group, at most LOCAL_SIZE

// What a run is while it is on its way, and the numbers it has. ANY loads any run, WIDE one that begins at a multiple
// of 16 bytes: the order of the sums must not hang on how rows lie. Of blocks a run is a share (few_blocks.cl).
#if BY_WORDS
#define RUN SHARE
#define WHOLE (IS_SUPER ? 256 : 64)
typedef share run_of_w;
typedef x_share run_of_x;
typedef float running;
#define TOTAL_OF(sum) (sum)
#define FIRST_STEP(way) ((way) / 4 * QUAD_STEPS)
#define NOTHING(type) ((type){0})
#define ANY_W(run, p, d) load_any(&(run), (p) + units, way)
#define WIDE_W(run, p, d) load_wide(&(run), (p) + units, way)
#define FOUR_AT(row, d, f) ((row) + (d) / STRIDE * STRIDE + four_at(way, f))
#define LOAD_FOURS(run, row, d, wide)                                                                                  \
    UNROLL for (int f = 0; f < FOURS; f++)(run).of[f] = FETCH4(X_T, x + FOUR_AT(row, d, f), 1, 4, wide)
#define ANY_X(run, row, d) LOAD_FOURS(run, row, d, 0)
#define WIDE_X(run, row, d) LOAD_FOURS(run, row, d, 1)
#else
#define WHOLE RUN
typedef float4 running;
#define TOTAL_OF(sum) add_lanes4(sum)
#define FIRST_STEP(way) ((way)*RUN)
#define ADD_ROWS(sums, a, b, scale) UNROLL for (int r = 0; r < ROWS; r++) ADD_RUN(sums[r], a, b[r], scale[r]);
#if IN_RUNS
#define RUN 16
#define W_ALIGNED 1
typedef float16 run_of_w;
typedef float16 run_of_x;
#define NOTHING(type) ((type)(0))
#define ANY_W(run, p, d) run = LOAD16(W_T, p, d)
#define WIDE_W(run, p, d) run = LOAD16(W_T, p, d)
#define ANY_X(run, row, d) run = LOAD16(X_T, x, (row) + (d))
#define WIDE_X(run, row, d) run = WIDE16(X_T, x, (row) + (d))
#define ADD_RUN(sum, a, b, scale) sum = add_products16(sum, (a) * (b), scale)
#else
#define RUN 8
#define W_ALIGNED 16
typedef RAW8(W_T) run_of_w;
typedef RAW8(X_T) run_of_x;
#define NOTHING(type) ((type)(0))
#define ANY_W(run, p, d) run = ANY8(W_T, p, d)
#define WIDE_W(run, p, d) run = WIDE8(W_T, p, d)
#define ANY_X(run, row, d) run = ANY8(X_T, x, (row) + (d))
#define WIDE_X(run, row, d) run = WIDE8(X_T, x, (row) + (d))
#define ADD_RUN(sum, a, b, scale) sum += EVEN4(X_T, a) * EVEN4(W_T, b), sum += ODD4(X_T, a) * ODD4(W_T, b)
#endif
#endif
#define STRIDE (WAYS * RUN) // steps of a round

#define SCALE_OF(r, d) ((r) < PER_ITEM ? SCALE(w, scales[r], d) : SCALE(v, scales[r], d))

// Round s of what is on its way: into the sums, and the next one from step d on in its place. Without a next one there
// are zeros, of x too, since a weight may be anything.
#if BY_WORDS
#define USE_ROUND(s)                                                                                                   \
    {                                                                                                                  \
        ready_x values;                                                                                                \
        make_ready(&values, &a[s]);                                                                                  \
        ADD_ROWS(sums, values, b[s])                                                                                   \
    }
#else
#define USE_ROUND(s) ADD_ROWS(sums, a[s], b[s], scale[s])
#endif
#define LOAD_ROUND(s, LOAD_W, LOAD_X)                                                                                  \
    {                                                                                                                  \
        const bool more = d < whole;                                                                                   \
        if (more)                                                                                                      \
            LOAD_X(a[s], row, d);                                                                                      \
        else                                                                                                           \
            a[s] = NOTHING(run_of_x);                                                                                  \
        LOAD_ROWS(s, LOAD_W)                                                                                           \
        d += STRIDE;                                                                                                   \
    }
#if BY_WORDS
// Always something of the row: with zeros of x it adds nothing.
#define LAST_UNITS const uint last_units = whole ? whole / BLOCK(W_T) * UNITS(W_T) - QUAD_UNITS : 0;
#define LOAD_ROWS(s, LOAD_W)                                                                                           \
    const uint units = min(d / STRIDE * ROUND_UNITS + share_at(way), last_units);                                      \
    if (whole == 0) {                                                                                                  \
    } else if (LAST_APART && units == last_units && (way & 3) == 3)                                                    \
        UNROLL for (int r = 0; r < ROWS; r++) load_last(&b[s][r], weights[r] + units, way);                            \
    else                                                                                                               \
        UNROLL for (int r = 0; r < ROWS; r++) LOAD_W(b[s][r], weights[r], d);
#else
#define LAST_UNITS
#define LOAD_ROWS(s, LOAD_W)                                                                                           \
    UNROLL for (int r = 0; r < ROWS; r++) {                                                                            \
        if (more)                                                                                                      \
            LOAD_W(b[s][r], weights[r], d);                                                                            \
        else                                                                                                           \
            b[s][r] = NOTHING(run_of_w);                                                                               \
        scale[s][r] = more ? SCALE_OF(r, d) : 0.0f;                                                                    \
    }
#endif
#define ADD_ALL_ROUNDS                                                                                                 \
    {                                                                                                                  \
        uint d = FIRST_STEP(way);                                                                                      \
        LAST_UNITS                                                                                                     \
        if (wide_w && wide_x)                                                                                          \
            ADD_ROUNDS(STEPS, WIDE_W, WIDE_X)                                                                          \
        else                                                                                                           \
            ADD_ROUNDS(1, ANY_W, ANY_X)                                                                                \
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

#define BYTES(steps) ((ulong)((steps) / BLOCK(W_T) * UNITS(W_T)) * sizeof(ELEM(W_T)))
// Whether rows `strides` bytes apart begin at multiples of so many bytes
static inline bool wide_rows(const global void *first, ulong strides, uint bytes) {
    return (((ulong)first | strides) & (bytes - 1)) == 0;
}

// The sums of a team: the parts of row r, which its ways have put into parts[r * WAYS] and on, come together in the
// first of them. Every work-item makes the call: there are barriers in it.
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
        running sums[ROWS];
        UNROLL for (int r = 0; r < PER_ITEM; r++) {
            const long at = min(start + (team >> slot_bits) * PER_ITEM + r, columns - 1);
            weights[r] = ROW_AT(W_T, w + w_skip, (e - first) * w_expert + at * w_column);
            scales[r] = SCALE_ROW(w, e - first, at);
            sums[r] = (running)(0.0f);
#if GLU
            weights[PER_ITEM + r] = ROW_AT(W_T, v + v_skip, (e - first) * v_expert + at * v_column);
            scales[PER_ITEM + r] = SCALE_ROW(v, e - first, at);
            sums[PER_ITEM + r] = (running)(0.0f);
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

        const uint whole = steps & ~(WHOLE - 1u); // steps in runs
        const bool wide_x = wide_rows(x + row, 0, 16);
        const bool wide_w = wide_rows(w + w_skip, BYTES(w_expert) | BYTES(w_column), W_ALIGNED) &&
                            (!GLU || wide_rows(v + v_skip, BYTES(v_expert) | BYTES(v_column), W_ALIGNED));
        ADD_ALL_ROUNDS

        float rest[ROWS];
        UNROLL for (int r = 0; r < ROWS; r++) rest[r] = TOTAL_OF(sums[r]);
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
