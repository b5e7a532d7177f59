// SPDX-License-Identifier: MIT
// For many rows of 16 bits and coded weights, K fastest, on NVIDIA's sm_80 and later: a work-group computes TM pairs of
// one expert times TN columns of y by mma.sync of 16 x 8 x 16, w being the matrix of 16 rows.
//
//   group = (band * column groups + column group) * BAND + slot in the band       slot -> expert and pairs: slot.cl
//   x ring   [STAGES][TM pairs][TK steps]         rows of x, which begin at multiples of 16 bytes
//   w ring   [SLOTS][W_ROWS rows][SEGMENT steps]  rows of w as they lie, from the multiple of 16 bytes before
//
// Each of WAYS has such rings, and a part of K of its own: few tiles so keep a device as busy as many do.
//
// Codes are decoded in registers, by the waves that own their rows: each has ROWS * 8 of them, and all pairs. A quad
// of its lanes takes shares of one row (few_blocks.cl, mma_blocks_codes.cl), so that the sums of a part have one scale:
//   sum over parts of scale * (sum of code * x) - min * (sum of x)
// where the inner sums are the instruction's, codes are numbers of x's type, and nothing is rounded but in f32. Where
// a row has one scale for all of K, so has the sum.
// With GLU a fragment of 16 rows has 8 of gate and 8 of up; else they are neighbours. Pairs past the end are zeros,
// columns past it the last column; they are not stored.
#include "matmul/mma_base.cl"

#ifndef FRAGMENTS_N
#error "FRAGMENTS_N: eights of pairs of a tile"
#endif
#ifndef STAGES
#error "STAGES: of x in local memory, 2 or more"
#endif
#ifndef WAYS
#error "WAYS: parts of K, each for LOCAL_SIZE / WAYS work-items"
#endif
#ifndef SCALES_LAST
#error "SCALES_LAST: 1 where scales lie apart and rows of w have one for all of K, else 0"
#endif
#define SCALES_APART (SCALED && !SCALES_LAST)
#define FROM local
#include "matmul/few_words.cl"
#if SCALED
#include "matmul/mma_blocks_codes.cl"
#else
#include "matmul/few_blocks.cl"
#endif
#include "matmul/mma_blocks_numbers.cl"

#define INLINE static inline __attribute__((always_inline)) // sums stay in registers
#define TK 128
#define TM (FRAGMENTS_N * 8)
#define ROWS 4
#define ITEMS (LOCAL_SIZE / WAYS)
#define W_ROWS (ITEMS / 32 * 8 * ROWS)
#define TN (W_ROWS / (1 + GLU))
#define WAVE_COLUMNS (8 * ROWS / (1 + GLU))

#define SEGMENT (IS_SUPER ? 256 : TK)
#define SLOTS (IS_SUPER ? 2 : STAGES)
#define BLOCK_BYTES (UNITS(W_T) * (int)sizeof(ELEM(W_T)))
#define SEGMENT_BYTES (SEGMENT / BLOCK(W_T) * BLOCK_BYTES)
#define CHUNKS ((SEGMENT_BYTES + 30) / 16)
#define PITCH ((CHUNKS | 1) * 16) // an odd number of chunks: rows begin in different banks
#include "matmul/mma_blocks_memory.cl"
#include "matmul/mma_tile.cl"

// The number of a work-item among those of its way; row r of it in the tile
static inline uint own_item(void) { return get_local_id(0) % ITEMS; }
static inline uint own_row(int r) { return own_item() / 32 * 8 * ROWS + r * 8 + (own_item() & 31u) / 4; }

