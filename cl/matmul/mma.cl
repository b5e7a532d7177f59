// SPDX-License-Identifier: MIT
// For many rows on NVIDIA's sm_80 and later: mma.sync on what asynchronous copies bring into a ring in local memory. A
// work-group computes TM rows of one expert times TN columns of y; x and w are of one dtype of 16 bits, and rows begin
// at multiples of 16 bytes.
//
//   group = (band * column groups + column group) * BAND + slot in the band       slot -> expert and rows: slot.cl
//   ring [STAGES][TM rows of x, TK steps each; weights: mma_weights.cl]
//
// Groups that run at a time so share rows of x and of w. Rows in the ring have chunks of 8 elements; chunk c of row r
// is at c ^ SWIZZLE(r), so that neither 8 rows of one chunk nor neighbouring chunks share banks. While a wave
// multiplies 16 steps of K it reads the next 16 into other registers.
//
// A wave computes FRAGMENTS_M x FRAGMENTS_N results of the instruction, with GLU the first half of the latter of gate,
// the second of up columns, as in matrix.cl; which elements a lane holds is MMA_16 of matrix_layout.cl. Sums go to y by
// way of local memory, as many rows of a wave at a time as find room, and from there in runs of 4 columns. Rows past
// the end compute the last one again, columns past it zeros; they are not stored.
#include "matmul/mma_base.cl"

#if !defined(WAVES_M) || !defined(WAVES_N)
#error "WAVES_M, WAVES_N: waves of a work-group along rows and columns; their product is LOCAL_SIZE / 32"
#endif
#if !defined(FRAGMENTS_M) || !defined(FRAGMENTS_N)
#error "FRAGMENTS_M, FRAGMENTS_N: fragments of a wave; the latter a multiple of 2, with GLU of 4"
#endif
#ifndef TK
#error "TK: steps of K in a stage, 32 or 64"
#endif
#define COLUMNS_N (FRAGMENTS_N / (1 + GLU))
#define TM (WAVES_M * FRAGMENTS_M * 16)
#define TN (WAVES_N * COLUMNS_N * 8)
#define CHUNKS (TK / 8)
#define SWIZZLE(r) (TK == 64 ? (r)&7u : (r) / 2 & 3u)
#define STAGE ((TM + (1 + GLU) * TN) * CHUNKS)

// Of x a work-item copies chunk lid % CHUNKS of rows lid / CHUNKS, lid / CHUNKS + ROWS, ..
#define ROWS (LOCAL_SIZE / CHUNKS)
#define COPIES_X (TM / ROWS)
#define COPIES (COPIES_X + (1 + GLU) * TN / ROWS)
#if TM % ROWS || ROWS % 8
#error "work-items do not come out even"
#endif

// Copies of a stage are spread over its steps but the last: in a burst they keep the reads of fragments waiting.
#define PARTS (TK / 16 - 1)
#define IN_PART(i) (part == PARTS || (i) % PARTS == part)

#define RUNS (COLUMNS_N * 2)             // in a row of y of a wave
#define SUM_STRIDE (FRAGMENTS_N * 8 + 8) // floats; rows so begin 8 banks apart
#define SUMS_FIT(fragments) (WAVES_M * WAVES_N * (fragments)*16 * SUM_STRIDE <= STAGES * STAGE * 4)
#if SUMS_FIT(FRAGMENTS_M)
#define STAGED FRAGMENTS_M // rows of fragments whose sums are in the ring at a time
#elif FRAGMENTS_M % 2 == 0 && SUMS_FIT(FRAGMENTS_M / 2)
#define STAGED (FRAGMENTS_M / 2)
#elif SUMS_FIT(1)
#define STAGED 1
#else
#error "the sums of a row of fragments do not fit into the ring"
#endif
#include "matmul/mma_memory.cl"
#include "matmul/mma_weights.cl"
#include "matmul/mma_tile.cl"

// Where a lane reads of a wave's first fragment of x: row lane % 16, chunk lane / 16
static inline uint a_place(uint wave_m, uint lane) {
    return (wave_m + lane % 16) * CHUNKS + (lane / 16 ^ SWIZZLE(lane % 8));
}

// 16 steps of K, the `step`th of the stage
#define READ_FRAGMENTS(a, b, stage, step)                                                                              \
    {                                                                                                                  \
        UNROLL for (uint i = 0; i < FRAGMENTS_M; i++)                                                                  \
            READ_MATRICES(a[i], a_at, a_place(wave_m, lane), (step)*2, stage, i * 16 * CHUNKS)                         \
        UNROLL for (uint j = 0; j < FRAGMENTS_N; j += 2)                                                               \
            READ_WEIGHTS(b[j / 2], b_at, weight_place(wave_n, lane, weights->mixed),                                   \
                         WEIGHT_FLIP(step, j, weights->mixed), stage, WEIGHT_AHEAD(step, j))                           \
    }