// Rows of x so that what neighbouring lanes read is in different banks: of each row 4 times 8 bytes, or 4 times 16.
#define IN_EIGHTS (BY_WORDS == WORDS_F4_E2M1) // of a word of w: its two fours have every other step of them
#define X_EIGHTS (HAS_MIN || IN_EIGHTS)
#define X_PITCH (TK * 2 + (X_EIGHTS ? 64 : 32))
#define X_CHUNKS (TK / 8)
#define X_STAGE (TM * X_PITCH)
#define X_PARTS (TK / 32) // of a stage, whose sums of x are wanted
#define SUM_STRIDE (W_ROWS + 4)
#define RUNS (TN / 4)
#define RING (STAGES * X_STAGE + SLOTS * W_ROWS * PITCH)
#if TM * SUM_STRIDE * 4 > STAGES * X_STAGE
#error "the sums do not fit where x was"
#endif

// What is copied: rows of x from x_at[] on, rows of w from w_at[] on, of which a work-item of a quad copies each fourth
// chunk, for its wave. Both begin where the way's part of K does, `before` steps from the first one.
struct operands {
    const global uchar *x;
    const local ulong *x_at;
    const global uchar *w_at[ROWS];
    const global ELEM(S_T) *scales_at[ROWS];
    local uchar *xs, *ws;
    local float *scales;
    uint before, steps;
    int rows;
    int scale_shift;
};
INLINE void fetch_x(const struct operands *o, uint stage) {
    const uint item = own_item(), chunk = item % X_CHUNKS, d = stage * TK + chunk * 8;
    local uchar *const to = o->xs + stage % STAGES * X_STAGE + chunk * 16;
    const int bytes = SCALED ? clamp((int)(o->steps - d) * 2, 0, 16) : d < o->steps ? 16 : 0;
    UNROLL for (uint i = 0; i < TM * X_CHUNKS / ITEMS; i++) {
        const uint m = item / X_CHUNKS + i * (ITEMS / X_CHUNKS);
        copy_x(to + m * X_PITCH, o->x + o->x_at[m] + d * 2, (int)m < o->rows ? bytes : 0);
    }
}
INLINE void fetch_w(const struct operands *o, uint segment) {
    const uint t = get_local_id(0) & 3u, before = segment * SEGMENT_BYTES;
    const int left = (int)(o->steps / BLOCK(W_T) * BLOCK_BYTES - before);
    local uchar *const slot = o->ws + segment % SLOTS * (W_ROWS * PITCH) + t * 16;
    UNROLL for (int r = 0; r < ROWS; r++) {
        const uint phase = (uint)((ulong)o->w_at[r] + before & 15);
        const global uchar *const from = o->w_at[r] + before - phase + t * 16;
        local uchar *const to = slot + own_row(r) * PITCH;
        if (left >= SEGMENT_BYTES + 32) { // all chunks are within the row
            UNROLL for (uint c = 0; c < CHUNKS; c += 4)
                if (c * 16 + 64 <= SEGMENT_BYTES || c * 16 + t * 16 < SEGMENT_BYTES + phase)
                    copy_w(to + c * 16, from + c * 16, 16);
        } else {
            const int inside = left > 0 ? min(left, SEGMENT_BYTES) + (int)phase - (int)t * 16 : 0;
            UNROLL for (uint c = 0; c < CHUNKS; c += 4)
                if (c + 3 < CHUNKS || c + t < CHUNKS)
                    copy_w(to + c * 16, from + c * 16, clamp(inside - (int)c * 16, 0, 16));
        }
    }
}
INLINE void fetch(const struct operands *o, uint stage) {
    fetch_x(o, stage);
    if (stage * TK % SEGMENT == 0) fetch_w(o, stage * TK / SEGMENT);
    CLOSE_COPIES();
}