// What a work-item copies for a stage, from step d of K on, or share `part` of it. Of its chunk of x there are `left`
// elements.
static inline void fetch(struct copies *c, local uint4 *stage, uint to, const global ushort *const x_from[COPIES_X],
                         int left, const struct weights *weights, int d, uint part) {
    UNROLL for (int i = 0; i < COPIES_X; i++)
        if (IN_PART(i)) copy_chunk(c, stage + to + i * LOCAL_SIZE, x_from[i] + d, d < left);
    fetch_weights(c, stage, weights, d, part);
}
#define FETCH(stage, part) fetch(copies, ring + (stage)*STAGE, to, x_from, left, weights, d, part)

// A barrier that products with `a` stay behind: they are to cover the reads that follow it.
static inline void barrier_before(uint4 a[FRAGMENTS_M]) {
    const uint zero = zero_behind_barrier();
    UNROLL for (int i = 0; i < FRAGMENTS_M; i++) a[i].x ^= zero;
}

// sums += what 16 steps of K give
static inline void multiply_step(d_fragment sums[FRAGMENTS_M][FRAGMENTS_N], const uint4 a[FRAGMENTS_M],
                                 const uint4 b[FRAGMENTS_N / 2], local float *scratch, uint lane) {
    UNROLL for (int i = 0; i < FRAGMENTS_M; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++)
        ACCUMULATE(sums[i][j], a[i], j & 1 ? b[j / 2].hi : b[j / 2].lo);
}