// Scales of the parts of a share. Where they lie apart, each lane of a quad reads those of one part of a stage for its
// rows, ahead, and leaves them in local memory for the quad.
#if SCALES_APART
#define PART_SCALES (2 * X_PARTS * W_ROWS)
#define SCALES_OF(stage, part) ((stage) % 2 * X_PARTS + (part)) * W_ROWS
typedef ELEM(S_T) held_scale; // as it lies, so that nothing waits for it
INLINE void read_scales(held_scale *to, const struct operands *o, uint stage) {
    const uint d = stage * TK + (get_local_id(0) & 3u) * 32;
    UNROLL for (int r = 0; r < ROWS; r++) to[r] = d < o->steps ? o->scales_at[r][(o->before + d) >> o->scale_shift] : 0;
}
INLINE void keep_scales(const struct operands *o, const held_scale *from, uint stage) {
    local float *const to = o->scales + SCALES_OF(stage, get_local_id(0) & 3u);
    UNROLL for (int r = 0; r < ROWS; r++) to[own_row(r)] = FLOAT_OF(S_T, from[r]);
}
INLINE void part_scales(float *scale, float *min, const share *own, const local float *scales, int r) {
    UNROLL for (int part = 0; part < PARTS; part++) scale[part] = scales[part * W_ROWS + own_row(r)];
}
#else
#define PART_SCALES 1
#define SCALES_OF(stage, part) 0
typedef uchar held_scale;
INLINE void read_scales(held_scale *to, const struct operands *o, uint stage) {}
INLINE void keep_scales(const struct operands *o, const held_scale *from, uint stage) {}
INLINE void part_scales(float *scale, float *min, const share *own, const local float *scales, int r) {
#if !SCALED
    share_scales(own, scale, min);
#endif
}
#endif