// The sums of a tile, of which the first STAGES - 1 stages are on their way
static inline void multiply_tile(d_fragment sums[FRAGMENTS_M][FRAGMENTS_N], local uint4 *ring, struct copies *copies,
                                 uint to, const global ushort *const x_from[COPIES_X], int left,
                                 const struct weights *weights, int steps, uint wave_m, uint wave_n, uint lane,
                                 local float *scratch) {
    KEEP_PLACE(a_at, a_place(wave_m, lane));
    KEEP_PLACE(b_at, weight_place(wave_n, lane, weights->mixed));
    uint4 a[2][FRAGMENTS_M], b[2][FRAGMENTS_N / 2];
    const int last = (steps + TK - 1) / TK;
    int d = (STAGES - 1) * TK; // where the next stage begins
    UNROLL for (int i = 0; i < FRAGMENTS_M; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++) sums[i][j] = 0.0f;
    wait_groups(copies, STAGES - 2);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (last > 0) READ_FRAGMENTS(a[0], b[0], 0, 0)
    uint stage = 0, filled = STAGES - 1;
    ROLL for (int t = 0; t < last; t++, d += TK) {
        OPAQUE(d);
        const uint after = t + 1 == last ? stage : stage + 1 == STAGES ? 0 : stage + 1;
        UNROLL for (uint step = 0; step < TK / 16; step++) {
            const bool ends = step + 1 == TK / 16;
            if (ends) { // the next stage is there, and nobody reads this one any more
                wait_groups(copies, STAGES - 2);
                barrier_before(a[step & 1]);
            }
            READ_FRAGMENTS(a[(step + 1) & 1], b[(step + 1) & 1], ends ? after : stage, ends ? 0 : step + 1)
            if (!ends && d < steps) FETCH(filled, step);
            if (step + 2 == TK / 16) close_group(copies);
            multiply_step(sums, a[step & 1], b[step & 1], scratch, lane);
        }
        filled = stage;
        stage = after;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

// 16 rows of a wave, and in them gate before up
static inline void stage_sums(local float *to, const d_fragment sums[FRAGMENTS_N], uint lane, bool mixed) {
    const uint row = lane / 4 * SUM_STRIDE, below = 8 * SUM_STRIDE;
    UNROLL for (int j = 0; j < FRAGMENTS_N; j++) {
        local float *const at = to + row + (mixed ? j * 4 + lane % 4 : j * 8 + lane % 4 * 2);
        if (mixed) {
            at[0] = sums[j].s0, at[COLUMNS_N * 8] = sums[j].s1;
            at[below] = sums[j].s2, at[below + COLUMNS_N * 8] = sums[j].s3;
        } else {
            *(local float2 *)at = sums[j].lo;
            *(local float2 *)(at + below) = sums[j].hi;
        }
    }
}

// Turns in which a wave stores what is staged, and how many read their sums at a time
#define TURNS (STAGED * RUNS / 2)
#define AHEAD (TURNS < 4 ? TURNS : 4)

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_mma(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local uint4 ring[STAGES * STAGE];
    local int pair_of[TM];
    local float weight_of[TM];
    local ulong y_at[TM];
    local long found[3];
    local float scratch_of[LOCAL_SIZE / 32 * SCRATCH];
    const uint lid = get_local_id(0), wave = lid / 32, lane = lid & 31u;
    const uint wave_m = wave / WAVES_N * FRAGMENTS_M * 16, wave_n = wave % WAVES_N * COLUMNS_N * 8;
    long n0;
    const long slot = banded_slot(columns, TN, BAND, &n0);

    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS], e = first + expert;
    if (!EMULATED && rows <= 0) return; // not before a barrier on PoCL
    const long begin = found[TILE_BEGIN];
    const bool computes = expert < count && rows > 0;
    const int steps = !computes ? 0 : (int)steps_at(limits + limits_skip, e, n0, depth, flags);
    for (uint m = lid; m < TM; m += LOCAL_SIZE)
        pair_of[m] = rows > 0 ? (int)pair_at(begin + min((int)m, rows - 1), order + order_skip, flags) : 0;
    barrier(CLK_LOCAL_MEM_FENCE);

    const uint row = lid / CHUNKS, chunk = lid & (CHUNKS - 1), to = row * CHUNKS + (chunk ^ SWIZZLE(row));
    const global ushort *x_from[COPIES_X];
    UNROLL for (uint i = 0; i < COPIES_X; i++) {
        const int m = (int)(row + i * ROWS);
        const ulong from = x_row(begin + min(m, rows - 1), pair_of[m], pair_of[m] / k, flags);
        x_from[i] = x + x_skip + from * x_stride + chunk * 8;
    }
    struct weights weights;
    place_weights(&weights, w + w_skip + expert * w_expert, w_column, w_depth, v + v_skip + expert * v_expert, v_column,
                  v_depth, n0, columns, steps);
    struct copies copies = {0};
    const int left = steps - (int)chunk * 8;
    UNROLL for (int i = 0, d = 0; i < STAGES - 1; i++, d += TK) {
        if (d < steps) fetch(&copies, ring + i * STAGE, to, x_from, left, &weights, d, PARTS);
        close_group(&copies);
    }
    for (uint m = lid; m < TM; m += LOCAL_SIZE) {
        weight_of[m] = computes ? PAIR_GAMMA(pair_of[m], pair_of[m] / k) : 0.0f;
        y_at[m] = y_skip + y_row(begin + m, pair_of[m], flags) * y_stride;
    }

    d_fragment sums[FRAGMENTS_M][FRAGMENTS_N];
    multiply_tile(sums, ring, &copies, to, x_from, left, &weights, steps, wave_m, wave_n, lane,
                  scratch_of + wave * SCRATCH);
    const long n = n0 + wave_n + lane % RUNS * 4;
    const int inside = (int)clamp(columns - n, 0L, 4L);
    const bool wide = ((ulong)(y + y_skip) & (4 * sizeof(*y) - 1)) == 0 && (y_stride & 3) == 0;
    const bool whole = wide && inside == 4;
    const float scale = computes ? PAIR_SCALE(e) : 0.0f;
    float4 more = 0.0f, more_up = 0.0f;
    if (computes && flags & HAS_BIAS) more = OF_4(BIAS_AT, e), more_up = OF_4(BIAS_UP_AT, e);
    local float *const mine = (local float *)ring + wave * (STAGED * 16 * SUM_STRIDE);
    UNROLL for (int i = 0; i < FRAGMENTS_M; i += STAGED) {
        UNROLL for (int f = 0; f < STAGED; f++)
            stage_sums(mine + f * 16 * SUM_STRIDE, sums[i + f], lane, weights.mixed);
        WAVE_BARRIER();
        ROLL for (int turn = 0; turn < TURNS; turn += AHEAD) {
            const int m0 = (int)(wave_m + lane / RUNS) + i * 16;
            float4 gate[AHEAD], up[AHEAD];
            float weight[AHEAD];
            ulong at[AHEAD];
            UNROLL for (int t = 0; t < AHEAD; t++) {
                const int r = (turn + t) * (32 / RUNS);
                const local float *const sum = mine + (r + lane / RUNS) * SUM_STRIDE + lane % RUNS * 4;
                gate[t] = *(const local float4 *)sum, up[t] = *(const local float4 *)(sum + GLU * RUNS * 4);
                weight[t] = weight_of[m0 + r];
                at[t] = y_at[m0 + r];
            }
            UNROLL for (int t = 0; t < AHEAD; t++) {
                const int m = m0 + (turn + t) * (32 / RUNS);
                float4 bias_4 = more, bias_up_4 = more_up;
                if (computes && flags & HAS_ADD)
                    bias_4 += OF_4(ADD_AT, pair_of[m]), bias_up_4 += OF_4(ADD_UP_AT, pair_of[m]);
                const float4 value = finish(gate[t], up[t], bias_4, bias_up_4, GAMMA_IN(weight[t]), scale,
                                            GAMMA_OUT(weight[t]), KNOWN_ACT_ARGS);
                if (m < rows) store_run(y + at[t] + n, computes ? value : (float4)(0.0f), whole, inside);
            }
        }
        WAVE_BARRIER();
    }
}