#if HAS_MIN
// sums[part * TM + m]: of the 32 steps of a part of the stage. Chunks in an order that keeps neighbours in other banks.
static inline float sum_of_eight(uint4 eight) {
    const float4 v = EVEN4(X_T, eight) + ODD4(X_T, eight);
    return (v.s0 + v.s1) + (v.s2 + v.s3);
}
static inline void sum_x(local float *sums, const local uchar *xs) {
    for (uint i = own_item(); i < TM * X_PARTS; i += ITEMS) {
        const uint part = i % X_PARTS, m = i / X_PARTS;
        const local uint4 *const from = (const local uint4 *)(xs + m * X_PITCH + part * 64);
        float sum = 0.0f;
        UNROLL for (uint c = 0; c < 4; c++) sum += sum_of_eight(from[(c + part) & 3u]);
        sums[part * TM + m] = sum;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}
#endif

// The lower halves of two words, and the upper ones
static inline uint2 halves_of(uint a, uint b) { return (uint2)((a & 0xffffu) | b << 16, a >> 16 | (b & 0xffff0000u)); }

// x for the fours of a part: those of a quad are 16 steps.
#define PART_FOURS (FOURS / PARTS)
#define MOST_AT_ONCE 4
#define BY_HALVES (FRAGMENTS_N <= MOST_AT_ONCE) // a tile with pairs for half of itself or fewer computes no more
#define AT_ONCE (fragments < MOST_AT_ONCE ? fragments : MOST_AT_ONCE)
#define GROUPS (fragments / AT_ONCE)
static inline void load_x(uint2 *to, const local uchar *at, uint way, int part) {
#if X_EIGHTS
    const uint4 both = *(const local uint4 *)(at + four_at(way, part * PART_FOURS) * 2);
    to[0] = IN_EIGHTS ? halves_of(both.x, both.z) : both.lo;
    to[1] = IN_EIGHTS ? halves_of(both.y, both.w) : both.hi;
#else
    UNROLL for (int f = 0; f < PART_FOURS; f++)
        to[f] = *(const local uint2 *)(at + four_at(way, part * PART_FOURS + f) * 2);
#endif
}

// What a lane brings of w for a part: of each pair of rows for each four
static inline void load_a(uint4 (*a)[PART_FOURS], const share *own, int part) {
    UNROLL for (int f = 0; f < PART_FOURS; f++) UNROLL for (int i = 0; i < ROWS / 2; i++) {
        uint low[2], high[2];
        four_numbers(low, four_codes(&own[2 * i], part * PART_FOURS + f));
        four_numbers(high, four_codes(&own[2 * i + 1], part * PART_FOURS + f));
        a[i][f] = (uint4)(low[0], high[0], low[1], high[1]);
    }
}

// The sums of a part go to those of the tile.
static inline void add_part(float4 (*sums)[FRAGMENTS_N], float4 (*c)[ROWS / 2], int first, const float (*scale)[PARTS],
                            const float (*min)[PARTS], const local float *x_sums, int part, int fragments) {
    UNROLL for (int j = 0; j < AT_ONCE; j++) {
#if HAS_MIN
        const float2 x_sum = *(const local float2 *)(x_sums + part * TM + (first + j) * 8);
#endif
        UNROLL for (int i = 0; i < ROWS / 2; i++) {
            float4 *const sum = &sums[i][first + j];
            sum->lo += c[j][i].lo * scale[2 * i][part];
            sum->hi += c[j][i].hi * scale[2 * i + 1][part];
#if HAS_MIN
            sum->lo -= x_sum * min[2 * i][part];
            sum->hi -= x_sum * min[2 * i + 1][part];
#endif
        }
    }
}

#if SCALES_LAST
#define SUM_OF(part, all) all
#else
#define SUM_OF(part, all) part
#endif
#define ADD_GROUP(g)                                                                                                   \
    add_part(sums, c[(g)&1], (g) % GROUPS * AT_ONCE, scale, min, x_sums, (g) / GROUPS, fragments);

// The 64 steps of K that the quad's work-items take as `way`, of rows[] and of the pairs from xs on. While AT_ONCE
// of `fragments`, a constant, are multiplied those before them are added, so that none waits for the instruction.
INLINE void add_shares(float4 (*sums)[FRAGMENTS_N], const local uchar *const *rows, const local uchar *xs,
                       const local float *x_sums, const local float *scales, uint way, local float *scratch, uint lane,
                       int fragments) {
    share own[ROWS];
    float scale[ROWS][PARTS], min[ROWS][PARTS];
    UNROLL for (int r = 0; r < ROWS; r++) {
        load_wide(&own[r], (const local ELEM(W_T) *)rows[r] + share_at(way), way);
        part_scales(scale[r], min[r], &own[r], scales, r);
    }
    float4 c[2][MOST_AT_ONCE][ROWS / 2];
    UNROLL for (int part = 0; part < PARTS; part++) {
        uint4 a[ROWS / 2][PART_FOURS];
        load_a(a, own, part);
        UNROLL for (int n = 0; n < GROUPS; n++) {
            const int now = (part * GROUPS + n) & 1, first = n * AT_ONCE;
            uint2 b[MOST_AT_ONCE][PART_FOURS];
            UNROLL for (int j = 0; j < AT_ONCE; j++)
                load_x(b[j], xs + ((first + j) * 8 + lane / 4) * X_PITCH, way, part);
            UNROLL for (int f = 0; f < PART_FOURS; f++)
                UNROLL for (int j = 0; j < AT_ONCE; j++) UNROLL for (int i = 0; i < ROWS / 2; i++) {
                    if (!SCALES_LAST && f == 0) c[now][j][i] = 0.0f;
                    ACCUMULATE(SUM_OF(c[now][j][i], sums[i][first + j]), a[i][f], b[j][f]);
                }
            if (!SCALES_LAST && (part || n)) ADD_GROUP(part * GROUPS + n - 1)
        }
    }
    if (!SCALES_LAST) ADD_GROUP(PARTS * GROUPS - 1)
}

// The sums of a tile over the way's part of K, of which the first STAGES - 1 of `stages` are on their way
INLINE void multiply_tile(float4 (*sums)[FRAGMENTS_N], const struct operands *o, uint stages, local float *x_sums,
                          local float *scratch, int fragments) {
    const uint lane = get_local_id(0) & 31u;
    ROLL for (uint i = 0; i < stages; i++) {
        held_scale next[ROWS];
        WAIT_COPIES(STAGES - 2);
        barrier(CLK_LOCAL_MEM_FENCE);
        fetch(o, i + STAGES - 1);
        read_scales(next, o, i + 1);
        const uint segment = i * TK / SEGMENT, within = i * TK % SEGMENT;
        const local uchar *const xs = o->xs + i % STAGES * X_STAGE, *rows[ROWS];
        UNROLL for (int r = 0; r < ROWS; r++)
            rows[r] = o->ws + (segment % SLOTS * W_ROWS + own_row(r)) * PITCH +
                      ((uint)(ulong)o->w_at[r] + segment * SEGMENT_BYTES & 15);
#if HAS_MIN
        sum_x(x_sums, xs);
#endif
        ROLL for (uint quad = 0; quad < TK / QUAD_STEPS; quad++)
            add_shares(sums, rows, xs - within * 2, x_sums + quad * 2 * TM + lane % 4 * 2,
                       o->scales + SCALES_OF(i, quad * 2), within / 16 + quad * 4 + lane % 4, scratch, lane, fragments);
        keep_scales(o, next, i + 1);
    }
    WAIT_COPIES(0);
    barrier(CLK_LOCAL_MEM_FENCE);
}

// To rows of pairs: TN columns, with GLU those of gate before those of up
static inline void stage_sums(local float *to, float4 (*sums)[FRAGMENTS_N]) {
    const uint item = own_item(), lane = item & 31u, column = item / 32 * WAVE_COLUMNS + lane / 4;
    UNROLL for (int i = 0; i < ROWS / 2; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++) {
        local float *const at = to + (j * 8 + lane % 4 * 2) * SUM_STRIDE + column + i * (GLU ? 8 : 16);
        at[0] = sums[i][j].s0, at[SUM_STRIDE] = sums[i][j].s1;
        at[GLU ? TN : 8] = sums[i][j].s2, at[SUM_STRIDE + (GLU ? TN : 8)] = sums[i][j].s3;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

// Those of all ways
static inline float4 add_ways(const local float *staged) {
    float4 sum = *(const local float4 *)staged;
    UNROLL for (int way = 1; way < WAYS; way++) sum += *(const local float4 *)(staged + way * (RING / 4));
    return sum;
}

// Where the row of column n begins, and its scales
#define BYTES(steps) ((long)((steps) / BLOCK(W_T)) * BLOCK_BYTES)
#define ROW_OF(w, n)                                                                                                   \
    ((const global uchar *)(w + w##_skip) + BYTES(w##_expert) * expert + BYTES(w##_column) * (n) + BYTES(o.before))

kernel __attribute__((reqd_work_group_size(LOCAL_SIZE, 1, 1))) void matmul_mma_blocks(MATMUL_ARGS) {
    MATMUL_NUMBERS
    local uint4 rings[WAYS * RING / 16 + 1];
    local float x_sums[WAYS * X_PARTS * TM], scales[WAYS * PART_SCALES], weight_of[TM];
    local int pair_of[TM];
    local ulong x_at[TM], y_at[TM];
    local long found[3];
    local float scratch_of[LOCAL_SIZE / 32 * SCRATCH];
    const uint lid = get_local_id(0), way = lid / ITEMS;
    long n0;
    const long slot = banded_slot(columns, TN, BAND, &n0);

    find_tile(found, slot, offsets + offsets_skip, pairs, experts, first, count, flags);
    const int expert = found[TILE_EXPERT], rows = found[TILE_ROWS], e = first + expert;
    if (!EMULATED && rows <= 0) return; // not before a barrier on PoCL
    const long begin = found[TILE_BEGIN];
    const bool computes = expert < count && rows > 0;
    const uint steps = !computes ? 0 : (uint)steps_at(limits + limits_skip, e, n0, depth, flags);
    for (uint m = lid; m < TM; m += LOCAL_SIZE) {
        const long i = begin + max(min((int)m, rows - 1), 0);
        const int p = rows > 0 ? (int)pair_at(i, order + order_skip, flags) : 0;
        pair_of[m] = p;
        x_at[m] = (x_skip + x_row(i, p, p / k, flags) * x_stride) * 2;
        weight_of[m] = computes ? PAIR_GAMMA(p, p / k) : 0.0f;
        y_at[m] = y_skip + y_row(i, p, flags) * y_stride;
    }
    barrier(CLK_LOCAL_MEM_FENCE);

    struct operands o;
    const uint most = (steps + WAYS * SEGMENT - 1) / (WAYS * SEGMENT) * SEGMENT; // of a way
    o.before = way * most, o.steps = min(most, steps - min(o.before, steps)), o.rows = rows;
    o.x = (const global uchar *)x + o.before * 2, o.x_at = x_at;
    o.xs = (local uchar *)rings + way * RING, o.ws = o.xs + STAGES * X_STAGE;
    o.scales = scales + way * PART_SCALES, o.scale_shift = scale_shift;
    float last_scale[ROWS];
    UNROLL for (int r = 0; r < ROWS; r++) {
        const uint row = own_row(r), column = GLU ? row / 16 * 8 + row % 8 : row;
        const long n = min(n0 + column, columns - 1);
        o.w_at[r] = GLU && r & 1 ? ROW_OF(v, n) : ROW_OF(w, n);
        o.scales_at[r] = GLU && r & 1 ? SCALE_ROW(v, expert, n) : SCALE_ROW(w, expert, n);
        if (SCALES_LAST) last_scale[r] = computes ? LOAD(S_T, o.scales_at[r], 0) : 0.0f;
    }
    UNROLL for (uint i = 0; i < STAGES - 1; i++) fetch(&o, i);
    held_scale first_scales[ROWS];
    read_scales(first_scales, &o, 0);
    keep_scales(&o, first_scales, 0);

    float4 sums[ROWS / 2][FRAGMENTS_N];
    UNROLL for (int i = 0; i < ROWS / 2; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++) sums[i][j] = 0.0f;
    local float *const scratch = scratch_of + lid / 32 * SCRATCH, *const own_sums = x_sums + way * (X_PARTS * TM);
    const uint stages = (min(most, steps) + TK - 1) / TK; // the same for all ways
    const bool by_half = BY_HALVES && rows <= TM / 2;     // EMULATED it is compiled once
    if (by_half && !EMULATED) multiply_tile(sums, &o, stages, own_sums, scratch, FRAGMENTS_N / 2);
    else multiply_tile(sums, &o, stages, own_sums, scratch, by_half ? FRAGMENTS_N / 2 : FRAGMENTS_N);
    if (SCALES_LAST)
        UNROLL for (int i = 0; i < ROWS / 2; i++) UNROLL for (int j = 0; j < FRAGMENTS_N; j++)
            sums[i][j].lo *= last_scale[2 * i], sums[i][j].hi *= last_scale[2 * i + 1];

    const local float *const staged = (local float *)rings;
    stage_sums((local float *)o.xs, sums);
    const uint run = lid % RUNS;
    const long n = n0 + run * 4;
    const int inside = (int)clamp(columns - n, 0L, 4L);
    const bool wide = ((ulong)(y + y_skip) & (4 * sizeof(*y) - 1)) == 0 && (y_stride & 3) == 0;
    const float scale = computes ? PAIR_SCALE(e) : 0.0f;
    float4 more = 0.0f, more_up = 0.0f;
    if (computes && flags & HAS_BIAS) more = OF_4(BIAS_AT, e), more_up = OF_4(BIAS_UP_AT, e);
    ROLL for (int m = lid / RUNS; m < rows; m += LOCAL_SIZE / RUNS) {
        const local float *const sum = staged + m * SUM_STRIDE + run * 4;
        float4 bias_4 = more, bias_up_4 = more_up;
        if (computes && flags & HAS_ADD)
            bias_4 += OF_4(ADD_AT, pair_of[m]), bias_up_4 += OF_4(ADD_UP_AT, pair_of[m]);
        const float4 gate = add_ways(sum), up = GLU ? add_ways(sum + TN) : gate;
        const float4 value = finish(gate, up, bias_4, bias_up_4, GAMMA_IN(weight_of[m]), scale,
                                    GAMMA_OUT(weight_of[m]), KNOWN_ACT_ARGS);
        store_run(y + y_at[m] + n, computes ? value : (float4)(0.0f), wide && inside == 4, inside);
    }
}
